//! Platform events that clients publish (pubsub.md 1.1, 1.10).
//!
//! Comes in: Avro payloads under the id of the event's schema. Goes out: a result for each event, good or bad; what is
//! good is on the bus, under the id it was sent with or one of its own.

use std::sync::Arc;

use tokio::sync::mpsc;
use tonic::{Code, Status, Streaming};

use super::Events;
use super::avro;
use super::bus::New;
use super::encode::spans;
use super::eventbus::{Error, ErrorCode, ProducerEvent, PublishRequest, PublishResponse, PublishResult};
use super::refusal::{self, refuse};
use super::schema::EventSchema;
use super::service::{Entrance, find_topic};
use super::stream::Counted;
use super::topic::Topic;
use crate::http::Server;

/// One request's events.
pub(super) fn publish(
    server: &Server,
    topic_name: &str,
    made: Vec<ProducerEvent>,
    rpc_id: &str,
) -> Result<PublishResponse, Status> {
    let events = &server.events;
    let topic = find_topic(server, topic_name, rpc_id)?;
    let object = events.object_of(&topic).filter(|_| matches!(topic, Topic::Platform(_)));
    let Some(object) = object else {
        let message = format!("You can't publish events to the topic {topic_name}.");
        return Err(refuse(Code::PermissionDenied, "topic.meta.permission", &message, rpc_id));
    };
    if made.is_empty() {
        let message = "The publish request has no events.";
        return Err(refusal::invalid("publish.event.count.invalid", message, rpc_id));
    }
    let current = events.schema_of(&object);
    let results = made.into_iter().map(|event| events.publish_one(&current, event)).collect();
    Ok(PublishResponse { results, schema_id: current.id.to_string(), rpc_id: rpc_id.to_owned() })
}

impl Events {
    fn publish_one(&self, current: &EventSchema, event: ProducerEvent) -> PublishResult {
        let correlation_key = match event.id.is_empty() {
            true => self.rpc_id(),
            false => event.id,
        };
        let schema = self.schema(&event.schema_id).filter(|schema| schema.event == current.event);
        let fits = schema.as_ref().is_some_and(|schema| is_datum(schema, &event.payload));
        let Some(schema) = schema.filter(|_| fits) else {
            let msg = format!("The payload isn't valid for the schema ID {}.", event.schema_id);
            let error = Some(Error { code: ErrorCode::Publish.into(), msg });
            return PublishResult { replay_id: Vec::new(), error, correlation_key };
        };
        let added = self.bus.append(vec![New {
            event_id: Some(correlation_key.clone()),
            schema_id: Arc::clone(&schema.id),
            schema,
            payload: event.payload.into(),
            change: None,
        }]);
        let replay_id = added.first().map_or_else(Vec::new, |entry| self.bus.replay_id(entry.number));
        PublishResult { replay_id, error: None, correlation_key }
    }
}

/// CreatedDate and CreatedById, then the custom fields, to the last byte.
fn is_datum(schema: &EventSchema, payload: &[u8]) -> bool {
    let body = avro::read_long(payload).and_then(|(_, at)| {
        let (length, prefix) = avro::read_long(payload.get(at..)?)?;
        payload.get(at + prefix + usize::try_from(length).ok()?..)
    });
    body.is_some_and(|body| spans(schema, body).is_some())
}

/// The stream's task: every request is answered in its turn.
pub(super) async fn run(
    server: Arc<Server>,
    mut requests: Streaming<PublishRequest>,
    answers: mpsc::Sender<Result<PublishResponse, Status>>,
    entrance: Entrance,
    _counted: Counted,
) {
    let mut topic: Option<String> = None;
    loop {
        let idle = server.events.habits().publish_idle;
        let request = tokio::select! {
            request = requests.message() => request,
            () = tokio::time::sleep(idle) => {
                let message = "The publish stream was closed because nothing was published.";
                let code = "publish.stream.sweeper.timeout";
                let refusal = refuse(Code::DeadlineExceeded, code, message, &entrance.rpc_id);
                // Nobody may listen any more.
                let _ = answers.send(Err(refusal)).await;
                return;
            }
            () = answers.closed() => return,
        };
        let Ok(Some(request)) = request else { return };
        let name = topic.get_or_insert_with(|| request.topic_name.clone());
        let answer = if !request.topic_name.is_empty() && request.topic_name != *name {
            let message = "The topic name must be the same in all requests of a stream.";
            Err(refusal::invalid("publish.topic.mismatch", message, &entrance.rpc_id))
        } else {
            publish(&server, name, request.events, &entrance.rpc_id)
        };
        let refused = answer.is_err();
        if answers.send(answer).await.is_err() || refused {
            return;
        }
    }
}
