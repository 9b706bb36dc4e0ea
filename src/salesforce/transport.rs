//! One call: permit, session, request, answer, and what is done when it fails.
//!
//! Comes in: a [`Call`]. Goes out: what its `parse` makes of a whole answer, or an answer whose body is still open.
//! Every call here may be repeated: all but job creation are reads, and a job made twice only expires. Repeats end
//! by the client's [`Pace`]; a session is renewed once per call. Never: a body in a log, a URL in an error (it holds
//! the query), a redirect followed.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use reqwest::Response;
use tokio::time::{Instant, timeout};

use crate::error::{Error, Kind, Result};

use super::fault::{Area, Cure, Fault, classify, is_html};
use super::maintenance::Waiting;
use super::session::Session;
use super::{Client, Pace};

/// The largest body that is held whole. A page of 2,000 records with several long texts stays far below.
const LARGEST_BODY: usize = 256 << 20;
const LARGEST_ERROR_BODY: usize = 1 << 20;
/// How often a call is repeated that Salesforce fails to answer for a reason that it does not know (`rest.md` 5).
pub(super) const FEW: u32 = 5;

pub(super) struct Call {
    pub area: Area,
    /// What is being done, in front of the error: "query on Account".
    pub what: String,
    pub method: Method,
    /// From the slash on, with the query string.
    pub path: String,
    pub body: Option<Bytes>,
    pub accept: &'static str,
    pub headers: Vec<(&'static str, HeaderValue)>,
    /// Statuses besides 2xx that `parse` wants to see.
    pub also: &'static [StatusCode],
    /// The session that the locator in `path` belongs to.
    pub locator_of: Option<u64>,
    /// The versions resource: no session, not billed.
    pub open_to_all: bool,
}

impl Call {
    pub fn get(area: Area, what: impl Into<String>, path: impl Into<String>) -> Self {
        Self {
            area,
            what: what.into(),
            method: Method::GET,
            path: path.into(),
            body: None,
            accept: "application/json",
            headers: Vec::new(),
            also: &[],
            locator_of: None,
            open_to_all: false,
        }
    }

    pub fn send(
        method: Method,
        area: Area,
        what: impl Into<String>,
        path: impl Into<String>,
        body: &serde_json::Value,
    ) -> Self {
        let body = Some(Bytes::from(body.to_string()));
        Self { method, body, ..Self::get(area, what, path) }
    }
}

/// A whole answer.
pub(super) struct Reply {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

/// An answer whose body is still to come.
#[derive(Debug)]
pub(super) struct Opened {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Response,
}

/// Pauses that grow, with jitter, until the pace is used up.
pub(super) struct Backoff {
    next: Duration,
    longest: Duration,
    started: Instant,
    patience: Duration,
    tries: u32,
}

impl Backoff {
    pub fn new(pace: &Pace) -> Self {
        Self::within(pace.give_up_after, pace.first_pause, pace.longest_pause)
    }

    /// Through a maintenance window: hours, in which nobody needs to hurry.
    pub fn through_maintenance(pace: &Pace) -> Self {
        Self::within(pace.maintenance, pace.first_pause, pace.longest_pause * 4)
    }

    fn within(patience: Duration, next: Duration, longest: Duration) -> Self {
        Self { next, longest, started: Instant::now(), patience, tries: 1 }
    }

    /// The pause before the next try; none: give up. An asked pause is honoured even beyond our own patience, as
    /// long as that has not run out before.
    pub fn next(&mut self, asked: Option<Duration>) -> Option<Duration> {
        let spent = self.started.elapsed();
        // Between half and all of the grown pause.
        let jitter = (RandomState::new().hash_one(self.tries) % 512) as u32;
        let own = self.next / 2 + self.next / 2 * jitter / 511;
        self.next = (self.next * 2).min(self.longest);
        // Whole milliseconds, as a person reads them.
        let own = Duration::from_millis(u64::try_from(own.as_millis()).unwrap_or(u64::MAX));
        let pause = own.max(asked.unwrap_or_default());
        if spent >= self.patience || (asked.is_none() && spent + pause > self.patience) {
            return None;
        }
        self.tries += 1;
        Some(pause)
    }

