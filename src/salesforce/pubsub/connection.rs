//! The connection to the Pub/Sub API, and the calls that have one answer.
//!
//! Comes in: a [`Client`], whose session goes along with every call. Goes out: [`PubSub`], cheap to clone: all topics
//! share one HTTP/2 connection, made when it is first needed and made again after it broke. What can be waited for is
//! waited for here, bounded by the client's pace; a session is renewed once per call. Never: the token over plain text,
//! which the configuration allows only to this machine itself.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use http::{HeaderMap, HeaderName, HeaderValue};
use hyper_util::client::proxy::matcher::Matcher;
use tokio::time::timeout;
use tonic::codec::CompressionEncoding;
use tonic::metadata::MetadataMap;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};
use tonic::{Request, Response, Status};

use crate::config::SalesforceSettings;
use crate::error::{Error, Kind, Result};
use crate::status::Board;

use super::super::fault::{Cure, Fault};
use super::super::maintenance::{Maintenance, Waiting};
use super::super::session::Session;
use super::super::transport::{Backoff, FEW};
use super::super::{Client, Purpose};
use super::event::{ChangeEvent, RawEvent};
use super::event_schema::EventSchema;
use super::eventbus::pub_sub_client::PubSubClient;
use super::eventbus::{SchemaRequest, TopicRequest};
use super::fault::{classify, of_topic};
use super::platform_schema::PlatformSchema;
use super::road::Road;
use super::schema_cache::SchemaCache;
use super::topic;

/// Gateways drop connections that say nothing; Salesforce's may not like more PINGs than this.
const PING_EVERY: Duration = Duration::from_secs(30);
const PING_ANSWER: Duration = Duration::from_secs(20);
const CONNECT: Duration = Duration::from_secs(20);
/// GetSchema takes about a second.
const LONGEST_CALL: Duration = Duration::from_secs(60);
/// What a topic may send ahead of us, and what all may together. All topics share the connection: were its window not
/// larger than what all streams together may leave unread, topics that wait for a schema would keep the schema's own
/// answer out, for ever. So no adaptive window, which grows both alike. Held by
/// `events_that_nobody_reads_do_not_keep_other_answers_out`.
const STREAM_WINDOW: u32 = 256 << 10;
const CONNECTION_WINDOW: u32 = STREAM_WINDOW * MOST_STREAMS * 2;
/// On one connection, by Salesforce's account (`pubsub.md` 1.10).
const MOST_STREAMS: u32 = 1_000;
/// Responses stay below 3 MB (`pubsub.md` 1.5).
const LARGEST_MESSAGE: usize = 16 << 20;
/// A sign of life is due every 270 s.
const LONGEST_SILENCE: Duration = Duration::from_secs(320);

pub(super) type Grpc = PubSubClient<Channel>;

#[derive(Clone)]
pub struct PubSub {
    client: Client,
    shared: Arc<Shared>,
    /// A stream without a message for so long is dead.
    longest_silence: Duration,
    /// A call without its whole answer for so long is given up.
    longest_call: Duration,
}

struct Shared {
    channel: Channel,
    maintenance: Maintenance,
    endpoint: String,
    schemas: SchemaCache<EventSchema>,
    platform_schemas: SchemaCache<PlatformSchema>,
}

impl std::fmt::Debug for PubSub {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PubSub").field("endpoint", &self.shared.endpoint).finish_non_exhaustive()
    }
}

/// What Salesforce says about a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topic {
    pub name: String,
    pub can_subscribe: bool,
    /// The schema that new events have; none for channels that carry several objects.
    pub schema_id: Option<String>,
}

impl PubSub {
    /// Connects when it is first used.
    pub fn new(client: &Client) -> Result<Self> {
        let settings = client.settings();
        let endpoint = endpoint(settings)?;
        let mut road = Road::straight(CONNECT, PING_EVERY);
        if settings.pubsub.tls {
            road = road.by(&Matcher::from_env(), endpoint.uri())?;
        }
        let shared = Shared {
            channel: endpoint.connect_with_connector_lazy(road),
            endpoint: settings.pubsub.endpoint.clone(),
            maintenance: client.maintenance().of("Pub/Sub API"),
            schemas: SchemaCache::default(),
            platform_schemas: SchemaCache::default(),
        };
        let client = client.for_purpose(Purpose::Subscribe);
        Ok(Self {
            client,
            shared: Arc::new(shared),
            longest_silence: LONGEST_SILENCE,
            longest_call: LONGEST_CALL,
        })
    }

    /// The same with other patience for silent streams.
    #[must_use]
    pub fn with_longest_silence(&self, longest_silence: Duration) -> Self {
        Self { longest_silence, ..self.clone() }
    }

