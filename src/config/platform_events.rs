//! The list `platform_events`: which events of the bus have topics.
//!
//! Comes in: the file. Goes out: one [`PlatformEventSettings`] per entry, in the order of the file. Whether the org has such
//! an event only the org can tell; what can be no event's name is refused here.

use super::reader::{Context, Section, Text};
use super::{ObjectSettings, PlatformEventSettings};
use crate::domain::name::is_avro_name;

pub(super) fn listed(top: &Section<'_>) -> Vec<Text> {
    let context = top.context();
    let mut events: Vec<Text> = Vec::new();
    for name in top.texts("platform_events").unwrap_or_default() {
        if !is_event(context, &name) {
            continue;
        }
        if let Some(first) = events.iter().find(|known| known.text.eq_ignore_ascii_case(&name.text)) {
            let message = format!(
                "platform event `{}` is listed twice, first in line {}",
                name.shown, first.place.line
            );
            context.problem(name.place, message, Some("keep one entry"));
            continue;
        }
        events.push(name);
    }
    events
}

/// A custom event ends with `__e`; a standard one has no suffix at all.
fn is_event(context: &Context<'_>, name: &Text) -> bool {
    let text = name.text.as_str();
    let hint = if text.starts_with("/event/") {
        "write the name alone, without `/event/`"
    } else if text.ends_with("ChangeEvent") {
        "changes of objects come by `objects`: list the object there"
    } else if is_avro_name(text) && (text.ends_with("__e") || !text.contains("__")) {
        return true;
    } else {
        "for example `Shipment__e`, or a standard event such as `LoginEventStream`; globs are not taken"
    };
    context.problem(name.place, format!("`{}` is no platform event's API name", name.shown), Some(hint));
    false
}

/// An event has a position of its own, under its name.
pub(super) fn check_names(context: &Context<'_>, events: &mut Vec<Text>, objects: &[ObjectSettings]) {
    events.retain(|event| {
        let twice = objects.iter().any(|object| object.name.eq_ignore_ascii_case(&event.text));
        if twice {
            let message = format!("`{}` is listed under `objects` too", event.shown);
            context.problem(event.place, message, Some("take one of the two away"));
        }
        !twice
    });
}

pub(super) fn settings(context: &Context<'_>, events: Vec<Text>) -> Vec<PlatformEventSettings> {
    let entry = |event: Text| PlatformEventSettings {
        place: format!("{}:{}", context.file, event.place),
        name: event.text,
    };
    events.into_iter().map(entry).collect()
}
