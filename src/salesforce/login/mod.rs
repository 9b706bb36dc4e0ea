//! Getting a session, by every way there is.
//!
//! Comes in: settings with secrets, a kept login. Goes out: a [`Grant`]: token, place of the org, ids.
//! `token_endpoint` says it on the wire, `refusal` reads refusals, `assertion` signs, `kept` renews what a store keeps,
//! `code` is a person's login in a browser. Never: a refresh token used while its successor could be lost.

mod assertion;
pub mod code;
mod kept;
pub mod place;
mod refusal;
mod store;
mod token_endpoint;

use std::sync::{Arc, Mutex};

use url::Url;

use crate::config::{Auth, SalesforceSettings, Secret};
use crate::error::Kind;

use super::Pace;
use super::fault::{Cure, Fault};
#[cfg(test)]
pub(super) use assertion::TEST_KEY;
use kept::Unsaved;
use place::{LONGEST_REQUEST, SharedStore, TokenStore};
#[cfg(any(test, feature = "fuzzing"))]
pub use store::kept_again;
use token_endpoint::{Answer, Credentials, Request, ServerClock, TokenEndpoint};

/// What a login gave.
pub(super) struct Grant {
    pub token: Secret,
    /// Scheme, host and port, no slash at the end.
    pub origin: String,
    pub org_id: String,
    /// None if the login does not say.
    pub user_id: Option<String>,
    /// It was in the store, and may be over.
    pub is_kept: bool,
}

impl Grant {
    fn new(answer: Answer) -> Result<Self, Fault> {
        check_scopes(answer.scopes.as_deref(), &[API])?;
        Ok(Self {
            token: answer.token,
            origin: answer.origin?,
            org_id: answer.org_id,
            user_id: answer.user_id,
            is_kept: false,
        })
    }
}

pub(super) struct Login {
    endpoint: TokenEndpoint,
    store: Option<TokenStore>,
    /// What Salesforce gave and the store did not take: stored before anything else is asked for.
    unsaved: Mutex<Option<Unsaved>>,
}

impl Login {
    /// `http` must pool no connections: renewals run in a runtime of their own.
    /// `shared`: what `token_store: kafka` means; without it that is an error.
    pub fn new(
        settings: SalesforceSettings,
        http: reqwest::Client,
        shared: Option<Arc<dyn SharedStore>>,
    ) -> Result<Arc<Self>, Fault> {
        let store = TokenStore::of(settings.auth.token_store(), shared)?;
        if matches!(settings.auth, Auth::Password { .. }) {
            tracing::warn!(
                hint = "use `auth: client-credentials` or `auth: jwt-bearer`",
                "`auth: password`: Salesforce is retiring logins with a password, and new orgs refuse them"
            );
        }
        let clock = Arc::new(ServerClock::default());
        let endpoint = TokenEndpoint { http, settings, clock, longest: LONGEST_REQUEST };
        Ok(Arc::new(Self { endpoint, store, unsaved: Mutex::new(None) }))
    }

    pub fn settings(&self) -> &SalesforceSettings {
        &self.endpoint.settings
    }

    pub fn can_renew(&self) -> bool {
        !matches!(self.settings().auth, Auth::AccessToken { .. })
    }

    /// `refused`: the access token that is no longer taken; none at the start.
    pub async fn grant(self: &Arc<Self>, refused: Option<&Secret>, pace: &Pace) -> Result<Grant, Fault> {
        match &self.settings().auth {
            Auth::AccessToken { access_token } => given_token(self.settings(), access_token),
            Auth::ClientCredentials { client_id, client_secret } => {
                let who = Credentials { client_id, client_secret: Some(client_secret) };
                Grant::new(self.endpoint.ask(&who, Request::ClientCredentials, pace).await?)
            }
            Auth::Password { client_id, client_secret, username, password, security_token } => {
                let who = Credentials { client_id, client_secret: Some(client_secret) };
                let token = security_token.as_ref().map_or("", |token| token.expose());
                let password = Secret::new(format!("{}{token}", password.expose()));
                Grant::new(self.endpoint.ask(&who, Request::Password { username, password }, pace).await?)
            }
            Auth::JwtBearer { client_id, username, private_key, audience } => {
                let audience = audience
                    .as_deref()
                    .unwrap_or_else(|| assertion::audience_for(&self.settings().login_origin));
                let claims = assertion::Claims { issuer: client_id, user: username, audience };
                self.assert(&claims, private_key, pace).await
            }
            Auth::AuthorizationCode { .. } | Auth::RefreshToken { .. } => self.kept(refused, pace).await,
        }
    }

