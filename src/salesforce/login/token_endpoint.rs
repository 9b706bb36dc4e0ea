//! The OAuth 2.0 token endpoint: one request, one answer.
//!
//! Comes in: what is asked for. Goes out: an [`Answer`]: tokens, place of the org, ids, scopes. Refusals are told by
//! `refusal`. It also hears the login host's clock. Never: secrets in a message, a redirect followed, or a token
//! accepted for a host that cannot be Salesforce's.

use std::borrow::Cow;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use oauth2::basic::{
    BasicErrorResponse, BasicRevocationErrorResponse, BasicTokenIntrospectionResponse, BasicTokenType,
};
use oauth2::{
    AuthType, AuthorizationCode, ClientId, ClientSecret, EndpointNotSet, EndpointSet, ExtraTokenFields,
    PkceCodeVerifier, RedirectUrl, RefreshToken, RequestTokenError, ResourceOwnerPassword,
    ResourceOwnerUsername, StandardRevocableToken, StandardTokenResponse, TokenResponse, TokenUrl,
};
use serde::{Deserialize, Serialize};
use url::Url;

use crate::config::{SalesforceSettings, Secret};
use crate::error::Kind;

use super::super::Pace;
use super::super::fault::{Area, Cure, Fault, classify, is_html};
use super::super::transport::read_whole;
use super::refusal::{self, Flow};
use super::{is_loopback, origin_of};

