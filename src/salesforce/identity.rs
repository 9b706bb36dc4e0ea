//! Whose session it is.
//!
//! Comes in: a client. Goes out: user and org, as Salesforce names them. The OpenID resource is asked first; a login
//! without a scope for it asks for the user's record instead. Never: a name that was only guessed from a token.

use http::StatusCode;
use serde::{Deserialize, Serialize};

use crate::error::Result;

use super::Client;
use super::fault::{Area, Fault};
use super::transport::Call;

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Identity {
    /// None if the session may not ask.
    pub username: Option<String>,
    pub user_id: Option<String>,
    pub organization_id: String,
}

impl Client {
    pub async fn who_am_i(&self) -> Result<Identity> {
        #[derive(Deserialize)]
        struct Info {
            preferred_username: Option<String>,
            user_id: Option<String>,
            organization_id: Option<String>,
        }
        let session = self.sessions().current();
        let unknown = Identity {
            username: None,
            user_id: session.user_id.clone(),
            organization_id: session.org_id.clone(),
        };
        let mut call = Call::get(Area::Versions, "asking whose session it is", "/services/oauth2/userinfo");
        call.also = &[StatusCode::FORBIDDEN, StatusCode::NOT_FOUND];
        let info: Option<Info> = self
            .fetch(&call, |reply| match reply.status {
                StatusCode::FORBIDDEN | StatusCode::NOT_FOUND => Ok(None),
                _ => serde_json::from_slice(&reply.body).map(Some).map_err(|error| Fault::json(&error)),
            })
            .await?;
        if let Some(info) = info {
            return Ok(Identity {
                username: info.preferred_username,
                user_id: info.user_id.or(unknown.user_id),
                organization_id: info.organization_id.unwrap_or(unknown.organization_id),
            });
        }
        let username = match &unknown.user_id {
            Some(user) => self.username(user).await?,
            None => None,
        };
        Ok(Identity { username, ..unknown })
    }

    async fn username(&self, user: &str) -> Result<Option<String>> {
        #[derive(Deserialize)]
        struct Answer {
            records: Vec<User>,
        }
        #[derive(Deserialize)]
        struct User {
            #[serde(rename = "Username")]
            username: Option<String>,
        }
        // A user id has letters and digits only: the login saw to it.
        let path = self.data_path(&format!("/query?q=SELECT+Username+FROM+User+WHERE+Id='{user}'"));
        let call = Call::get(Area::Query, "asking whose session it is", path);
        let answer: Answer = self
            .fetch(&call, |reply| serde_json::from_slice(&reply.body).map_err(|error| Fault::json(&error)))
            .await?;
        Ok(answer.records.into_iter().next().and_then(|user| user.username))
    }
}
