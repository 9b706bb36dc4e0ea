//! Types whose values are text, and what is said of those that nobody knows.
//!
//! Comes in: a field's type as the describe spells it (`rest.md` 2.5). Goes out: whether it is known, and a warning, once for
//! each field of the process: objects are described again and again.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

pub(super) fn warn_of_unknown(object: &str, field: &str, salesforce_type: &str) {
    static TOLD: Mutex<BTreeSet<(String, String)>> = Mutex::new(BTreeSet::new());
    if is_known(salesforce_type) {
        return;
    }
    let mut told = TOLD.lock().unwrap_or_else(PoisonError::into_inner);
    if told.insert((object.to_owned(), field.to_owned())) {
        tracing::warn!(
            object,
            field,
            r#type = salesforce_type,
            "a type that is not known here is published as text"
        );
    }
}

fn is_known(salesforce_type: &str) -> bool {
    matches!(
        salesforce_type,
        "id" | "reference"
            | "string"
            | "textarea"
            | "picklist"
            | "multipicklist"
            | "combobox"
            | "phone"
            | "email"
            | "url"
            | "encryptedstring"
            | "datacategorygroupreference"
            | "anyType"
            | "json"
    )
}
