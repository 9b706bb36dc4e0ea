//! What the login host's refusals mean, and what helps: `rest.md` 1.7 as one table.
//!
//! Comes in: `error` and `error_description` of the token endpoint, or of the address a browser ended at, and the
//! way of logging in. Goes out: a [`Fault`] whose hint says what to set, and where. Never: the request in a message.

use crate::error::Kind;

use super::super::fault::{Cure, Fault, clean};

/// What was asked of the login host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flow {
    ClientCredentials,
    Code,
    Refresh,
    Assertion,
    Password,
}

struct Row {
    error: &'static str,
    /// What `error_description` holds; empty: anything.
    says: &'static str,
    /// Empty: any.
    flows: &'static [Flow],
    hint: &'static str,
}

const fn row(error: &'static str, says: &'static str, hint: &'static str) -> Row {
    Row { error, says, flows: &[], hint }
}

const fn of(flows: &'static [Flow], error: &'static str, says: &'static str, hint: &'static str) -> Row {
    Row { error, says, flows, hint }
}

const POLICIES: &str = "ask a Salesforce administrator to allow the user in the app's policies: Permitted Users, and the permission set or profile that the app names";

/// All lower case; the first row that fits counts.
const ROWS: &[Row] = &[
    row(
        "invalid_client_id",
        "",
        "check `salesforce.client_id`, and that `login_domain` is the org's My Domain; a new app is known after 2 to 10 minutes",
    ),
    row(
        "invalid_client",
        "invalid client credentials",
        "check `salesforce.client_secret`: the consumer secret on the app's page, Manage Consumer Details",
    ),
    row(
        "invalid_client",
        "not installed",
        "ask a Salesforce administrator to install the external client app in the org",
    ),
    row(
        "invalid_client",
        "must be installed",
        "ask a Salesforce administrator to install the app in the org: Setup > Connected Apps OAuth Usage > Install",
    ),
    row("invalid_client", "", "check `salesforce.client_id` and `salesforce.client_secret`"),
    row(
        "invalid_grant",
        "request not supported on this domain",
        "set `salesforce.login_domain` to the org's My Domain (`acme.my.salesforce.com`): client-credentials does not work at login.salesforce.com",
    ),
    row(
        "invalid_grant",
        "no client credentials user enabled",
        "choose a \"Run As\" user in the app: External Client App Manager > the app > Policies > Enable Client Credentials Flow > Run As",
    ),
    row(
        "invalid_grant",
        "ip restricted",
        "ask a Salesforce administrator to allow this machine's address: the app's IP Relaxation policy, or Login IP Ranges of the user's profile",
    ),
    row(
        "invalid_grant",
        "activation secret invalid",
        "the org wants this machine verified: ask a Salesforce administrator to allow its address, or set the app's IP Relaxation policy to relax",
    ),
    row(
        "invalid_grant",
        "login hours",
        "ask a Salesforce administrator for the Login Hours of the user's profile",
    ),
    row(
        "invalid_grant",
        "inactive user",
        "ask a Salesforce administrator to activate or unfreeze the integration user",
    ),
    row("inactive_user", "", "ask a Salesforce administrator to activate or unfreeze the integration user"),
    row("inactive_org", "", "the org is closed or locked: ask its Salesforce administrator"),
    of(
        &[Flow::Refresh],
        "invalid_grant",
        "expired access/refresh token",
        "log in again: `sf2kafka login -c FILE`",
    ),
    of(
        &[Flow::Code],
        "invalid_grant",
        "authorization code",
        "a code is good once and for some minutes: begin again with `sf2kafka login -c FILE`",
    ),
    of(
        &[Flow::Code],
        "invalid_grant",
        "code verifier",
        "begin again with `sf2kafka login -c FILE`, and paste the code of that login only",
    ),
    of(
        &[Flow::Assertion],
        "invalid_grant",
        "expired authorization code",
        "the assertion was too old when it came: set this machine's clock",
    ),
    of(
        &[Flow::Assertion],
        "invalid_grant",
        "invalid assertion",
        "the app does not know the key: upload the certificate of `salesforce.private_key_file` to the app (Use digital signatures), and set this machine's clock",
    ),
    of(
        &[Flow::Assertion],
        "invalid_grant",
        "audience validation failed",
        "set `salesforce.audience` to `https://login.salesforce.com`, to `https://test.salesforce.com` for a sandbox, or to the site's address",
    ),
    of(
        &[Flow::Assertion],
        "invalid_grant",
        "hasn't approved this consumer",
        "let the user in beforehand: the app's policy Permitted Users \"Admin approved users are pre-authorized\", with a permission set that the user has",
    ),
    of(
        &[Flow::Assertion],
        "invalid_grant",
        "user hasn",
        "let the user in beforehand: the app's policy Permitted Users \"Admin approved users are pre-authorized\", with a permission set that the user has",
    ),
    of(
        &[Flow::Password],
        "invalid_grant",
        "authentication failure",
        "check `salesforce.username`, `password` and `security_token`, and Setup > Login History; orgs block password logins by \"Allow OAuth Username-Password Flows\" under OAuth and OpenID Connect Settings: better use `auth: client-credentials`",
    ),
    row(
        "invalid_grant",
        "authentication failure",
        "look at Setup > Login History for the reason that Salesforce does not tell the program",
    ),
    row("invalid_app_access", "", POLICIES),
    row("oauth_app_access_denied", "", POLICIES),
    row(
        "oauth_approval_error_generic",
        "",
        "ask a Salesforce administrator whether the app is blocked or not installed: Setup > Connected Apps OAuth Usage",
    ),
    row("access_denied", "", "log in again and choose Allow: `sf2kafka login -c FILE`"),
    row("access-denied", "", "log in again and choose Allow: `sf2kafka login -c FILE`"),
    row(
        "redirect_uri_mismatch",
        "",
        "make `salesforce.callback_url` one of the app's callback URLs, byte for byte: port, case and a slash at the end count",
    ),
    row(
        "unsupported_response_type",
        "",
        "tick \"Enable Authorization Code and Credentials Flow\" or the web server flow in the app",
    ),
    of(
        &[Flow::ClientCredentials],
        "unsupported_grant_type",
        "",
        "tick \"Enable Client Credentials Flow\" in the app's settings, and again in its policies",
    ),
    of(
        &[Flow::Assertion],
        "unsupported_grant_type",
        "",
        "tick \"Enable JWT Bearer Flow\" in the app's settings",
    ),
    of(
        &[Flow::Password],
        "unsupported_grant_type",
        "",
        "the org does not take password logins: use `auth: client-credentials` or `auth: jwt-bearer`",
    ),
    row(
        "unsupported_grant_type",
        "",
        "tick \"Enable Authorization Code and Credentials Flow\" in the app's settings",
    ),
    row(
        "invalid_scope",
        "",
        "give the app the scopes \"Manage user data via APIs (api)\" and \"Perform requests at any time (refresh_token, offline_access)\"",
    ),
    of(
        &[Flow::Code],
        "invalid_request",
        "code_challenge",
        "leave `salesforce.pkce` out: the app requires PKCE",
    ),
    of(
        &[Flow::Code],
        "invalid_request",
        "",
        "leave `salesforce.pkce` out if the app requires PKCE, and give `salesforce.client_secret` if it requires the secret for the web server flow",
    ),
    row(
        "invalid_request",
        "",
        "look at Setup > Login History for the reason that Salesforce does not tell the program",
    ),
];

