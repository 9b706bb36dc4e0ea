//! A page of a Bulk API result: CSV as it comes off the socket, to rows.
//!
//! Comes in: pieces of the body, cut anywhere. Goes out: [`Rows`], columns found by the header's names. Cells are
//! unescaped once, into a buffer of the row, and copied once. It is strict where a cut could hide: a row of another
//! width, or a quote that stays open, is a broken page. Tolerant where Salesforce is: line ends, unquoted cells, a
//! page that has no header.

use std::sync::Arc;

use csv_core::{ReadRecordResult, Reader};

use crate::domain::{ObjectDescription, RowLayout, Rows};

use super::fault::Fault;

/// Bulk API 1 said so instead of an empty result; accepted from its successor too.
const NOTHING_FOUND: &[u8] = b"Records not found for this query";

/// A byte order mark is not documented, and would hide the first column.
const MARK: &[u8] = b"\xef\xbb\xbf";

pub(super) struct CsvPage {
    object: Arc<ObjectDescription>,
    /// Fields by column if the page turns out to have no header; none: it must have one.
    without_header: Option<Vec<usize>>,
    reader: Reader,
    cells: Vec<u8>,
    ends: Vec<usize>,
    cells_filled: usize,
    ends_filled: usize,
    rows: Option<Rows>,
    bytes: usize,
    quotes: usize,
    last: u8,
    /// So many bytes of a mark were all there was so far; none: what comes is text.
    mark: Option<usize>,
}

impl CsvPage {
    pub fn new(object: &Arc<ObjectDescription>, without_header: Option<Vec<usize>>) -> Self {
        Self {
            object: Arc::clone(object),
            without_header,
            reader: Reader::new(),
            cells: vec![0; 4 << 10],
            ends: vec![0; object.fields.len() + 1],
            cells_filled: 0,
            ends_filled: 0,
            rows: None,
            bytes: 0,
            quotes: 0,
            last: b'\n',
            mark: Some(0),
        }
    }

    /// Bytes of CSV so far.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    pub fn row_count(&self) -> usize {
        self.rows.as_ref().map_or(0, Rows::len)
    }

    pub fn feed(&mut self, piece: &[u8]) -> Result<(), Fault> {
        self.bytes += piece.len();
        self.last = piece.last().copied().unwrap_or(self.last);
        self.quotes += memchr::memchr_iter(b'"', piece).count();
        let mut rest = piece;
        while let Some(held) = self.mark {
            let Some((byte, behind)) = rest.split_first() else { return Ok(()) };
            if MARK.get(held) == Some(byte) {
                self.mark = Some(held + 1);
                rest = behind;
            } else {
                self.begin(held)?;
                // Byte by byte: the reader would take a mark off too, but only one that comes in one piece.
                self.take(std::slice::from_ref(byte))?;
                rest = behind;
            }
        }
        self.take(rest)
    }

    /// What was held back is no mark, unless it is all of one.
    fn begin(&mut self, held: usize) -> Result<(), Fault> {
        self.mark = None;
        if held == MARK.len() { Ok(()) } else { self.take(MARK.get(..held).unwrap_or_default()) }
    }

    fn take(&mut self, piece: &[u8]) -> Result<(), Fault> {
        let mut rest = piece;
        // An empty piece would mean the end of the body to the reader.
        while !rest.is_empty() {
            rest = self.step(rest)?;
        }
        Ok(())
    }

    /// All rows; the body has ended.
    pub fn finish(mut self) -> Result<Rows, Fault> {
        if let Some(held) = self.mark {
            self.begin(held)?;
        }
        // Every cell is quoted and every row ended; an unended row whose last cell is whole is let pass.
        let ended = matches!(self.last, b'\n' | b'\r' | b'"') || self.quotes == 0;
        if !ended || !self.quotes.is_multiple_of(2) {
            return Err(Fault::truncated("the page ends inside a cell"));
        }
        loop {
            let (result, _, written, ended) = self.read(&[]);
            self.cells_filled += written;
            self.ends_filled += ended;
            match result {
                ReadRecordResult::Record => self.take_record()?,
                ReadRecordResult::End => break,
                ReadRecordResult::OutputFull | ReadRecordResult::OutputEndsFull => self.grow(result),
                ReadRecordResult::InputEmpty => break,
            }
        }
        Ok(self.rows.unwrap_or_else(|| Rows::new(RowLayout::complete(self.object.fields.len()))))
    }

    fn read(&mut self, input: &[u8]) -> (ReadRecordResult, usize, usize, usize) {
        let cells = self.cells.get_mut(self.cells_filled..).unwrap_or_default();
        let ends = self.ends.get_mut(self.ends_filled..).unwrap_or_default();
        self.reader.read_record(input, cells, ends)
    }

    fn step<'a>(&mut self, input: &'a [u8]) -> Result<&'a [u8], Fault> {
        let (result, read, written, ended) = self.read(input);
        self.cells_filled += written;
        self.ends_filled += ended;
        match result {
            ReadRecordResult::Record => self.take_record()?,
            ReadRecordResult::InputEmpty | ReadRecordResult::End => {}
            ReadRecordResult::OutputFull | ReadRecordResult::OutputEndsFull => self.grow(result),
        }
        Ok(input.get(read..).unwrap_or_default())
    }

    fn grow(&mut self, result: ReadRecordResult) {
        match result {
            ReadRecordResult::OutputFull => self.cells.resize(self.cells.len() * 2, 0),
            _ => self.ends.resize(self.ends.len() * 2, 0),
        }
    }

    fn take_record(&mut self) -> Result<(), Fault> {
        let cells = self.cells.get(..self.cells_filled).unwrap_or_default();
        let ends = self.ends.get(..self.ends_filled).unwrap_or_default();
        self.cells_filled = 0;
        self.ends_filled = 0;
        let rows = match &mut self.rows {
            Some(rows) => rows,
            None => {
                if ends.len() == 1 && cells == NOTHING_FOUND {
                    return Ok(());
                }
                let (layout, is_header) =
                    first_record(&self.object, self.without_header.as_deref(), cells, ends)?;
                let rows = self.rows.insert(Rows::new(layout));
                if is_header {
                    return Ok(());
                }
                rows
            }
        };
        rows.push_flat(cells, ends).map_err(|_| {
            Fault::truncated(format!(
                "row {} of the page has {} cells where its header has {}",
                rows.len() + 1,
                ends.len(),
                rows.layout().column_count()
            ))
        })
    }
}

