//! Why an object is loaded anew beside what it is followed by, and how far back that reaches.
//!
//! Comes in: needs, each with its reason, from whoever found out. Goes out: the `reload` of a position, from the decision on
//! until its load is done, so that no crash forgets it. Needs that meet become one load: a load that has begun starts over,
//! for its query knows nothing of what came later.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Why all records are read again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ReloadReason {
    /// A change of all records at once moved no stamp.
    AllRecords,
    /// Records from before have values for a field that was not captured so far.
    NewField,
    /// A topic is to hold what others hold already.
    NewOutput,
    /// The configuration hashes or masks other fields.
    FieldRules,
    /// The configuration has values written otherwise.
    Values,
    /// The configuration has another `where`.
    #[serde(rename = "where")]
    Condition,
}

impl ReloadReason {
    /// As the log, notifications and metrics name it.
    pub fn word(self) -> &'static str {
        match self {
            Self::AllRecords => "all-records",
            Self::NewField => "new-field",
            Self::NewOutput => "new-output",
            Self::FieldRules => "field-rules",
            Self::Values => "values",
            Self::Condition => "where",
        }
    }
}

/// One reason to load an object anew.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Need {
    pub reason: ReloadReason,
    /// Salesforce's names of the fields it is about.
    pub fields: Vec<String>,
    /// The topics it is about; none: all of the object.
    pub outputs: Option<Vec<String>>,
    /// The condition that records were published under so far, if there is another one now; empty: there was none.
    pub left: Option<String>,
}

impl Need {
    /// For all topics of the object.
    pub fn of(reason: ReloadReason) -> Self {
        Self { reason, fields: Vec::new(), outputs: None, left: None }
    }
}

/// Records that were published and do not match the configuration's condition any more; they are to be deleted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leaving {
    /// The conditions they were published under; empty: none.
    pub conditions: Vec<String>,
    /// The last id that was looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after_id: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reload {
    pub reasons: Vec<ReloadReason>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fields: Vec<String>,
    /// The topics that are loaded; left out: all of the object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outputs: Option<Vec<String>>,
    /// What was published up to this number of `change_seq` does not count as loaded.
    pub beyond: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leaving: Option<Leaving>,
}

impl Reload {
    /// What is needed now that everything up to the number `beyond` is published, with what was needed before.
    #[must_use]
    pub fn joined(before: Option<Self>, need: &Need, beyond: u64) -> Self {
        let mut reload = before.unwrap_or_else(|| Self {
            reasons: Vec::new(),
            fields: Vec::new(),
            outputs: need.outputs.clone(),
            beyond,
            leaving: None,
        });
        reload.beyond = beyond;
        add(&mut reload.reasons, [need.reason]);
        add(&mut reload.fields, need.fields.iter().cloned());
        reload.outputs = match (reload.outputs, &need.outputs) {
            (Some(mut outputs), Some(more)) => {
                add(&mut outputs, more.iter().cloned());
                Some(outputs)
            }
            _ => None,
        };
        if let Some(condition) = &need.left {
            let leaving =
                reload.leaving.get_or_insert_with(|| Leaving { conditions: Vec::new(), after_id: None });
            add(&mut leaving.conditions, [condition.clone()]);
            // From the beginning: the condition of now is another one.
            leaving.after_id = None;
        }
        reload
    }
}

fn add<T: PartialEq>(known: &mut Vec<T>, more: impl IntoIterator<Item = T>) {
    for one in more {
        if !known.contains(&one) {
            known.push(one);
        }
    }
}

/// The reasons, as people read them: `new-field (Region__c), where`.
impl fmt::Display for Reload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, reason) in self.reasons.iter().enumerate() {
            f.write_str(if place > 0 { ", " } else { "" })?;
            f.write_str(reason.word())?;
            if *reason == ReloadReason::NewField && !self.fields.is_empty() {
                write!(f, " ({})", self.fields.join(", "))?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(name: &str) -> Need {
        Need { fields: vec![name.to_owned()], ..Need::of(ReloadReason::NewField) }
    }

    fn output(topic: &str) -> Need {
        Need { outputs: Some(vec![topic.to_owned()]), ..Need::of(ReloadReason::NewOutput) }
    }

    #[test]
    fn needs_that_meet_are_one_load_of_all_that_any_of_them_needs() {
        let one = Reload::joined(None, &output("crm.A"), 7);
        assert_eq!((one.outputs.as_deref(), one.beyond), (Some(&["crm.A".to_owned()][..]), 7));
        let two = Reload::joined(Some(one), &output("crm.B"), 9);
        assert_eq!(two.outputs.as_ref().map(Vec::len), Some(2));
        let three = Reload::joined(Some(two), &field("Region__c"), 12);
        assert_eq!((&three.outputs, three.beyond), (&None, 12), "a new field is missing in every topic");
        let four = Reload::joined(Some(three), &output("crm.C"), 12);
        assert_eq!(four.outputs, None);
        assert_eq!(four.to_string(), "new-output, new-field (Region__c)");
    }

    #[test]
    fn records_that_leave_are_looked_for_again_when_the_condition_changes_once_more() {
        let left =
            |condition: &str| Need { left: Some(condition.to_owned()), ..Need::of(ReloadReason::Condition) };
        let mut reload = Reload::joined(None, &left("A = 1"), 3);
        reload.leaving.as_mut().unwrap().after_id = Some("001A".to_owned());
        let leaving = Reload::joined(Some(reload), &left("B = 2"), 4).leaving.unwrap();
        assert_eq!((leaving.conditions.len(), leaving.after_id), (2, None));
    }

    #[test]
    fn the_record_says_what_the_log_says() {
        let reload = Reload::joined(None, &field("Region__c"), 3);
        let text = serde_json::to_string(&reload).unwrap();
        assert_eq!(text, r#"{"reasons":["new-field"],"fields":["Region__c"],"beyond":3}"#);
        use ReloadReason::{AllRecords, Condition, FieldRules, NewField, NewOutput, Values};
        for reason in [AllRecords, NewField, NewOutput, FieldRules, Values, Condition] {
            assert_eq!(serde_json::to_value(reason).unwrap(), reason.word());
        }
    }
}
