//! What was issued: grants, sessions, codes, and what was asked of the token endpoint.
//!
//! Comes in: logins that were found good, uses of tokens, ends. Goes out: new tokens, and whether an old one still counts. It
//! decides no policy and writes no answer.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE;
use serde_json::{Value as Json, json};
use tokio::sync::watch;

use super::app::{App, User};
use super::refusal::Orders;
use crate::http::SimulatorConfig;

/// A code serves so long.
const CODE_LIFE_MS: i64 = 15 * 60 * 1_000;
/// Token requests that are remembered.
const MOST_REQUESTS: usize = 10_000;

/// Where a token request can be held up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    Effect,
    Reply,
}

#[derive(Clone, Copy, Default)]
pub(crate) struct Pause {
    pub before: Duration,
    pub after: Duration,
}

pub(crate) struct Logins {
    pub app: App,
    pub user: User,
    pub lifetime: Duration,
    pub orders: Orders,
    pub pause: Pause,
    pub held: watch::Sender<Option<Stage>>,
    pub requests: Vec<TokenRequest>,
    sessions: HashMap<String, Session>,
    grants: Vec<Grant>,
    codes: HashMap<String, Code>,
    /// Cookies of browsers that logged in.
    browsers: BTreeSet<String>,
    requested: u64,
    issued: u64,
}

/// What a user allowed an app: it has a refresh token, and ends with it.
pub(crate) struct Grant {
    pub id: u64,
    pub scopes: Vec<String>,
    /// The refresh token that counts, and those it replaced.
    refresh: Option<String>,
    replaced: Vec<String>,
    pub busy: bool,
    used_ms: i64,
    pub refreshes: u64,
}

#[derive(Clone, Debug)]
pub(crate) struct Session {
    pub grant: Option<u64>,
    pub scopes: Vec<String>,
    issued_at: SystemTime,
    used_at: Instant,
    expired: bool,
}

pub(crate) struct Code {
    pub scopes: Vec<String>,
    pub redirect_uri: String,
    pub challenge: Option<String>,
    pub nonce: Option<String>,
    pub made_ms: i64,
}

/// One call of the token endpoint; no secrets.
pub(crate) struct TokenRequest {
    number: u64,
    grant_type: String,
    grant: Option<u64>,
    outcome: String,
    /// Received, took effect, answered: in milliseconds of real time.
    times: BTreeMap<&'static str, u64>,
}

/// What a refresh token is worth.
pub(crate) enum Worth {
    /// It counts, for the grant at this place.
    Current(usize),
    /// It was replaced, of the grant at this place.
    Replaced(usize),
    Nothing,
}

fn real_ms(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |passed| u64::try_from(passed.as_millis()).unwrap_or(u64::MAX))
}

impl Logins {
    pub fn new(config: &SimulatorConfig, port: u16, now_ms: i64) -> Self {
        let app = App::new(config, port);
        let mut logins = Self {
            user: User { security_token: String::new(), active: true },
            lifetime: config.token_lifetime,
            orders: Orders::default(),
            pause: Pause::default(),
            held: watch::Sender::new(None),
            requests: Vec::new(),
            sessions: HashMap::new(),
            grants: Vec::new(),
            codes: HashMap::new(),
            browsers: BTreeSet::new(),
            requested: 0,
            issued: 0,
            app,
        };
        let scopes = logins.app.scopes.clone();
        let place = logins.add_grant(scopes, now_ms);
        if let Some(grant) = logins.grants.get_mut(place) {
            grant.refresh = Some(config.refresh_token.clone());
        }
        logins
    }

    /// Text that was never given out before; the same simulator gives the same.
    fn fresh(&mut self) -> [u8; 40] {
        self.issued += 1;
        let mut bytes = [0; 40];
        for (part, place) in bytes.chunks_exact_mut(8).zip(0_u64..) {
            let seed = [self.issued.to_be_bytes(), place.to_be_bytes()].concat();
            part.copy_from_slice(&xxhash_rust::xxh3::xxh3_64(&seed).to_be_bytes());
        }
        bytes
    }

    fn text(&mut self) -> String {
        URL_SAFE.encode(self.fresh()).trim_end_matches('=').replace('-', ".")
    }

