//! A client that hides nothing: the six calls by hand, each answer as it came, events decoded by apache-avro with the
//! schema that the event names.

use std::collections::BTreeMap;
use std::str::FromStr;
use std::time::Duration;

use apache_avro::Schema;
use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::types::Value as Avro;
use http::uri::PathAndQuery;
use prost::Message;
use tokio::sync::mpsc;
use tonic::client::Grpc;
use tonic::metadata::{MetadataKey, MetadataValue};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};
use tonic::{Request, Response, Status, Streaming};
use tonic_prost::ProstCodec;

use crate::Bus;

/// Longer than anything here should take.
pub const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Clone, PartialEq, Message)]
pub struct FetchRequest {
    #[prost(string, tag = "1")]
    pub topic_name: String,
    #[prost(int32, tag = "2")]
    pub replay_preset: i32,
    #[prost(bytes = "vec", tag = "3")]
    pub replay_id: Vec<u8>,
    #[prost(int32, tag = "4")]
    pub num_requested: i32,
    #[prost(string, tag = "5")]
    pub auth_refresh: String,
}

#[derive(Clone, PartialEq, Message)]
pub struct FetchResponse {
    #[prost(message, repeated, tag = "1")]
    pub events: Vec<ConsumerEvent>,
    #[prost(bytes = "vec", tag = "2")]
    pub latest_replay_id: Vec<u8>,
    #[prost(string, tag = "3")]
    pub rpc_id: String,
    #[prost(int32, tag = "4")]
    pub pending_num_requested: i32,
}

#[derive(Clone, PartialEq, Message)]
pub struct ConsumerEvent {
    #[prost(message, optional, tag = "1")]
    pub event: Option<ProducerEvent>,
    #[prost(bytes = "vec", tag = "2")]
    pub replay_id: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
pub struct ProducerEvent {
    #[prost(string, tag = "1")]
    pub id: String,
    #[prost(string, tag = "2")]
    pub schema_id: String,
    #[prost(bytes = "vec", tag = "3")]
    pub payload: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
pub struct OneText {
    #[prost(string, tag = "1")]
    pub text: String,
}

#[derive(Clone, PartialEq, Message)]
pub struct SchemaInfo {
    #[prost(string, tag = "1")]
    pub schema_json: String,
    #[prost(string, tag = "2")]
    pub schema_id: String,
    #[prost(string, tag = "3")]
    pub rpc_id: String,
}

#[derive(Clone, PartialEq, Message)]
pub struct TopicInfo {
    #[prost(string, tag = "1")]
    pub topic_name: String,
    #[prost(string, tag = "2")]
    pub tenant_guid: String,
    #[prost(bool, tag = "3")]
    pub can_publish: bool,
    #[prost(bool, tag = "4")]
    pub can_subscribe: bool,
    #[prost(string, tag = "5")]
    pub schema_id: String,
    #[prost(string, tag = "6")]
    pub rpc_id: String,
}

pub fn latest(topic: &str, count: i32) -> FetchRequest {
    FetchRequest { topic_name: topic.to_owned(), num_requested: count, ..FetchRequest::default() }
}

pub fn earliest(topic: &str, count: i32) -> FetchRequest {
    FetchRequest { replay_preset: 1, ..latest(topic, count) }
}

pub fn behind(topic: &str, replay_id: &[u8], count: i32) -> FetchRequest {
    FetchRequest { replay_preset: 2, replay_id: replay_id.to_vec(), ..latest(topic, count) }
}

pub fn more(count: i32) -> FetchRequest {
    latest("", count)
}

#[derive(Clone)]
pub struct Client {
    channel: Channel,
    headers: BTreeMap<&'static str, String>,
}

impl Client {
    pub async fn connect(origin: &str, headers: BTreeMap<&'static str, String>) -> Client {
        let channel = Endpoint::from_str(origin).unwrap().connect().await.unwrap();
        Client { channel, headers }
    }

    pub async fn connect_trusting(
        origin: &str,
        certificate: &str,
        headers: BTreeMap<&'static str, String>,
    ) -> Result<Client, tonic::transport::Error> {
        let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(certificate));
        let endpoint = Endpoint::from_str(origin).unwrap().tls_config(tls).unwrap();
        Ok(Client { channel: endpoint.connect().await?, headers })
    }

    pub fn without(mut self, header: &str) -> Client {
        self.headers.retain(|name, _| *name != header);
        self
    }

    pub fn with_header(mut self, header: &'static str, value: &str) -> Client {
        self.headers.insert(header, value.to_owned());
        self
    }

    pub fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        for (name, value) in &self.headers {
            let key = MetadataKey::from_bytes(name.as_bytes()).unwrap();
            request.metadata_mut().insert(key, MetadataValue::from_str(value).unwrap());
        }
        request
    }

