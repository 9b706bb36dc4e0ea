//! The one app that clients log in with, and the one person who uses it: what an administrator would have set.
//!
//! Comes in: orders of the control interface. Goes out: which flows, scopes and callbacks are allowed. It never holds what was
//! issued; that is `ledger.rs`.

use std::collections::BTreeSet;

use serde::Deserialize;
use serde_json::{Value as Json, json};

use super::assertion;
use crate::http::SimulatorConfig;

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, PartialOrd, Ord)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Flow {
    AuthorizationCode,
    ClientCredentials,
    JwtBearer,
    Password,
}

impl Flow {
    pub const ALL: [Self; 4] =
        [Self::AuthorizationCode, Self::ClientCredentials, Self::JwtBearer, Self::Password];

    const fn name(self) -> &'static str {
        match self {
            Self::AuthorizationCode => "authorizationCode",
            Self::ClientCredentials => "clientCredentials",
            Self::JwtBearer => "jwtBearer",
            Self::Password => "password",
        }
    }
}

#[derive(Clone, Debug)]
pub(crate) struct App {
    pub name: String,
    pub callback_urls: Vec<String>,
    pub scopes: Vec<String>,
    pub flows: BTreeSet<Flow>,
    pub pkce_required: bool,
    pub secret_for_web_server: bool,
    pub secret_for_refresh: bool,
    pub rotation: bool,
    /// A refresh token that nobody used so long is over, in the org's time.
    pub refresh_idle_seconds: Option<u64>,
    /// The Run-As user of client credentials.
    pub run_as: bool,
    /// Only users that an administrator approved may use it; else everybody approves for himself.
    pub admin_approved_only: bool,
    pub approved_users: BTreeSet<String>,
    /// Not installed in the org, or blocked there.
    pub blocked: bool,
    /// Of the certificate that signs JWTs: an RSA public key as PKCS#1 has it.
    pub public_key: Option<Vec<u8>>,
    pub audiences: Vec<String>,
    /// So many grants of one user at most; the oldest goes silently.
    pub most_grants: Option<usize>,
    /// This host is login.salesforce.com, not a My Domain.
    pub login_host: bool,
    /// What a wrong client id or secret is answered with: sources know 400, 401 is possible.
    pub client_error_status: u16,
    /// A data call to a host that is not the last `instance_url` is 401.
    pub strict_instance: bool,
}

/// What may be changed; what is left out stays.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct AppOrder {
    name: Option<String>,
    callback_urls: Option<Vec<String>>,
    scopes: Option<Vec<String>>,
    flows: Option<BTreeSet<Flow>>,
    pkce_required: Option<bool>,
    secret_for_web_server: Option<bool>,
    secret_for_refresh: Option<bool>,
    rotation: Option<bool>,
    refresh_idle_seconds: Option<u64>,
    run_as: Option<bool>,
    admin_approved_only: Option<bool>,
    approved_users: Option<BTreeSet<String>>,
    blocked: Option<bool>,
    certificate: Option<String>,
    audiences: Option<Vec<String>>,
    most_grants: Option<usize>,
    login_host: Option<bool>,
    client_error_status: Option<u16>,
    strict_instance: Option<bool>,
}

impl App {
    pub fn new(config: &SimulatorConfig, port: u16) -> Self {
        let mut callback_urls = vec![
            "http://localhost:1717/OauthRedirect".to_owned(),
            "https://login.salesforce.com/services/oauth2/success".to_owned(),
            "https://login.salesforce.com/services/oauth2/callback".to_owned(),
            "https://test.salesforce.com/services/oauth2/success".to_owned(),
            "https://test.salesforce.com/services/oauth2/callback".to_owned(),
        ];
        for host in ["127.0.0.1", "localhost"] {
            for page in ["success", "callback"] {
                callback_urls.push(format!("http://{host}:{port}/services/oauth2/{page}"));
            }
        }
        let mut audiences =
            vec!["https://login.salesforce.com".to_owned(), "https://test.salesforce.com".to_owned()];
        audiences.extend(["127.0.0.1", "localhost"].map(|host| format!("http://{host}:{port}")));
        Self {
            name: "Simulated App".to_owned(),
            callback_urls,
            scopes: ["refresh_token", "api", "id", "openid"].map(str::to_owned).to_vec(),
            flows: Flow::ALL.into(),
            pkce_required: false,
            secret_for_web_server: true,
            secret_for_refresh: false,
            rotation: config.rotation,
            refresh_idle_seconds: None,
            run_as: true,
            admin_approved_only: false,
            approved_users: BTreeSet::new(),
            blocked: false,
            public_key: None,
            audiences,
            most_grants: None,
            login_host: false,
            client_error_status: 400,
            strict_instance: false,
        }
    }

