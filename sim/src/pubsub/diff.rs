//! The unified diff that stands for a long text in an update (pubsub.md 5.6).
//!
//! Comes in: the text before and after. Goes out: the diff, without lines of context, or nothing if the platform
//! would send the text itself. Holds: applied to the old lines it gives the new ones.

use sha2::{Digest, Sha256};

/// More lines than this between the first and the last difference: the text itself is sent.
const MOST_LINES: usize = 400;

/// None if the text is shorter than `from` characters, changes its length by more than a half, changes in more than
/// a quarter of its lines, or if the diff would be longer than the text.
pub(crate) fn diff(before: &str, after: &str, from: usize) -> Option<String> {
    let lengths = (before.chars().count(), after.chars().count());
    if lengths.0 < from || lengths.1 < from || lengths.0.abs_diff(lengths.1) * 2 > lengths.0 {
        return None;
    }
    let (old, new): (Vec<&str>, Vec<&str>) = (lines(before), lines(after));
    let hunks = hunks(&old, &new)?;
    let touched: usize = hunks.iter().map(|hunk| hunk.old.1.max(hunk.new.1)).sum();
    if touched * 4 > old.len().max(new.len()) {
        return None;
    }
    let hash = Sha256::digest(after.as_bytes());
    let mut text = String::from("--- \n+++ ");
    hash.iter().for_each(|byte| text.push_str(&format!("{byte:02x}")));
    for hunk in &hunks {
        let start = |(start, count): (usize, usize)| if count == 0 { start } else { start + 1 };
        let (old_at, new_at) = (start(hunk.old), start(hunk.new));
        text.push_str(&format!("\n@@ -{old_at},{} +{new_at},{} @@", hunk.old.1, hunk.new.1));
        old[hunk.old.0..hunk.old.0 + hunk.old.1].iter().for_each(|line| {
            text.push_str("\n-");
            text.push_str(line);
        });
        new[hunk.new.0..hunk.new.0 + hunk.new.1].iter().for_each(|line| {
            text.push_str("\n+");
            text.push_str(line);
        });
    }
    (text.len() <= after.len()).then_some(text)
}

/// Newlines of the stored value are not in the diff, whichever they are.
fn lines(text: &str) -> Vec<&str> {
    text.split('\n').map(|line| line.strip_suffix('\r').unwrap_or(line)).collect()
}

struct Hunk {
    /// First line from 0, and how many.
    old: (usize, usize),
    new: (usize, usize),
}

/// What a longest common subsequence leaves over.
fn hunks(old: &[&str], new: &[&str]) -> Option<Vec<Hunk>> {
    let head = old.iter().zip(new).take_while(|(a, b)| a == b).count();
    let tail = old[head..].iter().rev().zip(new[head..].iter().rev()).take_while(|(a, b)| a == b).count();
    let (a, b) = (&old[head..old.len() - tail], &new[head..new.len() - tail]);
    if a.len() > MOST_LINES || b.len() > MOST_LINES || (a.is_empty() && b.is_empty()) {
        return None;
    }
    // common[i][j]: how many lines a[i..] and b[j..] can share.
    let mut common = vec![vec![0_u16; b.len() + 1]; a.len() + 1];
    for i in (0..a.len()).rev() {
        for j in (0..b.len()).rev() {
            common[i][j] = match a[i] == b[j] {
                true => common[i + 1][j + 1] + 1,
                false => common[i + 1][j].max(common[i][j + 1]),
            };
        }
    }
    let mut hunks: Vec<Hunk> = Vec::new();
    let (mut i, mut j) = (0, 0);
    while i < a.len() || j < b.len() {
        let (from_i, from_j) = (i, j);
        while i < a.len() || j < b.len() {
            if i < a.len() && j < b.len() && a[i] == b[j] {
                break;
            }
            let skip_old = j == b.len() || (i < a.len() && common[i + 1][j] >= common[i][j + 1]);
            if skip_old { i += 1 } else { j += 1 }
        }
        if (i, j) != (from_i, from_j) {
            hunks.push(Hunk { old: (head + from_i, i - from_i), new: (head + from_j, j - from_j) });
        }
        while i < a.len() && j < b.len() && a[i] == b[j] {
            (i, j) = (i + 1, j + 1);
        }
    }
    Some(hunks)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A patcher of its own: takes old lines away and puts new ones in.
    fn patched(old: &str, diff: &str) -> String {
        let old: Vec<&str> = lines(old);
        let mut result: Vec<&str> = Vec::new();
        let mut at = 0;
        for line in diff.lines().skip(2) {
            match (line.strip_prefix("@@ -"), line.split_at(1)) {
                (Some(range), _) => {
                    let range = range.split(' ').next().unwrap();
                    let (start, count) = range.split_once(',').unwrap();
                    let (start, count): (usize, usize) = (start.parse().unwrap(), count.parse().unwrap());
                    let start = if count == 0 { start } else { start - 1 };
                    result.extend_from_slice(&old[at..start]);
                    at = start;
                }
                (None, ("-", gone)) => {
                    assert_eq!(old[at], gone);
                    at += 1;
                }
                (None, ("+", new)) => result.push(new),
                _ => panic!("{line}"),
            }
        }
        result.extend_from_slice(&old[at..]);
        result.join("\n")
    }

    #[test]
    fn a_diff_leads_from_the_old_text_to_the_new() {
        let old: Vec<String> = (0..60).map(|n| format!("line {n} of a text that is long enough")).collect();
        for (remove, insert) in
            [(vec![3], vec![]), (vec![], vec![10]), (vec![5, 40], vec![20]), (vec![0, 59], vec![0])]
        {
            let mut new = old.clone();
            for at in insert.iter().rev() {
                new.insert(*at, format!("a new line at {at}"));
            }
            for at in &remove {
                new[*at] = format!("changed {at}");
            }
            let (old, new) = (old.join("\n"), new.join("\n"));
            let diff = diff(&old, &new, 1_000).unwrap();
            assert_eq!(patched(&old, &diff), new);
            assert!(diff.starts_with("--- \n+++ "));
        }
    }

    #[test]
    fn a_short_text_or_a_great_change_is_sent_whole() {
        let long = "word\n".repeat(300);
        assert_eq!(diff("short", "shorter", 1_000), None);
        assert_eq!(diff(&long, &long.repeat(2), 1_000), None);
        assert_eq!(diff(&long, &long.replace("word", "bird"), 1_000), None);
    }
}
