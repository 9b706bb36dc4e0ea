//! A client certificate: what a server that asks for one (mutual TLS) is shown.
//!
//! Comes in: a certificate with its chain and a private key, both PEM. Goes out: the pair, known to read and to belong together.
//! Never: the key in a message or in `Debug`.

use std::fmt;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;

use super::Secret;

#[derive(Clone, PartialEq, Eq)]
pub struct ClientCertificate {
    /// Key and certificates in one text, as clients take it.
    pem: Secret,
}

impl ClientCertificate {
    /// Refuses, with the reason, what does not read or does not belong together.
    pub fn parse(certificate: &str, key: &Secret) -> Result<Self, String> {
        let chain = CertificateDer::pem_slice_iter(certificate.as_bytes()).collect::<Result<Vec<_>, _>>();
        let chain = chain.map_err(|error| format!("the certificate cannot be read: {error}"))?;
        if chain.is_empty() {
            return Err("the certificate file holds no certificate in PEM".to_owned());
        }
        if key.expose().contains("ENCRYPTED") {
            return Err("the private key has a passphrase, which the program cannot give".to_owned());
        }
        // What the parsers say of a key is not repeated: it may show a piece of it.
        let read = PrivateKeyDer::from_pem_slice(key.expose().as_bytes()).ok();
        let loaded = read
            .and_then(|read| {
                rustls::crypto::ring::default_provider().key_provider.load_private_key(read).ok()
            })
            .ok_or("the private key cannot be read: it must be PEM (PKCS#8, PKCS#1 or SEC1)")?;
        match CertifiedKey::new(chain, loaded).keys_match() {
            Ok(()) | Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::Unknown)) => {
                // The last key is taken, and the file may hold one too.
                Ok(Self { pem: Secret::new(format!("{certificate}\n{}", key.expose())) })
            }
            Err(rustls::Error::InconsistentKeys(_)) => {
                Err("the private key does not belong to the certificate".to_owned())
            }
            Err(error) => Err(format!("the certificate cannot be used: {error}")),
        }
    }

    pub fn pem(&self) -> &str {
        self.pem.expose()
    }
}

impl fmt::Debug for ClientCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClientCertificate([secret])")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn framed(what: &str, bytes: &[u8]) -> String {
        let body = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, bytes);
        format!("-----BEGIN {what}-----\n{body}\n-----END {what}-----\n")
    }

    #[test]
    fn only_a_key_that_belongs_to_its_certificate_is_taken_and_it_never_shows() {
        let made = || rcgen::generate_simple_self_signed(["reader".to_owned()]).unwrap();
        let (ours, theirs) = (made(), made());
        let certificate = framed("CERTIFICATE", ours.cert.der());
        let key = framed("PRIVATE KEY", &ours.signing_key.serialize_der());
        let other = framed("PRIVATE KEY", &theirs.signing_key.serialize_der());
        let taken = ClientCertificate::parse(&certificate, &Secret::new(key.clone())).unwrap();
        assert!(taken.pem().contains(&certificate) && taken.pem().contains(&key));
        assert_eq!(format!("{taken:?}"), "ClientCertificate([secret])");
        for (certificate, key, why) in [
            (certificate.as_str(), other, "does not belong"),
            (certificate.as_str(), "nothing".to_owned(), "key cannot be read"),
            (certificate.as_str(), key.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY"), "passphrase"),
            ("", key.clone(), "no certificate"),
        ] {
            let refused = ClientCertificate::parse(certificate, &Secret::new(key)).unwrap_err();
            assert!(refused.contains(why), "{refused}");
        }
    }
}
