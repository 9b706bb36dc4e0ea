//! The six calls of `eventbus.v1.PubSub` (pubsub.md 1).
//!
//! Comes in: requests with the three headers. Goes out: answers, streams, or refusals in the platform's words. A call
//! without a good session does nothing.

use std::pin::Pin;
use std::sync::Arc;

use futures_util::Stream;
use tokio::sync::mpsc;
use tonic::metadata::MetadataMap;
use tonic::{Code, Request, Response, Status, Streaming, async_trait};

use super::Events;
use super::eventbus::pub_sub_server::PubSub;
use super::eventbus::{
    FetchRequest, FetchResponse, ManagedFetchRequest, ManagedFetchResponse, PublishRequest, PublishResponse,
    SchemaInfo, SchemaRequest, TopicInfo, TopicRequest,
};
use super::faults::Action;
use super::link::Exit;
use super::managed::ManagedSubscribe;
use super::publish;
use super::refusal::{self, refuse};
use super::stream::{self, Counted, Subscribe};
use super::topic::Topic;
use crate::http::Server;

pub(crate) struct Rpcs {
    pub server: Arc<Server>,
}

pub(super) type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// A call that was let in.
pub(super) struct Entrance {
    pub rpc_id: String,
    pub exit: Option<Arc<Exit>>,
}

impl Rpcs {
    fn events(&self) -> &Arc<Events> {
        &self.server.events
    }

    /// Counts the call, looks at its headers and lets a fault meet it.
    async fn enter<T>(&self, rpc: &str, topic: &str, request: &Request<T>) -> Result<Entrance, Status> {
        self.server.count(&format!("pubsub/{rpc}"));
        let rpc_id = self.events().rpc_id();
        let exit = request.extensions().get::<Arc<Exit>>().cloned();
        check(&self.server, request.metadata(), &rpc_id)?;
        if let Some(action) = self.events().faults.on_call(rpc, topic) {
            meet(action, exit.as_ref(), &rpc_id).await?;
        }
        Ok(Entrance { rpc_id, exit })
    }

    /// The topic, if it is there and may be read by the user.
    fn topic(&self, name: &str, rpc_id: &str) -> Result<Topic, Status> {
        find_topic(&self.server, name, rpc_id)
    }
}

pub(super) fn find_topic(server: &Server, name: &str, rpc_id: &str) -> Result<Topic, Status> {
    let events = &server.events;
    if name.is_empty() {
        return Err(refusal::invalid("topic.validation.empty", "The topic name can't be blank.", rpc_id));
    }
    let topic = Topic::named(name).filter(|topic| events.exists(topic));
    let Some(topic) = topic else {
        return Err(refusal::topic_not_found(&events.tenant(), name, rpc_id));
    };
    if let Topic::Object { object, .. } = &topic
        && !server.shows(object)
    {
        let message = format!("You don't have permission to access the topic {name}.");
        return Err(refuse(Code::PermissionDenied, "topic.meta.permission", &message, rpc_id));
    }
    Ok(topic)
}

/// The three headers (pubsub.md 1.4).
fn check(server: &Server, headers: &MetadataMap, rpc_id: &str) -> Result<(), Status> {
    let header = |name: &'static str| {
        let value = headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
        value.filter(|value| !value.is_empty()).ok_or_else(|| refusal::headers_invalid(name, rpc_id))
    };
    let (token, instance, tenant) = (header("accesstoken")?, header("instanceurl")?, header("tenantid")?);
    let host = instance.split_once("://").filter(|(scheme, _)| matches!(*scheme, "http" | "https"));
    if !host.is_some_and(|(_, host)| !host.is_empty() && !host.contains('/')) {
        return Err(refusal::headers_invalid("instanceurl", rpc_id));
    }
    let organization = server.org.organization_id();
    // The long form ends with the id.
    let named = tenant.rsplit('/').next().and_then(crate::org::Id::parse);
    let known = named == Some(organization) && (!tenant.contains('/') || tenant.starts_with("core/"));
    if known && server.has_session(token) { Ok(()) } else { Err(refusal::auth_error(rpc_id)) }
}

/// A fault meets a call that has no answer yet.
async fn meet(action: Action, exit: Option<&Arc<Exit>>, rpc_id: &str) -> Result<(), Status> {
    let Some(exit) = exit else { return Ok(()) };
    match action {
        Action::Status { code, error_code, message } => Err(status(&code, error_code, message, rpc_id)),
        // There is no stream yet that could end well.
        Action::End => Ok(()),
        Action::GoAway { grace_millis } => {
            stream::send_away(exit, grace_millis);
            Ok(())
        }
        Action::Silence => {
            exit.link.silence();
            std::future::pending().await
        }
        Action::Close | Action::Reset { .. } => {
            exit.link.close();
            std::future::pending().await
        }
    }
}

