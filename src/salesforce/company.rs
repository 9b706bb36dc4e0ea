//! Small polls in company: what several objects ask at the same time goes as one call.
//!
//! Comes in: the first pages of polls, by their addresses. Goes out: to each its own answer. At most five queries share
//! a composite call, which counts as one (`rest.md` 3.8); who meets nobody within a moment asks alone. An error of one
//! subrequest is that object's own; a call that fails as a whole is everybody's. Whatever needs more than one try is asked
//! again alone. Never: a subrequest that is not a read.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::Client;
use super::query::{Composite, QUERIES_PER_CALL};
use crate::error::{Error, Kind, Reaction};

/// How long a poll waits for others. All polls of a process are due on one grid: they come within milliseconds.
const WAIT: Duration = Duration::from_millis(50);

/// Objects that are followed.
#[derive(Debug, Default)]
pub(super) struct Seats {
    following: AtomicUsize,
    polling: AtomicUsize,
    /// Polls an hour that the settings ask for.
    polls: AtomicU64,
}

impl Seats {
    pub fn following(&self) -> usize {
        self.following.load(Ordering::Relaxed)
    }

    pub fn polling(&self) -> usize {
        self.polling.load(Ordering::Relaxed)
    }

    /// `polls`: it is polled now; `interval`: or may come to be, so far apart.
    pub fn seat(self: &Arc<Self>, polls: bool, interval: Duration) -> Seat {
        let polls_an_hour = (3_600.0 / interval.as_secs_f64().max(1e-3)) as u64;
        self.following.fetch_add(1, Ordering::Relaxed);
        self.polling.fetch_add(usize::from(polls), Ordering::Relaxed);
        self.polls.fetch_add(polls_an_hour, Ordering::Relaxed);
        Seat { seats: self.clone(), polls, polls_an_hour }
    }

    /// Polls that all objects would make in a day, also those that are subscribed to and could come to need them.
    pub fn polls_a_day(&self, day: Duration) -> f64 {
        self.polls.load(Ordering::Relaxed) as f64 * day.as_secs_f64() / 3_600.0
    }
}

/// Who waits for company now.
pub(super) struct Company {
    seats: Arc<Seats>,
    waiting: Mutex<Vec<Guest>>,
    /// The grid begins here.
    since: Instant,
}

struct Guest {
    path: String,
    answer: oneshot::Sender<Answer>,
}

/// What company came to.
pub(super) enum Answer {
    /// Nobody else came, or the answer is for the plain call to find out.
    Alone,
    /// The subrequest's own.
    Own(OwnAnswer),
    Failed(Error),
}

pub(super) struct OwnAnswer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
    /// The session that pages behind it belong to.
    pub session: u64,
}

/// An object that is followed, until it is dropped.
pub struct Seat {
    seats: Arc<Seats>,
    polls: bool,
    polls_an_hour: u64,
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.seats.following.fetch_sub(1, Ordering::Relaxed);
        self.seats.polling.fetch_sub(usize::from(self.polls), Ordering::Relaxed);
        self.seats.polls.fetch_sub(self.polls_an_hour, Ordering::Relaxed);
    }
}

impl std::fmt::Debug for Seat {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Seat")
    }
}

impl Company {
    pub fn new(seats: Arc<Seats>) -> Self {
        Self { seats, waiting: Mutex::default(), since: Instant::now() }
    }

    pub fn seat(&self, polls: bool, interval: Duration) -> Seat {
        self.seats.seat(polls, interval)
    }

    /// The grid's last moment before `at`, for polls `interval` apart; `at` itself if that is past.
    pub fn on_grid(&self, at: Instant, interval: Duration) -> Instant {
        let (since, interval) = (at.duration_since(self.since).as_nanos(), interval.as_nanos());
        let past = since.checked_rem(interval).unwrap_or(0);
        let on_grid = at - Duration::from_nanos(u64::try_from(past).unwrap_or(0));
        if on_grid > Instant::now() { on_grid } else { at }
    }

    /// One first page, together with whoever else asks now.
    pub async fn ask(&self, client: &Client, path: String) -> Answer {
        let most = self.seats.polling().min(QUERIES_PER_CALL);
        if most < 2 {
            return Answer::Alone;
        }
        let (answer, answered) = oneshot::channel();
        {
            let mut waiting = self.waiting();
            waiting.push(Guest { path, answer });
            let client = client.clone();
            if waiting.len() >= most {
                let guests = std::mem::take(&mut *waiting);
                tokio::spawn(async move { serve(&client, guests).await });
            } else if waiting.len() == 1 {
                // Not by the one that came first: it may be dropped while others wait.
                tokio::spawn(async move {
                    tokio::time::sleep(WAIT).await;
                    let guests = std::mem::take(&mut *client.company().waiting());
                    serve(&client, guests).await;
                });
            }
        }
        answered.await.unwrap_or(Answer::Alone)
    }

    fn waiting(&self) -> MutexGuard<'_, Vec<Guest>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn serve(client: &Client, mut guests: Vec<Guest>) {
    // Whoever was dropped meanwhile asks again later.
    guests.retain(|guest| !guest.answer.is_closed());
    if guests.len() < 2 {
        for guest in guests {
            let _ = guest.answer.send(Answer::Alone);
        }
        return;
    }
    let paths: Vec<String> = guests.iter().map(|guest| guest.path.clone()).collect();
    let call = client.composite_call(&format!("polling {} objects at once", paths.len()), &paths);
    let answers = client
        .fetch_with_session(&call, |reply| {
            let composite = Composite::read(&reply)?;
            let own = (0..paths.len()).map(|place| {
                let answer = composite.answer(place)?;
                let status = StatusCode::from_u16(answer.status).ok()?;
                let body = reply.body.slice_ref(answer.body.get().as_bytes());
                Some((status, reply.headers.clone(), body))
            });
            Ok(own.collect::<Vec<_>>())
        })
        .await;
    match answers {
        Ok((answers, session)) => {
            for (guest, answer) in guests.into_iter().zip(answers) {
                let answer = answer.map_or(Answer::Alone, |(status, headers, body)| {
                    Answer::Own(OwnAnswer { status, headers, body, session })
                });
                let _ = guest.answer.send(answer);
            }
        }
        Err(error) => {
            for guest in guests {
                let answer =
                    if is_about_the_call(&error) { Answer::Alone } else { Answer::Failed(again(&error)) };
                let _ = guest.answer.send(answer);
            }
        }
    }
}

/// Whether Salesforce refused the composite call itself: plain calls may be answered.
fn is_about_the_call(error: &Error) -> bool {
    error.reaction() == Reaction::StopObject || error.kind() == Kind::ReplyUnreadable
}

fn again(error: &Error) -> Error {
    Error::new(error.kind(), error.context()).hint(error.advice())
}
