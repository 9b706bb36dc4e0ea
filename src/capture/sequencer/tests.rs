//! Readings of one object in every order, and what comes of them.

use super::*;
use crate::domain::{Field, FieldKind};

const FROM: &str = "2026-05-19T08:00:00.000Z";
const OLD: &str = "2026-05-01T00:00:00.000Z";

fn object() -> Arc<ObjectDescription> {
    let field = |name: &str, kind| Field {
        name: name.to_owned(),
        label: name.to_owned(),
        help: None,
        salesforce_type: "string".to_owned(),
        kind,
        length: 0,
        precision: 0,
        scale: 0,
        calculated: false,
        filterable: true,
        sortable: true,
    };
    Arc::new(ObjectDescription {
        name: "Account".into(),
        target_name: "Account".into(),
        label: "Account".to_owned(),
        fields: vec![
            field("Id", FieldKind::Text),
            field("SystemModstamp", FieldKind::DateTime),
            field("CreatedDate", FieldKind::DateTime),
            field("IsDeleted", FieldKind::Boolean),
            field("Name", FieldKind::Text),
        ],
        key: 0,
        cursor: Some(CursorField(1)),
        created_date: Some(2),
        is_deleted: Some(3),
        compounds: Vec::new(),
        replicateable: true,
        bulk: true,
        unsupported: None,
        revision: 1,
    })
}

const EVERYTHING: Reading = Reading { ledger_from: Stamp(0), events_to: Stamp(i64::MAX) };

struct Reader {
    sequencer: Sequencer,
    last: ChangeSequence,
}

impl Reader {
    fn new() -> Self {
        let sequencer = Sequencer::new(object(), Ledger::new("Account"), ChangeSequence::default());
        Self { sequencer, last: ChangeSequence::default() }
    }

    fn rows(rows: &[[&str; 5]]) -> Rows {
        let mut built = Rows::new(RowLayout::complete(5));
        for row in rows {
            built.push(row.iter().map(|cell| cell.as_bytes())).unwrap();
        }
        built
    }

    /// The operations published for a page, with the numbers checked to rise.
    fn poll(&mut self, rows: &[[&str; 5]]) -> String {
        let ledger_from = Stamp::parse(FROM.as_bytes()).unwrap();
        let reading = Reading { ledger_from, events_to: Stamp(i64::MAX) };
        let page = self.sequencer.poll_page(Self::rows(rows), reading, None, Source::Poll).unwrap();
        self.letters(&page)
    }

    fn load(&mut self, rows: &[[&str; 5]]) -> String {
        let now = Stamp::parse(b"2026-05-19T09:00:00Z").unwrap();
        let page = self.sequencer.load_page(Self::rows(rows), now, Stamp::parse(FROM.as_bytes())).unwrap();
        self.letters(&page)
    }

    fn deleted(&mut self, at: &str) -> String {
        let id = RecordId::new(ID.as_bytes()).unwrap();
        let page = self.sequencer.deletions(&[(id, Stamp::parse(at.as_bytes()).unwrap())]).unwrap();
        self.letters(&page)
    }

    fn letters(&mut self, page: &Sequenced) -> String {
        for change in &page.changes {
            assert!(change.sequence > self.last);
            self.last = change.sequence;
        }
        page.changes.iter().map(|change| change.operation.letter()).collect()
    }
}

const ID: &str = "0015g00000AbCdEAAV";

fn row<'a>(stamp: &'a str, created: &'a str, deleted: &'a str, name: &'a str) -> [&'a str; 5] {
    [ID, stamp, created, deleted, name]
}

const T1: &str = "2026-05-19T08:30:00.000Z";
const T2: &str = "2026-05-19T08:30:05.000Z";
const T3: &str = "2026-05-19T08:30:09.000Z";

#[test]
fn what_the_look_back_shows_again_is_not_published_again() {
    let mut reader = Reader::new();
    assert_eq!(reader.poll(&[row(T1, OLD, "false", "a")]), "U");
    assert_eq!(reader.poll(&[row(T1, OLD, "false", "a")]), "");
    // REST spells the same moment otherwise.
    assert_eq!(reader.poll(&[row("2026-05-19T08:30:00.000+0000", OLD, "false", "a")]), "");
}

