//! The Tooling API and the event resources, as far as change events need them (pubsub.md 1.11, 7).
//!
//! Comes in: queries for channels, members, enriched fields and managed subscriptions; records of them to make or
//! delete. Goes out: rows in the Tooling wrapper. Any other entity has no rows.

use http::StatusCode;
use serde_json::{Map, Value as Json, json};

use super::reply::{self, Answer};
use super::{Call, Reply, Server, lock};
use crate::catalog::{Catalog, ObjectDef};
use crate::org::Id;
use crate::pubsub::{ManagedOrder, change_event_of, custom_field_id, is_capturable, object_of};
use crate::soql::parse::parse;
use crate::soql::{Filter, Function, Item, Literal, Operator, Path};

pub(super) fn query(server: &Server, soql: &str, version: &str) -> Reply {
    let query = match parse(soql, server.org.now_ms()) {
        Ok(query) => query,
        Err(error) => return reply::soql_error(&error),
    };
    let rows = rows(server, &query.from);
    let entity = rows.as_ref().map(|(name, _)| *name);
    let mut rows = rows.map_or_else(Vec::new, |(_, rows)| rows);
    if let Some(filter) = &query.filter {
        rows.retain(|row| matches(filter, row));
    }
    let records: Vec<Json> = match query.items.as_slice() {
        [Item::CountAll] => {
            return wrapped(entity, rows.len(), Vec::new());
        }
        [Item::Aggregate { function: Function::CountDistinct, path, alias }] => {
            let mut values: Vec<String> =
                rows.iter().filter_map(|row| value(row, path)).map(Json::to_string).collect();
            values.sort();
            values.dedup();
            let name = alias.clone().unwrap_or_else(|| "expr0".to_owned());
            let mut row = Map::new();
            row.insert("attributes".to_owned(), json!({"type": "AggregateResult"}));
            row.insert(name, json!(values.len()));
            vec![Json::Object(row)]
        }
        items => {
            let limit = usize::try_from(query.limit.unwrap_or(u64::MAX)).unwrap_or(usize::MAX);
            rows.iter().take(limit).map(|row| selected(row, items, entity, version)).collect()
        }
    };
    wrapped(entity, records.len(), records)
}

fn wrapped(entity: Option<&str>, total: usize, records: Vec<Json>) -> Reply {
    Answer::json(&json!({"size": records.len(), "totalSize": total, "done": true, "queryLocator": null,
        "entityTypeName": entity, "records": records}))
}

fn selected(row: &Map<String, Json>, items: &[Item], entity: Option<&str>, version: &str) -> Json {
    let entity = entity.unwrap_or_default();
    let id = row.get("Id").and_then(Json::as_str).unwrap_or_default();
    let url = format!("/services/data/v{version}/tooling/sobjects/{entity}/{id}");
    let mut record = Map::new();
    record.insert("attributes".to_owned(), json!({"type": entity, "url": url}));
    for item in items {
        if let Item::Field(path) = item {
            let known =
                row.keys().find(|name| path.first().is_some_and(|asked| name.eq_ignore_ascii_case(asked)));
            let name = known.cloned().unwrap_or_else(|| path.join("."));
            let found = value(row, path).cloned().unwrap_or(Json::Null);
            record.insert(name, found);
        }
    }
    Json::Object(record)
}

fn value<'r>(row: &'r Map<String, Json>, path: &Path) -> Option<&'r Json> {
    let asked = path.first().filter(|_| path.len() == 1)?;
    row.iter().find(|(name, _)| name.eq_ignore_ascii_case(asked)).map(|(_, value)| value)
}

fn matches(filter: &Filter, row: &Map<String, Json>) -> bool {
    let equal = |path: &Path, literal: &Literal| {
        let found = value(row, path).unwrap_or(&Json::Null);
        match literal {
            Literal::Null => found.is_null(),
            Literal::Bool(asked) => found.as_bool() == Some(*asked),
            Literal::Number(asked) => found.as_f64() == Some(*asked),
            Literal::Text(asked) => found.as_str().is_some_and(|found| {
                found.eq_ignore_ascii_case(asked) || (asked.len() == 15 && found.starts_with(asked.as_str()))
            }),
            _ => false,
        }
    };
    match filter {
        Filter::And(all) => all.iter().all(|one| matches(one, row)),
        Filter::Or(any) => any.iter().any(|one| matches(one, row)),
        Filter::Not(one) => !matches(one, row),
        Filter::In { path, negated, literals } => {
            literals.iter().any(|literal| equal(path, literal)) != *negated
        }
        Filter::Compare { path, operator: Operator::Equal, literal } => equal(path, literal),
        Filter::Compare { path, operator: Operator::NotEqual, literal } => !equal(path, literal),
        Filter::Compare { path, operator: Operator::Like, literal: Literal::Text(pattern) } => {
            let found = value(row, path).and_then(Json::as_str).unwrap_or_default();
            let pieces: Vec<&str> = pattern.split('%').collect();
            let inner = found.to_lowercase();
            pieces.iter().all(|piece| inner.contains(&piece.to_lowercase()))
        }
        Filter::Compare { .. } => false,
    }
}

