//! A person's login: an address to open, and the code that comes back from the browser.
//!
//! Comes in: settings, then what was pasted or what the browser brought. Goes out: a kept login. The code is decoded
//! exactly once, the state must be the one that was sent, and the refresh token is stored before the access token is
//! used for anything. Never: the code, the verifier or a token in a message.

use std::sync::Arc;

use oauth2::{CsrfToken, PkceCodeChallenge};
use url::Url;

use crate::config::{App, Auth, SalesforceSettings, Secret};
use crate::error::{Error, Kind, Result};

use super::super::Pace;
use super::super::client::login_http;
use super::super::fault::{Cure, Fault};
use super::place::SharedStore;
use super::refusal::{self, Flow};
use super::store::{Access, Kept};
use super::token_endpoint::{Credentials, Request};
use super::{API, Login, REFRESH, check_scopes, is_loopback, origin_of};

pub struct CodeLogin {
    settings: SalesforceSettings,
    url: Url,
    callback_url: String,
    state: String,
    verifier: Option<Secret>,
}

impl std::fmt::Debug for CodeLogin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CodeLogin").field("callback_url", &self.callback_url).finish_non_exhaustive()
    }
}

/// What the person has to do about what was pasted.
#[derive(Debug)]
pub enum Pasted {
    Code(Secret),
    /// Nothing that can be used; why, and what to paste instead.
    Again(String),
}

impl CodeLogin {
    /// `auth` must be `authorization-code`.
    pub fn begin(settings: &SalesforceSettings) -> Result<Self> {
        let Auth::AuthorizationCode { app, callback_url, pkce, .. } = &settings.auth else {
            return Err(Error::new(Kind::Usage, format!("`auth: {}` has no code", settings.auth.word())));
        };
        let broken =
            |_| Error::new(Kind::ConfigInvalid, "`salesforce.login_domain` is no address to log in at");
        let callback_url = callback_url
            .clone()
            .unwrap_or_else(|| format!("{}/services/oauth2/success", origin_of(&settings.login_origin)));
        let state = CsrfToken::new_random().into_secret();
        let mut url = settings.login_origin.join("/services/oauth2/authorize").map_err(broken)?;
        url.query_pairs_mut()
            .append_pair("response_type", "code")
            .append_pair("client_id", &app.client_id)
            .append_pair("redirect_uri", &callback_url)
            .append_pair("scope", "api refresh_token")
            .append_pair("state", &state)
            // The integration user, not who happens to be logged in.
            .append_pair("prompt", "login consent");
        let verifier = pkce.then(|| {
            let (challenge, verifier) = PkceCodeChallenge::new_random_sha256();
            url.query_pairs_mut()
                .append_pair("code_challenge", challenge.as_str())
                .append_pair("code_challenge_method", challenge.method().as_str());
            Secret::new(verifier.into_secret())
        });
        Ok(Self { settings: settings.clone(), url, callback_url, state, verifier })
    }

    /// What to open in a browser.
    pub fn url(&self) -> &Url {
        &self.url
    }

    /// Where the browser brings the code by itself, if that is on this machine and ours to listen at.
    pub fn loopback(&self) -> Option<Url> {
        let url = Url::parse(&self.callback_url).ok()?;
        let ours = url.scheme() == "http"
            && is_loopback(&url)
            && url.origin() != self.settings.login_origin.origin();
        ours.then_some(url)
    }

    /// Takes the bare code, or the whole address that the browser ended at. An error: Salesforce said no.
    pub fn pasted(&self, text: &str) -> Result<Pasted> {
        let text = text.trim().trim_matches(['"', '\'', '<', '>']);
        if text.is_empty() {
            return Ok(Pasted::Again("nothing was pasted".to_owned()));
        }
        let is_address = text.contains("://");
        let query = text.split_once(['?', '#']).map_or(text, |(_, query)| query);
        let is_query = query.split('&').any(|pair| pair.starts_with("code=") || pair.starts_with("error="));
        if is_address || is_query {
            return self.brought(query, is_address);
        }
        // Copied out of an address bar.
        let code = if text.to_ascii_lowercase().contains("%3d") { decode(text) } else { text.to_owned() };
        Ok(usable(&code))
    }