    pub async fn unary<Q, A>(&self, rpc: &'static str, message: Q) -> Result<A, Status>
    where
        Q: Message + Send + Sync + 'static,
        A: Message + Default + Send + Sync + 'static,
    {
        let mut grpc = Grpc::new(self.channel.clone());
        grpc.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
        let path = PathAndQuery::from_str(&format!("/eventbus.v1.PubSub/{rpc}")).unwrap();
        let codec = ProstCodec::<Q, A>::default();
        let answer = tokio::time::timeout(PATIENCE, grpc.unary(self.request(message), path, codec));
        answer.await.expect("an answer in time").map(Response::into_inner)
    }

    pub async fn topic(&self, name: &str) -> Result<TopicInfo, Status> {
        self.unary("GetTopic", OneText { text: name.to_owned() }).await
    }

    pub async fn schema(&self, id: &str) -> Result<SchemaInfo, Status> {
        self.unary("GetSchema", OneText { text: id.to_owned() }).await
    }

    pub async fn streaming<Q, A>(&self, rpc: &'static str) -> Result<(mpsc::Sender<Q>, Streaming<A>), Status>
    where
        Q: Message + Send + Sync + 'static,
        A: Message + Default + Send + Sync + 'static,
    {
        let mut grpc = Grpc::new(self.channel.clone());
        grpc.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
        let path = PathAndQuery::from_str(&format!("/eventbus.v1.PubSub/{rpc}")).unwrap();
        let (sender, receiver) = mpsc::channel::<Q>(16);
        let asks = futures_util::stream::unfold(receiver, |mut receiver| async move {
            receiver.recv().await.map(|ask| (ask, receiver))
        });
        let codec = ProstCodec::<Q, A>::default();
        let answers = grpc.streaming(self.request(asks), path, codec).await?.into_inner();
        Ok((sender, answers))
    }

    pub async fn subscribe(&self) -> Result<Stream, Status> {
        let (asks, answers) = self.streaming("Subscribe").await?;
        Ok(Stream { client: self.clone(), asks: Some(asks), answers, schemas: BTreeMap::new() })
    }
}

pub struct Stream {
    client: Client,
    asks: Option<mpsc::Sender<FetchRequest>>,
    answers: Streaming<FetchResponse>,
    schemas: BTreeMap<String, Schema>,
}

impl Stream {
    pub async fn ask(&mut self, request: FetchRequest) {
        // A stream that has ended takes no more.
        let _ = self.asks.as_ref().unwrap().send(request).await;
    }

    pub fn ask_no_more(&mut self) {
        self.asks = None;
    }

    /// The next response: Ok(None) is an end with status OK.
    pub async fn next(&mut self) -> Result<Option<FetchResponse>, Status> {
        tokio::time::timeout(PATIENCE, self.answers.message()).await.expect("a response or an end in time")
    }

    pub async fn response(&mut self) -> FetchResponse {
        self.next().await.unwrap().expect("the stream goes on")
    }

    /// Nothing comes for so long.
    pub async fn is_quiet_for(&mut self, time: Duration) -> bool {
        tokio::time::timeout(time, self.answers.message()).await.is_err()
    }

    /// Responses until so many events have come.
    pub async fn events(&mut self, count: usize) -> Vec<ConsumerEvent> {
        let mut events = Vec::new();
        while events.len() < count {
            events.extend(self.response().await.events);
        }
        assert_eq!(events.len(), count);
        events
    }

    pub async fn decoded(&mut self, count: usize) -> Vec<Event> {
        let mut decoded = Vec::new();
        for event in self.events(count).await {
            decoded.push(self.decode(&event).await);
        }
        decoded
    }

    pub async fn decode(&mut self, event: &ConsumerEvent) -> Event {
        let made = event.event.clone().unwrap();
        if !self.schemas.contains_key(&made.schema_id) {
            let info = self.client.schema(&made.schema_id).await.unwrap();
            self.schemas.insert(made.schema_id.clone(), Schema::parse_str(&info.schema_json).unwrap());
        }
        Event::read(&self.schemas[&made.schema_id], event)
    }

    /// How the stream ends, whatever comes before.
    pub async fn ending(&mut self) -> Result<(), Status> {
        loop {
            match self.next().await {
                Ok(Some(_)) => {}
                Ok(None) => return Ok(()),
                Err(status) => return Err(status),
            }
        }
    }

    pub async fn wait_until_standing(&mut self, bus: &Bus) {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            let state = bus.control_get("pubsub").await;
            if state["standing"] == state["openStreams"] {
                return;
            }
            assert!(tokio::time::Instant::now() < deadline, "{state}");
            tokio::task::yield_now().await;
        }
    }
}

/// A change event, taken apart with its own schema.
#[derive(Debug)]
pub struct Event {
    pub replay_id: Vec<u8>,
    pub id: String,
    pub schema: Schema,
    pub header: BTreeMap<String, Avro>,
    pub fields: BTreeMap<String, Avro>,
    /// Names in the schema's order, the header first.
    pub names: Vec<String>,
}

impl Event {
    pub fn read(schema: &Schema, event: &ConsumerEvent) -> Event {
        let made = event.event.clone().unwrap();
        let mut bytes = made.payload.as_slice();
        let value = GenericDatumReader::builder(schema).build().unwrap().read_value(&mut bytes).unwrap();
        assert!(bytes.is_empty(), "a datum is used up");
        let Avro::Record(fields) = value else { panic!("a record") };
        let names = fields.iter().map(|(name, _)| name.clone()).collect();
        let mut fields: BTreeMap<String, Avro> =
            fields.into_iter().map(|(name, value)| (name, unwrapped(value))).collect();
        let header = match fields.remove("ChangeEventHeader") {
            Some(Avro::Record(header)) => header.into_iter().collect(),
            _ => BTreeMap::new(),
        };
        Event {
            replay_id: event.replay_id.clone(),
            id: made.id,
            schema: schema.clone(),
            header,
            fields,
            names,
        }
    }

