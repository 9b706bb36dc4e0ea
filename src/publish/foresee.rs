//! What a run would find and make in Kafka, asked before there is one.
//!
//! Comes in: settings and the names of data topics. Goes out: each topic with its settings, there or to be made, and what is
//! wrong with it; whether the group may be used. Brokers are asked to check the making of topics without making them. Nothing
//! is made, altered or written, and no running instance is disturbed.

use std::collections::BTreeMap;
use std::time::Duration;

use rdkafka::TopicPartitionList;
use rdkafka::admin::{AdminClient, OwnedResourceSpecifier};
use rdkafka::consumer::{BaseConsumer, Consumer};

use super::check::Reached;
use super::kafka::{Plain, Role, client_config, kafka_error, largest_batch, once_settled};
use super::topics::{
    Wanted, ask_to_create, blocking, check_batch, check_control, check_partitions, describe, missing_topics,
    value_of, wanted,
};
use crate::config::Settings;
use crate::{Error, Result};

const TIMEOUT: Duration = Duration::from_secs(15);
/// Of a topic that is there, what people look for first.
const SHOWN: [&str; 3] = ["cleanup.policy", "retention.ms", "max.message.bytes"];

/// A topic that a run needs.
#[derive(Debug)]
pub struct ForeseenTopic {
    pub name: String,
    /// Else a run makes it.
    pub there: bool,
    pub partitions: i32,
    /// -1: the broker's default. None: it is there.
    pub replication: Option<i32>,
    /// What a run would set; of one that is there, some of what holds.
    pub config: BTreeMap<String, String>,
    /// Why a run would refuse it.
    pub problem: Option<Error>,
}

/// All topics of a run, the control topic and those beside the data included.
pub async fn topics(settings: &Settings, data: &[String], reached: &Reached) -> Result<Vec<ForeseenTopic>> {
    let wanted = wanted(settings, data);
    let there = |name: &str| {
        reached.topics.iter().find(|(topic, _)| topic == name).map(|(_, partitions)| *partitions)
    };
    let mut foreseen: Vec<ForeseenTopic> = wanted
        .iter()
        .map(|wanted| {
            let partitions = there(&wanted.name);
            let config = wanted.config.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
            ForeseenTopic {
                name: wanted.name.clone(),
                there: partitions.is_some(),
                partitions: partitions
                    .map_or(wanted.partitions, |partitions| i32::try_from(partitions).unwrap_or(i32::MAX)),
                replication: partitions.is_none().then_some(wanted.replication),
                config: if partitions.is_some() { BTreeMap::new() } else { config.collect() },
                problem: None,
            }
        })
        .collect();
    let admin: AdminClient<Plain> = client_config(settings, &Role::Admin)?
        .create_with_context(Plain)
        .map_err(|error| kafka_error("the Kafka admin client cannot start", error))?;
    to_be_made(settings, &admin, &wanted, &mut foreseen).await?;
    already_there(settings, &admin, wanted, &mut foreseen).await?;
    if let Some(control) = foreseen.iter_mut().find(|topic| topic.name == settings.control_topic())
        && control.there
        && let Err(error) = check_partitions(settings, usize::try_from(control.partitions).unwrap_or(0))
    {
        control.problem = Some(error);
    }
    Ok(foreseen)
}

async fn to_be_made(
    settings: &Settings,
    admin: &AdminClient<Plain>,
    wanted: &[Wanted<'_>],
    foreseen: &mut [ForeseenTopic],
) -> Result<()> {
    let missing = |name: &str, foreseen: &[ForeseenTopic]| {
        foreseen.iter().any(|topic| topic.name == name && !topic.there)
    };
    let asked: Vec<&Wanted<'_>> =
        wanted.iter().filter(|wanted| wanted.create && missing(&wanted.name, foreseen)).collect();
    let answers = ask_to_create(admin, &asked, true).await?;
    for (wanted, answer) in asked.iter().zip(answers) {
        if let Some(topic) = foreseen.iter_mut().find(|topic| topic.name == wanted.name) {
            topic.problem = answer.err();
        }
    }
    for wanted in wanted.iter().filter(|wanted| !wanted.create) {
        let topic = foreseen.iter_mut().find(|topic| topic.name == wanted.name && !topic.there);
        if let Some(topic) = topic {
            topic.problem = Some(missing_topics(settings, &[wanted]));
        }
    }
    Ok(())
}

async fn already_there(
    settings: &Settings,
    admin: &AdminClient<Plain>,
    wanted: Vec<Wanted<'_>>,
    foreseen: &mut [ForeseenTopic],
) -> Result<()> {
    let is_there = |name: &str| foreseen.iter().any(|topic| topic.name == name && topic.there);
    let standing: Vec<Wanted<'_>> = wanted.into_iter().filter(|wanted| is_there(&wanted.name)).collect();
    if standing.is_empty() {
        return Ok(());
    }
    let batch = largest_batch(&client_config(settings, &Role::Producer { shard: 0 })?);
    for resource in describe(admin, &standing).await? {
        let OwnedResourceSpecifier::Topic(name) = &resource.specifier else { continue };
        let Some(topic) = foreseen.iter_mut().find(|topic| topic.name == *name) else { continue };
        for shown in SHOWN {
            if let Some(value) = value_of(&resource, shown) {
                topic.config.insert(shown.to_owned(), value.to_owned());
            }
        }
        let mut checked = check_batch(&resource, name, batch);
        if checked.is_ok() && *name == settings.control_topic() {
            checked = check_control(&resource, name);
        }
        topic.problem = checked.err();
    }
    Ok(())
}

/// Asks for the group's offsets: who may not see the group cannot join it.
pub async fn group(settings: &Settings) -> Result<()> {
    let config = client_config(settings, &Role::Reader { committed: true })?;
    let (topic, group) = (settings.control_topic(), settings.group_id());
    blocking(move || {
        let consumer: BaseConsumer<Plain> = config
            .create_with_context(Plain)
            .map_err(|error| kafka_error("the Kafka client cannot start", error))?;
        let mut partitions = TopicPartitionList::new();
        partitions.add_partition(&topic, 0);
        once_settled(TIMEOUT, || consumer.committed_offsets(partitions.clone(), TIMEOUT))
            .map(drop)
            .map_err(|error| kafka_error(format!("group {group} cannot be used"), error))
    })
    .await
}