    /// The query of the address that the browser ended at; `whole`: nothing was cut off, so the state must be there.
    pub fn brought(&self, query: &str, whole: bool) -> Result<Pasted> {
        let query = query.split('#').next().unwrap_or_default();
        let value = |name: &str| {
            let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
            pairs.filter(|(key, _)| *key == name).map(|(_, value)| value).next()
        };
        let other = || {
            Pasted::Again(
                "this is the answer to another login: open the address above, and paste what that leads to"
                    .to_owned(),
            )
        };
        match value("state").map(decode) {
            Some(state) if state != self.state => return Ok(other()),
            None if whole && value("code").is_some() => return Ok(other()),
            _ => {}
        }
        if let Some(error) = value("error") {
            let said = value("error_description").unwrap_or_default().replace('+', " ");
            let fault = refusal::refused(Flow::Code, &decode(error), &decode(&said));
            return Err(fault.into_error("login in the browser"));
        }
        match value("code") {
            Some(code) => Ok(usable(&decode(code))),
            None => Ok(Pasted::Again(
                "there is no code in this address: approve the login first, then paste the address that follows"
                    .to_owned(),
            )),
        }
    }

    /// Exchanges the code, checks what was granted, and keeps it.
    pub async fn finish(
        &self,
        code: &Secret,
        pace: &Pace,
        shared: Option<Arc<dyn SharedStore>>,
    ) -> Result<()> {
        self.exchange(code, pace, shared).await.map_err(|fault| {
            fault.into_error(&format!("login at {}", origin_of(&self.settings.login_origin)))
        })
    }

    async fn exchange(
        &self,
        code: &Secret,
        pace: &Pace,
        shared: Option<Arc<dyn SharedStore>>,
    ) -> Result<(), Fault> {
        let Auth::AuthorizationCode { app: App { client_id, client_secret }, .. } = &self.settings.auth
        else {
            return Err(Fault::new(Kind::Internal, Cure::None, "a code without an app"));
        };
        let login = Login::new(self.settings.clone(), login_http(&self.settings)?, shared)?;
        let broken = |_| Fault::new(Kind::Internal, Cure::None, "the login was not kept");
        // What cannot be stored need not be asked for.
        let trying = Arc::clone(&login);
        tokio::task::spawn_blocking(move || trying.try_store()).await.map_err(broken)??;
        let who = Credentials { client_id, client_secret: client_secret.as_ref() };
        let request =
            Request::Code { code, callback_url: &self.callback_url, verifier: self.verifier.as_ref() };
        let answer = login.endpoint.ask(&who, request, pace).await?;
        check_scopes(answer.scopes.as_deref(), &[API, REFRESH])?;
        let Some(refresh_token) = answer.refresh_token else {
            return Err(Fault::new(Kind::LoginRefused, Cure::None, "Salesforce gave no refresh token")
                .hint(REFRESH.2));
        };
        let kept = Kept {
            client_id: client_id.clone(),
            refresh_token,
            seed: None,
            rotates: false,
            access: Some(Access {
                token: answer.token,
                origin: answer.origin?,
                org_id: answer.org_id,
                user_id: answer.user_id,
            }),
            asked: None,
        };
        tokio::task::spawn_blocking(move || login.put(&kept)).await.map_err(broken)?
    }
}

/// A code is one word of visible ASCII.
fn usable(code: &str) -> Pasted {
    let fits = (8..=2_048).contains(&code.len()) && code.bytes().all(|byte| byte.is_ascii_graphic());
    if fits {
        Pasted::Code(Secret::new(code))
    } else {
        Pasted::Again("this is no code: paste the whole address that the browser ended at, or what stands behind `code=` in it".to_owned())
    }
}

