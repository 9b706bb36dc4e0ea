//! Accepts connections and speaks HTTP/1.1 on them.
//!
//! In: a listener and the router. Out: answers whose header names are capitalised, as Salesforce writes them:
//! there are clients that look for `Sforce-Locator` letter by letter. Ends when told, connections with it.

use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// After a connection that could not be accepted, for lack of file handles for example.
const PAUSE: Duration = Duration::from_millis(50);

/// Until `stop` turns true or its sender is gone. Dropping this future ends all connections at once.
pub(crate) async fn serve(listener: TcpListener, router: Router, mut stop: watch::Receiver<bool>) {
    let for_connections = stop.clone();
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(converse(stream, router.clone(), for_connections.clone()));
                }
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(PAUSE).await;
                }
            },
            Some(_) = connections.join_next() => {}
            () = told_to(&mut stop) => break,
        }
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

async fn told_to(stop: &mut watch::Receiver<bool>) {
    // The sender is gone when the simulator is dropped: that is an end too.
    let _ = stop.wait_for(|stop| *stop).await;
}

async fn converse(stream: TcpStream, router: Router, mut stop: watch::Receiver<bool>) {
    // A small answer that waits for company would cost 40 ms a call.
    let _ = stream.set_nodelay(true);
    let service = TowerToHyperService::new(router);
    let connection = http1::Builder::new()
        .title_case_headers(true)
        .timer(TokioTimer::new())
        .serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let outcome = tokio::select! {
        outcome = connection.as_mut() => outcome,
        () = told_to(&mut stop) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = outcome {
        // The other side went away, or a fault was ordered.
        tracing::debug!(%error, "a connection broke");
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    async fn started() -> (std::net::SocketAddr, watch::Sender<bool>, tokio::task::JoinHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new().fallback(|| async { ([("sforce-locator", "null")], "rows") });
        let (stop, stopped) = watch::channel(false);
        (address, stop, tokio::spawn(serve(listener, router, stopped)))
    }

    #[tokio::test]
    async fn header_names_are_capitalised_as_salesforce_writes_them() {
        let (address, _stop, _task) = started().await;
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.contains("\r\nSforce-Locator: null\r\n"), "{answer}");
        assert!(answer.contains("\r\nContent-Type: "), "{answer}");
    }

    #[tokio::test]
    async fn an_idle_connection_does_not_keep_it_from_ending() {
        let (address, stop, task) = started().await;
        let mut idle = TcpStream::connect(address).await.unwrap();
        idle.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        let mut first = [0_u8; 8];
        idle.read_exact(&mut first).await.unwrap();
        stop.send(true).unwrap();
        tokio::time::timeout(Duration::from_secs(10), task).await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn it_ends_when_its_owner_is_gone() {
        let (_, stop, task) = started().await;
        drop(stop);
        tokio::time::timeout(Duration::from_secs(10), task).await.unwrap().unwrap();
    }
}
