//! `sf2kafka login`: guides a person through the login in a browser and keeps what it gave; other logins are tried.
//!
//! Comes in: a configuration, a code on stdin or from the browser. Goes out: who is logged in and where the login is
//! kept, on stdout; the address to open and what to do, on stderr. Never: a code or a token on either.

mod browser;
mod callback;

use std::time::Duration;

use clap::Args;
use serde::Serialize;
use tokio::sync::mpsc;

use super::output::{self, FormatArgument};
use super::{ConfigArgument, Outcome, block_on};
use crate::config::{self, Auth, Secret, Settings, TokenPlace};
use crate::error::Kind;
use crate::pipeline::token_store;
use crate::salesforce::{CodeLogin, Identity, Pace, Pasted};
use crate::{Error, Result};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    config: ConfigArgument,
    /// Only print the address, open no browser
    #[arg(long)]
    no_browser: bool,
    /// How long to wait for the code
    #[arg(long, value_name = "DURATION", default_value = "15m", value_parser = duration)]
    wait: Duration,
    #[command(flatten)]
    format: FormatArgument,
}

fn duration(text: &str) -> Result<Duration, String> {
    config::parse_duration(text).ok_or_else(|| "a duration such as `15m` is wanted".to_owned())
}

#[derive(Debug, Serialize)]
struct Report {
    auth: &'static str,
    #[serde(flatten)]
    identity: Identity,
    instance: String,
    /// Where the refresh token is kept; none: nothing is.
    token_store: Option<String>,
}

pub(super) fn run(arguments: &Arguments) -> Result<Outcome> {
    let settings = config::load(&arguments.config.config)?;
    let report = block_on(async {
        token_store::prepare(&settings).await?;
        if matches!(settings.salesforce.auth, Auth::AuthorizationCode { .. }) {
            in_browser(arguments, &settings).await?;
        }
        who(&settings).await
    })?;
    output::report(arguments.format.output, &report, text);
    if report.token_store.is_none() {
        output::words(&format!("`auth: {}` needs no login to be kept", report.auth));
    }
    if matches!(settings.salesforce.auth, Auth::Password { .. }) {
        output::words(
            "Salesforce is retiring logins with a password: `auth: client-credentials` will go on working",
        );
    }
    Ok(Outcome::Done)
}

fn text(report: &Report) -> String {
    let Identity { username, user_id, organization_id } = &report.identity;
    let user = match (username, user_id) {
        (Some(name), Some(id)) => format!("{name} ({id})"),
        (Some(name), None) => name.clone(),
        (None, Some(id)) => format!("user {id}"),
        (None, None) => "a user whose name the session may not ask for".to_owned(),
    };
    let mut text = format!("logged in as {user} in org {organization_id} at {}\n", report.instance);
    if let Some(path) = &report.token_store {
        let guarded = if path.starts_with("topic ") {
            "sealed with the token key"
        } else {
            "readable by this user only"
        };
        text.push_str(&format!("the refresh token is kept in {path}, {guarded}\n"));
    }
    text
}

/// Uses what is kept, or logs in, and asks Salesforce who that is.
async fn who(settings: &Settings) -> Result<Report> {
    let client = token_store::connect(settings, Pace::brief()).await?;
    let auth = &settings.salesforce.auth;
    Ok(Report {
        auth: auth.word(),
        identity: client.who_am_i().await?,
        instance: client.instance(),
        token_store: auth.token_store().map(|place| match place {
            TokenPlace::File(path) => path.display().to_string(),
            TokenPlace::Kafka { .. } => format!("topic {}", settings.control_topic()),
        }),
    })
}

async fn in_browser(arguments: &Arguments, settings: &Settings) -> Result<()> {
    let login = CodeLogin::begin(&settings.salesforce)?;
    let mut callback = match login.loopback() {
        Some(url) => Some(callback::listen(&url).await?),
        None => None,
    };
    output::words("Open this address in a browser, and log in as the user whom the pipeline is to run as:\n");
    output::words(login.url().as_str());
    output::words(match callback {
        Some(_) => {
            "\nThe browser brings the code back by itself. If it cannot reach this machine, paste the address that it ended at:"
        }
        None => "\nThen paste the address that the browser ended at, or the code in it, and press Enter:",
    });
    if !arguments.no_browser {
        browser::open(login.url());
    }
    let waited = tokio::time::timeout(arguments.wait, code(&login, callback.as_mut())).await;
    if let Some(callback) = callback {
        callback.close().await;
    }
    let code = waited.map_err(|_| {
        Error::new(Kind::LoginRefused, "no code came in time")
            .hint("read the page in the browser: some refusals are shown only there; then run `sf2kafka login` again")
    })??;
    login.finish(&code, &Pace::brief(), token_store::shared(settings)).await
}

/// The first code that can be used, wherever it comes from.
async fn code(login: &CodeLogin, mut callback: Option<&mut callback::Listener>) -> Result<Secret> {
    let mut lines = stdin_lines();
    let mut typed = true;
    loop {
        let pasted = tokio::select! {
            line = lines.recv(), if typed => match line {
                Some(line) => login.pasted(&line)?,
                None => {
                    typed = false;
                    if callback.is_none() {
                        return Err(Error::new(Kind::Usage, "stdin ended without a code")
                            .hint("paste the address that the browser ended at, or write it to the program's stdin"));
                    }
                    continue;
                }
            },
            Some(visit) = next(&mut callback) => {
                let outcome = login.brought(visit.query(), true);
                visit.answer(match &outcome {
                    Ok(Pasted::Code(_)) => Ok(()),
                    Ok(Pasted::Again(why)) => Err(why.clone()),
                    Err(error) => Err(error.to_string()),
                });
                outcome?
            }
        };
        match pasted {
            Pasted::Code(code) => return Ok(code),
            Pasted::Again(why) => output::words(&format!("{why}:")),
        }
    }
}

async fn next(callback: &mut Option<&mut callback::Listener>) -> Option<callback::Visit> {
    match callback {
        Some(listener) => listener.next().await,
        None => std::future::pending().await,
    }
}

/// A thread of its own: reading a terminal cannot be given up, and nothing waits for this thread.
fn stdin_lines() -> mpsc::Receiver<String> {
    let (send, receive) = mpsc::channel(1);
    std::thread::spawn(move || {
        for line in std::io::stdin().lines() {
            let Ok(line) = line else { return };
            if send.blocking_send(line).is_err() {
                return;
            }
        }
    });
    receive
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(username: Option<&str>) -> Report {
        Report {
            auth: "authorization-code",
            identity: Identity {
                username: username.map(str::to_owned),
                user_id: Some("0055g00000XyZzzAAF".to_owned()),
                organization_id: "00D5g00000AbCdEEAV".to_owned(),
            },
            instance: "https://acme.my.salesforce.com".to_owned(),
            token_store: Some("/home/me/.config/sf2kafka/crm.json".to_owned()),
        }
    }

    #[test]
    fn the_report_says_who_where_and_what_is_kept() {
        assert_eq!(
            text(&report(Some("integration@acme.example"))),
            "logged in as integration@acme.example (0055g00000XyZzzAAF) in org 00D5g00000AbCdEEAV at \
             https://acme.my.salesforce.com\n\
             the refresh token is kept in /home/me/.config/sf2kafka/crm.json, readable by this user only\n"
        );
        assert!(text(&report(None)).starts_with("logged in as user 0055g00000XyZzzAAF in org "));
        let json = serde_json::to_value(report(None)).unwrap();
        assert_eq!(json["organization_id"], "00D5g00000AbCdEEAV");
        assert_eq!(json["username"], serde_json::Value::Null);
    }
}
