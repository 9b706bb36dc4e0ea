//! A login that instances share: what a lost turn, a newer login and a store that takes nothing do to a refresh.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::Semaphore;

use super::refreshes::{quick, rotated, sent, until};
use super::*;
use crate::Error;
use crate::config::{App, Auth, SalesforceSettings, Secret, TokenPlace};
use crate::salesforce::client::login_http;
use crate::salesforce::login::Login;
use crate::salesforce::scripted::Org;
use crate::salesforce::{SharedLock, SharedStore};

#[derive(Default)]
struct Shelf {
    contents: Option<Vec<u8>>,
    held: bool,
    /// So many turns are lost; who has them instead leaves this login.
    lost: Vec<Option<Value>>,
    /// So many writes fail.
    failing: usize,
}

#[derive(Clone, Default)]
struct Shared(Arc<(Mutex<Shelf>, Condvar)>);

impl Shared {
    fn with(login: Value) -> Self {
        let shared = Self::default();
        shared.shelf().contents = Some(login.to_string().into_bytes());
        shared
    }

    fn shelf(&self) -> MutexGuard<'_, Shelf> {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn kept(&self) -> Value {
        serde_json::from_slice(self.shelf().contents.as_ref().unwrap()).unwrap()
    }

    fn put(&self, login: &Value) {
        self.shelf().contents = Some(login.to_string().into_bytes());
    }
}

impl SharedStore for Shared {
    fn place(&self) -> String {
        "the shelf".to_owned()
    }

    fn read(&self) -> Result<Option<Vec<u8>>, Error> {
        Ok(self.shelf().contents.clone())
    }

    fn lock(&self) -> Result<Box<dyn SharedLock>, Error> {
        let (shelf, waited) =
            self.0.1.wait_timeout_while(self.shelf(), Duration::from_secs(60), |shelf| shelf.held).unwrap();
        assert!(!waited.timed_out(), "the turn was never given back");
        let mut shelf = shelf;
        shelf.held = true;
        Ok(Box::new(Turn(self.clone())))
    }
}

struct Turn(Shared);

impl SharedLock for Turn {
    fn read(&mut self) -> Result<Option<Vec<u8>>, Error> {
        SharedStore::read(&self.0)
    }

    fn mark(&mut self, contents: &[u8]) -> Result<bool, Error> {
        let mut shelf = self.0.shelf();
        if let Some(others) = shelf.lost.pop() {
            if let Some(login) = others {
                shelf.contents = Some(login.to_string().into_bytes());
            }
            return Ok(false);
        }
        shelf.contents = Some(contents.to_vec());
        Ok(true)
    }

    fn write(&mut self, contents: &[u8]) -> Result<(), Error> {
        let mut shelf = self.0.shelf();
        if shelf.failing > 0 {
            shelf.failing -= 1;
            return Err(Error::new(Kind::KafkaUnavailable, "nothing is taken").hint("wait for the brokers"));
        }
        shelf.contents = Some(contents.to_vec());
        Ok(())
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.shelf().held = false;
        self.0.0.1.notify_all();
    }
}

fn login(org: &Org, refresh: &str, session: &str) -> Value {
    json!({
        "format": 1, "client_id": "3MVG9", "refresh_token": refresh, "rotates": true, "written_at": "",
        "access": {"token": session, "instance_url": org.origin, "organization_id": "00D5g00000AbCdEEAV"},
    })
}

fn settings(org: &Org) -> SalesforceSettings {
    let mut settings = org.settings();
    settings.auth = Auth::AuthorizationCode {
        app: App { client_id: "3MVG9".to_owned(), client_secret: None },
        callback_url: None,
        pkce: true,
        token_store: TokenPlace::Kafka { key: Secret::new("unused") },
    };
    settings
}

fn opened(org: &Org, shared: &Shared) -> Arc<Login> {
    let settings = settings(org);
    let http = login_http(&settings).unwrap();
    Login::new(settings, http, Some(Arc::new(shared.clone()))).unwrap()
}

/// The session after T0 was refused; an error: its kind.
async fn renewed(login: &Arc<Login>) -> Result<String, Kind> {
    let granted = login.grant(Some(&Secret::new("T0")), &quick()).await;
    granted.map(|grant| grant.token.expose().to_owned()).map_err(|fault| fault.kind)
}

#[tokio::test]
async fn a_turn_that_is_lost_before_the_mark_sends_nothing_and_takes_what_the_other_got() {
    let org = Org::start().await;
    let shared = Shared::with(login(&org, "5AepOld", "T0"));
    shared.shelf().lost = vec![Some(login(&org, "5AepOther", "T7"))];
    assert_eq!(renewed(&opened(&org, &shared)).await.unwrap(), "T7");
    assert_eq!(sent(&org).len(), 0);
    assert_eq!(shared.kept()["refresh_token"], "5AepOther");
    assert!(!shared.shelf().held);
}

