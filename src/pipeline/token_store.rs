//! Connecting to Salesforce with the login where the configuration keeps it: also in the control topic.
//!
//! Comes in: settings. Goes out: a client. What goes into the topic is sealed (AES-256-GCM, a random nonce each time, bound to
//! the pipeline's name): who may read the topic but has no key learns nothing, and cannot put another login there.
//! Never: a login in clear text outside of this process.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::hmac;
use ring::rand::{SecureRandom, SystemRandom};
use serde::{Deserialize, Serialize};

use crate::config::{Secret, Settings, TokenPlace, key_bytes};
use crate::error::Kind;
use crate::publish::token::{TokenClaim, TokenTopic};
use crate::publish::topics;
use crate::salesforce::{Client, LONGEST_REQUEST, Pace, SharedLock, SharedStore};
use crate::{Error, Result};

const OTHER_KEY: &str = "give all instances the same `salesforce.token_key_file`; if the key is lost, see `sf2kafka explain token-store-failed`";
const LOG_IN_AGAIN: &str =
    "find out who writes to the control topic; to begin anew, see `sf2kafka explain token-store-failed`";

/// Logs in, or goes on with the login that is kept.
pub async fn connect(settings: &Settings, pace: Pace) -> Result<Client> {
    let client = log_in(settings, pace).await?;
    client.prove().await?;
    Ok(client)
}

/// The same without a call that counts against the org's allowance.
pub async fn log_in(settings: &Settings, pace: Pace) -> Result<Client> {
    Client::log_in(&settings.salesforce, pace, shared(settings)).await
}

/// The control topic may not be there yet; who only tests the configuration makes none.
pub async fn prepare(settings: &Settings) -> Result<()> {
    match settings.salesforce.auth.token_store() {
        Some(TokenPlace::Kafka { .. }) => topics::ensure_control(settings).await,
        _ => Ok(()),
    }
}

/// None if the login is kept elsewhere.
pub fn shared(settings: &Settings) -> Option<Arc<dyn SharedStore>> {
    match settings.salesforce.auth.token_store() {
        Some(TokenPlace::Kafka { key }) => Some(Arc::new(SealedTopic {
            topic: TokenTopic::new(settings, LONGEST_REQUEST),
            seal: Seal { key: key.clone(), name: settings.name.clone() },
        })),
        _ => None,
    }
}

struct SealedTopic {
    topic: TokenTopic,
    seal: Seal,
}

struct Turn {
    claim: TokenClaim,
    seal: Seal,
}

impl SharedStore for SealedTopic {
    fn place(&self) -> String {
        format!("topic {}", self.topic.name())
    }

    fn read(&self) -> Result<Option<Vec<u8>>> {
        self.topic.read()?.map(|sealed| self.seal.open(&sealed)).transpose()
    }

    fn lock(&self) -> Result<Box<dyn SharedLock>> {
        let mut word = [0; 16];
        random(&mut word)?;
        let claim = self.topic.claim(&STANDARD.encode(word))?;
        Ok(Box::new(Turn { claim, seal: self.seal.clone() }))
    }
}

impl SharedLock for Turn {
    fn read(&mut self) -> Result<Option<Vec<u8>>> {
        self.claim.read()?.map(|sealed| self.seal.open(&sealed)).transpose()
    }

    fn mark(&mut self, contents: &[u8]) -> Result<bool> {
        self.claim.mark(&self.seal.close(contents)?)
    }

    fn write(&mut self, contents: &[u8]) -> Result<()> {
        self.claim.write(&self.seal.close(contents)?)
    }
}

#[derive(Clone)]
struct Seal {
    key: Secret,
    name: String,
}

/// The record's value.
#[derive(Serialize, Deserialize)]
struct Sealed {
    version: u32,
    /// Fingerprint of the key: another key and a record that somebody changed are two things.
    key: String,
    /// Nonce, then what is sealed with its tag: base64.
    sealed: String,
}

