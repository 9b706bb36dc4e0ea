//! The one place that writes to stdout and stderr: data on the one, words on the other.
//!
//! Comes in: finished text, tables, values that serialize. Goes out: bytes. A reader that went away (`| head`) is no
//! error: whatever is written then is dropped.

use std::io::Write;

use serde::Serialize;

/// How a report is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Format {
    #[default]
    Text,
    Json,
}

#[derive(Debug, clap::Args)]
pub(super) struct FormatArgument {
    /// How the report is written to stdout
    #[arg(long, value_enum, default_value_t)]
    pub output: Format,
}

pub(super) fn data(text: &str) {
    let mut stdout = std::io::stdout().lock();
    let _ = stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.write_all(b"\n"))
        .and_then(|()| stdout.flush());
}

pub(super) fn words(text: &str) {
    let mut stderr = std::io::stderr().lock();
    let _ = stderr.write_all(text.as_bytes()).and_then(|()| stderr.write_all(b"\n"));
}

/// A report: as JSON, or as the text that `text` makes.
pub(super) fn report<T: Serialize>(format: Format, value: &T, text: impl FnOnce(&T) -> String) {
    match format {
        Format::Text => data(text(value).trim_end_matches('\n')),
        Format::Json => match serde_json::to_string_pretty(value) {
            Ok(json) => data(&json),
            Err(error) => words(&format!("the report cannot be written as JSON: {error}")),
        },
    }
}

/// Columns as wide as their widest cell; the last one runs on. Numbers are for the caller to align.
pub(super) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    pub fn new(head: &[&str]) -> Self {
        Self { rows: vec![head.iter().map(|cell| cell.to_uppercase()).collect()] }
    }

    pub fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().collect());
    }
}

impl std::fmt::Display for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell: &String| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        for row in &self.rows {
            let mut line = String::new();
            for (cell, width) in row.iter().zip(&widths) {
                line.push_str(&format!("{cell:<width$}  "));
            }
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

/// `1234567` as `1,234,567`.
pub(super) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_of_a_table_stand_under_one_another() {
        let mut table = Table::new(&["object", "rows", "reason"]);
        table.row(["Account".to_owned(), count(1_234_567), String::new()]);
        table.row(["Vote".to_owned(), "-".to_owned(), "no cursor field".to_owned()]);
        let text = "OBJECT   ROWS       REASON\nAccount  1,234,567\nVote     -          no cursor field\n";
        assert_eq!(table.to_string(), text);
    }
}