    // Sessions

    pub fn issue(&mut self, organization: &str, grant: Option<u64>, scopes: &[String]) -> String {
        let opaque = self.text();
        let token = format!("{}!AQ4AQ{opaque}", organization.get(..15).unwrap_or(organization));
        let session = Session {
            grant,
            scopes: scopes.to_vec(),
            issued_at: SystemTime::now(),
            used_at: Instant::now(),
            expired: false,
        };
        self.sessions.insert(token.clone(), session);
        token
    }

    pub fn expire_all(&mut self) {
        self.sessions.values_mut().for_each(|session| session.expired = true);
    }

    /// The session of a token, if it goes on; asking does not use it.
    pub fn session(&self, token: &str) -> Option<&Session> {
        self.sessions.get(token).filter(|one| !one.expired && one.used_at.elapsed() <= self.lifetime)
    }

    /// The same, used.
    pub fn used(&mut self, token: &str) -> Option<&Session> {
        let lifetime = self.lifetime;
        let session = self.sessions.get_mut(token)?;
        if session.expired || session.used_at.elapsed() > lifetime {
            return None;
        }
        // Use in the first half of the time does not count (rest.md 1.9).
        if session.used_at.elapsed() > lifetime / 2 {
            session.used_at = Instant::now();
        }
        Some(session)
    }

    /// When the session began and ends if nobody uses it, in seconds of real time.
    pub fn span(&self, session: &Session) -> (u64, u64) {
        let left = self.lifetime.saturating_sub(session.used_at.elapsed());
        (real_ms(session.issued_at) / 1_000, real_ms(SystemTime::now() + left) / 1_000)
    }

    pub fn end_session(&mut self, token: &str) -> bool {
        self.sessions.remove(token).is_some()
    }

    // Grants

    /// A new grant; its place.
    pub fn add_grant(&mut self, scopes: Vec<String>, now_ms: i64) -> usize {
        let most = self.app.most_grants.unwrap_or(usize::MAX).max(1);
        let alive: Vec<u64> =
            self.grants.iter().filter(|one| one.refresh.is_some()).map(|one| one.id).collect();
        for id in alive.iter().take((alive.len() + 1).saturating_sub(most)) {
            self.revoke(*id);
        }
        let refresh = super::app::allows(&scopes, "refresh_token").then(|| format!("5Aep861{}", self.text()));
        self.grants.push(Grant {
            id: u64::try_from(self.grants.len()).unwrap_or(u64::MAX),
            scopes,
            refresh,
            replaced: Vec::new(),
            busy: false,
            used_ms: now_ms,
            refreshes: 0,
        });
        self.grants.len() - 1
    }

    pub fn grant(&self, place: usize) -> Option<&Grant> {
        self.grants.get(place)
    }

    pub fn grant_mut(&mut self, place: usize) -> Option<&mut Grant> {
        self.grants.get_mut(place)
    }

    pub fn refresh_token(&self, place: usize) -> Option<String> {
        self.grants.get(place)?.refresh.clone()
    }

    pub fn worth(&self, refresh: &str) -> Worth {
        for (place, grant) in self.grants.iter().enumerate() {
            if grant.refresh.as_deref() == Some(refresh) {
                return Worth::Current(place);
            }
            if grant.replaced.iter().any(|old| old == refresh) {
                return Worth::Replaced(place);
            }
        }
        Worth::Nothing
    }

    pub fn is_idle(&self, place: usize, now_ms: i64) -> bool {
        let idle = self.grants.get(place).map_or(0, |grant| now_ms - grant.used_ms);
        let most = self.app.refresh_idle_seconds.and_then(|seconds| i64::try_from(seconds).ok());
        most.is_some_and(|seconds| idle > seconds.saturating_mul(1_000))
    }

    /// A refresh takes effect; the new refresh token, if the app rotates them.
    pub fn refreshed(&mut self, place: usize, now_ms: i64) -> Option<String> {
        let next = self.app.rotation.then(|| format!("5Aep861{}", self.text()));
        let grant = self.grants.get_mut(place)?;
        grant.used_ms = now_ms;
        grant.refreshes += 1;
        let next = next?;
        grant.replaced.extend(grant.refresh.replace(next.clone()));
        let id = grant.id;
        // The session before is over as well.
        self.sessions.retain(|_, session| session.grant != Some(id));
        Some(next)
    }

