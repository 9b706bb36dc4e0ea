//! What a configuration asks of an object, as far as the records in its topics rest on it.
//!
//! Comes in: settings. Goes out: plain text that stands in the control record `schema/<Object>`, and what a difference
//! between two of them needs. A setting that decides what is published of a record is one line in [`Asked::of`].

use std::collections::BTreeMap;

use ring::hmac;
use serde::{Deserialize, Serialize};

use crate::config::{
    Blobs, Compounds, Decimals, EnvelopeKind, KeyFormat, ObjectSettings, OutputSettings, Secret, ValueRules,
};
use crate::domain::{Need, ReloadReason};

/// Settings by their keys in the configuration, those that are not set left out.
type Keys = BTreeMap<String, String>;

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asked {
    /// Which fields are there. What a change needs shows in the schema: fields that have values now and had none.
    #[serde(default, skip_serializing_if = "Keys::is_empty")]
    pub fields: Keys,
    /// Which fields are published otherwise than they are.
    #[serde(default, skip_serializing_if = "Keys::is_empty")]
    pub rules: Keys,
    /// How values are written.
    #[serde(default, skip_serializing_if = "Keys::is_empty")]
    pub values: Keys,
    /// Which records are captured, a SOQL condition; none: all.
    #[serde(rename = "where", default, skip_serializing_if = "Option::is_none")]
    pub condition: Option<String>,
    /// By topic: what its records look like.
    #[serde(default)]
    pub outputs: BTreeMap<String, Keys>,
}

impl Asked {
    /// `target`: the object's name on topics.
    pub fn of(settings: &ObjectSettings, hash_key: Option<&Secret>, pipeline: &str, target: &str) -> Self {
        let rules = &settings.fields;
        let outputs = settings.outputs.iter();
        Self {
            fields: keys([("include", list(&rules.include)), ("exclude", list(&rules.exclude))]),
            rules: keys([
                ("hash", list(&rules.hash)),
                ("mask", list(&rules.mask)),
                // Another key makes other hashes.
                (
                    "hash_key",
                    hash_key.filter(|_| !rules.hash.is_empty()).map(fingerprint).unwrap_or_default(),
                ),
            ]),
            values: values(rules.values),
            condition: settings.condition.clone(),
            outputs: outputs.map(|output| (output.topic_for(pipeline, target), look(output))).collect(),
        }
    }

    /// What must be loaded so that the topics hold what is asked for now.
    pub fn needs(&self, before: &Self) -> Vec<Need> {
        let mut needs = Vec::new();
        if self.rules != before.rules {
            needs.push(Need::of(ReloadReason::FieldRules));
        }
        if self.values != before.values {
            needs.push(Need::of(ReloadReason::Values));
        }
        if self.condition != before.condition {
            let left = Some(before.condition.clone().unwrap_or_default());
            needs.push(Need { left, ..Need::of(ReloadReason::Condition) });
        }
        let outputs: Vec<String> = self
            .outputs
            .iter()
            .filter(|(topic, look)| before.outputs.get(*topic) != Some(look))
            .map(|(topic, _)| topic.clone())
            .collect();
        if !outputs.is_empty() {
            needs.push(Need { outputs: Some(outputs), ..Need::of(ReloadReason::NewOutput) });
        }
        needs
    }

    /// Topics that are no longer written to.
    pub fn left_outputs<'a>(&self, before: &'a Self) -> Vec<&'a str> {
        let left = before.outputs.keys().filter(|topic| !self.outputs.contains_key(*topic));
        left.map(String::as_str).collect()
    }
}

/// Those that are not the default, as the configuration spells them.
fn values(rules: ValueRules) -> Keys {
    let decimals = match rules.decimals {
        Decimals::Double => "",
        Decimals::Decimal => "decimal",
    };
    let compounds = match rules.compounds {
        Compounds::LeftOut => "",
        Compounds::Record => "record",
    };
    let blobs = match rules.blobs {
        Blobs::LeftOut => "",
        Blobs::Reference => "reference",
        Blobs::Include => "include",
    };
    keys(
        [("decimals", decimals), ("compounds", compounds), ("blobs", blobs)]
            .map(|(key, text)| (key, text.to_owned())),
    )
}

/// Tells one key from another, and nothing of either.
fn fingerprint(key: &Secret) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, key.expose().as_bytes());
    let tag = hmac::sign(&key, b"sf2kafka: which hash_key this is");
    tag.as_ref().iter().take(4).map(|byte| format!("{byte:02x}")).collect()
}