#[test]
fn two_saves_within_one_second_are_two_changes() {
    let mut reader = Reader::new();
    assert_eq!(reader.poll(&[row(T1, OLD, "false", "a")]), "U");
    assert_eq!(reader.poll(&[row(T1, OLD, "false", "b")]), "U");
    assert_eq!(reader.poll(&[row(T1, OLD, "false", "b")]), "");
}

#[test]
fn a_row_created_within_reach_of_the_ledger_is_an_insert_once() {
    let mut reader = Reader::new();
    assert_eq!(reader.poll(&[row(T1, T1, "false", "a")]), "I");
    assert_eq!(reader.poll(&[row(T2, T1, "false", "b")]), "U");
}

#[test]
fn a_row_loaded_young_is_not_an_insert_later() {
    let mut reader = Reader::new();
    assert_eq!(reader.load(&[row(T1, T1, "false", "a")]), "R");
    assert_eq!(reader.poll(&[row(T1, T1, "false", "a")]), "");
    assert_eq!(reader.poll(&[row(T2, T1, "false", "b")]), "U");
}

#[test]
fn nothing_steps_back() {
    let mut reader = Reader::new();
    assert_eq!(reader.poll(&[row(T2, OLD, "false", "b")]), "U");
    assert_eq!(reader.poll(&[row(T1, OLD, "false", "a")]), "");
    assert_eq!(reader.load(&[row(T1, OLD, "false", "a")]), "");
    assert_eq!(reader.deleted(T1), "");
}

#[test]
fn a_row_that_cannot_be_told_from_an_event_is_read_again_where_events_may_be_lost() {
    let id = RecordId::new(ID.as_bytes()).unwrap();
    let at = |text: &str| Stamp::parse(text.as_bytes()).unwrap();
    // Published from an event alone, by the time of its commit, and from an event with its record.
    for (kind, hash, wanted) in [
        (Kind::Live, UNKNOWN, 1),
        (Kind::Deleted, super::super::ledger::DELETED_BY_EVENT, 1),
        (Kind::Live, 77, 0),
    ] {
        let mut reader = Reader::new();
        reader.sequencer.ledger.enter(id, Entry { kind, stamp: at(T2), hash, number: 1, event: 9 });
        let rows = Reader::rows(&[row(T1, OLD, "false", "a")]);
        let unclear = |events_to: &str, reread: &HashSet<RecordId>| {
            let reading = Reading { ledger_from: Stamp(0), events_to: at(events_to) };
            reader.sequencer.unclear(&rows, reread, Some(reading)).unwrap().len()
        };
        assert_eq!(unclear(T1, &HashSet::new()), wanted, "{kind:?} {hash}");
        assert_eq!(unclear(T3, &HashSet::new()), 0, "its event is published, or will be");
        assert_eq!(unclear(T1, &HashSet::from([id])), 0, "once");
    }
}

/// A page under a condition; `fits`: the stamp that the record had when it was asked, if it fitted.
fn poll_if(reader: &mut Reader, rows: &[[&str; 5]], fits: Option<&str>) -> String {
    let at = |text: &str| Stamp::parse(text.as_bytes()).unwrap();
    let reading = Reading { ledger_from: at(FROM), events_to: Stamp(i64::MAX) };
    let id = RecordId::new(ID.as_bytes()).unwrap();
    let fitting: Fitting = fits.map(|stamp| (id, Some(at(stamp)))).into_iter().collect();
    let rows = Reader::rows(rows);
    let page = reader.sequencer.poll_page(rows, reading, Some(&fitting), Source::Poll).unwrap();
    for change in page.changes.iter().filter(|change| change.detail.is_some()) {
        let row = page.rows.row(change.row as usize).unwrap();
        assert_eq!((change.operation, row.value(0)), (Operation::Delete, Some(ID.as_bytes())));
        assert!((1..5).all(|field| row.value(field).is_none()), "nothing of what does not fit");
    }
    reader.letters(&page)
}