    pub fn text(&self, name: &str) -> String {
        match &self.header[name] {
            Avro::String(text) | Avro::Enum(_, text) => text.clone(),
            other => panic!("{other:?}"),
        }
    }

    pub fn number(&self, name: &str) -> i64 {
        match &self.header[name] {
            Avro::Int(number) => i64::from(*number),
            Avro::Long(number) => *number,
            other => panic!("{other:?}"),
        }
    }

    pub fn texts(&self, name: &str) -> Vec<String> {
        let Avro::Array(texts) = &self.header[name] else { panic!("an array") };
        let text = |one: &Avro| match one {
            Avro::String(text) => text.clone(),
            other => panic!("{other:?}"),
        };
        texts.iter().map(text).collect()
    }

    pub fn kind(&self) -> String {
        self.text("changeType")
    }

    pub fn ids(&self) -> Vec<String> {
        self.texts("recordIds")
    }

    /// Names of the fields in a bitmap array, parts dotted: this client's own reading of pubsub.md 4.1.
    pub fn named(&self, array: &str) -> Vec<String> {
        self.texts(array).iter().flat_map(|map| named_in(&self.schema, map)).collect()
    }

    pub fn field(&self, name: &str) -> &Avro {
        self.fields.get(name).unwrap_or_else(|| panic!("no field {name}"))
    }

    /// A part of a compound field.
    pub fn part(&self, name: &str, part: &str) -> Avro {
        match self.field(name) {
            Avro::Record(parts) => {
                let found = parts.iter().find(|(known, _)| known == part).expect("the part is there");
                unwrapped(found.1.clone())
            }
            Avro::Null => Avro::Null,
            other => panic!("{other:?}"),
        }
    }
}

pub fn unwrapped(value: Avro) -> Avro {
    match value {
        Avro::Union(_, inner) => *inner,
        other => other,
    }
}

pub fn text(value: &str) -> Avro {
    Avro::String(value.to_owned())
}

fn named_in(schema: &Schema, map: &str) -> Vec<String> {
    let Schema::Record(record) = schema else { panic!("a record") };
    let (parent, hex) = match map.split_once('-') {
        Some((position, hex)) => (Some(position.parse::<usize>().unwrap()), hex),
        None => (None, map),
    };
    let hex = hex.strip_prefix("0x").unwrap();
    let bits = bits_of(hex);
    match parent {
        None => bits.iter().map(|bit| record.fields[*bit].name.clone()).collect(),
        Some(position) => {
            let field = &record.fields[position];
            let parts = parts_of(schema, &field.schema);
            bits.iter().map(|bit| format!("{}.{}", field.name, parts[*bit])).collect()
        }
    }
}

pub fn bits_of(hex: &str) -> Vec<usize> {
    assert!(hex.len().is_multiple_of(2), "{hex}");
    let bytes: Vec<u8> =
        (0..hex.len() / 2).map(|at| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).unwrap()).collect();
    let count = bytes.len();
    (0..count * 8).filter(|bit| bytes[count - 1 - bit / 8] >> (bit % 8) & 1 == 1).collect()
}

fn parts_of(top: &Schema, field: &Schema) -> Vec<String> {
    match field {
        Schema::Union(union) => union
            .variants()
            .iter()
            .map(|branch| parts_of(top, branch))
            .find(|parts| !parts.is_empty())
            .expect("a record branch"),
        Schema::Record(record) => record.fields.iter().map(|field| field.name.clone()).collect(),
        Schema::Ref { name } => {
            let Schema::Record(record) = top else { panic!("a record") };
            record
                .fields
                .iter()
                .filter_map(|field| match &field.schema {
                    Schema::Union(union) => union.variants().iter().find_map(|branch| match branch {
                        Schema::Record(record) if record.name == *name => Some(branch.clone()),
                        _ => None,
                    }),
                    _ => None,
                })
                .map(|found| parts_of(top, &found))
                .next()
                .expect("the name was defined")
        }
        _ => Vec::new(),
    }
}
