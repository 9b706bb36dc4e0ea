//! Names in the target: what objects and fields are called on topics and in schemas.
//!
//! Comes in: API names. Goes out: target names by the contract's rule (`__c` at the end becomes `_c`), legal in Avro.

/// The target name of an object: `Invoice__c` becomes `Invoice_c`, all others stay.
pub fn target_object(api_name: &str) -> String {
    match api_name.strip_suffix("__c") {
        Some(stem) => format!("{stem}_c"),
        None => api_name.to_owned(),
    }
}

/// A field's name with one underscore before its suffix: `Amount__c` becomes `Amount_c`, `Region__pc` of a person account
/// `Region_pc`. Underscores in front of that are a namespace's or the name's own.
pub fn single_underscore(api_name: &str) -> String {
    match api_name.rsplit_once("__") {
        Some((stem, suffix)) if matches!(suffix, "c" | "pc" | "s" | "x") => format!("{stem}_{suffix}"),
        _ => api_name.to_owned(),
    }
}

/// The nearest name that Avro takes: other letters become underscores, and one stands before a digit.
pub fn legal(name: &str) -> String {
    let letter = |letter: char| if letter.is_ascii_alphanumeric() { letter } else { '_' };
    let clean: String = name.chars().map(letter).collect();
    if is_avro_name(&clean) { clean } else { format!("_{clean}") }
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

    #[test]
    fn a_fields_suffix_alone_gets_one_underscore() {
        for (name, wanted) in [
            ("Amount__c", "Amount_c"),
            ("et4ae5__Total__c", "et4ae5__Total_c"),
            ("Region__pc", "Region_pc"),
            ("Place__Latitude__s", "Place__Latitude_s"),
            ("Name", "Name"),
            ("odd__Name", "odd__Name"),
        ] {
            assert_eq!(single_underscore(name), wanted);
        }
    }

    #[test]
    fn whatever_a_name_holds_the_nearest_legal_one_is_legal() {
        for (name, wanted) in [("Amount__c", "Amount__c"), ("0New", "_0New"), ("a-b ü", "a_b__"), ("", "_")]
        {
            assert_eq!(legal(name), wanted);
            assert!(is_avro_name(&legal(name)));
        }
    }
}
