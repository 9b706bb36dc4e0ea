//! Renewing a login that is kept: the refresh token and its successors.
//!
//! Comes in: a store, or a refresh token of the configuration. Goes out: grants. What a refresh gave is durable before
//! it is used; what was begun is marked before it is sent, so that an interruption shows at the next start
//! (docs/adr/0010-refresh-tokens.md). Never: two refreshes of one login at once, or an answer dropped because its
//! caller went away.

use std::sync::{Arc, PoisonError};

use crate::config::{App, Auth, Secret};
use crate::error::Kind;

use super::super::Pace;
use super::super::fault::{Cure, Fault};
use super::place::{Lock, TokenStore};
use super::store::{Access, Asked, Kept, fingerprint, now};
use super::token_endpoint::{Answer, Credentials, Request};
use super::{API, Grant, Login, check_scopes};

/// Whoever reads this has the file; a login that is gone comes back only by a person.
const LOG_IN: &str = "log in: `sf2kafka login -c FILE`";
const NEW_TOKEN: &str = "put a new refresh token into the configuration; an app with refresh token rotation gives one to `auth: authorization-code` and `sf2kafka login -c FILE`";

/// So often a turn may end before anything was sent.
const TURNS: usize = 3;

/// What Salesforce gave and the store did not take. The lock is kept with it: nobody else is to try the token before it.
pub(super) struct Unsaved {
    /// What the request was sent with.
    old: Kept,
    new: Kept,
    lock: Lock,
}

impl Login {
    /// - The caller is dropped: the renewal goes on, in a thread that the runtime waits for at its end.
    /// - Another process, or another renewal of this one, was faster: what it stored is taken, nothing is asked.
    ///
    /// Held by `a_caller_that_goes_away_does_not_take_the_new_token_along` and `who_waited_takes_what_the_other_got`.
    pub(super) async fn kept(
        self: &Arc<Self>,
        refused: Option<&Secret>,
        pace: &Pace,
    ) -> Result<Grant, Fault> {
        let refused = refused.cloned();
        let (this, pace) = (Arc::clone(self), pace.clone());
        let renewal = tokio::task::spawn_blocking(move || this.renew(refused.as_ref(), &pace));
        renewal
            .await
            .map_err(|_| Fault::new(Kind::Internal, Cure::None, "the renewal of the login broke off"))?
    }

