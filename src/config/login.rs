//! The keys of `salesforce` that say how to log in.
//!
//! Comes in: the section. Goes out: an [`Auth`], or problems with their lines: what the chosen way needs and does not
//! have, and what is given and has no use with it. Never: a secret in a problem.

use std::os::unix::fs::MetadataExt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use url::{Host, Url};

use super::reader::{Section, Text};
use super::{App, Auth, Secret, TokenPlace};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Method {
    ClientCredentials,
    AccessToken,
    AuthorizationCode,
    RefreshToken,
    JwtBearer,
    Password,
}

use Method::{AccessToken, AuthorizationCode, ClientCredentials, JwtBearer, Password, RefreshToken};

/// Each key, and the ways to log in that have a use for it.
const KEYS: &[(&str, &[Method])] = &[
    ("client_id", &[ClientCredentials, AuthorizationCode, RefreshToken, JwtBearer, Password]),
    ("client_secret", &[ClientCredentials, AuthorizationCode, RefreshToken, Password]),
    ("client_secret_file", &[ClientCredentials, AuthorizationCode, RefreshToken, Password]),
    ("access_token", &[AccessToken]),
    ("access_token_file", &[AccessToken]),
    ("callback_url", &[AuthorizationCode]),
    ("pkce", &[AuthorizationCode]),
    ("refresh_token", &[RefreshToken]),
    ("refresh_token_file", &[RefreshToken]),
    ("token_store", &[AuthorizationCode, RefreshToken]),
    ("token_key", &[AuthorizationCode, RefreshToken]),
    ("token_key_file", &[AuthorizationCode, RefreshToken]),
    ("username", &[JwtBearer, Password]),
    ("private_key", &[JwtBearer]),
    ("private_key_file", &[JwtBearer]),
    ("audience", &[JwtBearer]),
    ("password", &[Password]),
    ("password_file", &[Password]),
    ("security_token", &[Password]),
    ("security_token_file", &[Password]),
];

pub(super) fn method(section: &Section<'_>) -> Option<Method> {
    let hint = "`client-credentials` with client_id and client_secret, or `authorization-code` and then `sf2kafka login -c FILE`";
    section.demand("auth", hint, |section| {
        section.choice(
            "auth",
            &[
                ("client-credentials", Some(ClientCredentials)),
                ("access-token", Some(AccessToken)),
                ("authorization-code", Some(AuthorizationCode)),
                ("jwt-bearer", Some(JwtBearer)),
                ("refresh-token", Some(RefreshToken)),
                ("password", Some(Password)),
            ],
        )
    })
}

pub(super) fn auth(section: &Section<'_>, method: Option<Method>, pipeline: &str) -> Option<Auth> {
    let is = |wanted: &[Method]| method.is_some_and(|method| wanted.contains(&method));
    let text = |key, needed, hint| if needed { section.required(key, hint) } else { section.text(key) };
    let secret = |key, needed, hint| {
        if needed { section.required_secret(key, hint) } else { section.secret(key) }
    };

    let client_id = text(
        "client_id",
        is(&[ClientCredentials, AuthorizationCode, RefreshToken, JwtBearer, Password]),
        "the consumer key of the External Client App or Connected App",
    );
    let client_secret = secret(
        "client_secret",
        is(&[ClientCredentials, Password]),
        "give `client_secret` or `client_secret_file`",
    )
    .filter(|secret| !secret.expose().is_empty());
    let access_token =
        secret("access_token", is(&[AccessToken]), "give `access_token` or `access_token_file`");
    let callback_url = section.text("callback_url").and_then(|text| callback(section, text));
    let pkce = section.flag("pkce").unwrap_or(true);
    let refresh_token = secret(
        "refresh_token",
        is(&[RefreshToken]),
        "give `refresh_token` or `refresh_token_file`; with `auth: authorization-code`, `sf2kafka login` gets one",
    );
    let username = text("username", is(&[JwtBearer, Password]), "the user to log in as");
    let private_key = secret(
        "private_key",
        is(&[JwtBearer]),
        "give `private_key_file`: the PEM file whose certificate the app has",
    );
    let audience = section.text("audience").map(|text| text.text);
    let password = secret("password", is(&[Password]), "give `password` or `password_file`");
    let security_token = section.secret("security_token").filter(|secret| !secret.expose().is_empty());
    let token_store = token_store(section, method, pipeline);
    if let Some(method) = method {
        let unused = KEYS.iter().filter(|(key, of)| !of.contains(&method) && section.has(key));
        for (key, of) in unused {
            has_no_use(section, key, method, of);
        }
    }

    match method? {
        ClientCredentials => {
            Some(Auth::ClientCredentials { client_id: client_id?.text, client_secret: client_secret? })
        }
        AccessToken => Some(Auth::AccessToken { access_token: access_token? }),
        AuthorizationCode => Some(Auth::AuthorizationCode {
            app: App { client_id: client_id?.text, client_secret },
            callback_url,
            pkce,
            token_store: token_store??,
        }),
        RefreshToken => Some(Auth::RefreshToken {
            app: App { client_id: client_id?.text, client_secret },
            refresh_token: refresh_token?,
            token_store: token_store?,
        }),
        JwtBearer => Some(Auth::JwtBearer {
            client_id: client_id?.text,
            username: username?.text,
            private_key: private_key?,
            audience,
        }),
        Password => Some(Auth::Password {
            client_id: client_id?.text,
            client_secret: client_secret?,
            username: username?.text,
            password: password?,
            security_token,
        }),
    }
}

