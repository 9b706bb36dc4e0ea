//! Rows as read, whatever door they came through: one flat buffer of cells as text.
//!
//! Comes in: cells of a CSV page, a SOQL page or a list of deletions, pushed by the wire room. Goes out: cells by
//! field index. An empty cell is null, at every door (Salesforce keeps no empty strings); a field that was not
//! selected is absent, which is something else. Booleans, numbers and datetimes keep the spelling of their door:
//! whoever compares or encodes goes by the value, not by the text.

use std::sync::Arc;

/// Which field stands in which column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowLayout {
    column_count: usize,
    /// By field index of the description: its column.
    column_of: Vec<Option<u32>>,
}

impl RowLayout {
    /// `columns`: for each column the field index, or none for a column nobody asked for.
    pub fn new(columns: &[Option<usize>], field_count: usize) -> Arc<Self> {
        let mut column_of = vec![None; field_count];
        for (column, field) in columns.iter().enumerate() {
            if let Some(slot) = field.and_then(|field| column_of.get_mut(field)) {
                *slot = u32::try_from(column).ok();
            }
        }
        Arc::new(Self { column_count: columns.len(), column_of })
    }

    /// All fields, in the description's order.
    pub fn complete(field_count: usize) -> Arc<Self> {
        let columns: Vec<_> = (0..field_count).map(Some).collect();
        Self::new(&columns, field_count)
    }

    pub fn column_count(&self) -> usize {
        self.column_count
    }

    pub fn has(&self, field: usize) -> bool {
        self.column_of.get(field).is_some_and(Option::is_some)
    }

    /// Whether every field of the description is there.
    pub fn is_complete(&self) -> bool {
        self.column_of.iter().all(Option::is_some)
    }
}

#[derive(Clone, Debug)]
pub struct Rows {
    layout: Arc<RowLayout>,
    data: Vec<u8>,
    /// End of each cell in `data`, row after row.
    ends: Vec<u32>,
}

/// The row in hand does not have the layout's number of cells, or the batch outgrew 4 GiB.
#[derive(Debug, PartialEq, Eq)]
pub struct WrongRow;

impl Rows {
    pub fn new(layout: Arc<RowLayout>) -> Self {
        Self { layout, data: Vec::new(), ends: Vec::new() }
    }

    pub fn layout(&self) -> &Arc<RowLayout> {
        &self.layout
    }

    /// Adds a whole row from cells in column order; an empty cell is null.
    pub fn push<'a>(&mut self, cells: impl IntoIterator<Item = &'a [u8]>) -> Result<(), WrongRow> {
        let (data_start, ends_start) = (self.data.len(), self.ends.len());
        for cell in cells {
            self.data.extend_from_slice(cell);
            let Ok(end) = u32::try_from(self.data.len()) else { break };
            self.ends.push(end);
        }
        if self.ends.len() - ends_start == self.layout.column_count {
            return Ok(());
        }
        self.data.truncate(data_start);
        self.ends.truncate(ends_start);
        Err(WrongRow)
    }

    /// Adds a row whose cells lie unescaped one after another in `bytes`, `ends` relative to it: the shape that
    /// CSV readers hand out. The fast road of a full load.
    pub fn push_flat(&mut self, bytes: &[u8], ends: &[usize]) -> Result<(), WrongRow> {
        let start = self.data.len();
        let fits =
            ends.last().copied().unwrap_or(0) <= bytes.len() && u32::try_from(start + bytes.len()).is_ok();
        if ends.len() != self.layout.column_count || !fits || !ends.is_sorted() {
            return Err(WrongRow);
        }
        self.data.extend_from_slice(bytes);
        self.ends.extend(ends.iter().map(|end| u32::try_from(start + end).unwrap_or(u32::MAX)));
        Ok(())
    }

    /// Adds a row that holds one field and nothing else.
    pub fn push_only(&mut self, field: usize, cell: &[u8]) -> Result<(), WrongRow> {
        let column = self.layout.column_of.get(field).copied().flatten().ok_or(WrongRow)? as usize;
        let layout = Arc::clone(&self.layout);
        self.push((0..layout.column_count).map(|at| if at == column { cell } else { &[] }))
    }

    /// The rows before `index`, and those from there on.
    pub fn cut(mut self, index: usize) -> (Self, Self) {
        let cells = index.saturating_mul(self.layout.column_count).min(self.ends.len());
        let bytes = cells.checked_sub(1).and_then(|last| self.ends.get(last)).copied().unwrap_or(0);
        let ends = self.ends.split_off(cells).into_iter().map(|end| end - bytes).collect();
        let data = self.data.split_off(bytes as usize);
        let rest = Self { layout: Arc::clone(&self.layout), data, ends };
        (self, rest)
    }

    /// The same rows with other cells in these fields: `replace` writes what stands for a value. Null stays null.
    pub fn replaced(
        &self,
        fields: &[usize],
        mut replace: impl FnMut(usize, &[u8], &mut Vec<u8>),
    ) -> Result<Self, WrongRow> {
        let mut of_column: Vec<Option<usize>> = vec![None; self.layout.column_count];
        for field in fields {
            let column = self.layout.column_of.get(*field).copied().flatten();
            if let Some(slot) = column.and_then(|column| of_column.get_mut(column as usize)) {
                *slot = Some(*field);
            }
        }
        let mut out = Self::new(Arc::clone(&self.layout));
        out.ends.reserve(self.ends.len());
        let mut start = 0;
        for (end, field) in self.ends.iter().zip(of_column.iter().cycle()) {
            let cell = self.data.get(start..*end as usize).unwrap_or_default();
            start = *end as usize;
            match field {
                Some(field) if !cell.is_empty() => replace(*field, cell, &mut out.data),
                _ => out.data.extend_from_slice(cell),
            }
            out.ends.push(u32::try_from(out.data.len()).map_err(|_| WrongRow)?);
        }
        Ok(out)
    }

    pub fn len(&self) -> usize {
        self.ends.len().checked_div(self.layout.column_count).unwrap_or(0)
    }

    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Bytes held, for bounds on queues.
    pub fn byte_size(&self) -> usize {
        self.data.len() + self.ends.len() * size_of::<u32>()
    }

    pub fn row(&self, index: usize) -> Option<Row<'_>> {
        (index < self.len()).then_some(Row { rows: self, index })
    }

    pub fn last(&self) -> Option<Row<'_>> {
        self.len().checked_sub(1).and_then(|index| self.row(index))
    }

    pub fn iter(&self) -> impl Iterator<Item = Row<'_>> {
        (0..self.len()).map(|index| Row { rows: self, index })
    }
}