    /// Ends a grant and all its sessions.
    pub fn revoke(&mut self, id: u64) -> bool {
        let Some(grant) = self.grants.iter_mut().find(|grant| grant.id == id) else { return false };
        grant.replaced.extend(grant.refresh.take());
        self.sessions.retain(|_, session| session.grant != Some(id));
        true
    }

    pub fn revoke_all(&mut self) {
        for id in 0..self.grants.len() {
            self.revoke(u64::try_from(id).unwrap_or(u64::MAX));
        }
    }

    pub fn grants_json(&self) -> Json {
        let alive = |id| {
            self.sessions.iter().filter(move |(token, one)| one.grant == id && self.session(token).is_some())
        };
        let grants = self.grants.iter().map(|grant| {
            json!({
                "id": grant.id,
                "scopes": grant.scopes,
                "active": grant.refresh.is_some(),
                "rotations": grant.replaced.len(),
                "refreshes": grant.refreshes,
                "busy": grant.busy,
                "sessions": alive(Some(grant.id)).count(),
            })
        });
        json!({
            "grants": grants.collect::<Vec<_>>(),
            "refreshes": self.grants.iter().map(|grant| grant.refreshes).sum::<u64>(),
            "sessionsWithoutGrant": alive(None).count(),
        })
    }

    // Codes and browsers

    pub fn add_code(&mut self, code: Code) -> String {
        let bytes = self.fresh();
        // 40 bytes: one over a multiple of three, so it ends in two signs of padding as real ones do.
        let text = format!("aPrx{}", URL_SAFE.encode(bytes));
        self.codes.insert(text.clone(), code);
        text
    }

    /// What a code was made for; it serves once. `Err(true)`: there was such a code.
    pub fn take_code(&mut self, text: &str, now_ms: i64) -> Result<Code, bool> {
        let Some(code) = self.codes.get_mut(text) else { return Err(false) };
        let spent = Code {
            scopes: Vec::new(),
            redirect_uri: String::new(),
            challenge: None,
            nonce: None,
            made_ms: i64::MIN / 2,
        };
        let code = std::mem::replace(code, spent);
        if now_ms - code.made_ms > CODE_LIFE_MS { Err(true) } else { Ok(code) }
    }

    pub fn add_browser(&mut self) -> String {
        let cookie = self.text();
        self.browsers.insert(cookie.clone());
        cookie
    }

    pub fn knows_browser(&self, cookie: &str) -> bool {
        self.browsers.contains(cookie)
    }

    pub fn forget_browsers(&mut self) {
        self.browsers.clear();
    }

    // What was asked of the token endpoint

    pub fn begin(&mut self, grant_type: &str) -> u64 {
        self.requested += 1;
        if self.requests.len() >= MOST_REQUESTS {
            self.requests.remove(0);
        }
        self.requests.push(TokenRequest {
            number: self.requested,
            // Foreign text: what is not a known grant is not kept.
            grant_type: grant_type.chars().take(60).collect(),
            grant: None,
            outcome: "pending".to_owned(),
            times: BTreeMap::from([("receivedAt", real_ms(SystemTime::now()))]),
        });
        self.requested
    }

    pub fn note(&mut self, number: u64, stage: &'static str, grant: Option<u64>, outcome: Option<String>) {
        if let Some(request) = self.requests.iter_mut().rev().find(|request| request.number == number) {
            request.times.insert(stage, real_ms(SystemTime::now()));
            request.grant = grant.or(request.grant);
            if let Some(outcome) = outcome {
                request.outcome = outcome;
            }
        }
    }

    pub fn requests_json(&self) -> Json {
        let requests = self.requests.iter().map(|request| {
            let mut json = json!({
                "number": request.number,
                "grantType": request.grant_type,
                "grant": request.grant,
                "outcome": request.outcome,
            });
            for (stage, time) in &request.times {
                json[*stage] = json!(time);
            }
            json
        });
        Json::Array(requests.collect())
    }
}
