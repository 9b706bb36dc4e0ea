//! What a field is called in a schema that has no name there yet.
//!
//! Comes in: Salesforce's names, the configured naming, the outputs whose header fields stand in front. Goes out: names that
//! Avro takes. What has a name in the lineage keeps it, whatever is configured later; the lineage asks only for new fields.

use super::avro::is_header;
use crate::config::{FieldNaming, OutputSettings};
use crate::domain::ObjectDescription;
use crate::domain::name::{legal, single_underscore};
use crate::error::Kind;
use crate::{Error, Result};

#[derive(Clone, Copy, Debug, Default)]
pub struct FieldNames<'a> {
    naming: FieldNaming,
    /// Whose header fields have names of their own.
    outputs: &'a [OutputSettings],
}

impl<'a> FieldNames<'a> {
    pub fn new(naming: FieldNaming, outputs: &'a [OutputSettings]) -> Self {
        Self { naming, outputs }
    }

    /// The name by the rules alone; it may be taken.
    pub fn wanted(&self, field: &str) -> String {
        match self.naming {
            FieldNaming::Keep => legal(field),
            FieldNaming::SingleUnderscore => legal(&single_underscore(field)),
        }
    }

    /// Whether a header field of an output is called so.
    pub fn is_reserved(&self, name: &str) -> bool {
        self.outputs.iter().any(|output| is_header(output, name))
    }

    /// Refuses an object of which two fields would get one name, and names both: while nothing is published yet a person
    /// can still choose. Case does not count: sinks that fold it would take two such columns for one.
    pub fn check(&self, object: &ObjectDescription) -> Result<()> {
        let mut taken: Vec<(String, &str)> = Vec::new();
        let refused =
            |why: String| Error::new(Kind::SchemaUnsupported, format!("object {}: {why}", object.name));
        for field in &object.fields {
            let name = self.wanted(&field.name);
            if self.is_reserved(&name) {
                let why = format!("field {} would be named like a header field, {name}", field.name);
                return Err(refused(why).hint(
                    "set another `header_prefix` for the output, or exclude the field under `fields`",
                ));
            }
            if let Some((_, other)) = taken.iter().find(|(known, _)| known.eq_ignore_ascii_case(&name)) {
                let why = format!("fields {other} and {} would both be named {name}", field.name);
                let hint = match self.naming {
                    FieldNaming::SingleUnderscore => {
                        "set `naming: { fields: keep }`, or exclude one of them under `fields`"
                    }
                    FieldNaming::Keep => "exclude one of them under `fields`",
                };
                return Err(refused(why).hint(hint));
            }
            taken.push((name, field.name.as_str()));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::SchemaLineage;
    use crate::schema::lineage::tests::described;

    fn named(lineage: &SchemaLineage) -> Vec<&str> {
        lineage.fields.iter().map(|field| field.name.as_str()).collect()
    }

    #[test]
    fn two_fields_with_one_name_are_refused_with_both_names_while_nothing_is_published() {
        let outputs = [OutputSettings::change_table("crm")];
        let single = FieldNames::new(FieldNaming::SingleUnderscore, &outputs);
        let keep = FieldNames::new(FieldNaming::Keep, &outputs);
        for (names, fields, words) in [
            (single, ["A__c", "A_c"], "fields A__c and A_c would both be named A_c"),
            (single, ["A__c", "a_c"], "fields A__c and a_c would both be named a_c"),
            (keep, ["a-b", "A_B"], "fields a-b and A_B would both be named A_B"),
            (keep, ["x", "HEADER__source"], "field HEADER__source would be named like a header field"),
        ] {
            let object = described(&[("Id", "id"), (fields[0], "string"), (fields[1], "string")]);
            let error = SchemaLineage::follow(None, &object, &names).unwrap_err();
            assert_eq!(error.kind(), Kind::SchemaUnsupported);
            assert!(error.to_string().contains(words), "{error}");
        }
        let object = described(&[("Id", "id"), ("A__c", "string"), ("A_c", "string")]);
        assert_eq!(named(&SchemaLineage::follow(None, &object, &keep).unwrap()), ["Id", "A__c", "A_c"]);
    }

    #[test]
    fn a_field_that_comes_later_and_finds_its_name_taken_stops_nobody() {
        let outputs = [OutputSettings::change_table("crm")];
        let names = FieldNames::new(FieldNaming::SingleUnderscore, &outputs);
        let first =
            SchemaLineage::follow(None, &described(&[("Id", "id"), ("A__c", "string")]), &names).unwrap();
        let later =
            described(&[("Id", "id"), ("A__c", "string"), ("A_c", "string"), ("header__source", "string")]);
        let second = SchemaLineage::follow(Some(&first), &later, &names).unwrap();
        assert_eq!(named(&second), ["Id", "A_c", "A_c_2", "header__source_2"]);
        super::super::avro::change_table(&second, &outputs[0]).unwrap();
    }

    #[test]
    fn another_naming_leaves_the_names_that_are_published() {
        let names = |naming| FieldNames::new(naming, &[]);
        let old = described(&[("Id", "id"), ("Amount__c", "double")]);
        let first = SchemaLineage::follow(None, &old, &names(FieldNaming::Keep)).unwrap();
        let new = described(&[("Id", "id"), ("Amount__c", "double"), ("Region__c", "string")]);
        let second =
            SchemaLineage::follow(Some(&first), &new, &names(FieldNaming::SingleUnderscore)).unwrap();
        assert_eq!(named(&second), ["Id", "Amount__c", "Region_c"]);
        assert_eq!(second.fields[2].source.name, "Region__c", "the original is kept");
        let back = SchemaLineage::follow(Some(&second), &new, &names(FieldNaming::Keep)).unwrap();
        assert_eq!(named(&back), named(&second));
    }
}
