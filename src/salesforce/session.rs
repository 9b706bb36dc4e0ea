//! The one session all calls share, and the one place that renews it.
//!
//! Comes in: grants from `login`. Goes out: the current [`Session`] for each request. Sessions are counted: who met
//! a 401 with session n asks for a newer one than n, the first asker logs in, all others get what it got. A session is
//! renewed when it is refused, never ahead of time: a refresh ends the session before it, and with that the pages of all
//! open queries. Never: two logins at once, or a login storm after a refusal.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use http::HeaderValue;
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::config::{SalesforceSettings, Secret};
use crate::error::Kind;

use super::allowance::Governor;
use super::fault::{Cure, Fault};
use super::login::place::SharedStore;
use super::login::{Grant, Login};
use super::transport::Backoff;
use super::{Pace, Purpose};

pub(super) struct Session {
    /// `Bearer …`, marked sensitive.
    pub authorization: HeaderValue,
    /// The token alone, marked sensitive.
    pub access_token: HeaderValue,
    token: Secret,
    pub origin: String,
    pub org_id: String,
    pub user_id: Option<String>,
    /// It was kept from earlier, and may be over.
    pub is_kept: bool,
    pub number: u64,
}

impl Session {
    fn new(grant: &Grant, number: u64) -> Result<Self, Fault> {
        let sensitive = |text: &str| {
            let mut value = HeaderValue::from_str(text).map_err(|_| {
                Fault::new(
                    Kind::LoginRefused,
                    Cure::None,
                    "the access token has characters that no token has",
                )
                .hint("check `salesforce.access_token`: one line, no quotes")
            })?;
            value.set_sensitive(true);
            Ok(value)
        };
        let token = grant.token.expose();
        let authorization = sensitive(&format!("Bearer {token}"))?;
        let access_token = sensitive(token)?;
        Ok(Self {
            authorization,
            access_token,
            token: grant.token.clone(),
            origin: grant.origin.clone(),
            org_id: grant.org_id.clone(),
            user_id: grant.user_id.clone(),
            is_kept: grant.is_kept,
            number,
        })
    }
}

/// A refusal is answered to all who ask within this time, without asking Salesforce again: repeated failures lock
/// users out.
const REFUSAL_STANDS: Duration = Duration::from_secs(10);

pub(super) struct Sessions {
    login: Arc<Login>,
    governor: Arc<Governor>,
    current: RwLock<Arc<Session>>,
    /// Held while logging in; the last refusal.
    renewing: Mutex<Option<(Instant, Fault)>>,
}

impl Sessions {
    /// `http` must pool no connections.
    pub async fn open(
        settings: SalesforceSettings,
        http: reqwest::Client,
        governor: Arc<Governor>,
        pace: &Pace,
        shared: Option<Arc<dyn SharedStore>>,
    ) -> Result<Self, Fault> {
        let login = Login::new(settings, http, shared)?;
        let grant = patient_grant(&login, None, &governor, pace).await?;
        let current = RwLock::new(Arc::new(Session::new(&grant, 1)?));
        Ok(Self { login, governor, current, renewing: Mutex::new(None) })
    }

    pub fn settings(&self) -> &SalesforceSettings {
        self.login.settings()
    }

    pub fn current(&self) -> Arc<Session> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub fn can_renew(&self) -> bool {
        self.login.can_renew()
    }

    /// A session newer than number `refused`.
    ///
    /// - Callers come here at the same time with the same number: one login, by the lock and the second look.
    /// - A caller comes late, its session long replaced: no login at all.
    /// - A caller is dropped while it logs in: the lock opens, the next one logs in.
    ///
    /// Held by `many_calls_meeting_an_expired_token_log_in_once`.
    pub async fn renew(&self, refused: u64, pace: &Pace) -> Result<Arc<Session>, Fault> {
        let mut last_refusal = self.renewing.lock().await;
        let current = self.current();
        if current.number > refused {
            return Ok(current);
        }
        if !self.can_renew() {
            return Err(Fault::new(
                Kind::LoginRefused,
                Cure::None,
                "Salesforce no longer accepts the access token, and `auth: access-token` cannot get another",
            )
            .hint("put a fresh access token into the configuration, or use a login that renews itself, such as `auth: client-credentials`"));
        }
        if let Some((at, fault)) = &*last_refusal
            && at.elapsed() < REFUSAL_STANDS
        {
            return Err(fault.clone());
        }
        match patient_grant(&self.login, Some(&current.token), &self.governor, pace).await {
            Ok(grant) => {
                let session = Arc::new(Session::new(&grant, current.number + 1)?);
                *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&session);
                *last_refusal = None;
                tracing::info!(
                    session = session.number,
                    instance = session.origin,
                    "logged in again, calls go on"
                );
                Ok(session)
            }
            Err(fault) => {
                *last_refusal = Some((Instant::now(), fault.clone()));
                Err(fault)
            }
        }
    }
}

async fn patient_grant(
    login: &Arc<Login>,
    refused: Option<&Secret>,
    governor: &Governor,
    pace: &Pace,
) -> Result<Grant, Fault> {
    let mut backoff = Backoff::new(pace);
    loop {
        governor.count("login", Purpose::Login);
        let fault = match login.grant(refused, pace).await {
            Ok(grant) => return Ok(grant),
            Err(fault) => fault,
        };
        if fault.cure != Cure::Again {
            return Err(fault);
        }
        let Some(pause) = backoff.next(fault.retry_after) else { return Err(backoff.gave_up(fault)) };
        tracing::warn!(
            code = fault.kind.code(),
            error = fault.message,
            again_in = ?pause,
            hint = fault.advice(),
            "login failed, trying again"
        );
        tokio::time::sleep(pause).await;
    }
}