/// What the columns are, and whether the first record said so itself.
fn first_record(
    object: &ObjectDescription,
    without_header: Option<&[usize]>,
    cells: &[u8],
    ends: &[usize],
) -> Result<(Arc<RowLayout>, bool), Fault> {
    let mut start = 0;
    let mut names = Vec::with_capacity(ends.len());
    for end in ends {
        names.push(std::str::from_utf8(cells.get(start..*end).unwrap_or_default()).unwrap_or_default());
        start = *end;
    }
    let key = object.fields.get(object.key).map_or("Id", |field| field.name.as_str());
    let is_name = |name: &str| {
        !name.is_empty()
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.'))
    };
    let columns: Vec<_> = names.iter().map(|name| object.field_index(name)).collect();
    // A row of data has an id where its header has the word, and hardly ever nothing but names of fields.
    let is_header = names.iter().any(|name| name.eq_ignore_ascii_case(key))
        && names.iter().all(|name| is_name(name))
        && columns.iter().flatten().count() * 2 > names.len();
    if is_header {
        let mut fields: Vec<_> = columns.iter().flatten().collect();
        fields.sort_unstable();
        if fields.windows(2).any(|pair| pair.first() == pair.last()) {
            return Err(Fault::unreadable("the page's header names a field twice"));
        }
        return Ok((RowLayout::new(&columns, object.fields.len()), true));
    }
    match without_header {
        Some(fields) if fields.len() == ends.len() => {
            let columns: Vec<_> = fields.iter().copied().map(Some).collect();
            Ok((RowLayout::new(&columns, object.fields.len()), false))
        }
        _ => Err(Fault::unreadable("the page does not begin with a header row")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;
    use crate::salesforce::describe::sample;
    use proptest::prelude::*;

    const PAGE: &str = "\"Name\",\"Id\",\"Gone__c\"\n\"Acme \"\"Europe\"\", Ltd\",\"001A\",\"x\"\n\"two\r\nlines\",001B,\n\"\",\"001C\",\"NA\"\n";

    fn parse(text: &[u8], piece: usize) -> Result<Rows, Fault> {
        let mut page = CsvPage::new(&sample::account(), None);
        for piece in text.chunks(piece) {
            page.feed(piece)?;
        }
        page.finish()
    }

    fn cells(rows: &Rows, field: usize) -> Vec<Option<String>> {
        rows.iter().map(|row| row.cell(field).map(|cell| String::from_utf8(cell.to_vec()).unwrap())).collect()
    }

    #[test]
    fn a_page_reads_the_same_wherever_the_network_cuts_it() {
        for piece in 1..PAGE.len() {
            for text in [
                PAGE.to_owned(),
                PAGE.replace("\"\n", "\"\r\n").replace("B,\n", "B,\r\n"),
                PAGE.trim_end().to_owned(),
            ] {
                let rows = parse(text.as_bytes(), piece).unwrap();
                assert_eq!(rows.len(), 3, "{text:?} in pieces of {piece}");
                assert_eq!(
                    cells(&rows, 3),
                    [Some("Acme \"Europe\", Ltd"), Some("two\r\nlines"), Some("")]
                        .map(|cell| cell.map(str::to_owned))
                );
                assert_eq!(cells(&rows, 0), ["001A", "001B", "001C"].map(|id| Some(id.to_owned())));
                assert_eq!(cells(&rows, 4), [None, None, None], "not selected is absent, not null");
            }
        }
    }

    #[test]
    fn a_byte_order_mark_is_no_part_of_the_page_wherever_the_network_cuts_it() {
        let row = "\"001A\",\"x\"\n";
        for (text, names) in [
            (format!("\u{feff}\"Id\",\"Name\"\n{row}"), vec!["x"]),
            (format!("\u{feff}Id,Name\n{row}"), vec!["x"]),
            ("\u{feff}".to_owned(), vec![]),
            ("\u{feff}Records not found for this query\n".to_owned(), vec![]),
        ] {
            for piece in 1..6 {
                let rows = parse(text.as_bytes(), piece).unwrap();
                let names: Vec<_> = names.iter().map(|name| Some((*name).to_owned())).collect();
                assert_eq!(cells(&rows, 3), names, "{text:?} in pieces of {piece}");
            }
        }
        for piece in 1..6 {
            let mut page = CsvPage::new(&sample::account(), Some(vec![0, 3]));
            format!("\u{feff}{row}").as_bytes().chunks(piece).for_each(|piece| page.feed(piece).unwrap());
            assert_eq!(cells(&page.finish().unwrap(), 0), [Some("001A".to_owned())], "pieces of {piece}");
            for broken in
                [&b"\xef"[..], b"\xef\xbb", b"\xef\xbbId,Name\n", "\u{feff}\u{feff}Id,Name\n".as_bytes()]
            {
                assert_eq!(parse(broken, piece).unwrap_err().kind, Kind::ReplyUnreadable);
            }
        }
    }

    #[test]
    fn no_cut_of_a_page_passes_for_the_whole() {
        let whole = parse(PAGE.as_bytes(), 7).unwrap();
        for end in 0..PAGE.len() - 1 {
            match parse(&PAGE.as_bytes()[..end], 5) {
                // What reads at all has fewer rows than announced.
                Ok(rows) => assert!(rows.len() < whole.len(), "cut at {end}"),
                Err(fault) => assert!(
                    matches!(fault.kind, Kind::ReplyTruncated | Kind::ReplyUnreadable),
                    "cut at {end}: {fault:?}"
                ),
            }
        }
    }

    #[test]
    fn nothing_found_is_no_rows_in_all_its_forms() {
        for text in [
            "",
            "\"Id\",\"Name\"\n",
            "Records not found for this query\n",
            "Records not found for this query",
        ] {
            assert_eq!(parse(text.as_bytes(), 3).unwrap().len(), 0, "{text:?}");
        }
    }

    #[test]
    fn a_page_without_header_reads_by_the_order_of_the_query_and_only_where_that_is_allowed() {
        let text = b"\"001A\",\"Id\"\n\"001B\",\"\"\n";
        let mut page = CsvPage::new(&sample::account(), Some(vec![0, 3]));
        page.feed(text).unwrap();
        let rows = page.finish().unwrap();
        assert_eq!(cells(&rows, 3), [Some("Id".to_owned()), Some(String::new())]);
        assert_eq!(parse(b"\"001A\",\"Acme\"\n", 9).unwrap_err().kind, Kind::ReplyUnreadable);
    }

    #[test]
    fn a_cell_larger_than_any_buffer_arrives_whole() {
        let long = "é\"\"\n".repeat(60_000);
        let text = format!("\"Id\",\"Name\"\n\"001A\",\"{long}\"\n");
        let rows = parse(text.as_bytes(), 8 << 10).unwrap();
        assert_eq!(rows.row(0).unwrap().cell(3).unwrap(), long.replace("\"\"", "\"").as_bytes());
    }

    proptest! {
        #[test]
        fn every_cell_comes_back_as_it_was(
            table in proptest::collection::vec(("[A-Za-z0-9]{18}", "[^\\x00]{0,12}|[\"\r\n,]{1,6}"), 1..12),
            piece in 1usize..40,
            crlf: bool,
        ) {
            let end = if crlf { "\r\n" } else { "\n" };
            let mut text = format!("\"Id\",\"Name\"{end}");
            for (id, name) in &table {
                text.push_str(&format!("\"{id}\",\"{}\"{end}", name.replace('"', "\"\"")));
            }
            let rows = parse(text.as_bytes(), piece).unwrap();
            let (have_ids, have_names) = (cells(&rows, 0), cells(&rows, 3));
            prop_assert_eq!(have_ids, table.iter().map(|(id, _)| Some(id.clone())).collect::<Vec<_>>());
            prop_assert_eq!(have_names, table.iter().map(|(_, name)| Some(name.clone())).collect::<Vec<_>>());
        }

        #[test]
        fn foreign_bytes_never_panic(text in proptest::collection::vec(any::<u8>(), 0..300), piece in 1usize..50) {
            let _ = parse(&text, piece);
            let mut with_header = b"\"Id\",\"Name\"\n".to_vec();
            with_header.extend_from_slice(&text);
            let _ = parse(&with_header, piece);
        }
    }
}