    pub fn gave_up(&self, mut fault: Fault) -> Fault {
        if self.tries > 1 {
            fault.message = format!(
                "{} (given up after {} tries in {} s)",
                fault.message,
                self.tries,
                self.started.elapsed().as_secs()
            );
        }
        fault
    }
}

/// What was already tried for one call.
struct Efforts {
    backoff: Backoff,
    /// Begins when the call first meets a maintenance window.
    maintenance: Option<(Backoff, Waiting)>,
    /// Repeats that are only made a few times.
    few: u32,
    renewed: bool,
    unreachable: u32,
}

impl Efforts {
    fn new(pace: &Pace) -> Self {
        Self { backoff: Backoff::new(pace), maintenance: None, few: 0, renewed: false, unreachable: 0 }
    }

    fn answered(self) {
        if let Some((_, waiting)) = self.maintenance {
            waiting.answered();
        }
    }
}

impl Client {
    /// The whole answer, as `parse` reads it; what `parse` finds broken is asked again like any other fault.
    pub(super) async fn fetch<T>(&self, call: &Call, parse: impl Fn(Reply) -> Result<T, Fault>) -> Result<T> {
        self.fetch_with_session(call, parse).await.map(|(value, _)| value)
    }

    /// The same, and the number of the session that it was answered to.
    pub(super) async fn fetch_with_session<T>(
        &self,
        call: &Call,
        parse: impl Fn(Reply) -> Result<T, Fault>,
    ) -> Result<(T, u64)> {
        let mut efforts = Efforts::new(self.pace());
        loop {
            let session = self.sessions().current();
            match self.ask_whole(call, &session).await.and_then(&parse) {
                Ok(value) => {
                    efforts.answered();
                    return Ok((value, session.number));
                }
                Err(fault) => self.cure(call, &session, fault, &mut efforts).await?,
            }
        }
    }

    /// The same of a body that is no longer than `most`; none if it is, and then it is not read to its end. Whether it is a
    /// web page is left to `parse`.
    pub(super) async fn fetch_at_most<T>(
        &self,
        call: &Call,
        most: usize,
        parse: impl Fn(Reply) -> Result<T, Fault>,
    ) -> Result<Option<T>> {
        let mut efforts = Efforts::new(self.pace());
        loop {
            let session = self.sessions().current();
            let reply = self.ask_at_most(call, &session, most).await;
            match reply.and_then(|reply| reply.map(&parse).transpose()) {
                Ok(value) => {
                    efforts.answered();
                    return Ok(value);
                }
                Err(fault) => self.cure(call, &session, fault, &mut efforts).await?,
            }
        }
    }

    async fn ask_at_most(&self, call: &Call, session: &Session, most: usize) -> Result<Option<Reply>, Fault> {
        let _permit = self.admit(call).await?;
        let Opened { status, headers, body } = self.ask(call, session).await?;
        if body.content_length().is_some_and(|length| length > most as u64) {
            return Ok(None);
        }
        let body = read_at_most(body, self.pace().idle_timeout, most).await?;
        Ok(body.map(|body| Reply { status, headers, body }))
    }

    /// An answer as soon as its headers are there. The permit ends with the headers: who holds one page while
    /// asking for the next must not wait for itself.
    pub(super) async fn open(&self, call: &Call) -> Result<Opened> {
        let mut efforts = Efforts::new(self.pace());
        loop {
            let session = self.sessions().current();
            match self.ask_open(call, &session).await {
                Ok(opened) => {
                    efforts.answered();
                    return Ok(opened);
                }
                Err(fault) => self.cure(call, &session, fault, &mut efforts).await?,
            }
        }
    }

    async fn ask_whole(&self, call: &Call, session: &Session) -> Result<Reply, Fault> {
        let permit = self.admit(call).await?;
        let answer = self.ask(call, session).await?;
        let body = read_whole(answer.body, self.pace().idle_timeout, LARGEST_BODY).await?;
        drop(permit);
        if is_html(&answer.headers, &body) && !call.also.contains(&answer.status) {
            return Err(classify(call.area, answer.status, &answer.headers, &body));
        }
        Ok(Reply { status: answer.status, headers: answer.headers, body })
    }