type Rows = Vec<Map<String, Json>>;

fn rows(server: &Server, entity: &str) -> Option<(&'static str, Rows)> {
    let object = |json: Json| match json {
        Json::Object(map) => map,
        _ => Map::new(),
    };
    Some(match entity.to_ascii_lowercase().as_str() {
        "platformeventchannelmember" => {
            let rows = lock(&server.events.channels).list().into_iter().map(|member| {
                let channel = member.channel.as_ref().map_or("ChangeEvents", |(_, id)| id.as_str());
                object(json!({
                    "Id": member.id.as_str(),
                    "DeveloperName": member.developer_name(),
                    "EventChannel": channel,
                    "SelectedEntity": change_event_of(&member.object),
                    "FilterExpression": null,
                }))
            });
            ("PlatformEventChannelMember", rows.collect())
        }
        "platformeventchannel" => {
            let channels = lock(&server.events.channels);
            let rows = channels.custom().map(|(name, channel)| {
                let stem = name.trim_end_matches("__chn");
                object(json!({"Id": channel.id.as_str(), "DeveloperName": stem, "MasterLabel": stem,
                    "ChannelType": "data", "EventType": null, "FullName": name}))
            });
            ("PlatformEventChannel", rows.collect())
        }
        "enrichedfield" => {
            let catalog = server.org.catalog();
            let mut rows = Vec::new();
            for member in lock(&server.events.channels).list() {
                for field in &member.enriched {
                    let custom = catalog.object(&member.object).and_then(|object| {
                        let (_, known) = object.field(field)?;
                        known.custom.then(|| custom_field_id(object, known))
                    });
                    let field = custom.unwrap_or_else(|| field.clone());
                    rows.push(object(json!({"ChannelMemberId": member.id.as_str(), "Field": field})));
                }
            }
            ("EnrichedField", rows)
        }
        "managedeventsubscription" => {
            let managed = lock(&server.events.managed);
            let rows = managed.all().iter().map(|known| {
                object(json!({
                    "Id": known.id.as_str(),
                    "DeveloperName": known.developer_name,
                    "Metadata": {
                        "topicName": known.order.topic,
                        "defaultReplay": format!("{:?}", known.order.default_replay).to_uppercase(),
                        "errorRecoveryReplay": format!("{:?}", known.order.error_recovery_replay).to_uppercase(),
                        "state": format!("{:?}", known.order.state).to_uppercase(),
                    },
                }))
            });
            ("ManagedEventSubscription", rows.collect())
        }
        _ => return None,
    })
}

/// `POST tooling/sobjects/…`.
pub(super) fn make(server: &Server, call: &Call, entity: &str) -> Reply {
    let body: Json = serde_json::from_slice(&call.body).unwrap_or_default();
    let full_name = body["FullName"].as_str().unwrap_or_default();
    let metadata = &body["Metadata"];
    let word = |name: &str| metadata[name].as_str().unwrap_or_default();
    let refused = |message: &str| reply::error(StatusCode::BAD_REQUEST, "INVALID_INPUT", message);
    let catalog = server.org.catalog();
    let made = match entity {
        "PlatformEventChannelMember" => {
            let selected = object_of(word("selectedEntity")).and_then(|name| catalog.object(&name).cloned());
            let Some(object) = selected.filter(|object| is_capturable(object)) else {
                return refused("The selected entity is not valid for change events.");
            };
            let enriched = metadata["enrichedFields"].as_array().into_iter().flatten();
            let enriched = enriched.filter_map(|field| field["name"].as_str().map(str::to_owned)).collect();
            let mut channels = lock(&server.events.channels);
            match word("eventChannel") {
                "ChangeEvents" => Some(channels.select(&catalog, &object.name)),
                channel => channels.add_member(channel, &object.name, enriched),
            }
        }
        "PlatformEventChannel" if full_name.ends_with("__chn") && word("channelType") == "data" => {
            let mut channels = lock(&server.events.channels);
            let channel = crate::pubsub::ChannelConfig { name: full_name.to_owned(), members: Vec::new() };
            channels.put_channel(&catalog, &channel);
            channels.channel(full_name).map(|channel| channel.id)
        }
        "ManagedEventSubscription" => match serde_json::from_value::<ManagedOrder>(metadata.clone()) {
            Ok(order) => Some(lock(&server.events.managed).put(full_name, order)),
            Err(error) => return refused(&error.to_string()),
        },
        _ => return reply::not_found(),
    };
    server.events.capture();
    match made {
        Some(id) => Answer::json(
            &json!({"id": id.as_str(), "success": true, "errors": [], "warnings": [], "infos": []}),
        )
        .status(StatusCode::CREATED),
        None => refused("The channel or its type is not valid."),
    }
}