/// `%3D` as `=`, once; what is no escape stays.
fn decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let escaped = match (first, after) {
            (b'%', [high, low, ..]) => hex(*high).zip(hex(*low)).map(|(high, low)| high * 16 + low),
            _ => None,
        };
        match escaped {
            Some(byte) => {
                bytes.push(byte);
                rest = after.get(2..).unwrap_or_default();
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    const CODE: &str = "aPrxSbk1m0.example_code==";

    fn login(callback_url: Option<&str>, pkce: bool) -> CodeLogin {
        let auth = Auth::AuthorizationCode {
            app: App { client_id: "3MVG9".to_owned(), client_secret: None },
            callback_url: callback_url.map(str::to_owned),
            pkce,
            token_store: crate::config::TokenPlace::File("unused.json".into()),
        };
        let origin = Url::parse("https://login.salesforce.com").unwrap();
        CodeLogin::begin(&SalesforceSettings::new(origin, auth)).unwrap()
    }

    fn code(login: &CodeLogin, text: &str) -> Option<String> {
        match login.pasted(text).unwrap() {
            Pasted::Code(code) => Some(code.expose().to_owned()),
            Pasted::Again(_) => None,
        }
    }

    #[test]
    fn the_address_asks_for_a_code_with_a_challenge_for_the_scopes_that_are_needed() {
        let login = login(None, true);
        let pairs: std::collections::HashMap<String, String> =
            login.url().query_pairs().into_owned().collect();
        assert!(login.url().as_str().starts_with("https://login.salesforce.com/services/oauth2/authorize?"));
        assert_eq!(pairs["response_type"], "code");
        assert_eq!(pairs["client_id"], "3MVG9");
        assert_eq!(pairs["redirect_uri"], "https://login.salesforce.com/services/oauth2/success");
        assert_eq!(pairs["scope"], "api refresh_token");
        assert_eq!(pairs["code_challenge_method"], "S256");
        let verifier = login.verifier.as_ref().unwrap().expose().to_owned();
        let challenge =
            PkceCodeChallenge::from_code_verifier_sha256(&oauth2::PkceCodeVerifier::new(verifier.clone()));
        assert_eq!(pairs["code_challenge"], challenge.as_str());
        assert!(!login.url().as_str().contains(&verifier));
        let plain = super::tests::login(None, false);
        assert!(plain.verifier.is_none() && !plain.url().as_str().contains("code_challenge"));
    }

    #[test]
    fn a_code_is_taken_bare_escaped_or_inside_the_address_and_decoded_once() {
        let login = login(None, true);
        let state = login.state.clone();
        let escaped = "aPrxSbk1m0.example_code%3D%3D";
        for text in [
            CODE.to_owned(),
            format!("  {CODE}\n"),
            escaped.to_owned(),
            format!("https://login.salesforce.com/services/oauth2/success?code={escaped}&state={state}"),
            format!("\"https://x/cb?sfdc=1&state={state}&code={CODE}\""),
            format!("code={escaped}&state={state}"),
            format!("code={escaped}"),
            format!("https://x/cb?code={escaped}&state={state}#_=_"),
        ] {
            assert_eq!(code(&login, &text).as_deref(), Some(CODE), "{text}");
        }
        let twice = format!("https://x/cb?code=aPrxSbk1m0%253D&state={state}");
        assert_eq!(code(&login, &twice).as_deref(), Some("aPrxSbk1m0%3D"));
        let plus = format!("https://x/cb?code=aPrxSbk1m0+a%2B&state={state}");
        assert_eq!(code(&login, &plus).as_deref(), Some("aPrxSbk1m0+a+"));
    }

    #[test]
    fn the_answer_to_another_login_is_not_taken() {
        let login = login(None, true);
        for text in [
            format!("https://x/cb?code={CODE}&state=other"),
            format!("https://x/cb?code={CODE}"),
            format!("code={CODE}&state=other"),
            "https://x/cb?error=access_denied&state=other".to_owned(),
        ] {
            let Pasted::Again(why) = login.pasted(&text).unwrap() else { panic!("{text}") };
            assert!(why.contains("another login"), "{why}");
        }
    }

    #[test]
    fn what_is_no_code_says_what_to_paste() {
        let login = login(None, true);
        for text in ["", "   ", "two words", "https://login.salesforce.com/?ec=302", "short", "ünsichtbar1"]
        {
            assert!(code(&login, text).is_none(), "{text}");
        }
    }

    #[test]
    fn a_refusal_in_the_address_is_told_with_what_to_do() {
        let login = login(None, true);
        let text = format!(
            "https://x/cb?error=access_denied&error_description=end-user+denied%20authorization&state={}",
            login.state
        );
        let error = login.pasted(&text).unwrap_err();
        assert_eq!(error.kind(), Kind::LoginRefused);
        assert_eq!(
            error.to_string(),
            "login in the browser: Salesforce answered access_denied: end-user denied authorization"
        );
        // A page of Salesforce itself has no state.
        let page = "https://acme.my.salesforce.com/setup/secur/RemoteAccessErrorPage.apexp?error=OAUTH_APP_ACCESS_DENIED&error_description=user%20is%20not%20admin%20approved";
        assert!(login.pasted(page).unwrap_err().advice().contains("Permitted Users"));
    }

    #[test]
    fn the_browser_is_waited_for_only_on_this_machine() {
        assert!(login(None, true).loopback().is_none());
        assert!(login(Some("https://localhost:8443/cb"), true).loopback().is_none());
        let url = login(Some("http://localhost:1717/OauthRedirect"), true).loopback().unwrap();
        assert_eq!(url.port(), Some(1717));
    }

    proptest::proptest! {
        /// Whatever is pasted: no panic, and no code that would not fit into a header.
        #[test]
        fn any_paste_is_a_code_or_says_why_not(text in "\\PC{0,80}|(https://x/cb\\?)?(code|error|state)=[%0-9a-zA-Z=&+]{0,40}") {
            if let Ok(Pasted::Code(code)) = login(None, false).pasted(&text) {
                proptest::prop_assert!(code.expose().bytes().all(|byte| byte.is_ascii_graphic()));
            }
        }
    }
}
