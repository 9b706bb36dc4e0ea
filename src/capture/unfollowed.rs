//! Objects that are loaded and whose changes are not captured: why.
//!
//! Comes in: how an object is captured, its description. Goes out: the reason in words that people read in a report or on the
//! status page. Whether it is so is decided elsewhere: by the description's cursor, by the configuration.

use crate::config::Method;
use crate::domain::ObjectDescription;
use crate::salesforce::Copying;

pub const FULL_LOAD: &str = "the configuration says `method: full-load`";

/// None: its changes are followed.
pub fn why_not_followed(method: Method, object: &ObjectDescription) -> Option<String> {
    match (method, object.cursor) {
        (Method::FullLoad, _) => Some(FULL_LOAD.to_owned()),
        (Method::Cdc, Some(_)) => None,
        (Method::Cdc, None) => Some(not_followed(object)),
    }
}

/// Of an object that has no cursor.
pub fn not_followed(object: &ObjectDescription) -> String {
    let copying = Copying::of(&object.name);
    let reason = copying.reason().filter(|_| !copying.has_windows());
    reason.unwrap_or_else(|| "it has no field that rises with each change".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::CursorField;

    #[test]
    fn what_is_not_followed_says_why_and_what_is_followed_nothing() {
        let object = |name: &str, cursor| {
            let any = Copying::of("IdeaComment").parents().unwrap().description();
            ObjectDescription { name: name.into(), cursor, ..(*any).clone() }
        };
        let why = |method, name, cursor| why_not_followed(method, &object(name, cursor));
        assert_eq!(why(Method::Cdc, "Account", Some(CursorField(0))), None);
        assert_eq!(why(Method::FullLoad, "Account", Some(CursorField(0))).as_deref(), Some(FULL_LOAD));
        let parents = why(Method::Cdc, "ContentDocumentLink", None).unwrap();
        assert!(parents.contains("only by ContentDocumentId"), "{parents}");
        assert!(parents.ends_with("a change shows in no query"), "{parents}");
        for name in ["AsyncApexJob", "Help__kav"] {
            assert!(why(Method::Cdc, name, None).unwrap().contains("no field that rises"), "{name}");
        }
    }
}
