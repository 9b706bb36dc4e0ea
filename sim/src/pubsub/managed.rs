//! Managed subscriptions: the server keeps the position (pubsub.md 1.12).
//!
//! Comes in: a subscription's record, made by the Tooling API or the control interface; fetches and commits. Goes out:
//! events behind the committed position, answers to commits. One client at a time; a commit never goes back.

use std::sync::Arc;
use std::time::Instant;

use serde::Deserialize;
use tonic::{Code, Status};

use super::eventbus::{
    CommitReplayRequest, CommitReplayResponse, Error, ErrorCode, ManagedFetchRequest, ManagedFetchResponse,
};
use super::refusal::{self, refuse};
use super::service::find_topic;
use super::stream::{Batch, Position, Rpc, Start};
use super::topic::Topic;
use crate::http::{Server, lock};
use crate::org::Id;

const PREFIX: [u8; 3] = *b"18x";

#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "UPPERCASE")]
pub(crate) enum Replay {
    #[default]
    Latest,
    Earliest,
}

#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "UPPERCASE")]
pub(crate) enum State {
    #[default]
    Run,
    Stop,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ManagedOrder {
    #[serde(alias = "topicName")]
    pub topic: String,
    #[serde(default)]
    pub default_replay: Replay,
    #[serde(default)]
    pub error_recovery_replay: Replay,
    #[serde(default)]
    pub state: State,
}

pub(crate) struct Managed {
    pub id: Id,
    pub developer_name: String,
    pub order: ManagedOrder,
    /// The committed position.
    position: Option<u64>,
    active: bool,
    /// Until then the last client lingers.
    lingers_until: Option<Instant>,
}

#[derive(Default)]
pub(crate) struct Subscriptions {
    all: Vec<Managed>,
    made: u64,
}

impl Subscriptions {
    /// Makes a subscription, or gives the one of that name other settings; its id and its position stay.
    pub fn put(&mut self, developer_name: &str, order: ManagedOrder) -> Id {
        if let Some(known) = self.all.iter_mut().find(|known| known.developer_name == developer_name) {
            known.order = order;
            return known.id;
        }
        self.made += 1;
        let id = Id::new(PREFIX, self.made);
        let developer_name = developer_name.to_owned();
        self.all.push(Managed {
            id,
            developer_name,
            order,
            position: None,
            active: false,
            lingers_until: None,
        });
        id
    }

    pub fn all(&self) -> &[Managed] {
        &self.all
    }

    pub fn remove(&mut self, id: Id) -> bool {
        let before = self.all.len();
        self.all.retain(|known| known.id != id);
        self.all.len() != before
    }

    fn get(&mut self, id: Id) -> Option<&mut Managed> {
        self.all.iter_mut().find(|known| known.id == id)
    }
}

fn already_active(rpc_id: &str) -> Status {
    let message = "An active managed subscription with the same ID already exists. If a previous subscription with the \
                   same ID was stopped, there can be a delay before it expires. Try subscribing again later.";
    refuse(Code::AlreadyExists, "managed.subscription.already.active", message, rpc_id)
}

pub(super) struct ManagedSubscribe {
    server: Arc<Server>,
    held: Option<Id>,
    /// The newest position this client was told of.
    told: u64,
    news: Option<CommitReplayResponse>,
}

impl ManagedSubscribe {
    pub fn new(server: Arc<Server>) -> Self {
        Self { server, held: None, told: 0, news: None }
    }

    fn find(&self, ask: &ManagedFetchRequest, rpc_id: &str) -> Result<Id, Status> {
        let refuse_as = |code: Code, error_code: &str, message: &str| {
            Err(refuse(code, &format!("managed.subscription.{error_code}"), message, rpc_id))
        };
        let subscriptions = lock(&self.server.events.managed);
        let found = match (ask.subscription_id.as_str(), ask.developer_name.as_str()) {
            ("", "") => {
                let message = "Provide the ID or the developer name of the managed subscription.";
                return refuse_as(Code::InvalidArgument, "id.or.developer.name.empty", message);
            }
            (id, "") => {
                let Some(id) = Id::parse(id).filter(|id| id.prefix() == PREFIX) else {
                    let message = "The managed subscription ID isn't valid.";
                    return refuse_as(Code::InvalidArgument, "subscription.id.invalid", message);
                };
                match subscriptions.all.iter().find(|known| known.id == id) {
                    Some(found) => found,
                    None => {
                        let message = "The managed subscription ID wasn't found.";
                        return refuse_as(Code::NotFound, "subscription.id.not.found", message);
                    }
                }
            }
            ("", name) => match subscriptions.all.iter().find(|known| known.developer_name == name) {
                Some(found) => found,
                None => {
                    let message = "The developer name of the managed subscription wasn't found.";
                    return refuse_as(Code::NotFound, "developer.name.not.found", message);
                }
            },
            _ => {
                let message = "Provide either the ID or the developer name, not both.";
                return refuse_as(Code::InvalidArgument, "fetch.request.invalid", message);
            }
        };
        if found.order.state == State::Stop {
            let message = "The managed subscription is stopped.";
            return refuse_as(Code::FailedPrecondition, "config.stopped", message);
        }
        if found.active || found.lingers_until.is_some_and(|until| until > Instant::now()) {
            return Err(already_active(rpc_id));
        }
        Ok(found.id)
    }

