//! A Pub/Sub server that answers by script, over a real socket.
//!
//! Comes in: for topics, schemas and streams, what to answer. Goes out: those answers, and all that was asked. The
//! token is checked. A stream without a script is refused with a status that no test accepts.

use std::collections::{HashMap, VecDeque};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use futures_util::future::BoxFuture;
use http::HeaderMap;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tonic::body::Body;
use tonic::codec::Streaming;
use tonic::codegen::Service;
use tonic::metadata::MetadataMap;
use tonic::{Code, Request, Response, Status};
use tonic_prost::ProstCodec;

use crate::salesforce::pubsub::eventbus::{
    FetchRequest, FetchResponse, SchemaInfo, SchemaRequest, TopicInfo, TopicRequest,
};

/// One thing that a stream does.
#[derive(Clone, Debug)]
pub enum Act {
    /// Refused before any header but the status; only as the first act.
    Refuse(Status),
    /// Keep even the headers back until the test says `release`; only as the first act.
    HoldHeaders,
    Send(FetchResponse),
    /// Until so many requests have come on this stream.
    AwaitRequests(usize),
    Fail(Status),
    /// End with OK.
    End,
    /// Say nothing more.
    Silence,
}

#[derive(Default)]
struct State {
    token: String,
    topics: VecDeque<Result<TopicInfo, Status>>,
    schemas: HashMap<String, VecDeque<Result<String, Status>>>,
    never: String,
    streams: VecDeque<Vec<Act>>,
    calls: Vec<(String, HeaderMap)>,
    /// By stream.
    requests: Vec<Vec<FetchRequest>>,
}

#[derive(Clone)]
pub struct Server {
    pub address: SocketAddr,
    state: Arc<Mutex<State>>,
    released: Arc<watch::Sender<bool>>,
    stop: Arc<watch::Sender<bool>>,
}

/// As Salesforce refuses: status, text with the call's id, trailers.
pub fn refusal(code: Code, text: &str, error_code: Option<&str>) -> Status {
    let mut trailers = MetadataMap::new();
    if let Some(error_code) = error_code {
        let full = format!("sfdc.platform.eventbus.grpc.{error_code}");
        trailers.insert("error-code", full.parse().unwrap());
        trailers.insert("rpc-id", "c604fa9c-1ee8-4d4d-8988-1244a54ee952".parse().unwrap());
    }
    Status::with_metadata(code, format!("{text} rpcId: c604fa9c-1ee8-4d4d-8988-1244a54ee952"), trailers)
}

pub fn unauthenticated() -> Status {
    let text = "An authentication exception occurred. Provide valid authentication via metadata headers.";
    refusal(Code::Unauthenticated, text, Some("service.auth.error"))
}

impl Server {
    pub async fn start() -> Self {
        Self::start_at("127.0.0.1:0").await
    }

