//! Names of topics and events, from those of objects and back.
//!
//! Comes in: an object's API name, or an event's. Goes out: the other. `Employee__c` has `Employee__ChangeEvent`, never
//! `Employee__cChangeEvent` (`pubsub.md` 2.1).

const SUFFIX: &str = "ChangeEvent";

/// `Account` has `AccountChangeEvent`, `Employee__c` has `Employee__ChangeEvent`.
pub fn event_name(object: &str) -> String {
    match object.strip_suffix("__c") {
        Some(stem) => format!("{stem}__{SUFFIX}"),
        None => format!("{object}{SUFFIX}"),
    }
}

/// The topic of one object's changes.
pub fn change_topic(object: &str) -> String {
    format!("/data/{}", event_name(object))
}

/// The topic of a platform event.
pub fn platform_topic(event: &str) -> String {
    format!("/event/{event}")
}

/// The object whose changes an event or topic of this name carries; none: it is no single object's.
pub fn object_of(name: &str) -> Option<String> {
    let stem = name.strip_prefix("/data/").unwrap_or(name).strip_suffix(SUFFIX)?;
    match stem.strip_suffix("__") {
        Some("") => None,
        Some(custom) => Some(format!("{custom}__c")),
        None => (!stem.is_empty()).then(|| stem.to_owned()),
    }
}

/// Whether it looks like a topic at all. Salesforce lets wrong names wait for a minute before it refuses them.
pub(super) fn is_topic(name: &str) -> bool {
    let rest = name.strip_prefix("/data/").or_else(|| name.strip_prefix("/event/"));
    rest.is_some_and(|rest| {
        !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_go_there_and_back() {
        for (object, event) in [
            ("Account", "AccountChangeEvent"),
            ("Employee__c", "Employee__ChangeEvent"),
            ("et4ae5__Send__c", "et4ae5__Send__ChangeEvent"),
        ] {
            assert_eq!(event_name(object), event);
            assert_eq!(object_of(event).as_deref(), Some(object));
            assert_eq!(object_of(&change_topic(object)).as_deref(), Some(object));
        }
        for none in ["ChangeEvents", "/data/ChangeEvents", "ChangeEvent", "__ChangeEvent", "Order__e", ""] {
            assert_eq!(object_of(none), None, "{none}");
        }
    }

    #[test]
    fn what_is_no_topic_is_seen_without_asking() {
        let event = platform_topic("Order__e");
        for good in ["/data/AccountChangeEvent", "/data/Sales__chn", event.as_str()] {
            assert!(is_topic(good), "{good}");
        }
        for wrong in ["", "/data/", "data/AccountChangeEvent", "/topic/X", "/data/A B", "AccountChangeEvent"]
        {
            assert!(!is_topic(wrong), "{wrong}");
        }
    }
}