#[derive(Clone, Copy)]
pub struct Row<'a> {
    rows: &'a Rows,
    index: usize,
}

impl<'a> Row<'a> {
    pub fn index(self) -> usize {
        self.index
    }

    /// The cell of a field: `None` if the field was not selected, empty if it is null.
    pub fn cell(self, field: usize) -> Option<&'a [u8]> {
        let column = (*self.rows.layout.column_of.get(field)?)? as usize;
        let cell = self.index * self.rows.layout.column_count + column;
        let end = *self.rows.ends.get(cell)? as usize;
        let start = match cell.checked_sub(1) {
            Some(previous) => *self.rows.ends.get(previous)? as usize,
            None => 0,
        };
        self.rows.data.get(start..end)
    }

    /// The cell of a field if it is there and not null.
    pub fn value(self, field: usize) -> Option<&'a [u8]> {
        self.cell(field).filter(|cell| !cell.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_that_was_not_selected_is_not_null() {
        let mut rows = Rows::new(RowLayout::new(&[Some(2), None, Some(0)], 4));
        rows.push([b"c".as_slice(), b"?", b""]).unwrap();
        rows.push_flat(b"C?A", &[1, 2, 3]).unwrap();
        let first = rows.row(0).unwrap();
        assert_eq!(
            (first.cell(0), first.cell(1), first.cell(2)),
            (Some(b"".as_slice()), None, Some(b"c".as_slice()))
        );
        assert_eq!(rows.row(1).unwrap().cell(0), Some(b"A".as_slice()));
        assert!(rows.row(2).is_none());
    }

    #[test]
    fn other_cells_take_the_place_of_values_and_null_stays_null() {
        let mut rows = Rows::new(RowLayout::new(&[Some(2), None, Some(0)], 4));
        rows.push([b"secret".as_slice(), b"secret", b"a"]).unwrap();
        rows.push([b"".as_slice(), b"?", b"b"]).unwrap();
        let hidden = rows.replaced(&[2, 3], |field, cell, out| {
            assert_eq!((field, cell), (2, b"secret".as_slice()));
            out.extend_from_slice(b"****");
        });
        let hidden = hidden.unwrap();
        let cells = |index: usize| [0, 1, 2].map(|field| hidden.row(index).unwrap().cell(field));
        assert_eq!(cells(0), [Some(b"a".as_slice()), None, Some(b"****")]);
        assert_eq!(cells(1), [Some(b"b".as_slice()), None, Some(b"")]);
        // A column that nobody asked for is nobody's to hide, and nobody can read it.
        assert_eq!(hidden.data, b"****secreta?b");
    }

    #[test]
    fn rows_are_cut_between_two_of_them() {
        let three = || {
            let mut rows = Rows::new(RowLayout::complete(2));
            for row in [["a", "1"], ["bb", ""], ["", "333"]] {
                rows.push(row.map(str::as_bytes)).unwrap();
            }
            rows
        };
        let cells = |rows: &Rows| -> Vec<String> {
            rows.iter()
                .flat_map(|row| {
                    [0, 1].map(|field| String::from_utf8(row.cell(field).unwrap().to_vec()).unwrap())
                })
                .collect()
        };
        let all = cells(&three());
        for index in 0..=5 {
            let (first, rest) = three().cut(index);
            assert_eq!((first.len(), rest.len()), (index.min(3), 3 - index.min(3)));
            assert_eq!([cells(&first), cells(&rest)].concat(), all, "cut at {index}");
        }
    }

    #[test]
    fn a_row_of_one_field_has_all_others_null() {
        let mut rows = Rows::new(RowLayout::new(&[Some(2), None, Some(0)], 4));
        rows.push_only(0, b"001").unwrap();
        let row = rows.row(0).unwrap();
        assert_eq!((row.cell(0), row.cell(2)), (Some(b"001".as_slice()), Some(b"".as_slice())));
        assert_eq!(rows.push_only(1, b"x"), Err(WrongRow), "a field that the rows do not have");
    }

    #[test]
    fn a_row_of_the_wrong_width_leaves_nothing_behind() {
        let mut rows = Rows::new(RowLayout::complete(2));
        assert_eq!(rows.push([b"1".as_slice()]), Err(WrongRow));
        assert_eq!(rows.push_flat(b"123", &[1, 2, 3]), Err(WrongRow));
        assert_eq!(rows.push_flat(b"12", &[1, 9]), Err(WrongRow));
        rows.push([b"1".as_slice(), b"2"]).unwrap();
        assert_eq!((rows.len(), rows.row(0).unwrap().cell(1)), (1, Some(b"2".as_slice())));
    }
}
