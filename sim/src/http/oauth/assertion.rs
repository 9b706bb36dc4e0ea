//! Signed tokens: the JWT of the JWT bearer flow is checked, and id_tokens are made.
//!
//! Comes in: a certificate or public key as PEM, an assertion. Goes out: its claims, if the signature is good. No claim is
//! judged here.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ring::rand::SystemRandom;
use ring::signature::{
    self, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair, RSA_PKCS1_2048_8192_SHA256,
    UnparsedPublicKey,
};
use serde_json::{Value as Json, json};

const SEQUENCE: u8 = 0x30;
const BIT_STRING: u8 = 0x03;
/// The version of a certificate, which may be left out.
const CERTIFICATE_VERSION: u8 = 0xa0;
const RSA_ENCRYPTION: [u8; 9] = [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];

/// The RSA key of `BEGIN CERTIFICATE` or `BEGIN PUBLIC KEY`, as PKCS#1 writes it. Who signed a certificate and how
/// long it is valid is not looked at.
pub(crate) fn public_key(pem: &str) -> Option<Vec<u8>> {
    let body = |label: &str| {
        let (_, rest) = pem.split_once(&format!("-----BEGIN {label}-----"))?;
        let (body, _) = rest.split_once(&format!("-----END {label}-----"))?;
        let text: String = body.split_whitespace().collect();
        STANDARD.decode(text).ok()
    };
    match body("CERTIFICATE") {
        Some(certificate) => key_of_certificate(&certificate),
        None => key_of_info(&body("PUBLIC KEY")?),
    }
}

/// One value of DER: its tag, its content, and what follows.
fn value(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (tag, rest) = bytes.split_first()?;
    let (first, rest) = rest.split_first()?;
    let (length, rest) = if *first < 0x80 {
        (usize::from(*first), rest)
    } else {
        let count = usize::from(first & 0x7f);
        if !(1..=3).contains(&count) {
            return None;
        }
        let (size, rest) = rest.split_at_checked(count)?;
        (size.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte)), rest)
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((*tag, content, rest))
}

fn tagged(wanted: u8, bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    value(bytes).filter(|(tag, _, _)| *tag == wanted).map(|(_, content, rest)| (content, rest))
}

fn key_of_info(bytes: &[u8]) -> Option<Vec<u8>> {
    let (info, _) = tagged(SEQUENCE, bytes)?;
    let (algorithm, rest) = tagged(SEQUENCE, info)?;
    let (_, name, _) = value(algorithm)?;
    if name != RSA_ENCRYPTION {
        return None;
    }
    let (bits, _) = tagged(BIT_STRING, rest)?;
    bits.strip_prefix(&[0]).map(<[u8]>::to_vec)
}

fn key_of_certificate(bytes: &[u8]) -> Option<Vec<u8>> {
    let (certificate, _) = tagged(SEQUENCE, bytes)?;
    let (mut rest, _) = tagged(SEQUENCE, certificate)?;
    if let Some((_, after)) = tagged(CERTIFICATE_VERSION, rest) {
        rest = after;
    }
    // Serial number, algorithm, issuer, validity, subject.
    for _ in 0..5 {
        rest = value(rest)?.2;
    }
    key_of_info(rest)
}

/// The claims of an RS256 JWT, before anybody looked at its signature.
pub(crate) fn claims(assertion: &str) -> Option<Json> {
    let mut parts = assertion.split('.');
    let (header, claims, _) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() {
        return None;
    }
    let read = |part: &str| serde_json::from_slice::<Json>(&URL_SAFE_NO_PAD.decode(part).ok()?).ok();
    (read(header)?.get("alg")? == "RS256").then(|| read(claims)).flatten()
}

pub(crate) fn is_signed_by(key: &[u8], assertion: &str) -> bool {
    let Some((signed, signature)) = assertion.rsplit_once('.') else { return false };
    let Ok(signature) = URL_SAFE_NO_PAD.decode(signature) else { return false };
    UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, key).verify(signed.as_bytes(), &signature).is_ok()
}

/// Signs id_tokens with a key made at the start. Salesforce signs with RS256; ring makes no RSA keys.
pub(crate) struct Signer {
    random: SystemRandom,
    key: EcdsaKeyPair,
}

impl Signer {
    pub fn new() -> std::io::Result<Self> {
        let random = SystemRandom::new();
        let failed = |_| std::io::Error::other("the key that signs id_tokens cannot be made");
        let document =
            EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).map_err(failed)?;
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, document.as_ref(), &random)
            .map_err(|error| std::io::Error::other(error.to_string()))?;
        Ok(Self { random, key })
    }

    /// `None` only if the machine has no randomness.
    pub fn sign(&self, claims: &Json) -> Option<String> {
        let part = |json: &Json| URL_SAFE_NO_PAD.encode(json.to_string());
        let signed = format!("{}.{}", part(&json!({"alg": "ES256", "typ": "JWT", "kid": "1"})), part(claims));
        let signature: signature::Signature = self.key.sign(&self.random, signed.as_bytes()).ok()?;
        Some(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature.as_ref())))
    }

    /// `/id/keys`.
    pub fn key_set(&self) -> Json {
        // 0x04, then both coordinates.
        let point = self.key.public_key().as_ref();
        let coordinate = |from: usize| URL_SAFE_NO_PAD.encode(point.get(from..from + 32).unwrap_or_default());
        json!({"keys": [{
            "kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": "1",
            "x": coordinate(1), "y": coordinate(33),
        }]})
    }
}