/// `invalid_grant` of these is over soon, unlike most.
const PASSING: &[&str] = &["already being processed", "login rate exceeded"];

pub(super) fn refused(flow: Flow, error: &str, description: &str) -> Fault {
    let (code, says) = (error.to_ascii_lowercase(), description.to_ascii_lowercase());
    let message = format!("Salesforce answered {}: {}", clean(error), clean(description));
    let message = message.trim_end_matches(": ").to_owned();
    let passing = PASSING.iter().any(|part| says.contains(part))
        || matches!(code.as_str(), "rate_limit_exceeded" | "server_error" | "temporarily_unavailable");
    if passing {
        return Fault::new(Kind::SalesforceUnavailable, Cure::Again, message);
    }
    let used_up = flow == Flow::Refresh && code == "invalid_grant" && says.contains("refresh token");
    let kind = if used_up { Kind::LoginNeeded } else { Kind::LoginRefused };
    let mut fault = Fault::new(kind, Cure::None, message);
    let fits = |row: &&Row| {
        row.error == code && says.contains(row.says) && (row.flows.is_empty() || row.flows.contains(&flow))
    };
    fault.hint = ROWS.iter().find(fits).map(|row| row.hint.into());
    fault
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every row of `rest.md` 1.7 with the flow it comes from, and a word that its advice must hold.
    const KNOWN: &[(Flow, &str, &str, &str)] = &[
        (Flow::Refresh, "invalid_grant", "expired access/refresh token", "sf2kafka login"),
        (Flow::Code, "invalid_grant", "expired authorization code", "sf2kafka login"),
        (Flow::Code, "invalid_grant", "invalid authorization code", "sf2kafka login"),
        (Flow::Password, "invalid_grant", "authentication failure", "security_token"),
        (Flow::Password, "invalid_grant", "authentication failure - Invalid Password", "security_token"),
        (Flow::Assertion, "invalid_grant", "user hasn't approved this consumer", "pre-authorized"),
        (Flow::Assertion, "invalid_grant", "Audience validation failed", "salesforce.audience"),
        (Flow::Assertion, "invalid_grant", "invalid assertion", "certificate"),
        (Flow::Assertion, "invalid_grant", "expired authorization code", "clock"),
        (Flow::ClientCredentials, "invalid_grant", "request not supported on this domain", "My Domain"),
        (Flow::ClientCredentials, "invalid_grant", "no client credentials user enabled", "Run As"),
        (Flow::Refresh, "invalid_grant", "ip restricted", "address"),
        (Flow::Password, "invalid_grant", "activation secret invalid", "verified"),
        (Flow::Password, "invalid_grant", "invalid login hours", "Login Hours"),
        (Flow::Refresh, "invalid_grant", "inactive user", "activate"),
        (Flow::Refresh, "inactive_user", "", "activate"),
        (Flow::Refresh, "inactive_org", "", "administrator"),
        (Flow::Code, "invalid_client_id", "client identifier invalid", "2 to 10 minutes"),
        (Flow::Code, "invalid_client", "invalid client credentials", "client_secret"),
        (Flow::Refresh, "invalid_client", "app must be installed into org", "install"),
        (
            Flow::Refresh,
            "invalid_client",
            "External client app is not installed in this org",
            "external client app",
        ),
        (
            Flow::Code,
            "invalid_app_access",
            "user is not admin approved to access this app",
            "Permitted Users",
        ),
        (Flow::Code, "OAUTH_APP_ACCESS_DENIED", "", "Permitted Users"),
        (Flow::Code, "OAUTH_APPROVAL_ERROR_GENERIC", "", "blocked"),
        (Flow::Code, "redirect_uri_mismatch", "redirect_uri must match configuration", "callback_url"),
        (Flow::Code, "access_denied", "end-user denied authorization", "Allow"),
        (Flow::ClientCredentials, "unsupported_grant_type", "grant type not supported", "Client Credentials"),
        (Flow::Assertion, "unsupported_grant_type", "grant type not supported", "JWT"),
        (Flow::Password, "unsupported_grant_type", "grant type not supported", "client-credentials"),
        (Flow::Code, "unsupported_response_type", "", "web server flow"),
        (Flow::Code, "invalid_scope", "the requested scope is invalid", "(api)"),
        (Flow::Code, "invalid_request", "missing required code challenge", "pkce"),
    ];

    #[test]
    fn every_known_refusal_is_permanent_and_says_what_to_set() {
        for (flow, error, description, word) in KNOWN {
            let fault = refused(*flow, error, description);
            assert_eq!(fault.cure, Cure::None, "{error}: {description}");
            let hint = fault.hint.unwrap_or_default();
            assert!(hint.contains(word), "{flow:?} {error}: {description}\n{hint}");
        }
    }

    #[test]
    fn what_passes_is_tried_again() {
        for (error, description) in [
            ("invalid_grant", "token request is already being processed"),
            ("invalid_grant", "login rate exceeded"),
            ("rate_limit_exceeded", ""),
            ("server_error", ""),
        ] {
            let fault = refused(Flow::Refresh, error, description);
            assert_eq!((fault.kind, fault.cure), (Kind::SalesforceUnavailable, Cure::Again), "{error}");
        }
    }

    #[test]
    fn a_refresh_token_that_is_used_up_asks_for_a_login_and_a_wrong_secret_does_not() {
        let kind = |error, description| refused(Flow::Refresh, error, description).kind;
        assert_eq!(kind("invalid_grant", "expired access/refresh token"), Kind::LoginNeeded);
        assert_eq!(kind("invalid_client", "invalid client credentials"), Kind::LoginRefused);
        assert_eq!(kind("invalid_grant", "inactive user"), Kind::LoginRefused);
    }
}