    /// The same with other patience for calls that get no answer.
    #[cfg(test)]
    pub(super) fn with_longest_call(&self, longest_call: Duration) -> Self {
        Self { longest_call, ..self.clone() }
    }

    /// Calls are told to this board from now on.
    pub fn report_to(&self, board: &Arc<Board>) {
        self.client.report_to(board);
    }

    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Refuses a topic that is not there: the object is not switched on for Change Data Capture, or has no events.
    pub async fn topic_info(&self, name: &str) -> Result<Topic> {
        let what = format!("asking for topic {name}");
        if !topic::is_topic(name) {
            let message = "it is no topic: topics begin with `/data/` or `/event/`";
            return Err(Error::new(Kind::SubscriptionRefused, message).during(what));
        }
        let query = TopicRequest { topic_name: name.to_owned() };
        let info = self
            .call(&what, query, |mut grpc, request| Box::pin(async move { grpc.get_topic(request).await }))
            .await
            .map_err(|error| of_topic(error, name))?;
        Ok(Topic {
            name: info.topic_name,
            can_subscribe: info.can_subscribe,
            schema_id: (!info.schema_id.is_empty()).then_some(info.schema_id),
        })
    }

    /// A schema by its id: asked for once, kept for ever. Many who ask at once wait for one call.
    pub async fn schema(&self, id: &str) -> Result<Arc<EventSchema>> {
        let ask = || async { EventSchema::parse(id, &self.schema_text(id).await?) };
        self.shared.schemas.get(id, ask).await
    }

    /// The same for the schema of a platform event.
    pub async fn platform_schema(&self, id: &str) -> Result<Arc<PlatformSchema>> {
        let ask = || async { PlatformSchema::parse(id, &self.schema_text(id).await?) };
        self.shared.platform_schemas.get(id, ask).await
    }

    async fn schema_text(&self, id: &str) -> Result<String> {
        let query = SchemaRequest { schema_id: id.to_owned() };
        let info = self
            .call("asking for an event's schema", query, |mut grpc, request| {
                Box::pin(async move { grpc.get_schema(request).await })
            })
            .await?;
        Ok(info.schema_json)
    }

    /// An event by the schema that it names, which is asked for if it is new.
    pub async fn decode(&self, event: RawEvent) -> Result<ChangeEvent> {
        self.schema(&event.schema_id).await?.decode(event)
    }

    // ---- for the other files of this folder ----

    pub(super) fn longest_silence(&self) -> Duration {
        self.longest_silence
    }

    pub(super) fn grpc(&self) -> Grpc {
        PubSubClient::new(self.shared.channel.clone())
            .accept_compressed(CompressionEncoding::Gzip)
            .max_decoding_message_size(LARGEST_MESSAGE)
    }

    pub(super) fn classify(&self, status: &Status) -> Fault {
        classify(status, &self.shared.endpoint)
    }

