//! The refusals of the token endpoint and of the approval, word by word (rest.md 1.7), and those that a test orders.
//!
//! Comes in: which one, for which grant, how often. Goes out: the answer. Never refuses anything that was not ordered: the
//! rules themselves are with the grants.

use http::StatusCode;
use serde::Deserialize;
use serde_json::json;

use crate::http::reply::Answer;

/// Both words of a refusal, and its status if it is not 400.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub error: String,
    pub description: String,
    pub status: u16,
}

pub(crate) fn refusal(error: &str, description: &str) -> Refusal {
    Refusal { error: error.to_owned(), description: description.to_owned(), status: 400 }
}

pub(crate) fn invalid_grant(description: &str) -> Refusal {
    refusal("invalid_grant", description)
}

impl Refusal {
    pub fn answer(&self) -> Answer {
        Answer::json(&json!({"error": self.error, "error_description": self.description}))
            .status(StatusCode::from_u16(self.status).unwrap_or(StatusCode::BAD_REQUEST))
            .header("cache-control", "no-store")
            .unbilled()
    }
}

/// `error`, `error_description`, status. Where the reference gives no description, or calls it unconfirmed, the words are ours.
const KNOWN: [(&str, &str, u16); 34] = [
    ("invalid_grant", "expired access/refresh token", 400),
    ("invalid_grant", "expired authorization code", 400),
    ("invalid_grant", "invalid authorization code", 400),
    ("invalid_grant", "token request is already being processed", 400),
    ("invalid_grant", "authentication failure", 400),
    ("invalid_grant", "authentication failure - Invalid Password", 400),
    ("invalid_grant", "user hasn't approved this consumer", 400),
    ("invalid_grant", "Audience validation failed", 400),
    ("invalid_grant", "invalid assertion", 400),
    ("invalid_grant", "request not supported on this domain", 400),
    ("invalid_grant", "no client credentials user enabled", 400),
    ("invalid_grant", "ip restricted", 400),
    ("invalid_grant", "activation secret invalid", 400),
    ("invalid_grant", "invalid login hours", 400),
    ("invalid_grant", "login rate exceeded", 400),
    ("invalid_grant", "inactive user", 400),
    ("inactive_user", "user is inactive", 400),
    ("inactive_org", "organization is inactive", 400),
    ("invalid_client_id", "client identifier invalid", 400),
    ("invalid_client", "invalid client credentials", 400),
    ("invalid_client", "app must be installed into org", 400),
    ("invalid_client", "External client app is not installed in this org", 400),
    ("invalid_app_access", "user is not admin approved to access this app", 400),
    ("redirect_uri_mismatch", "redirect_uri must match configuration", 400),
    ("unsupported_grant_type", "grant type not supported", 400),
    ("invalid_request", "the request is invalid", 400),
    ("unsupported_response_type", "response type not supported", 400),
    ("invalid_scope", "the requested scope is invalid", 400),
    ("OAUTH_APP_ACCESS_DENIED", "user is not admin approved to access this app", 400),
    (
        "OAUTH_APPROVAL_ERROR_GENERIC",
        "An unexpected error has occured during authentication. Please try again.",
        400,
    ),
    ("access_denied", "end-user denied authorization", 400),
    ("rate_limit_exceeded", "too many requests", 400),
    ("server_error", "an unexpected error occurred", 500),
    ("server_error", "service unavailable", 503),
];

/// By its description, or by its error where there is no better name.
pub(crate) fn named(name: &str) -> Option<Refusal> {
    KNOWN
        .iter()
        .find(|(_, description, _)| *description == name)
        .or_else(|| KNOWN.iter().find(|(error, _, _)| *error == name))
        .map(|(error, description, status)| Refusal { status: *status, ..refusal(error, description) })
}

/// A refusal to come.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Ordered {
    /// One of [`KNOWN`], by either word.
    #[serde(rename = "as")]
    name: String,
    /// `authorize`, or a grant type; any call of the token endpoint if absent.
    #[serde(default)]
    at: Option<String>,
    #[serde(default = "once")]
    times: u64,
    /// How many matching calls go by first.
    #[serde(default)]
    after: u64,
    #[serde(default)]
    status: Option<u16>,
}

const fn once() -> u64 {
    1
}

#[derive(Default)]
pub(crate) struct Orders(Vec<Ordered>);

impl Orders {
    pub fn add(&mut self, order: Ordered) -> Result<(), String> {
        if named(&order.name).is_none() {
            return Err(format!("no refusal says {}", order.name));
        }
        self.0.push(order);
        Ok(())
    }

    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// The refusal for a call, if one was ordered.
    pub fn take(&mut self, at: &str) -> Option<Refusal> {
        let place = self.0.iter_mut().position(|order| {
            let meets = match &order.at {
                Some(wanted) => wanted == at,
                None => at != "authorize",
            };
            if meets && order.after > 0 {
                order.after -= 1;
                return false;
            }
            meets && order.times > 0
        })?;
        let order = self.0.get_mut(place)?;
        order.times -= 1;
        let refusal = named(&order.name)
            .map(|refusal| Refusal { status: order.status.unwrap_or(refusal.status), ..refusal });
        if order.times == 0 {
            self.0.remove(place);
        }
        refusal
    }
}
