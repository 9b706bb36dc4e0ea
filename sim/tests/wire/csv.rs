//! Reads quoted CSV strictly: every cell in quotes, one delimiter, one line ending. Anything else is a failed test.

/// Header and rows.
pub fn parse(text: &str, delimiter: char, end: &str) -> (Vec<String>, Vec<Vec<String>>) {
    let (mut lines, mut line) = (Vec::new(), Vec::new());
    let mut rest = text;
    while !rest.is_empty() {
        rest = rest.strip_prefix('"').unwrap_or_else(|| panic!("a cell without quotes: {rest:.40}"));
        let mut cell = String::new();
        loop {
            let quote = rest.find('"').expect("a cell ends");
            cell.push_str(&rest[..quote]);
            rest = &rest[quote + 1..];
            match rest.strip_prefix('"') {
                Some(after) => {
                    cell.push('"');
                    rest = after;
                }
                None => break,
            }
        }
        line.push(cell);
        if let Some(after) = rest.strip_prefix(end) {
            lines.push(std::mem::take(&mut line));
            rest = after;
        } else {
            rest = rest
                .strip_prefix(delimiter)
                .unwrap_or_else(|| panic!("neither delimiter nor end: {rest:.40}"));
        }
    }
    assert!(line.is_empty(), "the last line has an end");
    let header = lines.remove(0);
    assert!(lines.iter().all(|line| line.len() == header.len()), "rows as wide as the header");
    (header, lines)
}
