//! Refresh tokens that are replaced at each use: what is stored when, and what an interruption leaves.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;

use super::*;
use crate::config::{App, Auth, SalesforceSettings, Secret, TokenPlace};
use crate::salesforce::Pace;
use crate::salesforce::scripted::{self, Org};

const SEED: &str = "5AepSeed";

/// As quick, but on a busy machine everything may take its time.
pub(super) fn quick() -> Pace {
    Pace {
        answer_timeout: Duration::from_secs(60),
        idle_timeout: Duration::from_secs(60),
        give_up_after: Duration::from_secs(60),
        ..scripted::quick()
    }
}

/// A folder of its own that goes with the value.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("sf2kafka-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn store(&self) -> PathBuf {
        self.0.join("crm.json")
    }

    fn kept(&self) -> serde_json::Value {
        serde_json::from_slice(&std::fs::read(self.store()).unwrap()).unwrap()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn settings(org: &Org, store: Option<PathBuf>) -> SalesforceSettings {
    let mut settings = org.settings();
    settings.auth = Auth::RefreshToken {
        app: App { client_id: "3MVG9".to_owned(), client_secret: None },
        refresh_token: Secret::new(SEED),
        token_store: store.map(TokenPlace::File),
    };
    settings
}

/// What a refresh gives: session number and the next refresh token.
pub(super) fn rotated(org: &Org, session: u32, next: &str) -> Reply {
    let answer = serde_json::json!({
        "access_token": format!("T{session}"), "refresh_token": next, "instance_url": org.origin,
        "id": "https://login.salesforce.com/id/00D5g00000AbCdEEAV/0055g00000XyZzzAAF",
        "scope": "refresh_token api", "token_type": "Bearer",
    });
    reply(200, answer.to_string())
}

fn refused(description: &str) -> Reply {
    let answer = serde_json::json!({"error": "invalid_grant", "error_description": description});
    reply(400, answer.to_string())
}

pub(super) fn sent(org: &Org) -> Vec<String> {
    let token = |body: &str| {
        url::form_urlencoded::parse(body.as_bytes())
            .find(|(name, _)| name == "refresh_token")
            .map(|(_, token)| token.into_owned())
            .unwrap_or_default()
    };
    org.requests("oauth2/token").iter().map(|request| token(&request.body)).collect()
}

fn with_data(org: &Org) {
    org.on("/query", [page(&["001A"], 1, None)]);
    org.on("/limits", [reply(200, "{}")]);
}

/// Waits for what another task does, a minute at most.
pub(super) async fn until(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = std::time::Instant::now() + Duration::from_secs(60);
    while !done() {
        assert!(std::time::Instant::now() < deadline, "never: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

#[tokio::test]
async fn each_refresh_sends_the_newest_token_and_a_restart_needs_none() {
    let (org, folder) = (Org::start().await, Folder::new("chain"));
    with_data(&org);
    org.on_login([rotated(&org, 1, "5AepSecond"), rotated(&org, 2, "5AepThird")]);
    let settings = settings(&org, Some(folder.store()));
    let client = Client::connect_with(&settings, quick()).await.unwrap();
    assert_eq!(folder.kept()["refresh_token"], "5AepSecond");
    org.expire();
    assert_eq!(all_ids(&client).await.unwrap(), ["001A"]);
    assert_eq!(sent(&org), [SEED, "5AepSecond"]);
    assert_eq!(
        (&folder.kept()["refresh_token"], &folder.kept()["rotates"]),
        (&"5AepThird".into(), &true.into())
    );

    let restarted = Client::connect_with(&settings, quick()).await.unwrap();
    assert_eq!(all_ids(&restarted).await.unwrap(), ["001A"]);
    assert_eq!(sent(&org).len(), 2, "the session that was kept is still good");
}

#[tokio::test]
async fn a_kept_session_that_is_over_is_renewed_at_the_start() {
    let (org, folder) = (Org::start().await, Folder::new("over"));
    with_data(&org);
    let (settings, other) = (settings(&org, Some(folder.store())), Org::start().await);
    with_data(&other);
    org.on_login([rotated(&org, 1, "5AepSecond"), rotated(&other, 2, "5AepThird")]);
    drop(Client::connect_with(&settings, quick()).await.unwrap());
    org.expire();
    other.expire();
    let client = Client::connect_with(&settings, quick()).await.unwrap();
    assert_eq!(client.instance(), other.origin, "the place of the org is the newest answer's");
    assert_eq!(sent(&org), [SEED, "5AepSecond"]);
}

#[tokio::test]
async fn who_waited_takes_what_the_other_got() {
    let (org, folder) = (Org::start().await, Folder::new("waited"));
    with_data(&org);
    let gate = Arc::new(Semaphore::new(0));
    org.on_login([rotated(&org, 1, "5AepSecond"), rotated(&org, 2, "5AepThird").held_by(&gate)]);
    let settings = settings(&org, Some(folder.store()));
    // As two processes: each has a session of its own, the file is all they share.
    let one = Client::connect_with(&settings, quick()).await.unwrap();
    let other = Client::connect_with(&settings, quick()).await.unwrap();
    org.expire();
    let first = tokio::spawn(async move { all_ids(&one).await });
    until("the first refresh is under way", || sent(&org).len() == 2).await;
    let second = tokio::spawn(async move { all_ids(&other).await });
    until("the second met its 401", || org.requests("/query").len() == 2).await;
    gate.add_permits(1);
    assert_eq!(first.await.unwrap().unwrap(), ["001A"]);
    assert_eq!(second.await.unwrap().unwrap(), ["001A"]);
    assert_eq!(sent(&org), [SEED, "5AepSecond"]);
}

#[tokio::test]
async fn a_caller_that_goes_away_does_not_take_the_new_token_along() {
    let (org, folder) = (Org::start().await, Folder::new("dropped"));
    with_data(&org);
    let gate = Arc::new(Semaphore::new(0));
    org.on_login([rotated(&org, 1, "5AepSecond"), rotated(&org, 2, "5AepThird").held_by(&gate)]);
    let client = Client::connect_with(&settings(&org, Some(folder.store())), quick()).await.unwrap();
    org.expire();
    let calling = tokio::spawn({
        let client = client.clone();
        async move { all_ids(&client).await }
    });
    until("the refresh is under way", || sent(&org).len() == 2).await;
    assert!(folder.kept()["asked"]["with"].is_string(), "it was marked before it was sent");
    calling.abort();
    let _ = calling.await;
    gate.add_permits(1);
    assert_eq!(all_ids(&client).await.unwrap(), ["001A"]);
    assert_eq!(sent(&org), [SEED, "5AepSecond"], "the answer was stored, nothing was asked again");
    assert_eq!(folder.kept()["refresh_token"], "5AepThird");
    assert!(folder.kept().get("asked").is_none());
}

#[test]
fn a_runtime_that_ends_waits_for_the_refresh() {
    let folder = Folder::new("ending");
    let serving = tokio::runtime::Runtime::new().unwrap();
    let gate = Arc::new(Semaphore::new(0));
    let org = serving.block_on(Org::start());
    with_data(&org);
    org.on_login([rotated(&org, 1, "5AepSecond"), rotated(&org, 2, "5AepThird").held_by(&gate)]);
    let settings = settings(&org, Some(folder.store()));
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let client = runtime.block_on(Client::connect_with(&settings, quick())).unwrap();
    org.expire();
    runtime.spawn(async move { all_ids(&client).await });
    serving.block_on(until("the refresh is under way", || sent(&org).len() == 2));
    let ending = std::thread::spawn(move || drop(runtime));
    gate.add_permits(1);
    ending.join().unwrap();
    assert_eq!(folder.kept()["refresh_token"], "5AepThird");
}

#[tokio::test]
async fn an_interrupted_refresh_tries_the_same_token_again() {
    let (org, folder) = (Org::start().await, Folder::new("interrupted"));
    with_data(&org);
    // The answer breaks off; Salesforce had not come to exchange the token.
    org.on_login([rotated(&org, 1, "5AepLost").cut_at(20), rotated(&org, 1, "5AepSecond")]);
    Client::connect_with(&settings(&org, Some(folder.store())), quick()).await.unwrap();
    assert_eq!(sent(&org), [SEED, SEED]);
    assert_eq!(folder.kept()["refresh_token"], "5AepSecond");
}

#[tokio::test]
async fn a_refresh_whose_answer_is_lost_says_so_and_asks_for_a_login() {
    let (org, folder) = (Org::start().await, Folder::new("lost"));
    with_data(&org);
    org.on_login([rotated(&org, 1, "5AepLost").cut_at(20), refused("expired access/refresh token")]);
    let error = Client::connect_with(&settings(&org, Some(folder.store())), quick()).await.unwrap_err();
    assert_eq!(error.kind(), Kind::LoginNeeded);
    let words = error.to_string();
    assert!(words.contains("the refresh begun at 20") && words.contains("what it gave is lost"), "{words}");
    assert!(!words.contains("5Aep"), "{words}");
}

#[tokio::test]
async fn a_token_that_is_over_without_an_interruption_is_told_as_that() {
    let (org, folder) = (Org::start().await, Folder::new("expired"));
    org.on_login([refused("expired access/refresh token")]);
    let error = Client::connect_with(&settings(&org, Some(folder.store())), quick()).await.unwrap_err();
    assert_eq!(error.kind(), Kind::LoginNeeded);
    assert!(error.to_string().contains("expired, revoked, or was used elsewhere"), "{error}");
    assert_eq!(sent(&org).len(), 1, "it is not tried twice");
}

#[tokio::test]
async fn a_refusal_for_another_reason_leaves_no_mark() {
    let (org, folder) = (Org::start().await, Folder::new("inactive"));
    org.on_login([refused("inactive user")]);
    let error = Client::connect_with(&settings(&org, Some(folder.store())), quick()).await.unwrap_err();
    assert_eq!(error.kind(), Kind::LoginRefused);
    assert!(folder.kept().get("asked").is_none(), "{:#}", folder.kept());
}

#[tokio::test]
async fn what_the_store_did_not_take_is_stored_before_anything_else_is_asked() {
    let (org, folder) = (Org::start().await, Folder::new("unsaved"));
    with_data(&org);
    let gate = Arc::new(Semaphore::new(0));
    org.on_login([rotated(&org, 1, "5AepSecond").held_by(&gate)]);
    let http = crate::salesforce::client::login_http(&org.settings()).unwrap();
    let login =
        crate::salesforce::login::Login::new(settings(&org, Some(folder.store())), http, None).unwrap();
    let asking = tokio::spawn({
        let login = Arc::clone(&login);
        async move { login.grant(None, &quick()).await.map(drop) }
    });
    until("the refresh is under way", || sent(&org).len() == 1).await;
    let obstacle = folder.0.join("crm.json.new");
    std::fs::create_dir(&obstacle).unwrap();
    gate.add_permits(1);
    let fault = asking.await.unwrap().unwrap_err();
    assert_eq!(fault.kind, Kind::TokenStoreFailed);
    assert_eq!(folder.kept()["refresh_token"], SEED);
    std::fs::remove_dir(&obstacle).unwrap();
    let grant = login.grant(Some(&Secret::new("T0")), &quick()).await.unwrap();
    assert_eq!(grant.token.expose(), "T1");
    assert_eq!(folder.kept()["refresh_token"], "5AepSecond");
    assert_eq!(sent(&org), [SEED]);
}

#[tokio::test]
async fn a_new_token_in_the_configuration_counts_more_than_what_came_of_the_old_one() {
    let (org, folder) = (Org::start().await, Folder::new("reseeded"));
    with_data(&org);
    org.on_login([rotated(&org, 1, "5AepSecond"), rotated(&org, 1, "5AepOfNew")]);
    let mut settings = settings(&org, Some(folder.store()));
    drop(Client::connect_with(&settings, quick()).await.unwrap());
    if let Auth::RefreshToken { refresh_token, .. } = &mut settings.auth {
        *refresh_token = Secret::new("5AepNewSeed");
    }
    drop(Client::connect_with(&settings, quick()).await.unwrap());
    assert_eq!(sent(&org), [SEED, "5AepNewSeed"]);
    assert_eq!(folder.kept()["refresh_token"], "5AepOfNew");
}

#[tokio::test]
async fn without_a_store_a_token_that_stays_is_fine_and_one_that_is_replaced_is_refused() {
    let org = Org::start().await;
    with_data(&org);
    org.on_login([rotated(&org, 1, SEED), rotated(&org, 2, "5AepSecond")]);
    let client = Client::connect_with(&settings(&org, None), quick()).await.unwrap();
    org.expire();
    let error = all_ids(&client).await.unwrap_err();
    assert_eq!(error.kind(), Kind::TokenStoreFailed);
    assert!(error.to_string().contains("`token_store: none` has no place for the new one"), "{error}");
    assert!(error.advice().contains("token_store"), "{}", error.advice());
}

#[tokio::test]
async fn nobody_logged_in_yet_and_a_login_of_another_app_ask_for_a_login() {
    let (org, folder) = (Org::start().await, Folder::new("nobody"));
    let mut settings = org.settings();
    let app = |id: &str| App { client_id: id.to_owned(), client_secret: None };
    settings.auth = Auth::AuthorizationCode {
        app: app("3MVG9"),
        callback_url: None,
        pkce: true,
        token_store: TokenPlace::File(folder.store()),
    };
    let error = Client::connect_with(&settings, quick()).await.unwrap_err();
    assert_eq!(error.kind(), Kind::LoginNeeded);
    assert!(error.to_string().contains("nobody has logged in yet"), "{error}");
    assert_eq!(error.advice(), "log in: `sf2kafka login -c FILE`");

    with_data(&org);
    org.on_login([rotated(&org, 1, "5AepSecond")]);
    drop(Client::connect_with(&self::settings(&org, Some(folder.store())), quick()).await.unwrap());
    if let Auth::AuthorizationCode { app: of_settings, .. } = &mut settings.auth {
        *of_settings = app("3MVGother");
    }
    let error = Client::connect_with(&settings, quick()).await.unwrap_err();
    assert_eq!(error.kind(), Kind::LoginNeeded);
    assert!(error.to_string().contains("belongs to another app"), "{error}");
    assert_eq!(sent(&org).len(), 1);
}
