//! What a test run said where it broke, kept so that the end of a long log still tells it.
//!
//! In: the lines of one stream of `cargo test`, in their order. Out: the lines of each panic, cut to a size that a summary
//! holds. It decides nothing: whether a run failed is cargo's to say.

/// Lines kept of one panic, of one run, and characters of one line.
const MOST_OF_ONE: usize = 16;
const MOST: usize = 48;
const WIDTH: usize = 500;

#[derive(Debug, Default)]
pub struct Evidence {
    lines: Vec<String>,
    /// Lines still to be taken of the panic that is being read.
    open: usize,
}

impl Evidence {
    pub fn take(&mut self, line: &str) {
        let begins = line.starts_with("thread '") && line.contains("panicked at");
        let ends = ["note: run with", "stack backtrace:", "---- ", "test ", "failures:"]
            .iter()
            .any(|end| line.starts_with(end));
        self.open = match (begins, ends) {
            (true, _) => MOST_OF_ONE,
            (_, true) => 0,
            _ => self.open,
        };
        if self.open > 0 && !line.is_empty() && self.lines.len() < MOST {
            self.open -= 1;
            self.lines.push(line.chars().take(WIDTH).collect());
        }
    }

    pub fn text(&self) -> String {
        self.lines.join("\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> String {
        let mut evidence = Evidence::default();
        text.lines().for_each(|line| evidence.take(line));
        evidence.text()
    }

    #[test]
    fn each_panic_is_kept_and_nothing_around_it() {
        let said = "test a ... ok\n\n---- b stdout ----\nseed 7\n\nthread 'b' (12) panicked at src/b.rs:3:5:\n\
            it broke: [1,\n2]\nnote: run with `RUST_BACKTRACE=1`\nseed 8\n\
            thread 'c' panicked at src/c.rs:1:1:\ntoo\n\nfailures:\n    b\n    c\n";
        let kept = "thread 'b' (12) panicked at src/b.rs:3:5:\nit broke: [1,\n2]\nthread 'c' panicked at src/c.rs:1:1:\ntoo";
        assert_eq!(of(said), kept);
    }

    #[test]
    fn neither_a_long_panic_nor_many_fill_a_summary() {
        let long = format!("thread 'a' panicked at x:\n{}", "y\n".repeat(1_000));
        assert_eq!(of(&long).lines().count(), MOST_OF_ONE);
        assert_eq!(of(&long.repeat(100)).lines().count(), MOST);
        assert_eq!(of(&format!("thread 'a' panicked at {}", "é".repeat(9_000))).chars().count(), WIDTH);
    }

    #[test]
    fn a_run_that_holds_leaves_none() {
        assert_eq!(of("running 1 test\ntest a ... ok\n\ntest result: ok. 1 passed"), "");
    }
}
