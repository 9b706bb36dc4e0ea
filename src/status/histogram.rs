//! A histogram with fixed bounds, as Prometheus understands it: cumulative buckets, sum and count.
//!
//! Comes in: seconds. Goes out: lines of text. Never: a lock or an allocation while observing.

use std::fmt::Write as _;

#[derive(Clone, Debug)]
pub(super) struct Histogram {
    bounds: &'static [f64],
    /// One more than bounds: the last holds what lies above all of them.
    counts: Vec<u64>,
    sum: f64,
}

impl Histogram {
    pub fn new(bounds: &'static [f64]) -> Self {
        Self { bounds, counts: vec![0; bounds.len() + 1], sum: 0.0 }
    }

    pub fn observe(&mut self, seconds: f64, times: u64) {
        let place = self.bounds.iter().position(|bound| seconds <= *bound).unwrap_or(self.bounds.len());
        if let Some(count) = self.counts.get_mut(place) {
            *count += times;
        }
        self.sum += seconds * times as f64;
    }

    pub fn render(&self, name: &str, text: &mut String) {
        let mut below = 0;
        for (bound, count) in self.bounds.iter().zip(&self.counts) {
            below += count;
            let _ = writeln!(text, "{name}_bucket{{le=\"{bound}\"}} {below}");
        }
        let all: u64 = self.counts.iter().sum();
        let _ = writeln!(text, "{name}_bucket{{le=\"+Inf\"}} {all}");
        let _ = writeln!(text, "{name}_sum {}\n{name}_count {all}", self.sum);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_cumulative_and_the_last_holds_everything() {
        let mut histogram = Histogram::new(&[0.1, 1.0]);
        histogram.observe(0.1, 2);
        histogram.observe(0.5, 1);
        histogram.observe(30.0, 1);
        let mut text = String::new();
        histogram.render("x", &mut text);
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(
            lines,
            [
                "x_bucket{le=\"0.1\"} 2",
                "x_bucket{le=\"1\"} 3",
                "x_bucket{le=\"+Inf\"} 4",
                "x_sum 30.7",
                "x_count 4"
            ]
        );
    }
}
