//! What is captured: the standard channel's selection and custom channels with their members (pubsub.md 2, 7).
//!
//! Comes in: selections, from the configuration, the control interface or the Tooling API. Goes out: whether an
//! object is captured, and for which channels. Each member and channel has an id by which the Tooling API knows it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::Deserialize;

use super::schema::change_event_of;
use crate::catalog::{Catalog, ObjectDef};
use crate::org::Id;

const MEMBER_PREFIX: [u8; 3] = *b"0v8";
const CHANNEL_PREFIX: [u8; 3] = *b"0YL";

/// Standard objects that can be selected; custom ones all can.
const CAPTURABLE: [&str; 24] = [
    "Account",
    "Attachment",
    "Campaign",
    "CampaignMember",
    "Case",
    "CaseComment",
    "Contact",
    "ContentDocumentLink",
    "ContentVersion",
    "EmailMessage",
    "Entitlement",
    "Event",
    "Idea",
    "Lead",
    "Opportunity",
    "OpportunityLineItem",
    "Order",
    "OrderItem",
    "Pricebook2",
    "PricebookEntry",
    "Product2",
    "Task",
    "User",
    "WorkOrder",
];

pub(crate) fn is_capturable(object: &ObjectDef) -> bool {
    let custom = object.name.ends_with("__c") && !object.flags.custom_setting;
    custom || CAPTURABLE.contains(&object.name.as_str())
}

/// A custom channel.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ChannelConfig {
    /// Ends with `__chn`.
    pub name: String,
    pub members: Vec<ChannelMember>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ChannelMember {
    pub object: String,
    /// Come with updates and deletes though unchanged, by their names in the event's schema.
    #[serde(default)]
    pub enriched_fields: Vec<String>,
}

#[derive(Default)]
pub(crate) struct Channels {
    /// On the standard channel: the object's name to the member's id.
    standard: BTreeMap<String, Id>,
    custom: BTreeMap<String, Channel>,
    members_made: u64,
}

#[derive(Clone, Debug)]
pub(crate) struct Channel {
    pub id: Id,
    pub members: BTreeMap<String, Member>,
}

#[derive(Clone, Debug)]
pub(crate) struct Member {
    pub id: Id,
    pub enriched: Vec<String>,
}

/// A member as the Tooling API lists it.
pub(crate) struct Listed {
    pub id: Id,
    /// None: the standard channel.
    pub channel: Option<(String, Id)>,
    pub object: String,
    pub enriched: Vec<String>,
}

impl Channels {
    fn next(&mut self, prefix: [u8; 3]) -> Id {
        self.members_made += 1;
        Id::new(prefix, self.members_made)
    }

    /// The member's id.
    pub fn select(&mut self, catalog: &Catalog, object: &str) -> Id {
        let name = spelled(catalog, object);
        match self.standard.get(&name) {
            Some(id) => *id,
            None => {
                let id = self.next(MEMBER_PREFIX);
                self.standard.insert(name, id);
                id
            }
        }
    }

    pub fn deselect(&mut self, object: &str) -> bool {
        let name = self.standard.keys().find(|name| name.eq_ignore_ascii_case(object)).cloned();
        name.is_some_and(|name| self.standard.remove(&name).is_some())
    }

    /// Makes a channel, or gives it other members; its id stays.
    pub fn put_channel(&mut self, catalog: &Catalog, config: &ChannelConfig) {
        let id = match self.custom.get(&config.name) {
            Some(channel) => channel.id,
            None => self.next(CHANNEL_PREFIX),
        };
        let mut members = BTreeMap::new();
        for member in &config.members {
            let id = self.next(MEMBER_PREFIX);
            let enriched = member.enriched_fields.clone();
            members.insert(spelled(catalog, &member.object), Member { id, enriched });
        }
        self.custom.insert(config.name.clone(), Channel { id, members });
    }

    pub fn add_member(&mut self, channel: &str, object: &str, enriched: Vec<String>) -> Option<Id> {
        let id = self.next(MEMBER_PREFIX);
        let channel = self.custom.get_mut(channel)?;
        channel.members.insert(object.to_owned(), Member { id, enriched });
        Some(id)
    }

    pub fn remove_channel(&mut self, name: &str) -> bool {
        self.custom.remove(name).is_some()
    }

    /// Takes a member away by its id.
    pub fn remove_member(&mut self, id: Id) -> bool {
        let before = self.list().len();
        self.standard.retain(|_, known| *known != id);
        for channel in self.custom.values_mut() {
            channel.members.retain(|_, member| member.id != id);
        }
        self.list().len() != before
    }

    /// The object is called something else: who captures it goes on.
    pub fn rename(&mut self, old: &str, new: &str) {
        if let Some(id) = self.standard.remove(old) {
            self.standard.insert(new.to_owned(), id);
        }
        for channel in self.custom.values_mut() {
            if let Some(member) = channel.members.remove(old) {
                channel.members.insert(new.to_owned(), member);
            }
        }
    }

    /// The object is no more.
    pub fn forget(&mut self, object: &str) {
        self.standard.remove(object);
        for channel in self.custom.values_mut() {
            channel.members.remove(object);
        }
    }

    pub fn channel(&self, name: &str) -> Option<&Channel> {
        self.custom.get(name)
    }

    pub fn custom(&self) -> impl Iterator<Item = (&String, &Channel)> {
        self.custom.iter()
    }

    /// On any channel.
    pub fn has(&self, object: &str) -> bool {
        self.standard.contains_key(object)
            || self.custom.values().any(|channel| channel.members.contains_key(object))
    }

    pub fn standard(&self) -> impl Iterator<Item = &String> {
        self.standard.keys()
    }

    /// All captured objects, each once.
    pub fn objects(&self) -> BTreeSet<String> {
        let custom = self.custom.values().flat_map(|channel| channel.members.keys());
        self.standard.keys().chain(custom).cloned().collect()
    }

    /// On the standard channel or not, and the custom ones.
    pub fn membership(&self, object: &str) -> (bool, Arc<[String]>) {
        let custom = self.custom.iter().filter(|(_, channel)| channel.members.contains_key(object));
        (self.standard.contains_key(object), custom.map(|(name, _)| name.clone()).collect())
    }

    pub fn list(&self) -> Vec<Listed> {
        let standard = self.standard.iter().map(|(object, id)| Listed {
            id: *id,
            channel: None,
            object: object.clone(),
            enriched: Vec::new(),
        });
        let custom = self.custom.iter().flat_map(|(name, channel)| {
            channel.members.iter().map(|(object, member)| Listed {
                id: member.id,
                channel: Some((name.clone(), channel.id)),
                object: object.clone(),
                enriched: member.enriched.clone(),
            })
        });
        standard.chain(custom).collect()
    }
}

impl Listed {
    /// `ChangeEvents_AccountChangeEvent`, `Sales_chn_Invoice_ChangeEvent`: every `__` is written `_`.
    pub fn developer_name(&self) -> String {
        let channel = self.channel.as_ref().map_or("ChangeEvents", |(name, _)| name.as_str());
        format!("{channel}_{}", change_event_of(&self.object)).replace("__", "_")
    }
}

fn spelled(catalog: &Catalog, object: &str) -> String {
    catalog.object(object).map_or_else(|| object.to_owned(), |object| object.name.clone())
}
