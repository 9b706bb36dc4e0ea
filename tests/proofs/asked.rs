//! What the configuration of two objects asks for, as far as it is changed: as the configuration spells it, and in the options of
//! the judge.

use std::collections::BTreeSet;

use serde_json::{Value, json};

/// Followed by its events; polled. The configuration of both is changed.
pub const FOLLOWED: &str = "Account";
pub const POLLED: &str = "Contact";
pub const BOTH: [&str; 2] = [FOLLOWED, POLLED];
/// Nobody changes anything about it.
pub const STILL: &str = "Invoice__c";
pub const ALL: [&str; 3] = [FOLLOWED, POLLED, STILL];
/// The topic of the second output, behind the object's name.
pub const SECOND: &str = "__ct";

pub const KEY: &str = "only-who-knows-this-finds-a-value";
/// In `Secret__c` and in `Phone`, and nowhere else.
pub const SECRETS: [(&str, &str); 2] = [("Secret__c", "clear-secret-"), ("Phone", "clear-phone-")];
/// What is asked of `Kind__c`; `huge` always fits.
pub const FIRST: &[&str] = &["small", "huge"];
pub const OTHER: &[&str] = &["large", "huge"];
pub const ALWAYS: &str = "huge";

/// What both objects have beside what every org has.
pub fn fields() -> Value {
    json!([
        { "name": "Late__c", "type": "string" },
        { "name": "Gone__c", "type": "string" },
        { "name": "Secret__c", "type": "string", "length": 80 },
        { "name": "Number__c", "type": "double", "precision": 16, "scale": 2 },
        { "name": "Price__c", "type": "currency", "precision": 16, "scale": 2 },
        { "name": "Kind__c", "type": "picklist", "picklist": ["small", "large", "huge"] },
    ])
}

/// What is asked for, as far as this life changes it.
#[derive(Clone, Default)]
pub struct Asked {
    pub late: bool,
    pub gone: bool,
    pub masked: bool,
    pub hashed: bool,
    pub kinds: Option<&'static [&'static str]>,
    pub second: bool,
    pub exact: bool,
    pub poll_seconds: u64,
}

impl Asked {
    /// One object by what it leaves out, the other by what it takes in.
    fn fields(&self, object: &str) -> String {
        let mut lists = Vec::new();
        if object == FOLLOWED {
            let out = [(!self.late, "Late__c"), (self.gone, "Gone__c")];
            let out: Vec<&str> = out.iter().filter(|(out, _)| *out).map(|(_, name)| *name).collect();
            if !out.is_empty() {
                lists.push(format!("exclude: [ {} ]", out.join(", ")));
            }
        } else {
            let mut taken = vec!["FirstName", "LastName", "Email", "MailingAddress", "Price__c", "Kind__c"];
            let rest = [
                (self.late, "Late__c"),
                (!self.gone, "Gone__c"),
                // What is hidden comes along.
                (!self.masked, "Secret__c"),
                (!self.hashed, "Number__c"),
                (!self.hashed, "Phone"),
            ];
            taken.extend(rest.iter().filter(|(taken, _)| *taken).map(|(_, name)| *name));
            lists.push(format!("include: [ {} ]", taken.join(", ")));
        }
        if self.masked {
            lists.push("mask: [ Secret__c ]".to_owned());
        }
        if self.hashed {
            lists.push("hash: [ Number__c, Phone ]".to_owned());
        }
        if lists.is_empty() { String::new() } else { format!(", fields: {{ {} }}", lists.join(", ")) }
    }

    fn entry(&self, object: &str) -> String {
        let capture = if object == FOLLOWED { "subscribe" } else { "poll" };
        let mut text = format!("{{ name: {object}, capture: {capture}{}", self.fields(object));
        if let Some(kinds) = self.kinds {
            let kinds: Vec<String> = kinds.iter().map(|kind| format!("'{kind}'")).collect();
            text += &format!(", where: \"Kind__c IN ({})\"", kinds.join(", "));
        }
        if self.second {
            text += ", outputs: [ { envelope: change-table }, { envelope: change-table, topic: '{name}.{object}__ct' } ]";
        }
        if self.exact {
            text += ", decimals: decimal, compounds: record";
        }
        if self.poll_seconds > 1 {
            text += &format!(", poll: {{ interval: {0}s, max_interval: {0}s }}", self.poll_seconds);
        }
        text + " }"
    }

    pub fn objects(&self) -> String {
        // A formula over the parent moves without a save: no feed of changes shows that.
        let still = format!("{{ name: {STILL}, capture: poll, fields: {{ exclude: [ Account_Name__c ] }} }}");
        let entries = BOTH.map(|object| self.entry(object)).join(", ");
        format!("[ {entries}, {still} ]\nhash_key: {KEY}\n")
    }

    /// The judge's options, by the names that the topic's newest schema has.
    pub fn judged_by(&self, names: &BTreeSet<&str>) -> Vec<String> {
        let mut options = Vec::new();
        if let Some(kinds) = self.kinds {
            options.push(format!("--only Kind__c {}", kinds.join(" ")));
        }
        for old in names.iter().filter(|name| names.contains(format!("{name}_2").as_str())) {
            // Another type, so another name; the old one is null in every record that counts.
            options.push(format!("--source {old}_2 {old} --source {old} -"));
        }
        if self.gone && names.contains("Gone__c") {
            // Null in what is published since; nothing is loaded for that.
            options.push("--leave-out Gone__c --null Gone__c".to_owned());
        }
        if self.masked {
            options.push("--mask Secret__c".to_owned());
        }
        if self.hashed {
            options.push(format!("--hash Number__c_2 --hash Phone --null Number__c --hash-key {KEY}"));
        }
        options
    }
}
