//! Fields that nobody outside may see as they are: hashed by a key, or masked.
//!
//! Comes in: rows as they were read, on their way out of this room. Goes out: the same rows, with a keyed hash (HMAC-SHA256
//! in hexadecimal) or `****` in the place of each value; null stays null. The sequencer and the ledger go by the values
//! themselves, before; everything behind this sees only what stands for them, dead letters too. Never: a value that passes
//! by because something is missing; then it is masked.

use std::fmt::{self, Write as _};

use ring::hmac;

use crate::config::{FieldRules, Secret};
use crate::domain::canonical::canonical;
use crate::domain::{Detail, Field, FieldKind, ObjectDescription, Rows};

const MASK: &str = "****";

/// What hides values. Its key never shows.
pub struct Disguise {
    key: Option<hmac::Key>,
    /// Who saved a record stands in a field, and with each change event.
    hides_users: bool,
}

impl fmt::Debug for Disguise {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Disguise")
    }
}

impl Disguise {
    pub fn new(rules: &FieldRules, key: Option<&Secret>) -> Self {
        let is_user = |name: &String| name.eq_ignore_ascii_case(SAVED_BY);
        Self {
            key: key.map(|key| hmac::Key::new(hmac::HMAC_SHA256, key.expose().as_bytes())),
            hides_users: rules.exclude.iter().any(is_user),
        }
    }

    /// What may be published of rows.
    pub fn rows(&self, object: &ObjectDescription, rows: Rows) -> Rows {
        let fields: Vec<usize> = object
            .fields
            .iter()
            .enumerate()
            .filter(|(_, field)| field.kind.is_disguised())
            .map(|(index, _)| index)
            .collect();
        if fields.is_empty() {
            return rows;
        }
        let replace = |index: usize, cell: &[u8], out: &mut Vec<u8>| match object.fields.get(index) {
            Some(field) => out.extend_from_slice(self.cell(field, cell).as_bytes()),
            None => out.extend_from_slice(MASK.as_bytes()),
        };
        rows.replaced(&fields, replace).expect("a page is far smaller than 4 GiB, also with hashes in it")
    }

    /// The same of the users that events name.
    pub fn details(&self, object: &ObjectDescription, details: &mut [Detail]) {
        let field = object.fields.iter().find(|field| field.name == SAVED_BY);
        let hidden = field.filter(|field| field.kind.is_disguised());
        if hidden.is_none() && !self.hides_users {
            return;
        }
        for detail in details {
            detail.commit_user = detail
                .commit_user
                .take()
                .and_then(|user| hidden.map(|field| self.cell(field, user.as_bytes()).into()));
        }
    }

    fn cell(&self, field: &Field, cell: &[u8]) -> String {
        match (field.kind, &self.key) {
            (FieldKind::Hashed, Some(key)) => {
                let tag = hmac::sign(key, &canonical(field, cell));
                tag.as_ref().iter().fold(String::with_capacity(64), |mut text, byte| {
                    let _ = write!(text, "{byte:02x}");
                    text
                })
            }
            _ => MASK.to_owned(),
        }
    }
}

const SAVED_BY: &str = "LastModifiedById";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::RowLayout;

    const KEY: &str = "a key of more than sixteen bytes";

    fn object(fields: &[(&str, &str, FieldKind)]) -> ObjectDescription {
        let field = |(name, salesforce_type, kind): &(&str, &str, FieldKind)| Field {
            name: (*name).to_owned(),
            label: String::new(),
            help: None,
            salesforce_type: (*salesforce_type).to_owned(),
            kind: *kind,
            length: 0,
            precision: 0,
            scale: 0,
            calculated: false,
            filterable: true,
            sortable: true,
        };
        ObjectDescription {
            name: "Contact".into(),
            target_name: "Contact".into(),
            label: String::new(),
            fields: fields.iter().map(field).collect(),
            key: 0,
            cursor: None,
            created_date: None,
            is_deleted: None,
            replicateable: true,
            bulk: true,
            unsupported: None,
            revision: 0,
            compounds: Vec::new(),
        }
    }

    fn hidden(key: Option<&str>, cells: [&str; 4]) -> Vec<String> {
        let object = object(&[
            ("Id", "id", FieldKind::Text),
            ("Email", "email", FieldKind::Hashed),
            ("Amount__c", "currency", FieldKind::Hashed),
            ("Phone", "phone", FieldKind::Masked),
        ]);
        let mut rows = Rows::new(RowLayout::complete(4));
        rows.push(cells.map(str::as_bytes)).unwrap();
        let disguise = Disguise::new(&FieldRules::default(), key.map(Secret::new).as_ref());
        let rows = disguise.rows(&object, rows);
        let row = rows.row(0).unwrap();
        (0..4).map(|field| String::from_utf8(row.cell(field).unwrap().to_vec()).unwrap()).collect()
    }

    #[test]
    fn a_hash_is_what_anybody_makes_who_knows_the_key() {
        // As `printf '%s' VALUE | openssl dgst -sha256 -hmac KEY` prints it.
        let wanted = ["001", "32e3f8b1bec4dba00f3f864daa704daca8e65bd21b7ec9abc3e465b62cb7b824", "", "****"];
        let found = hidden(Some(KEY), ["001", "anna@example.com", "", "+49 30 1"]);
        assert_eq!(found, wanted);
        assert_eq!(found[1].len(), 64);
    }

    #[test]
    fn a_value_has_one_hash_whatever_its_spelling_and_null_none() {
        let of = |amount: &str| hidden(Some(KEY), ["001", "", amount, ""])[2].clone();
        assert_eq!(of("1.0E3"), of("1000"));
        assert_eq!(of("1000.00"), of("1000"));
        assert_ne!(of("1000"), of("1001"));
        assert_eq!(of(""), "");
        let other = hidden(Some("another key, as long as that"), ["001", "", "1000", ""]);
        assert_ne!(other[2], of("1000"));
    }

    #[test]
    fn without_a_key_nothing_goes_out_as_it_is() {
        assert_eq!(hidden(None, ["001", "anna@example.com", "5", "1"]), ["001", "****", "****", "****"]);
    }

    #[test]
    fn who_saved_a_record_is_hidden_in_the_header_as_in_the_record() {
        let of = |kind: Option<FieldKind>, rules: &FieldRules| {
            let fields = kind.map(|kind| (SAVED_BY, "reference", kind));
            let object = object(fields.as_slice());
            let mut details =
                [Detail { commit_user: Some("0055g00000XyZzzAAF".into()), ..Detail::refetch() }];
            Disguise::new(rules, Some(&Secret::new(KEY))).details(&object, &mut details);
            details[0].commit_user.as_ref().map(ToString::to_string)
        };
        let none = FieldRules::default();
        assert_eq!(of(Some(FieldKind::Text), &none).as_deref(), Some("0055g00000XyZzzAAF"));
        assert_eq!(of(Some(FieldKind::Masked), &none).as_deref(), Some("****"));
        assert_eq!(of(Some(FieldKind::Hashed), &none).map(|hash| hash.len()), Some(64));
        let exclude = FieldRules { exclude: vec!["lastmodifiedbyid".to_owned()], ..FieldRules::default() };
        assert_eq!(of(None, &exclude), None);
        assert_eq!(
            of(None, &none).as_deref(),
            Some("0055g00000XyZzzAAF"),
            "an object that has no such field"
        );
    }
}
