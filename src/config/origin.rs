//! Where to log in and where to send calls: the spellings of `login_domain` and `instance`.
//!
//! Comes in: a bare host, a full origin, or (instance) a bare label such as `UM1`. Goes out: an origin without path.
//! Secrets go there, so plain http is refused but to this machine itself.

use url::{Host, Url};

/// Why it is no origin, and what to write instead.
pub(super) type Refusal = (String, &'static str);

const EXAMPLES: &str =
    "give a host such as `login.salesforce.com` or `acme.my.salesforce.com`, or an origin `https://…`";

pub(super) fn login(text: &str) -> Result<Url, Refusal> {
    if is_label(text) && !text.eq_ignore_ascii_case("localhost") {
        return Err((format!("`{text}` is no host"), EXAMPLES));
    }
    origin(text)
}

/// The origin, and the label if only that was given.
pub(super) fn instance(text: &str) -> Result<(Url, Option<String>), Refusal> {
    if is_label(text) && !text.eq_ignore_ascii_case("localhost") {
        return Ok((origin(&format!("{text}.salesforce.com"))?, Some(text.to_ascii_uppercase())));
    }
    Ok((origin(text)?, None))
}

/// Host and port, and whether they are this machine itself.
pub(super) fn endpoint(text: &str, default_port: u16) -> Result<(String, bool), Refusal> {
    const HINT: &str = "give host and port, such as `api.pubsub.salesforce.com:7443`";
    let refused = || (format!("`{text}` is no host and port"), HINT);
    if text.contains("://") {
        return Err((format!("`{text}` is an address with a scheme"), HINT));
    }
    // Of a scheme whose own port the parser does not hide.
    let url = Url::parse(&format!("grpc://{text}")).map_err(|_| refused())?;
    let bare = matches!(url.path(), "" | "/")
        && url.query().is_none()
        && url.fragment().is_none()
        && url.username().is_empty()
        && url.password().is_none();
    let host = url.host_str().filter(|host| !host.is_empty()).ok_or_else(refused)?.to_ascii_lowercase();
    // The parser takes hosts of unknown schemes as they are.
    let full = Url::parse(&format!("https://{host}")).map_err(|_| refused())?;
    let port = url.port().unwrap_or(default_port);
    if !bare || port == 0 || (is_label(&host) && host != "localhost") {
        return Err(refused());
    }
    Ok((format!("{host}:{port}"), is_loopback(&full)))
}

fn is_label(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

fn origin(text: &str) -> Result<Url, Refusal> {
    let full = if text.contains("://") { text.to_owned() } else { format!("https://{text}") };
    let url = Url::parse(&full).map_err(|_| (format!("`{text}` is no host or origin"), EXAMPLES))?;
    let bare = url.path() == "/"
        && url.query().is_none()
        && url.fragment().is_none()
        && url.username().is_empty()
        && url.password().is_none();
    if !bare || url.host().is_none() {
        return Err((
            format!("`{}` is more than a host or origin", without_secrets(&url)),
            "leave out path, query and user: only scheme, host and port belong here",
        ));
    }
    match url.scheme() {
        "https" => Ok(url),
        "http" if is_loopback(&url) => Ok(url),
        "http" => Err((
            format!(
                "plain http to `{}`: secrets would travel unprotected",
                url.host_str().unwrap_or_default()
            ),
            "use https; plain http is only for this machine itself (127.0.0.1, localhost)",
        )),
        other => Err((format!("`{other}` is no way to reach Salesforce"), EXAMPLES)),
    }
}

pub(super) fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

fn without_secrets(url: &Url) -> String {
    format!("{}://{}{}", url.scheme(), url.host_str().unwrap_or_default(), url.path())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn logged_in_at(text: &str) -> String {
        login(text).map_or_else(|(why, _)| why, |url| url.to_string())
    }

    #[test]
    fn hosts_and_origins_are_taken() {
        assert_eq!(logged_in_at("login.salesforce.com"), "https://login.salesforce.com/");
        assert_eq!(logged_in_at("acme.my.salesforce.com:8443"), "https://acme.my.salesforce.com:8443/");
        assert_eq!(logged_in_at("https://test.salesforce.com/"), "https://test.salesforce.com/");
        for local in ["http://127.0.0.1:8089/", "http://localhost:8089/", "http://[::1]:8089/"] {
            assert_eq!(logged_in_at(local), local);
        }
    }

    #[test]
    fn plain_http_is_only_for_this_machine() {
        for text in ["http://login.salesforce.com", "http://10.0.0.1", "http://localhost.evil.com"] {
            assert!(logged_in_at(text).starts_with("plain http to"), "{text}");
        }
    }

    #[test]
    fn what_is_no_origin_is_refused_without_showing_a_password() {
        for text in ["acme", "", "https://", "ftp://x.com", "a b.com", "https://x.com/services", "x.com?a=1"]
        {
            assert!(login(text).is_err(), "{text}");
        }
        assert!(!logged_in_at("https://me:hunter2@x.com").contains("hunter2"));
    }

    #[test]
    fn an_endpoint_is_a_host_and_a_port_and_nothing_else() {
        let taken = |text: &str| endpoint(text, 7443).ok();
        assert_eq!(
            taken("API.pubsub.salesforce.com"),
            Some(("api.pubsub.salesforce.com:7443".to_owned(), false))
        );
        assert_eq!(
            taken("api.pubsub.salesforce.com:443"),
            Some(("api.pubsub.salesforce.com:443".to_owned(), false))
        );
        for local in ["127.0.0.1:9", "localhost:9", "[::1]:9"] {
            assert_eq!(taken(local), Some((local.to_owned(), true)));
        }
        for wrong in [
            "",
            "api",
            ":7443",
            "https://api.x.com",
            "me@x.com",
            "x.com/a",
            "x.com:0",
            "x.com:99999",
            "a b.com",
            "x.com?a",
        ] {
            assert_eq!(taken(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_bare_label_is_an_instance() {
        let (url, label) = instance("um1").unwrap();
        assert_eq!((url.as_str(), label.as_deref()), ("https://um1.salesforce.com/", Some("UM1")));
        assert_eq!(instance("acme.my.salesforce.com").unwrap().1, None);
    }
}