#[test]
fn a_record_that_leaves_is_a_delete_once_and_an_insert_when_it_is_back() {
    let mut reader = Reader::new();
    assert_eq!(poll_if(&mut reader, &[row(T1, OLD, "false", "in")], Some(T1)), "U");
    let out = [row(T2, OLD, "false", "out")];
    assert_eq!(poll_if(&mut reader, &out, None), "D");
    assert!(reader.sequencer.news(&Reader::rows(&out), EVERYTHING).unwrap().is_empty());
    assert_eq!(poll_if(&mut reader, &out, None), "");
    assert_eq!(reader.deleted(T2), "", "it is gone already");
    assert_eq!(poll_if(&mut reader, &[row(T3, OLD, "false", "still out")], None), "");
    assert_eq!(poll_if(&mut reader, &[row(T3, OLD, "false", "in again")], Some(T3)), "I");
    assert_eq!(poll_if(&mut reader, &[row(T3, OLD, "true", "in again")], None), "D");
}

#[test]
fn a_record_that_never_fitted_is_not_told_of_if_that_is_known() {
    let mut reader = Reader::new();
    assert_eq!(poll_if(&mut reader, &[row(T1, T1, "false", "made")], None), "");
    assert_eq!(poll_if(&mut reader, &[row(T2, T1, "false", "changed")], None), "");
    assert_eq!(poll_if(&mut reader, &[row(T3, T1, "false", "in")], Some(T3)), "I");
    let mut reader = Reader::new();
    assert_eq!(poll_if(&mut reader, &[row(T1, T1, "true", "made and gone")], None), "");
    // It may have been published long ago: nobody knows.
    let mut reader = Reader::new();
    assert_eq!(poll_if(&mut reader, &[row(T1, OLD, "false", "a")], None), "D");
    assert_eq!(poll_if(&mut reader, &[row(T2, OLD, "false", "b")], None), "");
}

#[test]
fn what_was_saved_again_before_it_was_asked_is_left_to_the_next_window() {
    let mut reader = Reader::new();
    assert_eq!(poll_if(&mut reader, &[row(T1, OLD, "false", "not to be seen")], Some(T2)), "");
    assert_eq!(poll_if(&mut reader, &[row(T2, OLD, "false", "in")], Some(T2)), "U");
}

#[test]
fn what_left_under_another_condition_is_loaded_again_under_this_one() {
    let mut reader = Reader::new();
    assert_eq!(poll_if(&mut reader, &[row(T1, OLD, "false", "a")], None), "D");
    assert_eq!(reader.load(&[row(T1, OLD, "false", "a")]), "R");
    // A deleted row is no such: it is older than its deletion.
    assert_eq!(reader.poll(&[row(T2, OLD, "true", "a")]), "D");
    assert_eq!(reader.load(&[row(T1, OLD, "false", "a")]), "");
}

#[test]
fn a_deletion_is_published_once_whoever_shows_it_first() {
    let mut reader = Reader::new();
    assert_eq!(reader.poll(&[row(T1, OLD, "true", "a")]), "D");
    assert_eq!(reader.deleted(T1), "");
    assert_eq!(reader.poll(&[row(T1, OLD, "true", "a")]), "");

    let mut reader = Reader::new();
    assert_eq!(reader.deleted(T2), "D");
    assert_eq!(reader.poll(&[row(T1, OLD, "true", "a")]), "");
    assert_eq!(reader.deleted(T2), "");
}

#[test]
fn a_row_that_was_back_unseen_and_is_deleted_again_is_another_deletion() {
    let mut reader = Reader::new();
    assert_eq!(reader.poll(&[row(T1, OLD, "true", "a")]), "D");
    assert_eq!(reader.poll(&[row(T3, OLD, "true", "a")]), "D");
    assert_eq!(reader.poll(&[row(T3, OLD, "true", "a")]), "");
    assert_eq!(reader.poll(&[row(T1, OLD, "true", "a")]), "", "nothing steps back");

    // An event gives the moment of the commit, which is no earlier than the save.
    let id = RecordId::new(ID.as_bytes()).unwrap();
    let stamp = Stamp::parse(T2.as_bytes()).unwrap();
    let hash = super::super::ledger::DELETED_BY_EVENT;
    let mut reader = Reader::new();
    let entry = Entry { kind: Kind::Deleted, stamp, hash, number: 1, event: 9 };
    reader.sequencer.ledger.enter(id, entry);
    assert_eq!(reader.poll(&[row(T1, OLD, "true", "a")]), "");
    assert_eq!(reader.poll(&[row(T2, OLD, "true", "a")]), "");
    assert_eq!(reader.poll(&[row(T3, OLD, "true", "a")]), "D");

    // Of what getDeleted named nobody knows the row's stamp.
    let mut reader = Reader::new();
    assert_eq!(reader.deleted(T1), "D");
    assert_eq!(reader.poll(&[row(T3, OLD, "true", "a")]), "");
}