    pub fn change(&mut self, order: AppOrder) -> Result<(), String> {
        if let Some(pem) = &order.certificate {
            self.public_key = match pem.trim() {
                "" => None,
                pem => Some(assertion::public_key(pem).ok_or("certificate is not one with an RSA key")?),
            };
        }
        if order.client_error_status.is_some_and(|status| !(400..500).contains(&status)) {
            return Err("clientErrorStatus is not a status from 400 to 499".to_owned());
        }
        fn set<T>(place: &mut T, given: Option<T>) {
            if let Some(given) = given {
                *place = given;
            }
        }
        set(&mut self.name, order.name);
        set(&mut self.callback_urls, order.callback_urls);
        set(&mut self.scopes, order.scopes);
        set(&mut self.flows, order.flows);
        set(&mut self.pkce_required, order.pkce_required);
        set(&mut self.secret_for_web_server, order.secret_for_web_server);
        set(&mut self.secret_for_refresh, order.secret_for_refresh);
        set(&mut self.rotation, order.rotation);
        set(&mut self.run_as, order.run_as);
        set(&mut self.admin_approved_only, order.admin_approved_only);
        set(&mut self.approved_users, order.approved_users);
        set(&mut self.blocked, order.blocked);
        set(&mut self.audiences, order.audiences);
        set(&mut self.login_host, order.login_host);
        set(&mut self.client_error_status, order.client_error_status);
        set(&mut self.strict_instance, order.strict_instance);
        set(&mut self.refresh_idle_seconds, order.refresh_idle_seconds.map(|n| (n > 0).then_some(n)));
        set(&mut self.most_grants, order.most_grants.map(|n| (n > 0).then_some(n)));
        Ok(())
    }

    pub fn to_json(&self) -> Json {
        json!({
            "name": self.name,
            "callbackUrls": self.callback_urls,
            "scopes": self.scopes,
            "flows": self.flows.iter().map(|flow| flow.name()).collect::<Vec<_>>(),
            "pkceRequired": self.pkce_required,
            "secretForWebServer": self.secret_for_web_server,
            "secretForRefresh": self.secret_for_refresh,
            "rotation": self.rotation,
            "refreshIdleSeconds": self.refresh_idle_seconds.unwrap_or(0),
            "runAs": self.run_as,
            "adminApprovedOnly": self.admin_approved_only,
            "approvedUsers": self.approved_users,
            "blocked": self.blocked,
            "certificate": self.public_key.is_some(),
            "audiences": self.audiences,
            "mostGrants": self.most_grants.unwrap_or(0),
            "loginHost": self.login_host,
            "clientErrorStatus": self.client_error_status,
            "strictInstance": self.strict_instance,
        })
    }

    /// What was asked for, in the app's order; all of the app's if nothing was. `None`: something that the app does not have.
    pub fn granted(&self, asked: &str) -> Option<Vec<String>> {
        let asked: Vec<&str> = asked.split_whitespace().map(one_name).collect();
        let own: Vec<&str> = self.scopes.iter().map(|scope| one_name(scope)).collect();
        let has = |scope: &str| {
            own.contains(&scope) || (own.contains(&"full") && scope != "refresh_token" && is_known(scope))
        };
        if !asked.iter().all(|scope| has(scope)) {
            return None;
        }
        if asked.is_empty() {
            return Some(own.into_iter().map(str::to_owned).collect());
        }
        let mut granted: Vec<&str> = own.into_iter().filter(|scope| asked.contains(scope)).collect();
        for scope in asked {
            if !granted.contains(&scope) {
                granted.push(scope);
            }
        }
        Some(granted.into_iter().map(str::to_owned).collect())
    }
}

/// `offline_access` is another word for `refresh_token`.
fn one_name(scope: &str) -> &str {
    if scope == "offline_access" { "refresh_token" } else { scope }
}

fn is_known(scope: &str) -> bool {
    const KNOWN: [&str; 12] = [
        "api",
        "address",
        "chatter_api",
        "custom_permissions",
        "email",
        "full",
        "id",
        "openid",
        "pardot_api",
        "phone",
        "profile",
        "web",
    ];
    KNOWN.contains(&scope) || scope.starts_with("cdp_")
}

/// Whether these scopes allow what one of them names: `full` is everything but a refresh token.
pub(crate) fn allows(scopes: &[String], wanted: &str) -> bool {
    scopes.iter().any(|scope| scope == wanted || (scope == "full" && wanted != "refresh_token"))
}

/// The person: name and password are the configuration's.
#[derive(Clone, Debug)]
pub(crate) struct User {
    /// Stands behind the password when a program logs in; empty: the address is trusted and none is needed.
    pub security_token: String,
    pub active: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct UserOrder {
    security_token: Option<String>,
    active: Option<bool>,
}

impl User {
    pub fn change(&mut self, order: UserOrder) {
        if let Some(token) = order.security_token {
            self.security_token = token;
        }
        self.active = order.active.unwrap_or(self.active);
    }
}
