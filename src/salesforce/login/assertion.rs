//! A signed statement in place of a password: the JWT of the bearer flow.
//!
//! Comes in: the consumer key, a user, an audience, a private key, the time. Goes out: the assertion, good for three
//! minutes. Never: the key in a message.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::signature::{RSA_PKCS1_SHA256, RsaKeyPair};
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use url::Url;

use crate::config::Secret;
use crate::error::Kind;

use super::super::fault::{Cure, Fault};

const LIFETIME_SECONDS: i64 = 180;

pub(super) struct Claims<'a> {
    /// Consumer key of the app.
    pub issuer: &'a str,
    /// Who is logged in.
    pub user: &'a str,
    pub audience: &'a str,
}

/// What Salesforce's login hosts want as `aud`: it stays login or test also where the request goes to a My Domain.
pub(super) fn audience_for(login: &Url) -> &'static str {
    let host = login.host_str().unwrap_or_default();
    let practice = host == "test.salesforce.com"
        || host.ends_with(".sandbox.my.salesforce.com")
        || host.ends_with(".scratch.my.salesforce.com");
    if practice { "https://test.salesforce.com" } else { "https://login.salesforce.com" }
}

/// `now`: seconds since 1970, by the login host's clock if that is known.
pub(super) fn sign(claims: &Claims<'_>, key: &Secret, now: i64) -> Result<String, Fault> {
    let pair = read_key(key)?;
    let part = |value: serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let header = part(serde_json::json!({"alg": "RS256"}));
    let body = part(serde_json::json!({
        "iss": claims.issuer,
        "sub": claims.user,
        "aud": claims.audience,
        "exp": now + LIFETIME_SECONDS,
    }));
    let signed = format!("{header}.{body}");
    let mut signature = vec![0; pair.public().modulus_len()];
    pair.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), signed.as_bytes(), &mut signature)
        .map_err(|_| Fault::new(Kind::Internal, Cure::None, "the assertion cannot be signed"))?;
    Ok(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)))
}

fn read_key(key: &Secret) -> Result<RsaKeyPair, Fault> {
    let refuse = |why: &str, hint| {
        Fault::new(Kind::ConfigInvalid, Cure::None, format!("the private key {why}")).hint(hint)
    };
    const MAKE: &str = "make one with `openssl genrsa -out key.pem 2048`, and give its path as `salesforce.private_key_file`";
    if key.expose().contains("BEGIN ENCRYPTED PRIVATE KEY") || key.expose().contains("Proc-Type: 4,ENCRYPTED")
    {
        return Err(refuse(
            "is locked with a passphrase",
            "unlock it with `openssl pkcs8 -topk8 -nocrypt -in locked.pem -out key.pem`, readable by this user only",
        ));
    }
    let read = match PrivateKeyDer::from_pem_slice(key.expose().as_bytes()) {
        Ok(PrivateKeyDer::Pkcs8(der)) => RsaKeyPair::from_pkcs8(der.secret_pkcs8_der()),
        Ok(PrivateKeyDer::Pkcs1(der)) => RsaKeyPair::from_der(der.secret_pkcs1_der()),
        Ok(_) => return Err(refuse("is not of RSA", MAKE)),
        Err(_) => return Err(refuse("is no PEM file of a private key", MAKE)),
    };
    read.map_err(|error| {
        refuse(&format!("cannot be used ({error}): RSA with 2048 to 4096 bits is wanted"), MAKE)
    })
}

#[cfg(test)]
pub(in crate::salesforce) const TEST_KEY: &str = include_str!("../../../tests/data/salesforce/jwt-key.pem");

#[cfg(test)]
mod tests {
    use ring::signature::{RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};

    use super::*;

    const CLAIMS: Claims<'_> = Claims {
        issuer: "3MVG9",
        user: "integration@acme.example",
        audience: "https://login.salesforce.com",
    };

    #[test]
    fn an_assertion_says_who_for_whom_until_when_and_is_signed() {
        let assertion = sign(&CLAIMS, &Secret::new(TEST_KEY), 1_767_225_600).unwrap();
        let (signed, signature) = assertion.rsplit_once('.').unwrap();
        let (header, body) = signed.split_once('.').unwrap();
        let read = |part: &str| -> serde_json::Value {
            serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
        };
        assert_eq!(read(header)["alg"], "RS256");
        assert_eq!(
            read(body),
            serde_json::json!({"iss": "3MVG9", "sub": "integration@acme.example",
                "aud": "https://login.salesforce.com", "exp": 1_767_225_780})
        );
        let pair = read_key(&Secret::new(TEST_KEY)).unwrap();
        let public = UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, pair.public().as_ref());
        public.verify(signed.as_bytes(), &URL_SAFE_NO_PAD.decode(signature).unwrap()).unwrap();
    }

    #[test]
    fn both_spellings_of_a_key_are_taken() {
        let pkcs1 = include_str!("../../../tests/data/salesforce/jwt-key-pkcs1.pem");
        let (one, other) = (sign(&CLAIMS, &Secret::new(TEST_KEY), 7), sign(&CLAIMS, &Secret::new(pkcs1), 7));
        assert_eq!(one.unwrap(), other.unwrap());
    }

    #[test]
    fn what_is_no_key_says_how_to_make_one_and_does_not_show_itself() {
        for (text, why) in [
            ("hunter2", "is no PEM file"),
            (
                "-----BEGIN ENCRYPTED PRIVATE KEY-----\naHVudGVyMg==\n-----END ENCRYPTED PRIVATE KEY-----",
                "passphrase",
            ),
            ("-----BEGIN EC PRIVATE KEY-----\naHVudGVyMg==\n-----END EC PRIVATE KEY-----", "is not of RSA"),
            ("-----BEGIN PRIVATE KEY-----\naHVudGVyMg==\n-----END PRIVATE KEY-----", "cannot be used"),
        ] {
            let fault = sign(&CLAIMS, &Secret::new(text), 0).unwrap_err();
            assert_eq!(fault.kind, Kind::ConfigInvalid);
            assert!(fault.message.contains(why), "{}", fault.message);
            assert!(!fault.message.contains("hunter2") && fault.advice().contains("openssl"));
        }
    }

    #[test]
    fn the_audience_is_login_or_test_by_the_host() {
        for (host, audience) in [
            ("https://acme.my.salesforce.com", "https://login.salesforce.com"),
            ("https://login.salesforce.com", "https://login.salesforce.com"),
            ("https://test.salesforce.com", "https://test.salesforce.com"),
            ("https://acme--dev.sandbox.my.salesforce.com", "https://test.salesforce.com"),
        ] {
            assert_eq!(audience_for(&Url::parse(host).unwrap()), audience, "{host}");
        }
    }
}
