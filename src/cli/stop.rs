//! How a run is asked to end: SIGINT and SIGTERM.
//!
//! Comes in: signals. Goes out: a token that is cancelled at the first one. The second ends the process at once, with
//! exit code 1; what is committed is safe even then.

use tokio_util::sync::CancellationToken;

use super::output;
use crate::error::Kind;
use crate::{Error, Result};

/// Must be called inside the runtime.
pub(super) fn on_signals() -> Result<CancellationToken> {
    let stop = CancellationToken::new();
    let mut signals = Signals::listen()
        .map_err(|error| Error::new(Kind::Internal, "signals cannot be listened to").source(error))?;
    let token = stop.clone();
    tokio::spawn(async move {
        signals.next().await;
        output::words("stopping: what is captured is committed first (once more: stop at once)");
        token.cancel();
        signals.next().await;
        std::process::exit(1);
    });
    Ok(stop)
}

#[cfg(unix)]
struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Signals {
    fn listen() -> std::io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

#[cfg(not(unix))]
struct Signals;

#[cfg(not(unix))]
impl Signals {
    fn listen() -> std::io::Result<Self> {
        Ok(Self)
    }

    async fn next(&mut self) {
        // Without Ctrl-C there is nothing to wait for; the task then just ends.
        let _ = tokio::signal::ctrl_c().await;
    }
}
