//! One topic's stream of events.
//!
//! Comes in: a topic and where to start. Goes out: [`Received`] after [`Received`], in the order of the stream; an empty
//! one is a sign of life, whose replay id is a position all the same. Salesforce sends only what was asked for: who
//! does not ask holds the stream back. Events that wait for 60 s to be asked for end the stream in order; that, an error
//! and silence are all reasons to subscribe again after the last replay id that was handed over. Never: more asked for
//! than the cap, an event dropped, a new start chosen here.

use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout, timeout_at};
use tonic::codec::Streaming;
use tonic::{Response, Status};

use crate::domain::{ReplayId, Stamp};
use crate::error::{Error, Kind, Result};

use super::super::fault::Cure;
use super::connection::PubSub;
use super::event::RawEvent;
use super::eventbus::{FetchRequest, FetchResponse, ReplayPreset};
use super::fault::of_topic;

/// The most events that may be outstanding on a stream (`pubsub.md` 1.5).
pub const MOST_OUTSTANDING: u32 = 100;

/// How long a new stream is given to say that it stands. Servers may keep their first word until there is an event.
const FIRST_WORD: Duration = Duration::from_secs(1);

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Start {
    /// With what is published after the stream stands.
    Latest,
    /// With the oldest event that is kept; those delivered before count again against the org's allowance.
    Earliest,
    /// With the first event after this one.
    After(ReplayId),
}

/// One message of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Received {
    /// In the order of the stream; none: a sign of life.
    pub events: Vec<RawEvent>,
    /// The position after this message, to be kept with or without events. None only if Salesforce names none.
    pub latest: Option<ReplayId>,
    /// Events that are still to come of those asked for, by Salesforce's count.
    pub pending: u32,
    /// By Salesforce's clock, as far as it was heard ([`super::super::Client::server_time`]): never ahead of it.
    pub received_at: Stamp,
}

type Opening = BoxFuture<'static, Result<Response<Streaming<FetchResponse>>, Status>>;

enum State {
    /// The call is on its way; the server may keep its first word until there is a message.
    Opening(Opening),
    Open(Box<Streaming<FetchResponse>>),
    /// The session with this number was refused before the first message.
    Refused(u64),
    Over,
}

enum Step {
    Opened,
    Message(FetchResponse),
    Ended,
}

pub struct Subscription {
    pubsub: PubSub,
    topic: String,
    start: Start,
    state: State,
    requests: mpsc::UnboundedSender<FetchRequest>,
    flow: Flow,
    /// Of the session that the call was made with.
    session: u64,
    /// A session is renewed once, and only before the first message.
    may_renew: bool,
    /// The last message, or the start.
    last_sign: Instant,
}

impl std::fmt::Debug for Subscription {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Subscription").field("topic", &self.topic).field("start", &self.start).finish()
    }
}

impl PubSub {
    /// Asks for the topic, so that a refusal is told at once and the connection stands, then opens the stream and asks
    /// for [`MOST_OUTSTANDING`] events. When it returns, the stream's call was sent; whether it stands shows only with
    /// its first message.
    pub async fn subscribe(&self, topic: &str, start: Start) -> Result<Subscription> {
        let info = self.topic_info(topic).await?;
        if !info.can_subscribe {
            let message = "Salesforce says that the user may not subscribe to it";
            let error = Error::new(Kind::SubscriptionRefused, message).during(format!("topic {topic}"));
            return Err(of_topic(error, topic));
        }
        let (requests, _) = mpsc::unbounded_channel();
        let mut subscription = Subscription {
            pubsub: self.clone(),
            topic: topic.to_owned(),
            start,
            state: State::Over,
            requests,
            flow: Flow::default(),
            session: 0,
            may_renew: true,
            last_sign: Instant::now(),
        };
        subscription.open()?;
        if let Ok(step) = timeout(FIRST_WORD, subscription.step()).await {
            step?;
        }
        Ok(subscription)
    }
}

impl Subscription {
    pub fn topic(&self) -> &str {
        &self.topic
    }

    /// The next message; none: the server ended the stream in order, or it ended before. An error ends it too. Dropping
    /// the future while it waits loses nothing.
    pub async fn next(&mut self) -> Result<Option<Received>> {
        loop {
            let deadline = self.last_sign + self.pubsub.longest_silence();
            let Ok(step) = timeout_at(deadline, self.step()).await else {
                self.state = State::Over;
                let seconds = self.pubsub.longest_silence().as_secs();
                let message = format!("no message for {seconds} s, not even a sign of life");
                return Err(Error::new(Kind::PubsubUnavailable, message).during(self.what()));
            };
            match step? {
                Step::Opened => {}
                Step::Message(message) => return self.receive(message).map(Some),
                Step::Ended => return Ok(None),
            }
        }
    }

    /// Asks for up to `count` more events, as many as the cap allows, and says how many that were. To be called when
    /// earlier events are safely handed over.
    pub fn ask(&mut self, count: u32) -> u32 {
        if matches!(self.state, State::Over) {
            return 0;
        }
        let granted = self.flow.ask(count);
        if granted > 0 {
            let request = FetchRequest { num_requested: granted.cast_signed(), ..FetchRequest::default() };
            // A stream that is over says so at the next message.
            let _ = self.requests.send(request);
        }
        granted
    }

    fn what(&self) -> String {
        format!("subscription to {}", self.topic)
    }