    fn commit(&mut self, request: &CommitReplayRequest) -> CommitReplayResponse {
        let events = &self.server.events;
        let position = events.bus.position(&request.replay_id).filter(|position| *position <= self.told);
        let mut subscriptions = lock(&events.managed);
        let known = self.held.and_then(|id| subscriptions.get(id));
        let error = match (position, known) {
            (Some(position), Some(known)) if known.position.is_none_or(|before| before <= position) => {
                known.position = Some(position);
                None
            }
            _ => Some(Error {
                code: ErrorCode::Commit.into(),
                msg: "The Replay ID to commit isn't valid: it's older than the committed one or wasn't delivered."
                    .to_owned(),
            }),
        };
        CommitReplayResponse {
            commit_request_id: request.commit_request_id.clone(),
            replay_id: request.replay_id.clone(),
            error,
            process_time: events.org.now_ms(),
        }
    }
}

impl Drop for ManagedSubscribe {
    fn drop(&mut self) {
        let linger = self.server.events.habits().managed_linger;
        let mut subscriptions = lock(&self.server.events.managed);
        if let Some(known) = self.held.and_then(|id| subscriptions.get(id)) {
            known.active = false;
            known.lingers_until = Some(Instant::now() + linger);
        }
    }
}

impl Rpc for ManagedSubscribe {
    const NAME: &'static str = "ManagedSubscribe";
    type Ask = ManagedFetchRequest;
    type Answer = ManagedFetchResponse;

    fn server(&self) -> &Arc<Server> {
        &self.server
    }

    fn first(&mut self, ask: &ManagedFetchRequest, rpc_id: &str) -> Result<Start, Status> {
        if ask.commit_replay_id_request.is_some() {
            let message = "The first request can't commit a Replay ID.";
            let code = "managed.subscription.fetch.request.commit.request.restricted";
            return Err(refusal::invalid(code, message, rpc_id));
        }
        let id = self.find(ask, rpc_id)?;
        if ask.num_requested <= 0 {
            let message = "The number of requested events must be greater than 0.";
            let code = "managed.subscription.fetch.request.events.invalid";
            return Err(refusal::invalid(code, message, rpc_id));
        }
        let events = &self.server.events;
        let mut subscriptions = lock(&events.managed);
        let Some(known) = subscriptions.get(id) else {
            return Err(refusal::invalid("managed.subscription.config.deleted", "It was deleted.", rpc_id));
        };
        let topic = find_topic(&self.server, &known.order.topic, rpc_id)?;
        let replay = |replay: Replay| match replay {
            Replay::Latest => Position::Latest,
            Replay::Earliest => Position::Behind(events.bus.oldest()),
        };
        let position = match known.position {
            None => replay(known.order.default_replay),
            Some(position) if position > events.bus.oldest() => Position::Behind(position),
            // It was committed too long ago.
            Some(_) => {
                known.position = None;
                replay(known.order.error_recovery_replay)
            }
        };
        if std::mem::replace(&mut known.active, true) {
            return Err(already_active(rpc_id));
        }
        self.held = Some(id);
        Ok(Start { topic, position, requested: ask.num_requested })
    }

    fn later(&mut self, ask: &ManagedFetchRequest, _topic: &Topic, rpc_id: &str) -> Result<i32, Status> {
        if ask.num_requested < 0 || (ask.num_requested == 0 && ask.commit_replay_id_request.is_none()) {
            let message = "The number of requested events must be greater than 0.";
            let code = "managed.subscription.fetch.request.events.invalid";
            return Err(refusal::invalid(code, message, rpc_id));
        }
        if let Some(commit) = &ask.commit_replay_id_request {
            // Several commits may be answered by one: the last.
            let answer = self.commit(commit);
            self.news = Some(answer);
        }
        Ok(ask.num_requested)
    }

    fn has_news(&self) -> bool {
        self.news.is_some()
    }

    fn answer(&mut self, batch: Batch) -> ManagedFetchResponse {
        if let Some(number) = batch.latest_replay_id.get(..8).and_then(|bytes| bytes.try_into().ok()) {
            self.told = self.told.max(u64::from_be_bytes(number));
        }
        ManagedFetchResponse {
            events: batch.events,
            latest_replay_id: batch.latest_replay_id,
            rpc_id: batch.rpc_id,
            pending_num_requested: batch.pending,
            commit_response: self.news.take(),
        }
    }
}