fn has_no_use(section: &Section<'_>, key: &str, method: Method, of: &[Method]) {
    let message = format!("`salesforce.{key}` has no use with `auth: {}`", word(method));
    let others: Vec<String> = of.iter().map(|method| format!("`auth: {}`", word(*method))).collect();
    let hint = format!("leave it out, or choose {}", others.join(" or "));
    section.context().problem(section.place_of(key), message, Some(&hint));
}

fn word(method: Method) -> &'static str {
    match method {
        ClientCredentials => "client-credentials",
        AccessToken => "access-token",
        AuthorizationCode => "authorization-code",
        RefreshToken => "refresh-token",
        JwtBearer => "jwt-bearer",
        Password => "password",
    }
}

/// Kept as it is written: Salesforce compares it byte for byte.
fn callback(section: &Section<'_>, text: Text) -> Option<String> {
    let hint = "give the app's callback URL as it stands there: `https://login.salesforce.com/services/oauth2/success`, or `http://localhost:1717/callback` to have the browser bring the code";
    let url = Url::parse(&text.text).ok();
    let fits = url.as_ref().is_some_and(|url| {
        url.host().is_some() && url.fragment().is_none() && matches!(url.scheme(), "https" | "http")
    });
    if !fits {
        let message = format!("`salesforce.callback_url`: `{}` is no http address", text.shown);
        section.context().problem(text.place, message, Some(hint));
        return None;
    }
    let open = url.is_some_and(|url| url.scheme() == "http" && !is_this_machine(&url));
    if open {
        let message =
            format!("`salesforce.callback_url`: the code would travel to `{}` by plain http", text.shown);
        let hint = "use https; plain http is only for this machine itself (localhost, 127.0.0.1)";
        section.context().problem(text.place, message, Some(hint));
        return None;
    }
    Some(text.text)
}

fn is_this_machine(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

/// None: a problem, or no use for one. Some(None): none is wanted.
fn token_store(section: &Section<'_>, method: Option<Method>, pipeline: &str) -> Option<Option<TokenPlace>> {
    let context = section.context();
    let key = section.secret("token_key");
    let given = section.text("token_store");
    let place = section.place_of("token_store");
    match given.as_ref().map(|text| text.text.as_str()) {
        Some("kafka") => {
            let hint =
                "give `token_key_file`, made once with `openssl rand -hex 32`, the same for all instances";
            let key = section.demand("token_key", hint, |_| key)?;
            if let Some(mode) = open_to_others(section) {
                let message =
                    format!("`salesforce.token_key_file` can be read by other users (mode {mode:03o})");
                let hint = "take their rights away with `chmod 600 FILE`, or give `token_key` from an environment variable";
                context.problem(section.place_of("token_key_file"), message, Some(hint));
                return None;
            }
            if key_bytes(&key).is_none() {
                let message = "`salesforce.token_key` is no key of 32 bytes in hexadecimal or base64";
                context.problem(section.place_of("token_key"), message, Some(hint));
                return None;
            }
            Some(Some(TokenPlace::Kafka { key }))
        }
        _ if key.is_some() && matches!(method, Some(AuthorizationCode | RefreshToken)) => {
            let message = "`salesforce.token_key` has no use without `token_store: kafka`";
            context.problem(place, message, Some("leave it out, or set `token_store: kafka`"));
            None
        }
        Some("none") if method == Some(RefreshToken) => Some(None),
        Some("none") => {
            let message = "`salesforce.token_store: none`: the login would be lost at once";
            context.problem(place, message, Some("leave it out, or give a file"));
            None
        }
        Some(path) => Some(Some(TokenPlace::File(context.path(path)))),
        None if !matches!(method, Some(AuthorizationCode | RefreshToken)) => None,
        None if (context.environment)("HOME").is_none_or(|home| home.is_empty()) => {
            let message =
                "`token_store` is missing in `salesforce`, and there is no home directory to keep it in";
            context.problem(place, message, Some("give a file on storage that outlives the program"));
            None
        }
        None => Some(Some(TokenPlace::File(context.path(&format!("~/.config/sf2kafka/{pipeline}.json"))))),
    }
}

/// The mode of the key's file if more than its owner may read it.
fn open_to_others(section: &Section<'_>) -> Option<u32> {
    let file = section.text("token_key_file")?;
    let mode = std::fs::metadata(section.context().path(&file.text)).ok()?.mode() & 0o777;
    (mode & 0o077 != 0).then_some(mode)
}

/// A key of 32 bytes, spelled as 64 hexadecimal digits or as base64.
pub fn key_bytes(key: &Secret) -> Option<[u8; 32]> {
    let text = key.expose().trim();
    if text.len() == 64 && text.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
            let pair = std::str::from_utf8(pair).ok()?;
            *byte = u8::from_str_radix(pair, 16).ok()?;
        }
        return Some(bytes);
    }
    STANDARD.decode(text).ok()?.try_into().ok()
}