    async fn ask_open(&self, call: &Call, session: &Session) -> Result<Opened, Fault> {
        let _permit = self.admit(call).await?;
        let answer = self.ask(call, session).await?;
        if is_html(&answer.headers, b"") {
            return Err(classify(call.area, answer.status, &answer.headers, b""));
        }
        Ok(answer)
    }

    async fn admit(&self, call: &Call) -> Result<super::allowance::Permit, Fault> {
        let api = if call.area.is_bulk() { "bulk" } else { "rest" };
        let permit = self.governor().admit(api, self.purpose(), !call.open_to_all, self.pace()).await?;
        if !call.open_to_all {
            self.tally();
        }
        Ok(permit)
    }

    /// Does what can be done about a fault; Ok: ask again.
    async fn cure(&self, call: &Call, session: &Session, fault: Fault, efforts: &mut Efforts) -> Result<()> {
        tracing::debug!(
            what = call.what,
            error = fault.message,
            salesforce_code = fault.error_code,
            request_id = fault.request_id,
            "a call failed"
        );
        let failed = |fault: Fault| Err(fault.into_error(&call.what));
        efforts.unreachable = if fault.unreachable { efforts.unreachable + 1 } else { 0 };
        match fault.cure {
            Cure::None => failed(fault),
            // Somebody logged in since the first page: nothing is wrong with the new session, and a login for each
            // open query would end the sessions of all others.
            Cure::Refresh if call.locator_of.is_some_and(|owner| owner != session.number) => {
                Err(locator_gone(call))
            }
            Cure::Refresh if efforts.renewed || call.open_to_all => failed(fault),
            Cure::Refresh => {
                efforts.renewed = true;
                self.renew(session).await.map_err(|fault| fault.into_error("logging in again"))?;
                match call.locator_of {
                    Some(_) => Err(locator_gone(call)),
                    None => Ok(()),
                }
            }
            Cure::Allowance => {
                self.governor().refused(self.pace());
                if self.pace().wait_for_allowance { Ok(()) } else { failed(fault) }
            }
            Cure::Maintenance => {
                let asked = fault.retry_after;
                let error = fault.into_error(&call.what);
                let (waiting, _) = efforts.maintenance.get_or_insert_with(|| {
                    (Backoff::through_maintenance(self.pace()), self.maintenance().met(&error))
                });
                let Some(pause) = waiting.next(asked) else {
                    return Err(error);
                };
                tokio::time::sleep(pause).await;
                Ok(())
            }
            Cure::FewTimes if efforts.few >= FEW => failed(efforts.backoff.gave_up(fault)),
            Cure::Again | Cure::FewTimes => {
                efforts.few += u32::from(fault.cure == Cure::FewTimes);
                let Some(pause) = efforts.backoff.next(fault.retry_after) else {
                    return failed(efforts.backoff.gave_up(fault));
                };
                tracing::warn!(
                    what = call.what,
                    code = fault.kind.code(),
                    error = fault.message,
                    request_id = fault.request_id,
                    again_in = ?pause,
                    hint = fault.advice(),
                    "a call failed, trying again"
                );
                tokio::time::sleep(pause).await;
                // The org may have moved: a new login says where to.
                if efforts.unreachable >= 3 && !efforts.renewed && self.sessions().can_renew() {
                    efforts.renewed = true;
                    if let Err(fault) = self.renew(session).await {
                        tracing::warn!(error = fault.message, "logging in again failed as well");
                    }
                }
                Ok(())
            }
        }
    }

    async fn renew(&self, session: &Session) -> Result<(), Fault> {
        self.sessions().renew(session.number, self.pace()).await.map(drop)
    }