    /// A message with what must go along with every call.
    pub(super) fn request<T>(&self, session: &Session, message: T) -> Result<Request<T>> {
        let mut headers = HeaderMap::with_capacity(4);
        let mut put = |name: &'static str, value: Result<HeaderValue, _>| match value {
            Ok(value) if !value.is_empty() => {
                headers.insert(HeaderName::from_static(name), value);
                Ok(())
            }
            _ => {
                let message = format!("the login gave nothing for the header `{name}`");
                Err(Error::new(Kind::SubscriptionRefused, message)
                    .hint("use an access token as Salesforce gives it, or `auth: client-credentials`"))
            }
        };
        put("accesstoken", Ok::<_, http::header::InvalidHeaderValue>(session.access_token.clone()))?;
        put("instanceurl", HeaderValue::from_str(&session.origin))?;
        put("tenantid", HeaderValue::from_str(&session.org_id))?;
        put("x-client-trace-id", HeaderValue::from_str(&trace_id()))?;
        let mut request = Request::new(message);
        *request.metadata_mut() = MetadataMap::from_headers(headers);
        self.client.governor().count("pubsub", self.client.purpose());
        Ok(request)
    }

    /// A session newer than this one.
    pub(super) async fn renew(&self, refused: u64) -> Result<()> {
        let renewed = self.client.sessions().renew(refused, self.client.pace()).await;
        renewed.map(drop).map_err(|fault| fault.into_error("logging in again"))
    }

    async fn call<Q: Clone, A>(
        &self,
        what: &str,
        query: Q,
        send: impl Fn(Grpc, Request<Q>) -> BoxFuture<'static, Result<Response<A>, Status>>,
    ) -> Result<A> {
        let mut backoff = Backoff::new(self.client.pace());
        let mut maintenance = None;
        let (mut renewed, mut few) = (false, 0);
        loop {
            let session = self.client.sessions().current();
            let request = self.request(&session, query.clone()).map_err(|error| error.during(what))?;
            // Around all of it: tonic's own timeout ends with the answer's headers.
            let fault = match timeout(self.longest_call, send(self.grpc(), request)).await {
                Ok(Ok(answer)) => {
                    if let Some((_, waiting)) = maintenance {
                        Waiting::answered(waiting);
                    }
                    return Ok(answer.into_inner());
                }
                Ok(Err(status)) => self.classify(&status),
                Err(_) => {
                    let message = format!("no answer within {} s", self.longest_call.as_secs());
                    Fault::new(Kind::PubsubUnavailable, Cure::Again, message)
                }
            };
            tracing::debug!(
                what,
                error = fault.message,
                salesforce_code = fault.error_code,
                rpc_id = fault.request_id,
                "a call failed"
            );
            match fault.cure {
                Cure::Refresh if !renewed => {
                    renewed = true;
                    self.renew(session.number).await?;
                }
                Cure::Maintenance => {
                    let asked = fault.retry_after;
                    let error = fault.into_error(what);
                    let (backoff, _) = maintenance.get_or_insert_with(|| {
                        let backoff = Backoff::through_maintenance(self.client.pace());
                        (backoff, self.shared.maintenance.met(&error))
                    });
                    let Some(pause) = backoff.next(asked) else { return Err(error) };
                    tokio::time::sleep(pause).await;
                }
                Cure::FewTimes if few >= FEW => return Err(backoff.gave_up(fault).into_error(what)),
                Cure::Again | Cure::FewTimes => {
                    few += u32::from(fault.cure == Cure::FewTimes);
                    let Some(pause) = backoff.next(fault.retry_after) else {
                        return Err(backoff.gave_up(fault).into_error(what));
                    };
                    tracing::warn!(
                        what,
                        error = fault.message,
                        rpc_id = fault.request_id,
                        pause_ms = pause.as_millis(),
                        "a call failed, trying again"
                    );
                    tokio::time::sleep(pause).await;
                }
                Cure::None | Cure::Refresh | Cure::Allowance => return Err(fault.into_error(what)),
            }
        }
    }
}

fn endpoint(salesforce: &SalesforceSettings) -> Result<Endpoint> {
    let settings = &salesforce.pubsub;
    let refused = |error: tonic::transport::Error| {
        Error::new(Kind::ConfigInvalid, format!("no connection can be made to {}", settings.endpoint))
            .source(error)
            .hint("check `salesforce.pubsub.endpoint`: host and port")
    };
    let scheme = if settings.tls { "https" } else { "http" };
    let endpoint = Endpoint::from_shared(format!("{scheme}://{}", settings.endpoint))
        .and_then(|endpoint| endpoint.user_agent(concat!("sf2kafka/", env!("CARGO_PKG_VERSION"))))
        .map_err(refused)?
        .connect_timeout(CONNECT)
        .http2_keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_ANSWER)
        .keep_alive_while_idle(true)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW);
    if !settings.tls {
        return Ok(endpoint);
    }
    let mut tls = ClientTlsConfig::new().with_native_roots();
    if let Some(authorities) = &salesforce.authorities {
        tls = tls.ca_certificate(Certificate::from_pem(authorities.pem()));
    }
    endpoint.tls_config(tls).map_err(|error| {
        refused(error).hint("install the system's certificate authorities (Debian: ca-certificates)")
    })
}

/// A fresh random UUID, for Salesforce's support.
fn trace_id() -> String {
    // Each state has keys of its own.
    let half = || RandomState::new().hash_one(0);
    let bits = u128::from(half()) << 64 | u128::from(half());
    // Version 4, variant 1.
    let bits = bits & !(0xf << 76) | 4 << 76;
    let bits = bits & !(0b11 << 62) | 0b10 << 62;
    let hex = format!("{bits:032x}");
    let part = |from: usize, to: usize| hex.get(from..to).unwrap_or_default();
    [part(0, 8), part(8, 12), part(12, 16), part(16, 20), part(20, 32)].join("-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trace_ids_are_uuids_and_differ() {
        let ids: std::collections::HashSet<String> = (0..100).map(|_| trace_id()).collect();
        assert_eq!(ids.len(), 100);
        for id in ids {
            let parts: Vec<usize> = id.split('-').map(str::len).collect();
            assert_eq!(parts, [8, 4, 4, 4, 12], "{id}");
            assert!(id.as_bytes()[14] == b'4' && b"89ab".contains(&id.as_bytes()[19]), "{id}");
        }
    }
}
