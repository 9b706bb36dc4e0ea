//! The Kafka side of a check: brokers, transactions, group, topics, and where objects stand.
//!
//! Comes in: settings. Goes out: lines, the topics a run would find or make, the control records. Rights are asked for by what
//! brokers answer to questions that change nothing. Whether a topic that is there may be written to is not asked: only writing
//! would tell.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Line;
use crate::config::Settings;
use crate::domain::name::target_object;
use crate::domain::{ObjectDescription, Position};
use crate::error::Kind;
use crate::pipeline::Chosen;
use crate::publish;
use crate::publish::check::Reached;
use crate::publish::foresee::{self, ForeseenTopic};
use crate::schema::SchemaLineage;
use crate::{Error, Result};

/// What the cluster said.
#[derive(Default)]
pub(super) struct Cluster {
    pub lines: Vec<Line>,
    pub reached: Option<Reached>,
    pub topics: Vec<ForeseenTopic>,
    pub positions: BTreeMap<String, Position>,
    pub lineages: BTreeMap<String, SchemaLineage>,
}

pub(super) async fn examine(settings: &Settings) -> Cluster {
    let mut cluster = Cluster::default();
    let reached = match publish::check::reach(settings).await {
        Ok(reached) => reached,
        Err(error) => {
            cluster.lines.push(Line::cross("Kafka", &error));
            return cluster;
        }
    };
    let brokers = if reached.brokers == 1 { "broker" } else { "brokers" };
    let at = &settings.kafka.bootstrap_servers;
    cluster.lines.push(Line::tick("Kafka", format!("{} {brokers} behind {at}", reached.brokers)));
    let (transaction, group, stored) = tokio::join!(
        publish::check::try_transaction(settings),
        foresee::group(settings),
        stored(settings, &reached),
    );
    let transaction = transaction.map(|()| "begun and given up".to_owned());
    cluster.lines.push(Line::of("transactions", transaction));
    let group = group.map(|()| format!("{} can be used", settings.group_id()));
    cluster.lines.push(Line::of("consumer group", group));
    match stored {
        Ok((positions, lineages, unreadable)) => {
            (cluster.positions, cluster.lineages) = (positions, lineages);
            cluster.lines.extend(unreadable.iter().map(|error| Line::cross("control topic", error)));
        }
        Err(error) => cluster.lines.push(Line::cross("control topic", &error)),
    }
    cluster.reached = Some(reached);
    cluster
}

type Stored = (BTreeMap<String, Position>, BTreeMap<String, SchemaLineage>, Vec<Error>);

/// Where earlier runs left the objects, and the schemas they wrote by.
async fn stored(settings: &Settings, reached: &Reached) -> Result<Stored> {
    let control = settings.control_topic();
    let partitions = reached.topics.iter().find(|(topic, _)| *topic == control).map(|(_, count)| *count);
    let (mut positions, mut lineages, mut unreadable) = Stored::default();
    // Another count of partitions is told with the topics.
    if partitions != usize::try_from(settings.kafka.control_partitions).ok() {
        return Ok((positions, lineages, unreadable));
    }
    let mut broken = |key: &str, why: &str| {
        let what = format!("control record {key} cannot be read: {why}");
        unreadable.push(Error::new(Kind::ControlRecordUnreadable, what));
    };
    for record in publish::read_control(settings).await? {
        if let Some(object) = record.key.strip_prefix("position/") {
            match Position::decode(&record.value) {
                Ok(position) => {
                    positions.insert(object.to_owned(), position);
                }
                Err(why) => broken(&record.key, &why),
            }
        } else if let Some(object) = record.key.strip_prefix("schema/") {
            match SchemaLineage::decode(&record.value) {
                Ok(lineage) => {
                    lineages.insert(object.to_owned(), lineage);
                }
                Err(why) => broken(&record.key, &why),
            }
        }
    }
    Ok((positions, lineages, unreadable))
}

