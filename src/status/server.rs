//! The status server: `/metrics`, `/health/live`, `/health/ready`, `/api/status`.
//!
//! Comes in: the board and an address (loopback unless the configuration says otherwise). Goes out: answers to whoever
//! asks. It reads, it never changes anything, and it shows no secrets and no record values.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::{Board, Snapshot, metrics};
use crate::error::Kind;
use crate::{Error, Result};

/// A server that listens, but does not answer yet.
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
}

impl Server {
    pub async fn bind(listen: SocketAddr) -> Result<Self> {
        let failed = |error| {
            Error::new(Kind::ConfigInvalid, format!("the status server cannot listen on {listen}"))
                .source(error)
                .hint("set `http.listen` to a free address, or to `off`")
        };
        let listener = TcpListener::bind(listen).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        Ok(Self { listener, address })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers until `stop`.
    pub async fn serve(self, board: Arc<Board>, stop: CancellationToken) {
        let served =
            axum::serve(self.listener, router(board)).with_graceful_shutdown(stop.cancelled_owned()).await;
        if let Err(error) = served {
            tracing::warn!(%error, "the status server ended");
        }
    }
}

fn router(board: Arc<Board>) -> Router {
    Router::new()
        .route("/metrics", get(show_metrics))
        .route("/health/live", get(|| async { "live\n" }))
        .route("/health/ready", get(show_ready))
        .route("/api/status", get(show_status))
        .with_state(board)
}

async fn show_metrics(State(board): State<Arc<Board>>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], metrics::render(&board))
}

async fn show_status(State(board): State<Arc<Board>>) -> axum::Json<Snapshot> {
    axum::Json(board.snapshot())
}

async fn show_ready(State(board): State<Arc<Board>>) -> (StatusCode, String) {
    let snapshot = board.snapshot();
    if snapshot.is_ready() {
        return (StatusCode::OK, "ready\n".to_owned());
    }
    let mut text = String::from("not ready: no contact with Salesforce for too long\n");
    for object in snapshot.objects.iter().filter(|object| object.out_of_touch) {
        let contact = object.last_contact.map_or("never".to_owned(), |at| at.to_string());
        text.push_str(&format!("{}: last contact {contact}\n", object.object));
    }
    (StatusCode::SERVICE_UNAVAILABLE, text)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;
    use crate::domain::Position;

    async fn ask(address: SocketAddr, path: &str) -> String {
        let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn ready_is_503_while_an_owned_object_has_no_contact_and_live_stays_200() {
        let board = Arc::new(Board::new());
        let server = Server::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let (address, stop) = (server.address(), CancellationToken::new());
        let serving = tokio::spawn(server.serve(board.clone(), stop.clone()));
        assert!(ask(address, "/health/ready").await.starts_with("HTTP/1.1 200"));

        let text = r#"{"version":1,"object":"Account","epoch":1,"state":"live","capture":"poll",
            "change_seq":"20260519083007120000000000000000001","updated_at":"2026-05-19T08:30:00Z"}"#;
        let status = board.object("Account");
        status.claimed(&Position::decode(text.as_bytes()).unwrap(), Duration::ZERO);
        while !status.report(crate::status::now()).out_of_touch {
            tokio::task::yield_now().await;
        }
        let answer = ask(address, "/health/ready").await;
        assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("Account: last contact never"));
        assert!(ask(address, "/health/live").await.starts_with("HTTP/1.1 200"));
        let status = ask(address, "/api/status").await;
        assert!(status.contains(r#""object":"Account""#) && status.contains(r#""out_of_touch":true"#));
        assert!(ask(address, "/metrics").await.contains("# TYPE sf2kafka_lag_seconds gauge"));
        stop.cancel();
        serving.await.unwrap();
    }
}