pub(super) enum Request<'a> {
    ClientCredentials,
    Code { code: &'a Secret, callback_url: &'a str, verifier: Option<&'a Secret> },
    Refresh(&'a Secret),
    Password { username: &'a str, password: Secret },
    Assertion(&'a str),
}

/// Who asks.
pub(super) struct Credentials<'a> {
    pub client_id: &'a str,
    pub client_secret: Option<&'a Secret>,
}

pub(super) struct Answer {
    pub token: Secret,
    pub refresh_token: Option<Secret>,
    /// Where the org is; refused if the token may not be sent there. The refresh token counts even then.
    pub origin: Result<String, Fault>,
    pub org_id: String,
    pub user_id: Option<String>,
    /// None if the answer does not say.
    pub scopes: Option<Vec<String>>,
    /// When its last byte was read.
    pub read_at: Instant,
}

/// What Salesforce adds to the standard's token answer.
#[derive(Debug, Deserialize, Serialize)]
struct SalesforceFields {
    instance_url: Option<String>,
    /// Identity URL: `…/id/{org}/{user}`.
    id: Option<String>,
}

impl ExtraTokenFields for SalesforceFields {}

type TokenAnswer = StandardTokenResponse<SalesforceFields, BasicTokenType>;
type OAuth = oauth2::Client<
    BasicErrorResponse,
    TokenAnswer,
    BasicTokenIntrospectionResponse,
    StandardRevocableToken,
    BasicRevocationErrorResponse,
    EndpointNotSet,
    EndpointNotSet,
    EndpointNotSet,
    EndpointNotSet,
    EndpointSet,
>;

/// How far the login host's clock is ahead of ours, in seconds.
#[derive(Debug, Default)]
pub(super) struct ServerClock(AtomicI64);

impl ServerClock {
    fn hear(&self, headers: &http::HeaderMap) {
        let date = headers
            .get(http::header::DATE)
            .and_then(|value| value.to_str().ok())
            .and_then(|text| httpdate::parse_http_date(text).ok());
        if let Some(date) = date {
            self.0.store(seconds(date) - seconds(SystemTime::now()), Ordering::Relaxed);
        }
    }

    pub fn seconds_ahead(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Seconds since 1970 by the login host's clock; by ours before its first answer.
    pub fn now(&self) -> i64 {
        seconds(SystemTime::now()) + self.seconds_ahead()
    }
}

fn seconds(time: SystemTime) -> i64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    i64::try_from(since).unwrap_or(i64::MAX)
}

#[derive(Clone)]
pub(super) struct TokenEndpoint {
    pub http: reqwest::Client,
    pub settings: SalesforceSettings,
    pub clock: Arc<ServerClock>,
    /// A request and its whole answer.
    pub longest: Duration,
}

impl TokenEndpoint {
    pub async fn ask(
        &self,
        who: &Credentials<'_>,
        request: Request<'_>,
        pace: &Pace,
    ) -> Result<Answer, Fault> {
        let endpoint = self.url()?;
        let mut oauth: OAuth = oauth2::Client::new(ClientId::new(who.client_id.to_owned()))
            .set_auth_type(AuthType::RequestBody)
            .set_token_uri(TokenUrl::from_url(endpoint.clone()));
        if let Some(secret) = who.client_secret {
            oauth = oauth.set_client_secret(ClientSecret::new(secret.expose().to_owned()));
        }
        let read_at = Arc::new(Mutex::new(Instant::now()));
        let send = {
            let (this, pace, read_at) = (self.clone(), pace.clone(), Arc::clone(&read_at));
            move |request: oauth2::HttpRequest| {
                exchange(this.clone(), request, pace.clone(), Arc::clone(&read_at))
            }
        };
        let (flow, answer) = match request {
            Request::ClientCredentials => {
                (Flow::ClientCredentials, oauth.exchange_client_credentials().request_async(&send).await)
            }
            Request::Code { code, callback_url, verifier } => {
                let redirect = RedirectUrl::new(callback_url.to_owned()).map_err(|_| {
                    Fault::new(Kind::ConfigInvalid, Cure::None, "`salesforce.callback_url` is no address")
                })?;
                let mut request = oauth
                    .exchange_code(AuthorizationCode::new(code.expose().to_owned()))
                    .set_redirect_uri(Cow::Owned(redirect));
                if let Some(verifier) = verifier {
                    request = request.set_pkce_verifier(PkceCodeVerifier::new(verifier.expose().to_owned()));
                }
                (Flow::Code, request.request_async(&send).await)
            }
            Request::Refresh(token) => {
                let token = RefreshToken::new(token.expose().to_owned());
                (Flow::Refresh, oauth.exchange_refresh_token(&token).request_async(&send).await)
            }
            Request::Password { username, password } => {
                let username = ResourceOwnerUsername::new(username.to_owned());
                let password = ResourceOwnerPassword::new(password.expose().to_owned());
                (Flow::Password, oauth.exchange_password(&username, &password).request_async(&send).await)
            }
            Request::Assertion(assertion) => (Flow::Assertion, bearer(&endpoint, assertion, send).await),
        };
        let answer = answer.map_err(|error| told(flow, error))?;
        let read_at = *read_at.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(self.answer(&answer, read_at))
    }

    fn url(&self) -> Result<Url, Fault> {
        self.settings.login_origin.join("/services/oauth2/token").map_err(|_| {
            Fault::new(
                Kind::ConfigInvalid,
                Cure::None,
                "`salesforce.login_domain` is no address to log in at",
            )
        })
    }

    fn answer(&self, answer: &TokenAnswer, read_at: Instant) -> Answer {
        let fields = answer.extra_fields();
        let token = answer.access_token().secret();
        let mut identity = fields.id.as_deref().unwrap_or_default().rsplit('/');
        let user_id = identity.next().filter(|id| is_id(id)).map(str::to_owned);
        let by_identity = identity.next().filter(|id| is_id(id)).map(str::to_owned);
        let by_token = || token.split_once('!').map(|(org, _)| org.to_owned());
        Answer {
            origin: self.place(fields.instance_url.as_deref()),
            org_id: by_identity.or_else(by_token).unwrap_or_default(),
            user_id,
            token: Secret::new(token.clone()),
            refresh_token: answer.refresh_token().map(|token| Secret::new(token.secret().clone())),
            scopes: answer.scopes().map(|scopes| scopes.iter().map(|scope| scope.to_string()).collect()),
            read_at,
        }
    }

    /// Where data calls go: what the answer says, every time anew, or else what the configuration says.
    fn place(&self, told: Option<&str>) -> Result<String, Fault> {
        match (told, &self.settings.instance) {
            (Some(text), _) => {
                let url = Url::parse(text)
                    .map_err(|_| Fault::unreadable("the login's answer names no readable instance"))?;
                if !may_hold_token(&self.settings.login_origin, &url) {
                    let host = url.host_str().unwrap_or("?");
                    return Err(Fault::new(
                        Kind::LoginRefused,
                        Cure::None,
                        format!("the login's answer sends the token to {host}, which is not Salesforce's"),
                    )
                    .hint("look for a proxy that rewrites answers, or correct `salesforce.login_domain`"));
                }
                Ok(origin_of(&url))
            }
            (None, Some(instance)) => Ok(origin_of(instance)),
            (None, None) => Err(Fault::unreadable("the login's answer does not say where the org is")),
        }
    }
}

fn is_id(text: &str) -> bool {
    matches!(text.len(), 15 | 18) && text.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

type Refused = RequestTokenError<WireFault, BasicErrorResponse>;

/// The JWT bearer grant, which the `oauth2` crate does not know; what it sends and reads is the same.
async fn bearer<F>(
    endpoint: &Url,
    assertion: &str,
    send: impl FnOnce(oauth2::HttpRequest) -> F,
) -> Result<TokenAnswer, Refused>
where
    F: Future<Output = Result<oauth2::HttpResponse, WireFault>>,
{
    let form = url::form_urlencoded::Serializer::new(String::new())
        .append_pair("grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer")
        .append_pair("assertion", assertion)
        .finish();
    let request = http::Request::post(endpoint.as_str())
        .header(http::header::CONTENT_TYPE, "application/x-www-form-urlencoded")
        .header(http::header::ACCEPT, "application/json")
        .body(form.into_bytes())
        .map_err(|_| RequestTokenError::Other("the request cannot be made".to_owned()))?;
    let response = send(request).await.map_err(RequestTokenError::Request)?;
    let unreadable = || RequestTokenError::Other("the answer does not read".to_owned());
    if response.status() == http::StatusCode::OK {
        return serde_json::from_slice(response.body()).map_err(|_| unreadable());
    }
    match serde_json::from_slice(response.body()) {
        Ok(refusal) => Err(RequestTokenError::ServerResponse(refusal)),
        Err(_) => Err(unreadable()),
    }
}

/// The http client that `oauth2` works with. The whole of it has a bound, however slowly an answer trickles: what waits for
/// a token, or for the turn to get one, counts on it.
async fn exchange(
    endpoint: TokenEndpoint,
    request: oauth2::HttpRequest,
    pace: Pace,
    read_at: Arc<Mutex<Instant>>,
) -> Result<oauth2::HttpResponse, WireFault> {
    let host = request.uri().host().unwrap_or("the login host").to_owned();
    tokio::time::timeout(endpoint.longest, exchange_unbound(endpoint, request, pace, read_at))
        .await
        .unwrap_or_else(|_| {
            Err(Fault::new(Kind::NetworkFailed, Cure::Again, format!("{host} did not answer in time")).into())
        })
}

/// reqwest, no redirects, faults told apart here.
async fn exchange_unbound(
    endpoint: TokenEndpoint,
    request: oauth2::HttpRequest,
    pace: Pace,
    read_at: Arc<Mutex<Instant>>,
) -> Result<oauth2::HttpResponse, WireFault> {
    let host = request.uri().host().unwrap_or("the login host").to_owned();
    let request = reqwest::Request::try_from(request)
        .map_err(|_| Fault::new(Kind::ConfigInvalid, Cure::None, "the login request cannot be made"))?;
    let response = tokio::time::timeout(pace.answer_timeout, endpoint.http.execute(request))
        .await
        .map_err(|_| Fault::new(Kind::NetworkFailed, Cure::Again, format!("{host} did not answer in time")))?
        .map_err(|error| Fault::network(&error.without_url(), &host))?;
    let (status, headers) = (response.status(), response.headers().clone());
    endpoint.clock.hear(&headers);
    let body = read_whole(response, pace.idle_timeout, 1 << 20).await?;
    *read_at.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    let number = status.as_u16();
    if status.is_redirection() {
        return Err(Fault::new(
            Kind::LoginRefused,
            Cure::None,
            format!("the login host answered {number} and points elsewhere"),
        )
        .hint("set `salesforce.login_domain` to the org's My Domain, as Setup > My Domain shows it")
        .into());
    }
    if status.is_server_error() || matches!(number, 406 | 408 | 420 | 429) {
        let mut fault = classify(Area::Versions, status, &headers, &body);
        fault.cure = Cure::Again;
        return Err(fault.into());
    }
    if is_html(&headers, &body) {
        return Err(Fault::unreadable(format!(
            "the login host answered {number} with a web page instead of data"
        ))
        .into());
    }
    let mut answer = http::Response::new(body.to_vec());
    *answer.status_mut() = status;
    Ok(answer)
}

/// [`Fault`] as an error type, on its way through the `oauth2` crate.
#[derive(Debug)]
struct WireFault(Fault);

impl From<Fault> for WireFault {
    fn from(fault: Fault) -> Self {
        Self(fault)
    }
}

impl std::fmt::Display for WireFault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl std::error::Error for WireFault {}

fn told(flow: Flow, error: Refused) -> Fault {
    match error {
        RequestTokenError::Request(WireFault(fault)) => fault,
        // Their texts can hold the body.
        RequestTokenError::Parse(..) | RequestTokenError::Other(_) => {
            Fault::unreadable("the login host's answer is not the JSON that was expected")
        }
        RequestTokenError::ServerResponse(answer) => {
            let description = answer.error_description().map(String::as_str).unwrap_or_default();
            refusal::refused(flow, answer.error().as_ref(), description)
        }
    }
}

/// Whether the place that an answer names may be given the token.
fn may_hold_token(login: &Url, instance: &Url) -> bool {
    if is_loopback(login) {
        return is_loopback(instance) || instance.scheme() == "https";
    }
    let (Some(login_host), Some(host)) = (login.host_str(), instance.host_str()) else { return false };
    let parent = login_host.split_once('.').map(|(_, parent)| parent).filter(|parent| parent.contains('.'));
    let known = [
        "salesforce.com",
        "salesforce.mil",
        "force.com",
        "cloudforce.com",
        "sfcrmproducts.cn",
        "sfcrmapps.cn",
    ];
    instance.scheme() == "https"
        && (host == login_host
            || known
                .into_iter()
                .chain(parent)
                .any(|domain| host.strip_suffix(domain).is_some_and(|rest| rest.ends_with('.'))))
}

#[cfg(test)]
mod tests {
    use tokio::sync::Semaphore;

    use super::*;
    use crate::salesforce::client::login_http;
    use crate::salesforce::scripted::{Org, quick, reply};

    #[tokio::test]
    async fn a_request_has_a_bound_whatever_the_pace_allows() {
        let org = Org::start().await;
        org.on_login([reply(200, "{}").held_by(&Arc::new(Semaphore::new(0)))]);
        let settings = org.settings();
        let http = login_http(&settings).unwrap();
        let clock = Arc::new(ServerClock::default());
        let endpoint = TokenEndpoint { http, settings, clock, longest: Duration::from_millis(50) };
        let day = Duration::from_secs(86_400);
        let patient = Pace { answer_timeout: day, idle_timeout: day, ..quick() };
        let (token, who) = (Secret::new("5Aep861"), Credentials { client_id: "3MVG9", client_secret: None });
        let asked = endpoint.ask(&who, Request::Refresh(&token), &patient);
        let asked = tokio::time::timeout(Duration::from_secs(120), asked).await;
        let fault = asked.expect("it waits without end").map(drop).unwrap_err();
        assert_eq!(
            (fault.kind, fault.unreachable),
            (Kind::NetworkFailed, false),
            "it may have been exchanged"
        );
    }

    #[test]
    fn a_token_goes_only_to_places_that_can_be_salesforces() {
        let url = |text: &str| Url::parse(text).unwrap();
        let login = url("https://login.salesforce.com");
        assert!(may_hold_token(&login, &url("https://acme.my.salesforce.com")));
        assert!(may_hold_token(&login, &url("https://acme--dev.sandbox.my.salesforce.com")));
        for bad in [
            "http://acme.my.salesforce.com",
            "https://salesforce.com.evil.example",
            "https://evilsalesforce.com",
            "http://127.0.0.1:80",
        ] {
            assert!(!may_hold_token(&login, &url(bad)), "{bad}");
        }
        assert!(may_hold_token(&url("http://127.0.0.1:8000"), &url("http://localhost:9000")));
        assert!(!may_hold_token(&url("http://127.0.0.1:8000"), &url("http://acme.my.salesforce.com")));
    }

    #[test]
    fn a_recorded_refusal_of_the_token_endpoint_is_permanent() {
        let answer: BasicErrorResponse =
            serde_json::from_str(include_str!("../../../tests/data/salesforce/token-error-refresh.json"))
                .unwrap();
        let fault = told(Flow::Refresh, RequestTokenError::ServerResponse(answer));
        assert_eq!((fault.kind, fault.cure), (Kind::LoginNeeded, Cure::None));
        assert_eq!(fault.message, "Salesforce answered invalid_grant: expired access/refresh token");
    }
}