    /// A clock that is wrong shows as an assertion that is too old, or not yet good: the refusal tells the right time,
    /// and the same is signed once more by that.
    async fn assert(
        &self,
        claims: &assertion::Claims<'_>,
        key: &Secret,
        pace: &Pace,
    ) -> Result<Grant, Fault> {
        const CLOSE_ENOUGH_SECONDS: i64 = 30;
        let who = Credentials { client_id: claims.issuer, client_secret: None };
        let before = self.endpoint.clock.seconds_ahead();
        let ask = async || {
            let signed = assertion::sign(claims, key, self.endpoint.clock.now())?;
            self.endpoint.ask(&who, Request::Assertion(&signed), pace).await
        };
        let answer = match ask().await {
            Err(fault)
                if fault.kind == Kind::LoginRefused
                    && (self.endpoint.clock.seconds_ahead() - before).abs() > CLOSE_ENOUGH_SECONDS =>
            {
                tracing::warn!(
                    seconds_behind = self.endpoint.clock.seconds_ahead(),
                    hint = "set this machine's clock",
                    "the assertion was refused and the clock is wrong: signing again by the login host's clock"
                );
                ask().await?
            }
            outcome => outcome?,
        };
        Grant::new(answer)
    }
}

fn given_token(settings: &SalesforceSettings, token: &Secret) -> Result<Grant, Fault> {
    let Some(instance) = &settings.instance else {
        return Err(Fault::new(
            Kind::ConfigInvalid,
            Cure::None,
            "an access token alone does not say where its org is",
        )
        .hint("set `salesforce.instance` to the org's host"));
    };
    Ok(Grant {
        token: token.clone(),
        origin: origin_of(instance),
        // A token begins with its org's id.
        org_id: token.expose().split_once('!').map(|(org, _)| org.to_owned()).unwrap_or_default(),
        user_id: None,
        is_kept: false,
    })
}

/// A scope, the spellings of a grant that hold it, and where it is ticked.
struct Needed(&'static str, &'static [&'static str], &'static str);

const API: Needed = Needed(
    "api",
    &["api", "full"],
    "in the app's OAuth settings add the scope \"Manage user data via APIs (api)\", wait 2 to 10 minutes, and log in again",
);
const REFRESH: Needed = Needed(
    "refresh_token",
    &["refresh_token", "offline_access"],
    "in the app's OAuth settings add the scope \"Perform requests at any time (refresh_token, offline_access)\", wait 2 to 10 minutes, and log in again",
);

/// An answer that names no scopes is taken at its word.
fn check_scopes(granted: Option<&[String]>, needed: &[Needed]) -> Result<(), Fault> {
    let Some(granted) = granted else { return Ok(()) };
    match needed
        .iter()
        .find(|Needed(_, spellings, _)| !granted.iter().any(|scope| spellings.contains(&scope.as_str())))
    {
        None => Ok(()),
        Some(Needed(scope, _, hint)) => {
            let message = format!("the app does not grant the scope `{scope}`");
            Err(Fault::new(Kind::LoginRefused, Cure::None, message).hint(*hint))
        }
    }
}

pub(super) fn origin_of(url: &Url) -> String {
    url.origin().ascii_serialization()
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        Some(url::Host::Domain(name)) => name == "localhost",
        None => false,
    }
}