#[tokio::test]
async fn turns_that_are_lost_again_and_again_end_in_an_error_and_nothing_is_sent() {
    let org = Org::start().await;
    let shared = Shared::with(login(&org, "5AepOld", "T0"));
    shared.shelf().lost = vec![None; 3];
    assert_eq!(renewed(&opened(&org, &shared)).await.unwrap_err(), Kind::TokenStoreFailed);
    assert_eq!(sent(&org).len(), 0);
    org.on_login([rotated(&org, 1, "5AepSecond")]);
    shared.shelf().lost = vec![None; 2];
    assert_eq!(renewed(&opened(&org, &shared)).await.unwrap(), "T1");
    assert_eq!(sent(&org), ["5AepOld"]);
}

/// What stands there while the request is under way, and what came of it.
async fn meanwhile(change: impl FnOnce(&Org, &Shared)) -> (Result<String, Kind>, Value) {
    let org = Org::start().await;
    let gate = Arc::new(Semaphore::new(0));
    org.on_login([rotated(&org, 1, "5AepSecond").held_by(&gate)]);
    let shared = Shared::with(login(&org, "5AepOld", "T0"));
    let opened = opened(&org, &shared);
    let asking = tokio::spawn(async move { renewed(&opened).await });
    until("the refresh is under way", || sent(&org).len() == 1).await;
    assert!(shared.kept()["asked"].is_object(), "it was marked before it was sent");
    change(&org, &shared);
    gate.add_permits(1);
    let outcome = asking.await.unwrap();
    (outcome, shared.kept())
}

#[tokio::test]
async fn a_late_answer_gives_way_to_a_login_that_somebody_made_meanwhile() {
    let (outcome, kept) = meanwhile(|org, shared| shared.put(&login(org, "5AepPerson", "T7"))).await;
    assert_eq!(outcome.unwrap(), "T7");
    assert_eq!(kept["refresh_token"], "5AepPerson");
}

#[tokio::test]
async fn a_late_answer_is_stored_over_the_mark_of_who_followed() {
    let (outcome, kept) = meanwhile(|_, shared| {
        let mut kept = shared.kept();
        kept["asked"]["at"] = "2026-01-01T00:00:00Z".into();
        shared.put(&kept);
    })
    .await;
    assert_eq!(outcome.unwrap(), "T1");
    assert_eq!(kept["refresh_token"], "5AepSecond");
    assert!(kept.get("asked").is_none());
}

/// An answer that the store does not take at first.
async fn untaken() -> (Org, Shared, Arc<Login>) {
    let org = Org::start().await;
    org.on_login([rotated(&org, 1, "5AepSecond")]);
    let shared = Shared::with(login(&org, "5AepOld", "T0"));
    let opened = opened(&org, &shared);
    shared.shelf().failing = 2;
    for _ in 0..2 {
        assert_eq!(renewed(&opened).await.unwrap_err(), Kind::KafkaUnavailable);
        assert!(shared.shelf().held, "nobody else may try the old token");
    }
    (org, shared, opened)
}

#[tokio::test]
async fn an_answer_that_was_not_taken_keeps_the_turn_until_it_is_stored() {
    let (org, shared, opened) = untaken().await;
    assert_eq!(renewed(&opened).await.unwrap(), "T1");
    assert_eq!(shared.kept()["refresh_token"], "5AepSecond");
    assert!(!shared.shelf().held);
    assert_eq!(sent(&org), ["5AepOld"]);
}

#[tokio::test]
async fn what_is_stored_later_does_not_replace_a_newer_login() {
    let (org, shared, opened) = untaken().await;
    shared.put(&login(&org, "5AepPerson", "T7"));
    assert_eq!(renewed(&opened).await.unwrap(), "T7");
    assert_eq!(shared.kept()["refresh_token"], "5AepPerson");
    assert!(!shared.shelf().held);
}

#[tokio::test]
async fn what_a_store_advises_reaches_the_user() {
    let org = Org::start().await;
    org.on_login([rotated(&org, 1, "5AepSecond")]);
    let shared = Shared::with(login(&org, "5AepOld", "T0"));
    shared.shelf().failing = 1;
    let opened = opened(&org, &shared);
    let fault = opened.grant(Some(&Secret::new("T0")), &quick()).await.map(drop).unwrap_err();
    assert_eq!(fault.into_error("login").advice(), "wait for the brokers");
}