    /// Blocks while it waits for the lock and for Salesforce.
    fn renew(&self, refused: Option<&Secret>, pace: &Pace) -> Result<Grant, Fault> {
        // What a process before this one, or beside it, works with.
        if refused.is_none()
            && let Some(store) = &self.store
            && let Some(access) = self.fitting(store.read()?, store)?.access
        {
            return Ok(access.into());
        }
        // Of its own: the answer must be stored even if the program's runtime is ending.
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|_| Fault::new(Kind::Internal, Cure::None, "no runtime for the renewal of the login"))?;
        let ask = |token: &Secret| {
            let App { client_id, client_secret } = self.app()?;
            let who = Credentials { client_id, client_secret: client_secret.as_ref() };
            runtime.block_on(self.endpoint.ask(&who, Request::Refresh(token), pace))
        };
        let Some(store) = &self.store else { return self.renew_unkept(ask) };
        for _ in 0..TURNS {
            if let Some(grant) = self.store_unsaved(store)? {
                return Ok(grant);
            }
            let lock = store.lock()?;
            if let Some(grant) = self.renew_in_turn(store, lock, refused, ask)? {
                return Ok(grant);
            }
            tracing::warn!(
                store = store.place(),
                "the turn to refresh the login ended before anything was sent: reading again"
            );
        }
        let message = format!("no turn in {} lasted until the login could be refreshed", store.place());
        Err(Fault::new(Kind::TokenStoreFailed, Cure::Again, message)
            .hint("look why the store, or this machine, is so slow"))
    }

    /// None: the turn ended before anything was sent.
    fn renew_in_turn(
        &self,
        store: &TokenStore,
        mut lock: Lock,
        refused: Option<&Secret>,
        ask: impl Fn(&Secret) -> Result<Answer, Fault>,
    ) -> Result<Option<Grant>, Fault> {
        let mut kept = self.fitting(store.read_held(&mut lock)?, store)?;
        if let Some(access) = &kept.access
            && Some(&access.token) != refused
        {
            tracing::debug!("another renewal was faster: going on with what it stored");
            return Ok(Some(access.clone().into()));
        }
        let before = kept.asked.take().filter(|asked| asked.with == fingerprint(&kept.refresh_token));
        if let Some(Asked { at, .. }) = &before {
            tracing::warn!(
                begun_at = at,
                store = store.place(),
                "a refresh of the login was interrupted before its answer was stored: trying the same token again"
            );
        }
        let mark = Asked { with: fingerprint(&kept.refresh_token), at: now() };
        kept.asked = Some(before.clone().unwrap_or(mark));
        if !store.mark(&mut lock, &kept)? {
            return Ok(None);
        }
        match ask(&kept.refresh_token) {
            Ok(answer) => self.keep(store, lock, kept, answer).map(Some),
            Err(fault) => {
                if was_not_exchanged(&fault) {
                    let unmarked = Kept { asked: before.clone(), ..kept.clone() };
                    if let Some(newer) = settle(store, &mut lock, &kept, &unmarked)? {
                        return self.take(newer, store).map(Some);
                    }
                }
                Err(self.explain(fault, before.as_ref()))
            }
        }
    }

    /// Durable first, used afterwards.
    fn keep(&self, store: &TokenStore, mut lock: Lock, old: Kept, answer: Answer) -> Result<Grant, Fault> {
        let rotated = answer.refresh_token.as_ref().is_some_and(|token| *token != old.refresh_token);
        let new = Kept {
            client_id: old.client_id.clone(),
            refresh_token: answer.refresh_token.unwrap_or_else(|| old.refresh_token.clone()),
            seed: old.seed.clone(),
            rotates: old.rotates || rotated,
            access: answer.origin.as_ref().ok().map(|origin| Access {
                token: answer.token.clone(),
                origin: origin.clone(),
                org_id: answer.org_id.clone(),
                user_id: answer.user_id.clone(),
            }),
            asked: None,
        };
        match settle(store, &mut lock, &old, &new) {
            Ok(None) => {}
            Ok(Some(newer)) => return self.take(newer, store),
            Err(fault) => {
                let unsaved = Unsaved { old, new, lock };
                *self.unsaved.lock().unwrap_or_else(PoisonError::into_inner) = Some(unsaved);
                return Err(fault);
            }
        }
        tracing::debug!(
            durable_after_us = answer.read_at.elapsed().as_micros(),
            rotated,
            "what the refresh gave is stored"
        );
        check_scopes(answer.scopes.as_deref(), &[API])?;
        answer.origin?;
        new.access.map(Grant::from).ok_or_else(|| Fault::unreadable("the login's answer has no place"))
    }

    /// What came while the store took nothing; without it the login would be lost with this process.
    fn store_unsaved(&self, store: &TokenStore) -> Result<Option<Grant>, Fault> {
        let mut unsaved = self.unsaved.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(Unsaved { old, new, lock }) = unsaved.as_mut() else { return Ok(None) };
        let newer = settle(store, lock, old, new)?;
        let stored = unsaved.take();
        match newer {
            Some(newer) => self.take(newer, store).map(Some),
            None => Ok(stored.and_then(|stored| stored.new.access).map(Grant::from)),
        }
    }

    /// A login that somebody else wrote while this one was under way.
    fn take(&self, newer: Kept, store: &TokenStore) -> Result<Grant, Fault> {
        tracing::warn!(store = store.place(), "a newer login was stored meanwhile: going on with that");
        let access = self.fitting(Some(newer), store)?.access;
        access.map(Grant::from).ok_or_else(|| {
            Fault::new(
                Kind::TokenStoreFailed,
                Cure::Again,
                "a newer login was stored meanwhile, without a session",
            )
        })
    }

    /// `token_store: none`: good as long as the token stays the same.
    fn renew_unkept(&self, ask: impl Fn(&Secret) -> Result<Answer, Fault>) -> Result<Grant, Fault> {
        let Auth::RefreshToken { refresh_token, .. } = &self.settings().auth else {
            return Err(Fault::new(Kind::Internal, Cure::None, "a login without a store"));
        };
        let answer = ask(refresh_token).map_err(|fault| self.explain(fault, None))?;
        if answer.refresh_token.as_ref().is_some_and(|token| token != refresh_token) {
            let message = "Salesforce replaced the refresh token, and `token_store: none` has no place for the new one: the one in the configuration is used up";
            return Err(Fault::new(Kind::TokenStoreFailed, Cure::None, message).hint(
                "set `salesforce.token_store` to a file on storage that outlives the program, and put a new refresh token into the configuration",
            ));
        }
        Grant::new(answer)
    }

    /// What a person's login gave; blocks.
    pub(super) fn put(&self, kept: &Kept) -> Result<(), Fault> {
        let Some(store) = &self.store else {
            return Err(Fault::new(Kind::Internal, Cure::None, "a login without a store"));
        };
        let mut lock = store.lock()?;
        store.write(&mut lock, kept)
    }

    /// Whether something can be kept at all; blocks.
    pub(super) fn try_store(&self) -> Result<(), Fault> {
        match &self.store {
            Some(store) => store.lock().map(drop),
            None => Ok(()),
        }
    }

    fn app(&self) -> Result<&App, Fault> {
        match &self.settings().auth {
            Auth::AuthorizationCode { app, .. } | Auth::RefreshToken { app, .. } => Ok(app),
            _ => Err(Fault::new(Kind::Internal, Cure::None, "this login keeps no refresh token")),
        }
    }

    /// What is kept for this configuration; a refresh token of the configuration that is new counts more than what came
    /// of an older one.
    fn fitting(&self, kept: Option<Kept>, store: &TokenStore) -> Result<Kept, Fault> {
        let app = self.app()?;
        let of_this_app = |kept: &Kept| kept.client_id == app.client_id;
        if let Auth::RefreshToken { refresh_token, .. } = &self.settings().auth {
            let seed = Some(fingerprint(refresh_token));
            return Ok(match kept {
                Some(kept) if kept.seed == seed && of_this_app(&kept) => kept,
                _ => Kept {
                    client_id: app.client_id.clone(),
                    refresh_token: refresh_token.clone(),
                    seed,
                    rotates: false,
                    access: None,
                    asked: None,
                },
            });
        }
        let path = store.place();
        let message = match kept {
            Some(kept) if of_this_app(&kept) => return Ok(kept),
            Some(_) => format!("the login in {path} belongs to another app than `salesforce.client_id`"),
            None => format!("nobody has logged in yet: there is no login in {path}"),
        };
        Err(Fault::new(Kind::LoginNeeded, Cure::None, message).hint(LOG_IN))
    }

    fn explain(&self, mut fault: Fault, interrupted: Option<&Asked>) -> Fault {
        if fault.kind != Kind::LoginNeeded {
            return fault;
        }
        let why = match interrupted {
            Some(Asked { at, .. }) => format!(
                "the refresh begun at {at} was interrupted before its answer was stored, and what it gave is lost"
            ),
            None => "the refresh token is expired, revoked, or was used elsewhere".to_owned(),
        };
        fault.message = format!("{why} ({})", fault.message);
        let hint = match &self.settings().auth {
            Auth::RefreshToken { .. } => NEW_TOKEN,
            _ => LOG_IN,
        };
        fault.hint = Some(hint.into());
        fault
    }
}

/// Puts `new` in place of `old`, unless a newer login stands there by now: then that, and nothing is written. A mark of
/// somebody who followed us is no login: what it tries is used up.
fn settle(store: &TokenStore, lock: &mut Lock, old: &Kept, new: &Kept) -> Result<Option<Kept>, Fault> {
    let newer = store.found_meanwhile(lock)?.filter(|found| !found.is_login_of(old));
    if newer.is_none() {
        store.write(lock, new)?;
    }
    Ok(newer)
}

/// Whether a failure leaves no doubt that the token is as it was: nothing was sent, or it was refused for another reason.
fn was_not_exchanged(fault: &Fault) -> bool {
    fault.unreachable || matches!(fault.kind, Kind::LoginRefused | Kind::ConfigInvalid)
}

impl From<Access> for Grant {
    fn from(access: Access) -> Self {
        let Access { token, origin, org_id, user_id } = access;
        Self { token, origin, org_id, user_id, is_kept: true }
    }
}