    /// Nothing is sent before the first `step`.
    fn open(&mut self) -> Result<()> {
        let session = self.pubsub.client().sessions().current();
        let (preset, replay_id) = match &self.start {
            Start::Latest => (ReplayPreset::Latest, Vec::new()),
            Start::Earliest => (ReplayPreset::Earliest, Vec::new()),
            Start::After(id) => (ReplayPreset::Custom, id.as_bytes().to_vec()),
        };
        let first = FetchRequest {
            topic_name: self.topic.clone(),
            replay_preset: preset.into(),
            replay_id,
            num_requested: MOST_OUTSTANDING.cast_signed(),
            auth_refresh: String::new(),
        };
        let (requests, queue) = mpsc::unbounded_channel();
        let _ = requests.send(first);
        let queue = futures_util::stream::unfold(queue, |mut queue| async {
            let request = queue.recv().await?;
            Some((request, queue))
        });
        let request = self.pubsub.request(&session, queue).map_err(|error| error.during(self.what()))?;
        let mut grpc = self.pubsub.grpc();
        self.requests = requests;
        self.flow = Flow::default();
        self.session = session.number;
        self.last_sign = Instant::now();
        self.state = State::Opening(Box::pin(async move { grpc.subscribe(request).await }));
        Ok(())
    }

    /// One thing that happens to the stream. Dropped while it waits, it goes on from the same state.
    async fn step(&mut self) -> Result<Step> {
        loop {
            let status = match &mut self.state {
                State::Over => return Ok(Step::Ended),
                State::Opening(call) => match call.await {
                    Ok(answer) => {
                        self.state = State::Open(Box::new(answer.into_inner()));
                        return Ok(Step::Opened);
                    }
                    Err(status) => status,
                },
                State::Open(stream) => match stream.message().await {
                    Ok(Some(message)) => {
                        self.may_renew = false;
                        self.last_sign = Instant::now();
                        return Ok(Step::Message(message));
                    }
                    Ok(None) => {
                        self.state = State::Over;
                        return Ok(Step::Ended);
                    }
                    Err(status) => status,
                },
                State::Refused(session) => {
                    let renewed = self.pubsub.renew(*session).await;
                    self.state = State::Over;
                    renewed?;
                    self.open()?;
                    continue;
                }
            };
            let fault = self.pubsub.classify(&status);
            tracing::debug!(
                topic = self.topic,
                error = fault.message,
                salesforce_code = fault.error_code,
                rpc_id = fault.request_id,
                "a stream ended with an error"
            );
            if fault.cure == Cure::Refresh && self.may_renew {
                self.may_renew = false;
                self.state = State::Refused(self.session);
                continue;
            }
            self.state = State::Over;
            return Err(of_topic(fault.into_error(&self.what()), &self.topic));
        }
    }

    fn receive(&mut self, message: FetchResponse) -> Result<Received> {
        let pending = u32::try_from(message.pending_num_requested).unwrap_or(0);
        let count = u32::try_from(message.events.len()).unwrap_or(u32::MAX);
        self.flow.received(count, pending);
        let events = message.events.into_iter().map(|consumed| {
            let event = consumed.event.unwrap_or_default();
            let replay_id = ReplayId::new(consumed.replay_id)?;
            Some(RawEvent {
                replay_id,
                event_id: event.id,
                schema_id: event.schema_id,
                payload: event.payload,
            })
        });
        let Some(events) = events.collect::<Option<Vec<_>>>() else {
            self.state = State::Over;
            let message = "an event has no replay id";
            return Err(Error::new(Kind::EventUnreadable, message).during(self.what()));
        };
        let last = events.last().map(|event| event.replay_id.clone());
        let latest = ReplayId::new(message.latest_replay_id).or(last);
        let received_at = self.pubsub.client().server_time();
        Ok(Received { events, latest, pending, received_at })
    }
}

/// How many events are outstanding.
///
/// - What was asked for less what came is never below the server's own count, for it has not seen more than was sent:
///   by it the cap is kept exactly.
/// - Should the server ever count otherwise, that number would stay too high and the stream would dry up. At a sign of
///   life with nothing asked for since the message before, both must agree, and the server's number is taken.
#[derive(Debug)]
struct Flow {
    outstanding: u32,
    /// Something was asked for since the last message.
    asked: bool,
}

impl Default for Flow {
    /// With the first request sent.
    fn default() -> Self {
        Self { outstanding: MOST_OUTSTANDING, asked: true }
    }
}

impl Flow {
    fn ask(&mut self, count: u32) -> u32 {
        let granted = count.min(MOST_OUTSTANDING.saturating_sub(self.outstanding));
        self.outstanding += granted;
        self.asked |= granted > 0;
        granted
    }

    fn received(&mut self, count: u32, pending: u32) {
        self.outstanding = self.outstanding.saturating_sub(count);
        if count == 0 && !self.asked {
            self.outstanding = pending.min(MOST_OUTSTANDING);
        }
        self.asked = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cap_is_never_passed_whatever_is_on_its_way() {
        let mut flow = Flow::default();
        assert_eq!(flow.ask(1), 0);
        flow.received(40, 60);
        assert_eq!(flow.ask(30), 30);
        // Sent before the server had seen the thirty.
        flow.received(10, 50);
        assert_eq!(flow.ask(500), 20);
        flow.received(100, 0);
        assert_eq!(flow.ask(100), 100);
    }

    #[test]
    fn a_server_that_counts_otherwise_does_not_dry_the_stream_up() {
        let mut flow = Flow::default();
        flow.received(10, 40);
        assert_eq!(flow.ask(0), 0);
        flow.received(0, 40);
        assert_eq!(flow.ask(100), 60);
        // A sign of life that may have crossed the request.
        flow.received(0, 40);
        assert_eq!(flow.ask(100), 0);
        flow.received(0, 100);
        assert_eq!(flow.ask(100), 0);
    }
}
