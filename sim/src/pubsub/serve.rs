//! Accepts connections for the Pub/Sub API and speaks HTTP/2 on them, plain or behind TLS.
//!
//! In: a listener, the service. Out: answers; GOAWAY, cut or silent connections where a fault says so. Ends when told,
//! connections with it. A certificate of its own is made anew at each start and lies in no file.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio_rustls::rustls::{self, ServerConfig};
use tonic::codegen::Service;

use super::eventbus::pub_sub_server::PubSubServer;
use super::link::{Exit, ExitBody, Link, LinkIo};
use super::service::Rpcs;

/// After a connection that could not be accepted, for lack of file handles for example.
const PAUSE: Duration = Duration::from_millis(50);
/// Concurrent streams of one connection (pubsub.md 1.10).
const MOST_STREAMS: u32 = 1_000;
/// What a publisher may send at most (pubsub.md 1.10).
const MOST_REQUEST_BYTES: usize = 4 * 1024 * 1024;

#[derive(Clone, Debug)]
pub enum TlsConfig {
    /// A certificate of its own for `localhost`, 127.0.0.1 and these names; whoever asks gets it to trust it.
    SelfSigned {
        names: Vec<String>,
    },
    Given {
        certificate_pem: String,
        key_pem: String,
    },
}

/// What the server shows to clients.
pub(crate) struct Identity {
    acceptor: TlsAcceptor,
    /// What a client has to trust.
    pub certificate_pem: String,
}

impl Identity {
    pub fn new(config: &TlsConfig) -> io::Result<Identity> {
        let (certificates, key, certificate_pem) = match config {
            TlsConfig::SelfSigned { names } => {
                let mut all = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
                all.extend(names.iter().cloned());
                let made = rcgen::generate_simple_self_signed(all).map_err(io::Error::other)?;
                let certificate = made.cert.der().clone();
                let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
                let pem = pem(&certificate);
                (vec![certificate], key, pem)
            }
            TlsConfig::Given { certificate_pem, key_pem } => {
                let certificates = CertificateDer::pem_slice_iter(certificate_pem.as_bytes())
                    .collect::<Result<Vec<_>, _>>()
                    .map_err(io::Error::other)?;
                let key = PrivateKeyDer::from_pem_slice(key_pem.as_bytes()).map_err(io::Error::other)?;
                (certificates, key, certificate_pem.clone())
            }
        };
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut server = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(io::Error::other)?
            .with_no_client_auth()
            .with_single_cert(certificates, key)
            .map_err(io::Error::other)?;
        server.alpn_protocols = vec![b"h2".to_vec()];
        Ok(Identity { acceptor: TlsAcceptor::from(Arc::new(server)), certificate_pem })
    }
}

fn pem(certificate: &CertificateDer<'_>) -> String {
    let text = STANDARD.encode(certificate);
    let mut pem = String::from("-----BEGIN CERTIFICATE-----\n");
    for line in text.as_bytes().chunks(64) {
        pem.push_str(&String::from_utf8_lossy(line));
        pem.push('\n');
    }
    pem.push_str("-----END CERTIFICATE-----\n");
    pem
}

/// Until `stop` turns true or its sender is gone. Dropping this future ends all connections at once.
pub(crate) async fn serve(
    listener: TcpListener,
    rpcs: Rpcs,
    identity: Option<Arc<Identity>>,
    mut stop: watch::Receiver<bool>,
) {
    let grpc = PubSubServer::new(rpcs)
        .accept_compressed(tonic::codec::CompressionEncoding::Gzip)
        .max_decoding_message_size(MOST_REQUEST_BYTES);
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(welcome(stream, grpc.clone(), identity.clone()));
                }
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(PAUSE).await;
                }
            },
            Some(_) = connections.join_next() => {}
            () = told_to(&mut stop) => return,
        }
    }
}

async fn told_to(stop: &mut watch::Receiver<bool>) {
    // The sender is gone when the simulator is dropped: that is an end too.
    let _ = stop.wait_for(|stop| *stop).await;
}

async fn welcome(stream: TcpStream, grpc: PubSubServer<Rpcs>, identity: Option<Arc<Identity>>) {
    // An event that waits for company would come 40 ms late.
    let _ = stream.set_nodelay(true);
    match identity {
        None => converse(stream, grpc).await,
        Some(identity) => match identity.acceptor.accept(stream).await {
            Ok(stream) => converse(stream, grpc).await,
            Err(error) => tracing::debug!(%error, "a client did not like the certificate"),
        },
    }
}

async fn converse<S>(stream: S, grpc: PubSubServer<Rpcs>)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let link = Arc::new(Link::default());
    let for_service = Arc::clone(&link);
    let service = hyper::service::service_fn(move |mut request: http::Request<Incoming>| {
        let exit = Exit::new(Arc::clone(&for_service));
        request.extensions_mut().insert(Arc::clone(&exit));
        let answer = grpc.clone().call(request);
        async move {
            let response = answer.await?;
            Ok::<_, Infallible>(response.map(|body| ExitBody::new(body, exit)))
        }
    });
    let connection = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .max_concurrent_streams(MOST_STREAMS)
        .serve_connection(TokioIo::new(LinkIo::new(stream, Arc::clone(&link))), service);
    tokio::pin!(connection);
    let outcome = tokio::select! {
        outcome = connection.as_mut() => outcome,
        () = link.sent_away() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = outcome {
        // The other side went away, or a fault was ordered.
        tracing::debug!(%error, "a connection broke");
    }
}
