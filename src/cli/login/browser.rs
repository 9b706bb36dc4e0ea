//! Opening a browser, where there is one.
//!
//! Comes in: an address. Goes out: nothing: whether it worked shows on the screen, and the address was printed before.
//! Never: a text browser in the terminal that the code is to be pasted into.

use std::process::{Command, Stdio};

use url::Url;

pub(super) fn open(url: &Url) {
    let Some(opener) = opener(|name| std::env::var_os(name).is_some_and(|value| !value.is_empty())) else {
        return;
    };
    let started = Command::new(opener)
        .arg(url.as_str())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    if let Err(error) = started {
        tracing::debug!(%error, opener, "no browser was opened");
    }
}

/// None: nobody sits in front of this machine.
fn opener(is_set: impl Fn(&str) -> bool) -> Option<&'static str> {
    if is_set("SSH_CONNECTION") {
        return None;
    }
    if cfg!(target_os = "macos") {
        return Some("open");
    }
    (is_set("DISPLAY") || is_set("WAYLAND_DISPLAY")).then_some("xdg-open")
}

#[cfg(all(test, not(target_os = "macos")))]
mod tests {
    use super::*;

    #[test]
    fn a_browser_is_opened_only_where_somebody_sees_it() {
        assert_eq!(opener(|_| false), None);
        assert_eq!(opener(|name| name == "DISPLAY"), Some("xdg-open"));
        assert_eq!(opener(|name| matches!(name, "DISPLAY" | "SSH_CONNECTION")), None);
    }
}