impl Seal {
    fn close(&self, contents: &[u8]) -> Result<Vec<u8>> {
        let mut nonce = [0; NONCE_LEN];
        random(&mut nonce)?;
        let mut sealed = contents.to_vec();
        self.key()?
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), self.bound_to(), &mut sealed)
            .map_err(|_| Error::new(Kind::Internal, "the login cannot be sealed"))?;
        let sealed = STANDARD.encode([&nonce[..], &sealed].concat());
        let key = self.fingerprint()?;
        Ok(serde_json::to_vec(&Sealed { version: 1, key, sealed })
            .expect("a number and texts always serialize"))
    }

    fn open(&self, value: &[u8]) -> Result<Vec<u8>> {
        let refuse = |why: &str| {
            Error::new(
                Kind::TokenStoreFailed,
                format!("the login in the control topic of {} {why}", self.name),
            )
            .hint(LOG_IN_AGAIN)
        };
        let Ok(Sealed { version: 1, key, sealed }) = serde_json::from_slice(value) else {
            return Err(refuse("does not read"));
        };
        if key != self.fingerprint()? {
            return Err(refuse("was sealed with another key").hint(OTHER_KEY));
        }
        let bytes = STANDARD.decode(sealed).map_err(|_| refuse("does not read"))?;
        let (nonce, sealed) =
            bytes.split_first_chunk::<NONCE_LEN>().ok_or_else(|| refuse("does not read"))?;
        let mut sealed = sealed.to_vec();
        let opened = self
            .key()?
            .open_in_place(Nonce::assume_unique_for_key(*nonce), self.bound_to(), &mut sealed)
            .map_err(|_| refuse("was changed since it was sealed, or is another pipeline's"))?;
        Ok(opened.to_vec())
    }

    fn key(&self) -> Result<LessSafeKey> {
        let key = UnboundKey::new(&AES_256_GCM, &self.bytes()?);
        key.map(LessSafeKey::new).map_err(|_| Error::new(Kind::Internal, "the token key cannot be used"))
    }

    fn fingerprint(&self) -> Result<String> {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &self.bytes()?);
        let tag = hmac::sign(&key, b"sf2kafka token key");
        Ok(tag.as_ref().iter().take(8).map(|byte| format!("{byte:02x}")).collect())
    }

    fn bytes(&self) -> Result<[u8; 32]> {
        key_bytes(&self.key)
            .ok_or_else(|| Error::new(Kind::ConfigInvalid, "`salesforce.token_key` is no key of 32 bytes"))
    }

    fn bound_to(&self) -> Aad<Vec<u8>> {
        Aad::from(format!("sf2kafka token/{}", self.name).into_bytes())
    }
}

/// For `crate::fuzzing`: a sealed login opened with a key that nobody has sealed anything with.
#[cfg(any(test, feature = "fuzzing"))]
pub fn opened(value: &[u8]) -> Option<Vec<u8>> {
    Seal { key: Secret::new("5a".repeat(32)), name: "fuzz".to_owned() }.open(value).ok()
}

fn random(bytes: &mut [u8]) -> Result<()> {
    SystemRandom::new()
        .fill(bytes)
        .map_err(|_| Error::new(Kind::Internal, "the system gives no random numbers"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seal(key: char, name: &str) -> Seal {
        Seal { key: Secret::new(key.to_string().repeat(64)), name: name.to_owned() }
    }

    #[test]
    fn what_is_sealed_opens_with_the_same_key_and_name_only() {
        let contents = b"5Aep861 and more";
        let sealed = seal('a', "crm").close(contents).unwrap();
        assert_eq!(seal('a', "crm").open(&sealed).unwrap(), contents);
        assert!(!String::from_utf8_lossy(&sealed).contains("5Aep"));
        let mut tampered: Sealed = serde_json::from_slice(&sealed).unwrap();
        tampered.sealed = STANDARD.encode(vec![7; 40]);
        let tampered = serde_json::to_vec(&tampered).unwrap();
        for (opener, sealed, why) in [
            (seal('b', "crm"), &sealed, "was sealed with another key"),
            (seal('a', "erp"), &sealed, "was changed since it was sealed, or is another pipeline's"),
            (seal('a', "crm"), &tampered, "was changed since it was sealed, or is another pipeline's"),
        ] {
            let error = opener.open(sealed).unwrap_err();
            assert_eq!(error.kind(), Kind::TokenStoreFailed);
            assert!(error.to_string().ends_with(why), "{error}");
        }
        assert_ne!(seal('a', "crm").close(contents).unwrap(), sealed, "never the same nonce");
        for broken in
            [&b""[..], b"{}", br#"{"version":1,"sealed":"AA"}"#, br#"{"version":2,"key":"","sealed":""}"#]
        {
            assert_eq!(seal('a', "crm").open(broken).unwrap_err().kind(), Kind::TokenStoreFailed);
        }
    }
}