    pub async fn start_at(address: &str) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let state = State { token: "T1".to_owned(), ..State::default() };
        let server = Self {
            address: listener.local_addr().unwrap(),
            state: Arc::new(Mutex::new(state)),
            released: Arc::new(watch::channel(false).0),
            stop: Arc::new(watch::channel(false).0),
        };
        let (service, mut stop) = (server.clone(), server.stop.subscribe());
        let incoming = tonic::transport::server::TcpIncoming::from(listener);
        tokio::spawn(async move {
            let serving =
                tonic::transport::Server::builder().add_service(service).serve_with_incoming(incoming);
            tokio::select! {
                served = serving => served.unwrap(),
                _ = stop.wait_for(|stop| *stop) => {}
            }
        });
        server
    }

    /// No more connections, and those there are break off.
    pub fn stop(&self) {
        self.stop.send_replace(true);
    }

    pub fn release(&self) {
        self.released.send_replace(true);
    }

    pub fn expect_token(&self, token: &str) {
        self.state.lock().unwrap().token = token.to_owned();
    }

    /// The next questions for a topic are answered so; then all topics are there.
    pub fn on_topic(&self, answer: Result<TopicInfo, Status>) {
        self.state.lock().unwrap().topics.push_back(answer);
    }

    pub fn on_schema(&self, id: &str, answer: Result<&str, Status>) {
        let answer = answer.map(str::to_owned);
        self.state.lock().unwrap().schemas.entry(id.to_owned()).or_default().push_back(answer);
    }

    /// Questions for this schema get no answer.
    pub fn on_schema_never(&self, id: &str) {
        self.state.lock().unwrap().never = id.to_owned();
    }

    pub fn on_stream(&self, acts: impl IntoIterator<Item = Act>) {
        self.state.lock().unwrap().streams.push_back(acts.into_iter().collect());
    }

    /// Headers of the calls of this method.
    pub fn calls(&self, method: &str) -> Vec<HeaderMap> {
        let state = self.state.lock().unwrap();
        let of_method = state.calls.iter().filter(|(path, _)| path.ends_with(method));
        of_method.map(|(_, headers)| headers.clone()).collect()
    }

    /// What came on each stream so far.
    pub fn requests(&self) -> Vec<Vec<FetchRequest>> {
        self.state.lock().unwrap().requests.clone()
    }

    fn check_token(&self, request: &MetadataMap) -> Result<(), Status> {
        let token = request.get("accesstoken").and_then(|token| token.to_str().ok());
        if token == Some(&self.state.lock().unwrap().token) { Ok(()) } else { Err(unauthenticated()) }
    }

    fn topic(&self, request: Request<TopicRequest>) -> Result<TopicInfo, Status> {
        self.check_token(request.metadata())?;
        let name = request.into_inner().topic_name;
        let scripted = self.state.lock().unwrap().topics.pop_front();
        scripted.unwrap_or_else(|| {
            Ok(TopicInfo {
                topic_name: name,
                can_subscribe: true,
                schema_id: "S".to_owned(),
                ..TopicInfo::default()
            })
        })
    }

    async fn schema(self, request: Request<SchemaRequest>) -> Result<Response<SchemaInfo>, Status> {
        self.check_token(request.metadata())?;
        let schema_id = request.into_inner().schema_id;
        if self.state.lock().unwrap().never == schema_id {
            std::future::pending::<()>().await;
        }
        let answer = {
            let mut state = self.state.lock().unwrap();
            state.schemas.get_mut(&schema_id).and_then(|answers| {
                if answers.len() > 1 { answers.pop_front() } else { answers.front().cloned() }
            })
        };
        let answer = answer.unwrap_or_else(|| Err(Status::data_loss("UNSCRIPTED")))?;
        Ok(Response::new(SchemaInfo { schema_json: answer, schema_id, rpc_id: String::new() }))
    }

    async fn stream(self, request: Request<Streaming<FetchRequest>>) -> Result<Response<Responses>, Status> {
        self.check_token(request.metadata())?;
        let (place, mut acts) = {
            let mut state = self.state.lock().unwrap();
            state.requests.push(Vec::new());
            let acts = state.streams.pop_front().ok_or_else(|| Status::data_loss("UNSCRIPTED"))?;
            (state.requests.len() - 1, VecDeque::from(acts))
        };
        match acts.front() {
            Some(Act::Refuse(status)) => return Err(status.clone()),
            Some(Act::HoldHeaders) => {
                let mut released = self.released.subscribe();
                let _ = released.wait_for(|released| *released).await;
                acts.pop_front();
            }
            _ => {}
        }
        let (count, mut counted) = watch::channel(0);
        let mut requests = request.into_inner();
        let server = self.clone();
        tokio::spawn(async move {
            while let Ok(Some(request)) = requests.message().await {
                server.state.lock().unwrap().requests[place].push(request);
                count.send_modify(|count| *count += 1);
            }
        });
        let (responses, sent) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            for act in acts {
                match act {
                    Act::Send(response) => drop(responses.send(Ok(response))),
                    Act::AwaitRequests(wanted) => drop(counted.wait_for(|count| *count >= wanted).await),
                    Act::Fail(status) => drop(responses.send(Err(status))),
                    Act::End => return,
                    Act::Silence => responses.closed().await,
                    Act::Refuse(_) | Act::HoldHeaders => panic!("only as the first act"),
                }
            }
        });
        Ok(Response::new(Responses(sent)))
    }
}

pub struct Responses(mpsc::UnboundedReceiver<Result<FetchResponse, Status>>);

impl futures_util::Stream for Responses {
    type Item = Result<FetchResponse, Status>;

    fn poll_next(mut self: std::pin::Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_recv(context)
    }
}

type Answer<A> = BoxFuture<'static, Result<Response<A>, Status>>;

/// A method of the service, as tonic calls it.
struct Method<Q, A>(Box<dyn Fn(Request<Q>) -> Answer<A> + Send>);

impl<Q, A> Service<Request<Q>> for Method<Q, A> {
    type Response = Response<A>;
    type Error = Status;
    type Future = Answer<A>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Status>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Q>) -> Self::Future {
        (self.0)(request)
    }
}

impl Service<http::Request<Body>> for Server {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let path = request.uri().path().to_owned();
        self.state.lock().unwrap().calls.push((path.clone(), request.headers().clone()));
        let server = self.clone();
        Box::pin(async move {
            let answer = match path.as_str() {
                "/eventbus.v1.PubSub/GetTopic" => {
                    let method = Method(Box::new(move |request| {
                        let answer = server.topic(request).map(Response::new);
                        Box::pin(async move { answer })
                    }));
                    let codec = ProstCodec::<TopicInfo, TopicRequest>::default();
                    tonic::server::Grpc::new(codec).unary(method, request).await
                }
                "/eventbus.v1.PubSub/GetSchema" => {
                    let method = Method(Box::new(move |request| Box::pin(server.clone().schema(request))));
                    let codec = ProstCodec::<SchemaInfo, SchemaRequest>::default();
                    tonic::server::Grpc::new(codec).unary(method, request).await
                }
                "/eventbus.v1.PubSub/Subscribe" => {
                    let method = Method(Box::new(move |request| Box::pin(server.clone().stream(request))));
                    let codec = ProstCodec::<FetchResponse, FetchRequest>::default();
                    tonic::server::Grpc::new(codec).streaming(method, request).await
                }
                _ => Status::unimplemented("").into_http(),
            };
            Ok(answer)
        })
    }
}

impl tonic::server::NamedService for Server {
    const NAME: &'static str = "eventbus.v1.PubSub";
}