/// What is there, and what a run would make. The control topic is always made.
pub(super) async fn topics(
    settings: &Settings,
    objects: &[(&Chosen, &Arc<ObjectDescription>)],
    cluster: &Cluster,
) -> (Vec<Line>, Vec<ForeseenTopic>) {
    let Some(reached) = &cluster.reached else { return Default::default() };
    let mut data: Vec<String> = objects
        .iter()
        .flat_map(|(object, _)| {
            let target = target_object(&object.name);
            object.settings.outputs.iter().map(move |output| output.topic_for(&settings.name, &target))
        })
        .chain(settings.platform_events.iter().map(|event| settings.event_topic(&event.name)))
        .collect();
    data.sort();
    data.dedup();
    match foresee::topics(settings, &data, reached).await {
        Ok(topics) => (topic_lines(&topics), topics),
        Err(error) => (vec![Line::cross("topics", &error)], Vec::new()),
    }
}

/// One line if all is well; else one for each kind of trouble, for it is mostly the same with many topics.
fn topic_lines(topics: &[ForeseenTopic]) -> Vec<Line> {
    let mut lines = Vec::new();
    let mut by_kind: Vec<(Kind, Vec<&ForeseenTopic>)> = Vec::new();
    for topic in topics {
        let Some(problem) = &topic.problem else { continue };
        let together = matches!(problem.kind(), Kind::TopicMissing | Kind::KafkaRefused);
        match by_kind.iter_mut().find(|(kind, _)| together && *kind == problem.kind()) {
            Some((_, topics)) => topics.push(topic),
            None => by_kind.push((problem.kind(), vec![topic])),
        }
    }
    for (kind, troubled) in &by_kind {
        let names = troubled.iter().map(|topic| topic.name.as_str()).collect::<Vec<_>>().join(", ");
        let first = troubled.first().and_then(|topic| topic.problem.as_ref());
        let Some(first) = first else { continue };
        lines.push(match kind {
            Kind::TopicMissing => {
                let what = format!("missing, and `kafka.topics.create` is false: {names}");
                Line::cross("topics", &Error::new(Kind::TopicMissing, what))
            }
            Kind::KafkaRefused => {
                let what = format!("the principal may not create {names} ({first})");
                let error = Error::new(Kind::KafkaRefused, what).hint(
                    "allow Create on these topics or the cluster, or let somebody make them and set `kafka.topics.create: false`",
                );
                Line::cross("topics", &error)
            }
            _ => Line::cross("topics", first),
        });
    }
    if lines.is_empty() {
        let all = topics.len();
        let there = topics.iter().filter(|topic| topic.there).count();
        let detail = if there == all {
            format!("all {all} are there")
        } else {
            format!("{there} of {all} are there, a run makes the others")
        };
        lines.push(Line::tick("topics", detail));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topic(name: &str, there: bool, problem: Option<Error>) -> ForeseenTopic {
        ForeseenTopic {
            name: name.to_owned(),
            there,
            partitions: 1,
            replication: None,
            config: BTreeMap::new(),
            problem,
        }
    }

    #[test]
    fn a_missing_topic_is_a_tick_if_a_run_may_make_it() {
        let topics = [topic("crm.control", true, None), topic("crm.Invoice_c", false, None)];
        let lines = topic_lines(&topics);
        let detail = lines.iter().map(|line| (line.passed, line.detail.as_str())).collect::<Vec<_>>();
        assert_eq!(detail, [(true, "1 of 2 are there, a run makes the others")]);
    }

    #[test]
    fn trouble_of_one_kind_is_one_cross_that_names_all_topics() {
        let missing = || Some(Error::new(Kind::TopicMissing, "topic x does not exist"));
        let changed = Error::new(Kind::ControlTopicChanged, "control topic crm.control has 4 partitions");
        let topics = [
            topic("crm.Account", false, missing()),
            topic("crm.control", true, Some(changed)),
            topic("crm.Invoice_c", false, missing()),
        ];
        let lines = topic_lines(&topics);
        let codes: Vec<_> = lines.iter().map(|line| (line.passed, line.code)).collect();
        assert_eq!(codes, [(false, Some("topic-missing")), (false, Some("control-topic-changed"))]);
        assert!(lines.first().unwrap().detail.ends_with(": crm.Account, crm.Invoice_c"));
        let refused = || Some(Error::new(Kind::KafkaRefused, "topic x cannot be created: denied"));
        let lines = topic_lines(&[topic("a", false, refused()), topic("b", false, refused())]);
        assert_eq!(lines.len(), 1);
        assert!(lines.first().unwrap().detail.starts_with("the principal may not create a, b ("));
    }
}