/// What readers of a topic see of its settings.
fn look(output: &OutputSettings) -> Keys {
    let envelope = match output.envelope {
        EnvelopeKind::ChangeTable => "change-table",
    };
    let key = match output.key {
        KeyFormat::Record => "record",
        KeyFormat::Text => "string",
    };
    keys([
        ("envelope", envelope.to_owned()),
        ("key", key.to_owned()),
        ("header_prefix", output.header_prefix.clone()),
    ])
}

fn keys<const COUNT: usize>(settings: [(&str, String); COUNT]) -> Keys {
    let set = settings.into_iter().filter(|(_, text)| !text.is_empty());
    set.map(|(key, text)| (key.to_owned(), text)).collect()
}

/// The names in an order of their own: in which the file lists them makes no difference, nor their case.
fn list(names: &[String]) -> String {
    let mut names: Vec<String> = names.iter().map(|name| name.to_ascii_lowercase()).collect();
    names.sort();
    names.dedup();
    names.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(change: impl FnOnce(&mut ObjectSettings)) -> Asked {
        let mut settings = ObjectSettings::new("crm", "Account");
        change(&mut settings);
        Asked::of(&settings, None, "crm", "Account")
    }

    fn reasons(now: &Asked, before: &Asked) -> Vec<&'static str> {
        now.needs(before).iter().map(|need| need.reason.word()).collect()
    }

    #[test]
    fn a_new_output_is_loaded_alone_and_one_that_is_gone_needs_nothing() {
        let one = asked(|_| ());
        let two = asked(|settings| {
            let topic = "{name}.{object}__ct".to_owned();
            settings.outputs.push(OutputSettings { topic, ..OutputSettings::change_table("crm") });
        });
        let needs = two.needs(&one);
        assert_eq!(needs.len(), 1);
        assert_eq!(needs[0].outputs.as_deref(), Some(&["crm.Account__ct".to_owned()][..]));
        assert_eq!((one.needs(&two), one.left_outputs(&two)), (vec![], vec!["crm.Account__ct"]));
    }

    #[test]
    fn a_topic_whose_records_look_otherwise_is_loaded() {
        let other = asked(|settings| settings.outputs[0].header_prefix = "h_".to_owned());
        assert_eq!(reasons(&other, &asked(|_| ())), ["new-output"]);
    }

    #[test]
    fn another_condition_or_hidden_field_is_loaded_for_and_the_condition_of_before_is_known() {
        let hot = |condition: &str| asked(|settings| settings.condition = Some(condition.to_owned()));
        let needs = hot("Rating = 'Hot'").needs(&asked(|_| ()));
        assert_eq!((needs.len(), needs[0].left.as_deref()), (1, Some("")));
        let needs = asked(|_| ()).needs(&hot("Rating = 'Hot'"));
        assert_eq!(needs[0].left.as_deref(), Some("Rating = 'Hot'"));
        let masked = asked(|settings| settings.fields.mask = vec!["Phone".to_owned()]);
        assert_eq!(reasons(&masked, &asked(|_| ())), ["field-rules"]);
        assert_ne!(masked, asked(|settings| settings.fields.hash = vec!["Phone".to_owned()]));
    }

    #[test]
    fn values_that_are_written_otherwise_are_loaded_for_in_all_topics() {
        let exact = asked(|settings| settings.fields.values.decimals = Decimals::Decimal);
        assert_eq!(exact.needs(&asked(|_| ())), [Need::of(ReloadReason::Values)]);
        assert_eq!(asked(|_| ()).needs(&exact), [Need::of(ReloadReason::Values)], "and back");
    }

    #[test]
    fn what_makes_no_difference_to_records_needs_nothing() {
        let listed = |names: &[&str]| {
            let names = names.iter().map(|name| (*name).to_owned()).collect();
            asked(|settings| settings.fields.exclude = names)
        };
        assert_eq!(listed(&["Fax", "Site"]), listed(&["site", "FAX", "Fax"]));
        let patient = asked(|settings| settings.poll.interval *= 2);
        assert_eq!(patient, asked(|_| ()));
        // Whether a field is gained shows in the schema.
        assert_eq!(listed(&["Fax"]).needs(&listed(&[])), []);
        assert_ne!(listed(&["Fax"]), listed(&[]));
    }

    #[test]
    fn the_record_reads_like_the_configuration() {
        let asked = asked(|settings| settings.fields.exclude = vec!["Fax".to_owned()]);
        let text = serde_json::to_string(&asked).unwrap();
        assert_eq!(
            text,
            r#"{"fields":{"exclude":"fax"},"outputs":{"crm.Account":{"envelope":"change-table","header_prefix":"header__","key":"record"}}}"#
        );
        assert_eq!(serde_json::from_str::<Asked>(&text).unwrap(), asked);
    }
}
