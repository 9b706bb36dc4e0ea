//! Getting a session: the OAuth 2.0 token endpoint.
//!
//! Comes in: settings with a secret. Goes out: a [`Grant`]: token, place of the org, its id. Refusals are told in
//! the words of `rest.md` 1.7 with what an administrator has to do. Never: secrets in a message, a redirect
//! followed, or a token accepted for a host that cannot be Salesforce's.

use oauth2::basic::{
    BasicErrorResponse, BasicRevocationErrorResponse, BasicTokenIntrospectionResponse, BasicTokenType,
};
use oauth2::{
    AuthType, ClientId, ClientSecret, EndpointNotSet, EndpointSet, ExtraTokenFields, RequestTokenError,
    StandardRevocableToken, StandardTokenResponse, TokenResponse, TokenUrl,
};
use serde::{Deserialize, Serialize};
use url::Url;

use crate::config::{Auth, SalesforceSettings, Secret};
use crate::error::Kind;

use super::Pace;
use super::fault::{Cure, Fault};
use super::transport::read_whole;

/// What the token endpoint gave.
pub(super) struct Grant {
    pub token: Secret,
    /// Scheme, host and port, no slash at the end.
    pub origin: String,
    pub org_id: String,
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

/// What a refusal means and what helps: `error`, start of `error_description` (both lower case), hint.
const HINTS: &[(&str, &str, &str)] = &[
    (
        "invalid_client_id",
        "",
        "check `salesforce.client_id`, and that `login_domain` is the org's My Domain; a new app is known after some minutes",
    ),
    ("invalid_client", "invalid client credentials", "check `salesforce.client_secret`"),
    (
        "invalid_client",
        "app must be installed",
        "ask a Salesforce administrator to install the connected app in the org",
    ),
    (
        "invalid_client",
        "external client app is not installed",
        "ask a Salesforce administrator to install the external client app in the org",
    ),
    (
        "invalid_grant",
        "request not supported on this domain",
        "set `salesforce.login_domain` to the org's My Domain (`acme.my.salesforce.com`): client-credentials does not work at login.salesforce.com",
    ),
    (
        "invalid_grant",
        "no client credentials user enabled",
        "ask a Salesforce administrator to choose a \"Run As\" user in the app's client credentials settings",
    ),
    (
        "invalid_grant",
        "ip restricted",
        "ask a Salesforce administrator to allow this machine's address for the app or the user",
    ),
    ("invalid_grant", "inactive user", "ask a Salesforce administrator to activate the integration user"),
    ("invalid_app_access", "", "ask a Salesforce administrator to approve the integration user for the app"),
    ("unsupported_grant_type", "", "tick \"Enable Client Credentials Flow\" in the app's settings"),
    ("invalid_scope", "", "give the app the scope `api`"),
];

pub(super) async fn ask_grant(
    http: &reqwest::Client,
    settings: &SalesforceSettings,
    pace: &Pace,
) -> Result<Grant, Fault> {
    match &settings.auth {
        Auth::AccessToken { access_token } => given_token(settings, access_token),
        Auth::ClientCredentials { client_id, client_secret } => {
            client_credentials(http, settings, client_id, client_secret, pace).await
        }
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
    })
}