pub(super) fn status(
    code: &str,
    error_code: Option<String>,
    message: Option<String>,
    rpc_id: &str,
) -> Status {
    let code = refusal::code_named(code);
    match error_code {
        Some(error_code) => {
            let message = message.unwrap_or_else(|| "The service is unavailable. Try again later".to_owned());
            let bare = error_code.strip_prefix(refusal::PREFIX).unwrap_or(&error_code);
            refuse(code, bare, &message, rpc_id)
        }
        None => Status::new(
            code,
            message.unwrap_or_else(|| "upstream connect error or disconnect/reset before headers".to_owned()),
        ),
    }
}

/// The receiving end of a stream's task.
pub(super) fn answers<T: Send + 'static>(receiver: mpsc::Receiver<Result<T, Status>>) -> Answers<T> {
    Box::pin(futures_util::stream::unfold(receiver, |mut receiver| async move {
        receiver.recv().await.map(|answer| (answer, receiver))
    }))
}

#[async_trait]
impl PubSub for Rpcs {
    type SubscribeStream = Answers<FetchResponse>;
    type PublishStreamStream = Answers<PublishResponse>;
    type ManagedSubscribeStream = Answers<ManagedFetchResponse>;

    async fn subscribe(
        &self,
        request: Request<Streaming<FetchRequest>>,
    ) -> Result<Response<Self::SubscribeStream>, Status> {
        let entrance = self.enter("Subscribe", "", &request).await?;
        let (sender, receiver) = mpsc::channel(1);
        let subscribe = Subscribe::new(Arc::clone(&self.server));
        let counted = Counted::new(self.events());
        tokio::spawn(stream::run(subscribe, request.into_inner(), sender, entrance, counted));
        Ok(Response::new(answers(receiver)))
    }

    async fn get_schema(&self, request: Request<SchemaRequest>) -> Result<Response<SchemaInfo>, Status> {
        let rpc_id = self.enter("GetSchema", "", &request).await?.rpc_id;
        let schema_id = request.into_inner().schema_id;
        if schema_id.trim().is_empty() {
            let message = "Schema validation failed. The schema ID can't be blank.";
            return Err(refusal::invalid("schema.validation.failed", message, &rpc_id));
        }
        match self.events().schema(&schema_id) {
            Some(schema) => {
                Ok(Response::new(SchemaInfo { schema_json: schema.json.to_string(), schema_id, rpc_id }))
            }
            None => {
                let message = format!("Schema validation failed. The schema ID {schema_id} isn't valid.");
                Err(refusal::invalid("schema.validation.failed", &message, &rpc_id))
            }
        }
    }

    async fn get_topic(&self, request: Request<TopicRequest>) -> Result<Response<TopicInfo>, Status> {
        let name = request.get_ref().topic_name.clone();
        let rpc_id = self.enter("GetTopic", &name, &request).await?.rpc_id;
        let topic = self.topic(&name, &rpc_id)?;
        let schema = self.events().object_of(&topic).map(|object| self.events().schema_of(&object));
        Ok(Response::new(TopicInfo {
            topic_name: name,
            tenant_guid: self.events().tenant(),
            can_publish: matches!(topic, Topic::Platform(_)),
            can_subscribe: true,
            schema_id: schema.map_or_else(String::new, |schema| schema.id.to_string()),
            rpc_id,
        }))
    }

    async fn publish(&self, request: Request<PublishRequest>) -> Result<Response<PublishResponse>, Status> {
        let name = request.get_ref().topic_name.clone();
        let rpc_id = self.enter("Publish", &name, &request).await?.rpc_id;
        publish::publish(&self.server, &name, request.into_inner().events, &rpc_id).map(Response::new)
    }

    async fn publish_stream(
        &self,
        request: Request<Streaming<PublishRequest>>,
    ) -> Result<Response<Self::PublishStreamStream>, Status> {
        let entrance = self.enter("PublishStream", "", &request).await?;
        let (sender, receiver) = mpsc::channel(1);
        let (server, counted) = (Arc::clone(&self.server), Counted::standing(self.events()));
        tokio::spawn(publish::run(server, request.into_inner(), sender, entrance, counted));
        Ok(Response::new(answers(receiver)))
    }

    async fn managed_subscribe(
        &self,
        request: Request<Streaming<ManagedFetchRequest>>,
    ) -> Result<Response<Self::ManagedSubscribeStream>, Status> {
        let entrance = self.enter("ManagedSubscribe", "", &request).await?;
        let (sender, receiver) = mpsc::channel(1);
        let subscribe = ManagedSubscribe::new(Arc::clone(&self.server));
        let counted = Counted::new(self.events());
        tokio::spawn(stream::run(subscribe, request.into_inner(), sender, entrance, counted));
        Ok(Response::new(answers(receiver)))
    }
}