    /// One request, one answer; a success keeps its body open.
    async fn ask(&self, call: &Call, session: &Session) -> Result<Opened, Fault> {
        let host = session.origin.split_once("://").map_or(session.origin.as_str(), |(_, host)| host);
        let mut request = self
            .http()
            .request(call.method.clone(), format!("{}{}", session.origin, call.path))
            .header(ACCEPT, call.accept);
        if !call.open_to_all {
            request = request.header(AUTHORIZATION, session.authorization.clone());
        }
        for (name, value) in &call.headers {
            request = request.header(*name, value);
        }
        if let Some(body) = &call.body {
            request = request.header(CONTENT_TYPE, "application/json; charset=UTF-8").body(body.clone());
        }
        let response = timeout(self.pace().answer_timeout, request.send())
            .await
            .map_err(|_| {
                Fault::new(Kind::NetworkFailed, Cure::Again, format!("{host} did not answer in time"))
            })?
            .map_err(|error| Fault::network(&error.without_url(), host))?;
        let (status, headers) = (response.status(), response.headers().clone());
        self.heard(&headers);
        if status.is_success() || call.also.contains(&status) {
            if !call.open_to_all {
                self.governor().succeeded();
            }
            return Ok(Opened { status, headers, body: response });
        }
        // A refusal counts even if its explanation breaks off.
        let body =
            read_whole(response, self.pace().idle_timeout, LARGEST_ERROR_BODY).await.unwrap_or_default();
        Err(classify(call.area, status, &headers, &body))
    }
}

/// A locator dies with its session: the new one would be refused again and again.
fn locator_gone(call: &Call) -> Error {
    Error::new(Kind::QueryLocatorGone, "the session that the query's pages belong to is over")
        .during(&call.what)
}

/// The next piece of a body; a body that breaks or stands still is cut short.
pub(super) async fn next_piece(body: &mut Response, idle: Duration) -> Result<Option<Bytes>, Fault> {
    match timeout(idle, body.chunk()).await {
        Ok(Ok(piece)) => Ok(piece),
        Ok(Err(error)) => {
            let broken = Fault::network(&error.without_url(), "Salesforce");
            Err(Fault::truncated(format!("the answer broke off: {}", broken.message)))
        }
        Err(_) => Err(Fault::truncated(format!("the answer stood still for {} s", idle.as_secs()))),
    }
}

pub(super) async fn read_whole(body: Response, idle: Duration, largest: usize) -> Result<Bytes, Fault> {
    read_at_most(body, idle, largest).await?.ok_or_else(|| {
        let message = format!("the answer is larger than {} MiB", largest >> 20);
        Fault::new(Kind::ReplyUnreadable, Cure::None, message)
    })
}

/// None: it is larger, and the rest of it is left.
async fn read_at_most(mut body: Response, idle: Duration, most: usize) -> Result<Option<Bytes>, Fault> {
    let Some(first) = next_piece(&mut body, idle).await? else { return Ok(Some(Bytes::new())) };
    let Some(second) = next_piece(&mut body, idle).await? else {
        return Ok((first.len() <= most).then_some(first));
    };
    let mut whole = BytesMut::with_capacity(((first.len() + second.len()) * 2).min(most));
    let mut piece = first;
    let mut next = Some(second);
    loop {
        if whole.len() + piece.len() > most {
            return Ok(None);
        }
        whole.extend_from_slice(&piece);
        match next.take() {
            Some(second) => piece = second,
            None => match next_piece(&mut body, idle).await? {
                Some(further) => piece = further,
                None => return Ok(Some(whole.freeze())),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn pauses_grow_and_end() {
        let pace = Pace::default();
        let mut backoff = Backoff::new(&pace);
        let (mut total, mut last) = (Duration::ZERO, Duration::ZERO);
        while let Some(pause) = backoff.next(None) {
            assert!(pause <= pace.longest_pause && pause >= pace.first_pause / 2);
            total += pause;
            last = pause;
            tokio::time::advance(pause).await;
        }
        assert!(total <= pace.give_up_after && total > pace.give_up_after / 2, "{total:?}");
        assert!(last >= pace.longest_pause / 2, "{last:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn an_asked_pause_is_honoured_beyond_our_patience_but_not_for_ever() {
        let pace = Pace { give_up_after: Duration::from_secs(10), ..Pace::default() };
        let mut backoff = Backoff::new(&pace);
        let asked = Duration::from_secs(60);
        assert_eq!(backoff.next(Some(asked)), Some(asked));
        tokio::time::advance(asked).await;
        assert_eq!(backoff.next(Some(asked)), None);
    }
}