async fn client_credentials(
    http: &reqwest::Client,
    settings: &SalesforceSettings,
    client_id: &str,
    client_secret: &Secret,
    pace: &Pace,
) -> Result<Grant, Fault> {
    let endpoint = settings.login_origin.join("/services/oauth2/token").map_err(|_| {
        Fault::new(Kind::ConfigInvalid, Cure::None, "`salesforce.login_domain` is no address to log in at")
    })?;
    let oauth: OAuth = oauth2::Client::new(ClientId::new(client_id.to_owned()))
        .set_client_secret(ClientSecret::new(client_secret.expose().to_owned()))
        .set_auth_type(AuthType::RequestBody)
        .set_token_uri(TokenUrl::from_url(endpoint));
    let (http, pace) = (http.clone(), pace.clone());
    let send = move |request: oauth2::HttpRequest| exchange(http.clone(), request, pace.clone());
    let answer = oauth.exchange_client_credentials().request_async(&send).await.map_err(refusal)?;
    let fields = answer.extra_fields();
    let origin = match (&fields.instance_url, &settings.instance) {
        (Some(text), _) => {
            let url = Url::parse(text)
                .map_err(|_| Fault::unreadable("the login's answer names no readable instance"))?;
            if !may_hold_token(&settings.login_origin, &url) {
                let host = url.host_str().unwrap_or("?");
                return Err(Fault::new(
                    Kind::LoginRefused,
                    Cure::None,
                    format!("the login's answer sends the token to {host}, which is not Salesforce's"),
                )
                .hint("look for a proxy that rewrites answers, or correct `salesforce.login_domain`"));
            }
            origin_of(&url)
        }
        (None, Some(instance)) => origin_of(instance),
        (None, None) => return Err(Fault::unreadable("the login's answer does not say where the org is")),
    };
    let token = answer.access_token().secret();
    let by_identity = fields.id.as_deref().and_then(|id| id.rsplit('/').nth(1)).map(str::to_owned);
    let by_token = || token.split_once('!').map(|(org, _)| org.to_owned());
    Ok(Grant {
        origin,
        org_id: by_identity.or_else(by_token).unwrap_or_default(),
        token: Secret::new(token.clone()),
    })
}

/// The http client that `oauth2` works with: reqwest, no redirects, faults told apart here.
async fn exchange(
    http: reqwest::Client,
    request: oauth2::HttpRequest,
    pace: Pace,
) -> Result<oauth2::HttpResponse, WireFault> {
    let host = request.uri().host().unwrap_or("the login host").to_owned();
    let request = reqwest::Request::try_from(request)
        .map_err(|_| Fault::new(Kind::ConfigInvalid, Cure::None, "the login request cannot be made"))?;
    let response = tokio::time::timeout(pace.answer_timeout, http.execute(request))
        .await
        .map_err(|_| Fault::new(Kind::NetworkFailed, Cure::Again, format!("{host} did not answer in time")))?
        .map_err(|error| Fault::network(&error.without_url(), &host))?;
    let (status, headers) = (response.status(), response.headers().clone());
    let body = read_whole(response, pace.idle_timeout, 1 << 20).await?;
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
        let mut fault = super::fault::classify(super::fault::Area::Versions, status, &headers, &body);
        fault.cure = Cure::Again;
        return Err(fault.into());
    }
    if super::fault::is_html(&headers, &body) {
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

fn refusal(error: RequestTokenError<WireFault, BasicErrorResponse>) -> Fault {
    match error {
        RequestTokenError::Request(WireFault(fault)) => fault,
        // Their texts can hold the body.
        RequestTokenError::Parse(..) | RequestTokenError::Other(_) => {
            Fault::unreadable("the login host's answer is not the JSON that was expected")
        }
        RequestTokenError::ServerResponse(answer) => {
            let code = answer.error().as_ref().to_owned();
            let description = answer.error_description().map(String::as_str).unwrap_or_default();
            let lower = description.to_ascii_lowercase();
            let transient = lower.contains("already being processed")
                || lower.contains("login rate exceeded")
                || matches!(
                    code.as_str(),
                    "rate_limit_exceeded" | "server_error" | "temporarily_unavailable"
                );
            let said = super::fault::clean(description);
            let message = format!("Salesforce answered {code}: {said}");
            let message = message.trim_end_matches(": ").to_owned();
            if transient {
                return Fault::new(Kind::SalesforceUnavailable, Cure::Again, message);
            }
            let mut fault = Fault::new(Kind::LoginRefused, Cure::None, message);
            fault.hint = HINTS
                .iter()
                .find(|(error, start, _)| *error == code && lower.starts_with(start))
                .map(|(_, _, hint)| *hint);
            fault
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
    use super::*;

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
            serde_json::from_str(include_str!("../../tests/data/salesforce/token-error-refresh.json"))
                .unwrap();
        let fault = refusal(RequestTokenError::ServerResponse(answer));
        assert_eq!((fault.kind, fault.cure), (Kind::LoginRefused, Cure::None));
        assert_eq!(fault.message, "Salesforce answered invalid_grant: expired access/refresh token");
    }
}