#[test]
fn a_record_that_a_reading_found_gone_is_dated_by_the_reading_and_known_by_its_event() {
    let id = RecordId::new(ID.as_bytes()).unwrap();
    let at = |text: &str| Stamp::parse(text.as_bytes()).unwrap();
    for (then, wanted) in [(row(T2, OLD, "false", "back"), "I"), (row(T2, OLD, "true", "gone"), "")] {
        let mut reader = Reader::new();
        let mut out = Sequenced::one_by_one(&object());
        assert!(reader.sequencer.refetched_gone(&mut out, id, at(T1), at(T3)).unwrap());
        assert!(!reader.sequencer.refetched_gone(&mut out, id, at(T1), at(T3)).unwrap(), "once");
        assert_eq!(reader.letters(&out), "D");
        assert_eq!(out.changes[0].timestamp, at(T3));
        // Whatever came between the event and the reading: a return may have been behind the reading.
        assert_eq!(reader.poll(&[then]), wanted);
    }
}

#[test]
fn an_undeleted_row_is_an_insert_even_if_its_stamp_did_not_move() {
    let mut reader = Reader::new();
    assert_eq!(reader.poll(&[row(T1, OLD, "true", "a")]), "D");
    assert_eq!(reader.poll(&[row(T1, OLD, "false", "a")]), "I");
    assert_eq!(reader.poll(&[row(T3, OLD, "true", "a")]), "D");
    assert_eq!(reader.deleted(T3), "");
}

#[test]
fn a_row_that_is_back_with_its_old_stamp_is_an_insert_if_only_get_deleted_knew_of_its_deletion() {
    let mut reader = Reader::new();
    assert_eq!(reader.deleted(T2), "D");
    assert_eq!(reader.poll(&[row(T1, OLD, "false", "a")]), "I");
    assert_eq!(reader.deleted(T2), "D", "and deleted again");
}

#[test]
fn a_deletion_is_known_as_long_as_get_deleted_names_it_whatever_stamp_its_row_had() {
    let mut reader = Reader::new();
    assert_eq!(reader.poll(&[row(T1, OLD, "true", "a")]), "D");
    let later = "2026-05-19T08:44:00.000Z";
    assert_eq!(reader.deleted(later), "");
    let bound = Stamp::parse(b"2026-05-19T08:40:00Z").unwrap();
    reader.sequencer.ledger.forget(bound, bound);
    assert_eq!(reader.deleted(later), "");
}

#[test]
fn an_id_that_comes_twice_in_one_load_is_published_each_time() {
    // A row may move while REST pages are read; the second reading is no older than the first.
    let mut reader = Reader::new();
    assert_eq!(reader.load(&[row(T1, OLD, "false", "a"), row(T2, OLD, "false", "b")]), "RR");
}

#[test]
fn a_row_without_id_or_stamp_stops_the_page() {
    let mut reader = Reader::new();
    for row in [["", T1, OLD, "false", "a"], [ID, "", OLD, "false", "a"], [ID, "soon", OLD, "false", "a"]] {
        let error =
            reader.sequencer.poll_page(Reader::rows(&[row]), EVERYTHING, None, Source::Poll).unwrap_err();
        assert_eq!(error.kind(), error::Kind::ReplyUnreadable);
    }
}

#[test]
fn of_a_page_that_does_not_read_nothing_counts_as_published() {
    let mut reader = Reader::new();
    let good = row(T1, OLD, "false", "a");
    let rows = || Reader::rows(&[good, ["", T1, OLD, "false", "b"]]);
    reader.sequencer.poll_page(rows(), EVERYTHING, None, Source::Poll).unwrap_err();
    reader.sequencer.load_page(rows(), Stamp(0), Some(Stamp(0))).unwrap_err();
    assert!(reader.sequencer.ledger.is_empty() && reader.sequencer.ledger.take_records().is_empty());
    assert_eq!(reader.poll(&[good]), "U");
}
