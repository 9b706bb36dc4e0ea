//! The part of the control interface that is about logins: `/simulator/logins/…`.
//!
//! Comes in: what an administrator would set, refusals and pauses to come. Goes out: what was granted and asked, without a secret.

use std::time::Duration;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use super::ledger::{Pause, Stage};
use crate::http::control::{refused, unknown};
use crate::http::reply::Answer;
use crate::http::{Call, Server, lock};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct PauseOrder {
    #[serde(default)]
    before_millis: u64,
    #[serde(default)]
    after_millis: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct HoldOrder {
    at: String,
}

fn read<T: DeserializeOwned>(call: &Call) -> Result<T, Answer> {
    serde_json::from_slice(&call.body).map_err(|error| refused(&error.to_string()))
}

pub(crate) fn answer(server: &Server, call: &Call, path: &[&str]) -> Answer {
    carry_out(server, call, path).unwrap_or_else(|refusal| refusal)
}

fn carry_out(server: &Server, call: &Call, path: &[&str]) -> Result<Answer, Answer> {
    let mut logins = lock(&server.logins);
    match (call.method.as_str(), path) {
        ("GET", []) => {
            let mut json = logins.grants_json();
            json["app"] = logins.app.to_json();
            json["user"] = json!({"active": logins.user.active});
            return Ok(Answer::json(&json));
        }
        ("GET", ["requests"]) => return Ok(Answer::json(&logins.requests_json())),
        ("DELETE", ["requests"]) => logins.requests.clear(),
        ("POST", ["app"]) => logins.app.change(read(call)?).map_err(|why| refused(&why))?,
        ("POST", ["user"]) => logins.user.change(read(call)?),
        ("POST", ["refusals"]) => logins.orders.add(read(call)?).map_err(|why| refused(&why))?,
        ("DELETE", ["refusals"]) => logins.orders.clear(),
        ("POST", ["pause"]) => {
            let order: PauseOrder = read(call)?;
            logins.pause = Pause {
                before: Duration::from_millis(order.before_millis),
                after: Duration::from_millis(order.after_millis),
            };
        }
        ("DELETE", ["pause"]) => logins.pause = Pause::default(),
        ("POST", ["hold"]) => {
            let order: HoldOrder = read(call)?;
            let stage = match order.at.as_str() {
                "effect" => Stage::Effect,
                "reply" => Stage::Reply,
                other => {
                    return Err(refused(&format!("a request is held at effect or reply, not at {other}")));
                }
            };
            logins.held.send_replace(Some(stage));
        }
        ("DELETE", ["hold"]) => {
            logins.held.send_replace(None);
        }
        ("DELETE", ["grants"]) => logins.revoke_all(),
        ("DELETE", ["grants", id]) => {
            if !id.parse().is_ok_and(|id| logins.revoke(id)) {
                return Err(refused(&format!("there is no grant {id}")));
            }
        }
        ("DELETE", ["browsers"]) => logins.forget_browsers(),
        _ => return Err(unknown()),
    }
    Ok(Answer::json(&json!({})))
}
