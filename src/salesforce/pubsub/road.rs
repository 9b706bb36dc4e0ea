//! The TCP road to the Pub/Sub API: straight there, or through the proxy that the environment names.
//!
//! Comes in: the endpoint, and the variables that the other calls honour as well (`HTTPS_PROXY`, `ALL_PROXY`, `NO_PROXY`).
//! Goes out: a connection on which TLS begins, through a tunnel that the proxy opens by CONNECT. Never: the proxy's user or
//! password in a message, or plain text through a proxy.

use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::future::BoxFuture;
use http::Uri;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::proxy::Tunnel;
use hyper_util::client::proxy::matcher::Matcher;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tower_service::Service;

use crate::error::{Error, Kind, Result};

type Failure = Box<dyn std::error::Error + Send + Sync>;

#[derive(Clone)]
pub(super) enum Road {
    Straight(HttpConnector),
    Tunnel(Tunnel<HttpConnector>),
}

impl Road {
    /// Straight, without a look at the environment: plain text goes to this machine itself only.
    pub fn straight(connect: Duration, keepalive: Duration) -> Self {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(connect));
        tcp.set_keepalive(Some(keepalive));
        Self::Straight(tcp)
    }

    /// The way to `target` by these rules.
    pub fn by(self, proxies: &Matcher, target: &Uri) -> Result<Self> {
        let Self::Straight(tcp) = self else { return Ok(self) };
        let Some(proxy) = proxies.intercept(target) else { return Ok(Self::Straight(tcp)) };
        let (scheme, host) = (proxy.uri().scheme_str().unwrap_or("http"), proxy.uri().host().unwrap_or("?"));
        if scheme != "http" {
            let message = format!("the Pub/Sub API cannot be reached by the proxy {scheme}://{host}");
            return Err(Error::new(Kind::ConfigInvalid, message).hint(
                "name a proxy `http://…` in HTTPS_PROXY (what it carries is encrypted all the same), or name the Pub/Sub host in NO_PROXY",
            ));
        }
        tracing::debug!(host, "the Pub/Sub API is reached by a proxy");
        let tunnel = Tunnel::new(proxy.uri().clone(), tcp);
        Ok(Self::Tunnel(match proxy.basic_auth() {
            Some(credentials) => tunnel.with_auth(credentials.clone()),
            None => tunnel,
        }))
    }
}

impl Service<Uri> for Road {
    type Response = TokioIo<TcpStream>;
    type Error = Failure;
    type Future = BoxFuture<'static, Result<Self::Response, Failure>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        match self {
            Self::Straight(tcp) => tcp.poll_ready(context).map_err(Into::into),
            Self::Tunnel(tunnel) => tunnel.poll_ready(context).map_err(Into::into),
        }
    }

    fn call(&mut self, target: Uri) -> Self::Future {
        match self {
            Self::Straight(tcp) => {
                let connecting = tcp.call(target);
                Box::pin(async move { connecting.await.map_err(Into::into) })
            }
            Self::Tunnel(tunnel) => {
                let tunneling = tunnel.call(target);
                Box::pin(async move { tunneling.await.map_err(Into::into) })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn road(proxy: &str, no_proxy: &str) -> Result<Road> {
        let proxies = Matcher::builder().https(proxy.to_owned()).no(no_proxy.to_owned()).build();
        let second = Duration::from_secs(1);
        Road::straight(second, second)
            .by(&proxies, &Uri::from_static("https://api.pubsub.salesforce.com:7443"))
    }

    #[test]
    fn the_environment_says_which_way_and_never_who_it_is_for() {
        let by = |proxy, no_proxy| matches!(road(proxy, no_proxy).unwrap(), Road::Tunnel(_));
        assert!(by("http://anna:geheim@proxy.example:3128", ""));
        assert!(!by("http://proxy.example:3128", ".salesforce.com"));
        assert!(!by("", ""));
        let Err(error) = road("socks5://anna:geheim@proxy.example:1080", "") else { panic!("taken") };
        assert_eq!(
            error.to_string(),
            "the Pub/Sub API cannot be reached by the proxy socks5://proxy.example"
        );
        assert!(!error.report().contains("geheim"), "{}", error.report());
    }
}
