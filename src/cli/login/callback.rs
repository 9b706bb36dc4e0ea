//! The page on this machine that the browser ends at: it brings the code, and is told whether that was good.
//!
//! Comes in: the callback URL, one visit after the other. Goes out: the query of each visit to the URL's path, and a
//! page for the person. It listens on loopback only, for as long as the login takes. Never: a code on the page.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::response::{Html, IntoResponse, Response};
use http::{StatusCode, Uri, header};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use url::{Host, Url};

use crate::error::Kind;
use crate::{Error, Result};

/// For the page to reach the browser.
const FAREWELL: Duration = Duration::from_secs(2);

pub(super) struct Listener {
    visits: mpsc::Receiver<Visit>,
    serving: TaskTracker,
    end: CancellationToken,
}

pub(super) struct Visit {
    query: String,
    outcome: oneshot::Sender<Result<(), String>>,
}

impl Visit {
    pub fn query(&self) -> &str {
        &self.query
    }

    pub fn answer(self, outcome: Result<(), String>) {
        // The browser may have gone.
        let _ = self.outcome.send(outcome);
    }
}

#[derive(Clone)]
struct Door {
    path: String,
    visits: mpsc::Sender<Visit>,
}

/// `localhost` is listened to at both of its addresses, as far as this machine has them.
pub(super) async fn listen(url: &Url) -> Result<Listener> {
    let port = url.port_or_known_default().unwrap_or(80);
    let addresses: Vec<IpAddr> = match url.host() {
        Some(Host::Ipv4(address)) => vec![address.into()],
        Some(Host::Ipv6(address)) => vec![address.into()],
        _ => vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()],
    };
    let (send, visits) = mpsc::channel(1);
    let door = Door { path: url.path().to_owned(), visits: send };
    let listener = Listener { visits, serving: TaskTracker::new(), end: CancellationToken::new() };
    let mut refused = None;
    for address in addresses {
        let socket = match TcpListener::bind(SocketAddr::new(address, port)).await {
            Ok(socket) => socket,
            Err(error) => {
                refused.get_or_insert(error);
                continue;
            }
        };
        let app = Router::new().fallback(visited).with_state(door.clone());
        let end = listener.end.clone();
        listener.serving.spawn(async move {
            let served = axum::serve(socket, app).with_graceful_shutdown(end.cancelled_owned()).await;
            if let Err(error) = served {
                tracing::debug!(%error, "the callback page ended");
            }
        });
    }
    listener.serving.close();
    match refused {
        Some(error) if listener.serving.is_empty() => Err(Error::new(
            Kind::Usage,
            format!("port {port} of `salesforce.callback_url` cannot be listened to"),
        )
        .source(error)
        .hint("end the program that uses the port, or register another callback URL with the app")),
        _ => Ok(listener),
    }
}

impl Listener {
    pub async fn next(&mut self) -> Option<Visit> {
        self.visits.recv().await
    }

    /// Lets the last page arrive; connections that a browser only keeps open are cut.
    pub async fn close(self) {
        self.end.cancel();
        let _ = tokio::time::timeout(FAREWELL, self.serving.wait()).await;
    }
}

async fn visited(State(door): State<Door>, uri: Uri) -> Response {
    if uri.path() != door.path {
        return StatusCode::NOT_FOUND.into_response();
    }
    let (outcome, told) = oneshot::channel();
    let query = uri.query().unwrap_or_default().to_owned();
    let told = match door.visits.send(Visit { query, outcome }).await {
        Ok(()) => told.await.unwrap_or_else(|_| Err("this login is over".to_owned())),
        Err(_) => Err("this login is over".to_owned()),
    };
    page(told)
}

fn page(outcome: Result<(), String>) -> Response {
    let (status, title, words) = match &outcome {
        Ok(()) => (StatusCode::OK, "Login received", "You can close this page and go back to the terminal."),
        Err(why) => (StatusCode::BAD_REQUEST, "This login did not work", why.as_str()),
    };
    let words = words.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    let html = format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><title>{title}</title>\
         <style>body{{font:18px/1.5 sans-serif;margin:15vh auto;max-width:34em;padding:0 1em}}</style></head>\
         <body><h1>{title}</h1><p>{words}</p></body></html>"
    );
    // The address holds the code: nothing of it goes on to anywhere.
    let headers = [
        (header::CACHE_CONTROL, "no-store"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CONNECTION, "close"),
    ];
    (status, headers, Html(html)).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn listener() -> (Listener, String) {
        // Another test may take the port in between.
        for _ in 0..20 {
            let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
            let origin = format!("http://{free}");
            let url = Url::parse(&format!("{origin}/callback")).unwrap();
            if let Ok(listener) = listen(&url).await {
                return (listener, origin);
            }
        }
        panic!("no port is free");
    }

    #[tokio::test]
    async fn the_browser_is_told_what_became_of_its_code() {
        crate::salesforce::install_tls();
        let (mut listener, origin) = listener().await;
        let told = |outcome: Result<(), String>| {
            let address = format!("{origin}/callback?code=aPrx%3D&state=s");
            (tokio::spawn(async move { reqwest::get(address).await.unwrap() }), outcome)
        };
        for (outcome, status, word) in [
            (Ok(()), 200, "You can close this page"),
            (Err("<script>refused".to_owned()), 400, "&lt;script&gt;refused"),
        ] {
            let (browser, outcome) = told(outcome);
            let visit = listener.next().await.unwrap();
            assert_eq!(visit.query(), "code=aPrx%3D&state=s");
            visit.answer(outcome);
            let response = browser.await.unwrap();
            assert_eq!(response.status().as_u16(), status);
            let page = response.text().await.unwrap();
            assert!(page.contains(word) && !page.contains("aPrx"), "{page}");
        }
        let other = reqwest::get(format!("{origin}/favicon.ico")).await.unwrap();
        assert_eq!(other.status().as_u16(), 404);
        listener.close().await;
        assert!(reqwest::get(format!("{origin}/callback")).await.is_err(), "it is closed");
    }

    #[tokio::test]
    async fn a_port_that_is_taken_says_what_to_do() {
        let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = Url::parse(&format!("http://{}/cb", taken.local_addr().unwrap())).unwrap();
        let error = listen(&url).await.map(drop).unwrap_err();
        assert_eq!(error.kind(), Kind::Usage);
        assert!(error.advice().contains("callback URL"), "{}", error.advice());
    }
}
