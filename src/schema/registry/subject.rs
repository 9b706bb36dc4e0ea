//! Subjects: the names that schemas are registered under.
//!
//! Comes in: a topic, a schema's text, how subjects are named. Goes out: the subject, as Confluent's strategies of the same
//! names build it, so that consumers and tools find it.

use serde_json::Value;

use crate::config::SubjectNaming;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject(pub String);

impl Subject {
    /// Of a topic's keys, named by topic.
    pub fn key(topic: &str) -> Self {
        Self(format!("{topic}-key"))
    }

    /// Of a topic's values, named by topic.
    pub fn value(topic: &str) -> Self {
        Self(format!("{topic}-value"))
    }

    pub(super) fn by(naming: SubjectNaming, by_topic: Self, topic: &str, schema: &str) -> Self {
        if naming == SubjectNaming::Topic {
            return by_topic;
        }
        match full_name(schema) {
            None => by_topic,
            Some(record) if naming == SubjectNaming::Record => Self(record),
            Some(record) => Self(format!("{topic}-{record}")),
        }
    }
}

/// Of a named type: its name with the namespace.
pub(super) fn full_name(schema: &str) -> Option<String> {
    let schema: Value = serde_json::from_str(schema).ok()?;
    let text = |key: &str| schema.get(key).and_then(Value::as_str);
    let name = text("name")?;
    match text("namespace") {
        Some(namespace) if !namespace.is_empty() && !name.contains('.') => {
            Some(format!("{namespace}.{name}"))
        }
        _ => Some(name.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_strategy_names_keys_and_values_as_confluents_clients_do() {
        let value = r#"{"type":"record","name":"Invoice_c","namespace":"salesforce.crm","fields":[]}"#;
        let key = r#"{"type":"record","name":"salesforce.crm.Invoice_cKey","fields":[]}"#;
        let topic = "crm.Invoice_c";
        let named = |naming| {
            [(Subject::value(topic), value), (Subject::key(topic), key)]
                .map(|(by_topic, schema)| Subject::by(naming, by_topic, topic, schema).0)
        };
        assert_eq!(named(SubjectNaming::Topic), ["crm.Invoice_c-value", "crm.Invoice_c-key"]);
        let by_record = ["salesforce.crm.Invoice_c", "salesforce.crm.Invoice_cKey"];
        assert_eq!(named(SubjectNaming::Record), by_record);
        assert_eq!(
            named(SubjectNaming::TopicRecord),
            by_record.map(|record| format!("crm.Invoice_c-{record}"))
        );
    }
}
