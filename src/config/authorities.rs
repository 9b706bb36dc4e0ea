//! Certificate authorities of the user's own, beside the system's.
//!
//! Comes in: a PEM file that the configuration names. Goes out: its text, known to hold certificates and nothing that must
//! stay secret. Never: fewer checks of a server than without it.

use std::fmt;
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

/// One or more certificates in PEM.
#[derive(Clone, PartialEq, Eq)]
pub struct Authorities(Arc<str>);

impl Authorities {
    /// Refuses, with the reason, what holds no certificate or one that does not read.
    pub fn parse(pem: &str) -> Result<Self, String> {
        if pem.contains("PRIVATE KEY") {
            return Err("it holds a private key, which does not belong there".to_owned());
        }
        let certificates = CertificateDer::pem_slice_iter(pem.as_bytes()).collect::<Result<Vec<_>, _>>();
        match certificates {
            Ok(found) if found.is_empty() => Err("it holds no certificate in PEM".to_owned()),
            // That a text is base64 does not make it a certificate.
            Ok(found) => match found.into_iter().all(is_authority) {
                true => Ok(Self(pem.into())),
                false => Err("a certificate in it cannot be read".to_owned()),
            },
            Err(error) => Err(error.to_string()),
        }
    }

    pub fn pem(&self) -> &str {
        &self.0
    }
}

fn is_authority(certificate: CertificateDer<'_>) -> bool {
    rustls::RootCertStore::empty().add(certificate).is_ok()
}

impl fmt::Debug for Authorities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Authorities({} bytes)", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_readable_certificates_are_taken() {
        let certified = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let framed = |what: &str, bytes: &[u8]| {
            let body = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, bytes);
            format!("-----BEGIN {what}-----\n{body}\n-----END {what}-----\n")
        };
        let pem = framed("CERTIFICATE", certified.cert.der());
        let key = framed("PRIVATE KEY", &certified.signing_key.serialize_der());
        assert_eq!(
            Authorities::parse(&format!("# ours\n{pem}{pem}")).unwrap().pem().len(),
            7 + 2 * pem.len()
        );
        for (bad, why) in [
            (String::new(), "no certificate"),
            ("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".to_owned(), "cannot be read"),
            (format!("{pem}{key}"), "private key"),
        ] {
            let refused = Authorities::parse(&bad).unwrap_err();
            assert!(refused.contains(why), "{refused}");
        }
    }
}
