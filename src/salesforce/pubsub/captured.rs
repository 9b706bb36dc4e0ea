//! Which objects are switched on for Change Data Capture.
//!
//! Comes in: names of objects. Goes out: those whose changes can be subscribed to. The Tooling API lists the members of
//! all channels; a single object's topic works if the object is a member of any. Who may not read that list asks for
//! each topic, which says the same (`pubsub.md` 7).

use std::collections::BTreeSet;

use serde::Deserialize;

use crate::error::{Kind, Result};

use super::super::Client;
use super::super::fault::{Area, Fault};
use super::super::transport::Call;
use super::connection::PubSub;
use super::topic;

/// Belongs to Data Cloud, whatever it lists.
const NOT_OURS: &str = "DataCloudEntities";

#[derive(Debug, Deserialize)]
struct Answer {
    records: Vec<Member>,
    #[serde(default)]
    done: bool,
    #[serde(default, rename = "nextRecordsUrl")]
    next: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Member {
    #[serde(rename = "EventChannel")]
    channel: Option<String>,
    #[serde(rename = "SelectedEntity")]
    event: Option<String>,
}

impl PubSub {
    /// Those of `objects` (as the org spells them) whose changes can be subscribed to. Costs one API call, or none
    /// and a question for each object if the user may not see the org's setup.
    pub async fn captured_objects(&self, objects: &[&str]) -> Result<BTreeSet<String>> {
        let mut captured = BTreeSet::new();
        match members(self.client()).await {
            Ok(events) => {
                let chosen = objects.iter().filter(|object| events.contains(&topic::event_name(object)));
                captured.extend(chosen.map(|object| (*object).to_owned()));
                return Ok(captured);
            }
            Err(error) => match error.kind() {
                Kind::ObjectForbidden | Kind::ObjectUnknown | Kind::QueryRefused | Kind::FieldUnknown => {
                    tracing::debug!(%error, "the channels' members may not be listed, asking for each topic");
                }
                _ => return Err(error),
            },
        }
        for object in objects {
            match self.topic_info(&topic::change_topic(object)).await {
                Ok(info) if info.can_subscribe => {
                    captured.insert((*object).to_owned());
                }
                Ok(_) => {}
                Err(error) if error.kind() == Kind::SubscriptionRefused => {}
                Err(error) => return Err(error),
            }
        }
        Ok(captured)
    }
}

/// Names of the events that are members of any channel.
async fn members(client: &Client) -> Result<BTreeSet<String>> {
    let soql = "SELECT+EventChannel,SelectedEntity+FROM+PlatformEventChannelMember";
    let mut path = client.data_path(&format!("/tooling/query/?q={soql}"));
    let mut events = BTreeSet::new();
    loop {
        let call = Call::get(Area::Query, "listing what is switched on for Change Data Capture", path);
        let answer: Answer = client
            .fetch(&call, |reply| serde_json::from_slice(&reply.body).map_err(|error| Fault::json(&error)))
            .await?;
        let ours = answer.records.into_iter().filter(|member| member.channel.as_deref() != Some(NOT_OURS));
        events.extend(ours.filter_map(|member| member.event));
        match answer.next {
            Some(next) if !answer.done && next.starts_with("/services/") => path = next,
            _ => return Ok(events),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recorded_answer_names_its_events() {
        let text = include_str!("../../../tests/data/salesforce/pubsub/CustomChannel__chnMembers.json");
        let answer: Answer = serde_json::from_str(text).unwrap();
        let events: Vec<_> = answer.records.iter().map(|member| member.event.as_deref().unwrap()).collect();
        assert_eq!(events, ["AccountChangeEvent", "Vendor_Profile__ChangeEvent"]);
        assert!(answer.done && answer.next.is_none());
    }
}
