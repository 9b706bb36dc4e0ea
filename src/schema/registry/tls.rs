//! The client's TLS against a server of the test's own: authorities, client certificates, and what is told when they are wrong.
//!
//! In: certificates made for each test. Out: what the client made of it.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig};

use super::*;
use crate::config::{Authorities, ClientCertificate, Secret};

struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
    der: rustls::pki_types::CertificateDer<'static>,
}

fn framed(what: &str, bytes: &[u8]) -> String {
    format!("-----BEGIN {what}-----\n{}\n-----END {what}-----\n", STANDARD.encode(bytes))
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        let (pem, der) = (framed("CERTIFICATE", certificate.der()), certificate.der().clone());
        Self { issuer: Issuer::new(params, key), pem, der }
    }

    fn signs(&self, name: &str) -> (rcgen::Certificate, KeyPair) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        (params.signed_by(&key, &self.issuer).unwrap(), key)
    }

    fn client(&self) -> ClientCertificate {
        let (certificate, key) = self.signs("reader");
        let key = Secret::new(framed("PRIVATE KEY", &key.serialize_der()));
        ClientCertificate::parse(&framed("CERTIFICATE", certificate.der()), &key).unwrap()
    }

    /// A registry without subjects that asks every client for a certificate of `clients`.
    async fn serves(&self, clients: Option<&Authority>) -> String {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let (certificate, key) = self.signs("localhost");
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let builder = ServerConfig::builder();
        let builder = match clients {
            None => builder.with_no_client_auth(),
            Some(clients) => {
                let mut roots = RootCertStore::empty();
                roots.add(clients.der.clone()).unwrap();
                let verifier = WebPkiClientVerifier::builder(Arc::new(roots)).build().unwrap();
                builder.with_client_cert_verifier(verifier)
            }
        };
        let config = builder.with_single_cert(vec![certificate.der().clone()], key).unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    let mut socket = acceptor.accept(socket).await?;
                    let mut head = Vec::new();
                    while !head.ends_with(b"\r\n\r\n") {
                        head.push(socket.read_u8().await?);
                    }
                    let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\n[]";
                    socket.write_all(answer).await?;
                    socket.shutdown().await
                });
            }
        });
        format!("https://localhost:{port}")
    }
}

fn settings(url: &str, trusted: Option<&Authority>) -> RegistrySettings {
    let authorities = trusted.map(|authority| Authorities::parse(&authority.pem).unwrap());
    RegistrySettings { authorities, ..RegistrySettings::new(url.parse().unwrap()) }
}

async fn ping(settings: &RegistrySettings) -> Result<()> {
    let mut client = Registry::new(settings)?;
    client.wire.pauses = Default::default();
    client.ping().await
}

#[tokio::test]
async fn a_registry_with_a_certificate_of_ones_own_authority_is_trusted_by_ca_file_only() {
    let ours = Authority::new();
    let url = ours.serves(None).await;
    ping(&settings(&url, Some(&ours))).await.unwrap();
    for trusted in [None, Some(&Authority::new())] {
        let error = ping(&settings(&url, trusted)).await.unwrap_err();
        assert_eq!(error.kind(), Kind::RegistryUnavailable);
        assert!(error.advice().contains("`schema_registry.ca_file`"), "{}", error.advice());
    }
}

#[tokio::test]
async fn a_registry_that_asks_for_a_client_certificate_gets_ours() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let url = ours.serves(Some(&theirs)).await;
    let with = |certificate| RegistrySettings {
        client_certificate: Some(certificate),
        ..settings(&url, Some(&ours))
    };
    ping(&with(theirs.client())).await.unwrap();
    for refused in [settings(&url, Some(&ours)), with(ours.client())] {
        let error = ping(&refused).await.unwrap_err();
        assert_eq!(error.kind(), Kind::RegistryUnavailable);
        assert!(error.advice().contains("`schema_registry.certificate_file`"), "{}", error.advice());
    }
}
