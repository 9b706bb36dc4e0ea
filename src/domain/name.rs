//! Names in the target: what an object is called on topics and in schemas.
//!
//! Comes in: API names. Goes out: target names by the contract's rule (`__c` at the end becomes `_c`).

/// The target name of an object: `Invoice__c` becomes `Invoice_c`, all others stay.
pub fn target_object(api_name: &str) -> String {
    match api_name.strip_suffix("__c") {
        Some(stem) => format!("{stem}_c"),
        None => api_name.to_owned(),
    }
}

/// Whether Avro takes the name as it is: a letter or underscore, then letters, digits, underscores.
pub fn is_avro_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|first| first.is_ascii_alphabetic() || first == b'_')
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_last_suffix_of_a_custom_object_changes() {
        assert_eq!(target_object("Invoice__c"), "Invoice_c");
        assert_eq!(target_object("et4ae5__SendDefinition__c"), "et4ae5__SendDefinition_c");
        assert_eq!(target_object("Account"), "Account");
        assert_eq!(target_object("Setting__mdt"), "Setting__mdt");
    }
}