/// `DELETE tooling/sobjects/…/id`.
pub(super) fn remove(server: &Server, entity: &str, id: &str) -> Reply {
    let removed = Id::parse(id).is_some_and(|id| match entity {
        "PlatformEventChannelMember" => lock(&server.events.channels).remove_member(id),
        "PlatformEventChannel" => {
            let mut channels = lock(&server.events.channels);
            let name = channels.custom().find(|(_, channel)| channel.id == id).map(|(name, _)| name.clone());
            name.is_some_and(|name| channels.remove_channel(&name))
        }
        "ManagedEventSubscription" => lock(&server.events.managed).remove(id),
        _ => false,
    });
    server.events.capture();
    if removed { Answer::empty(StatusCode::NO_CONTENT) } else { reply::not_found() }
}

/// `event/eventSchema/{id}` and `sobjects/{event}/eventSchema`, in the compact form whatever is asked.
pub(super) fn event_schema(server: &Server, id: Option<&str>, event: &str) -> Reply {
    let schema = match id {
        Some(id) => server.events.schema(id),
        None => {
            let name = object_of(event).unwrap_or_else(|| event.to_owned());
            let object = server.org.object(&name).ok();
            let object = object.filter(|object| is_capturable(object) || object.name.ends_with("__e"));
            object.map(|object| server.events.schema_of(&object))
        }
    };
    let Some(schema) = schema else { return reply::not_found() };
    let mut json: Json = serde_json::from_str(&schema.json).unwrap_or_default();
    if let Some(map) = json.as_object_mut() {
        map.insert("uuid".to_owned(), json!(&*schema.id));
    }
    Answer::json(&json)
}

/// The change events of describeGlobal that the catalogue does not have itself: one for each capturable object.
pub(super) fn change_event_objects(catalog: &Catalog) -> impl Iterator<Item = ObjectDef> {
    let capturable = catalog.present().filter(|object| is_capturable(object));
    capturable.filter_map(|object| {
        let name = change_event_of(&object.name);
        catalog.object(&name).is_none().then(|| change_event_object(object, name))
    })
}

pub(super) fn change_event_named(catalog: &Catalog, name: &str) -> Option<ObjectDef> {
    let object = catalog.object(&object_of(name)?).filter(|object| is_capturable(object))?;
    Some(change_event_object(object, change_event_of(&object.name)))
}

fn change_event_object(object: &ObjectDef, name: String) -> ObjectDef {
    use crate::catalog::{FieldDef, FieldType};
    let mut fields = vec![
        FieldDef::new("Id", FieldType::Id),
        FieldDef::new("ReplayId", FieldType::String),
        FieldDef::new("ChangeEventHeader", FieldType::ComplexValue),
    ];
    let kept = object.visible_fields().map(|(_, field)| field);
    fields.extend(
        kept.filter(|field| {
            !["Id", "IsDeleted", "SystemModstamp", "MasterRecordId"].contains(&field.name.as_str())
        })
        .map(|field| field.clone().read_only()),
    );
    let mut flags = object.flags;
    (flags.createable, flags.updateable, flags.deletable, flags.undeletable) = (false, false, false, false);
    (flags.queryable, flags.replicateable, flags.searchable, flags.layoutable) = (false, false, false, false);
    (flags.mergeable, flags.feed_enabled, flags.mru_enabled) = (false, false, false);
    let mut event = ObjectDef::new(name, *b"000", flags, fields);
    event.label = format!("{} Change Event", object.label);
    event.label_plural = event.label.clone();
    event.key_prefix = None;
    event.associate_entity_type = Some("ChangeEvent".to_owned());
    event.associate_parent_entity = Some(object.name.clone());
    event.last_modified_ms = object.last_modified_ms;
    event
}
