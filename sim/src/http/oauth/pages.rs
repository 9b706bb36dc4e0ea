//! The pages that a person sees on the way through the browser.
//!
//! Comes in: texts, of which any may be foreign. Goes out: HTML in which they are nothing but text. No scripts, nothing from elsewhere.

use http::StatusCode;

use crate::http::Reply;
use crate::http::reply::{Answer, Content};

const STYLE: &str = "\
*{box-sizing:border-box}\
body{margin:0;min-height:100vh;display:flex;flex-direction:column;align-items:center;justify-content:center;\
background:#f3f5f8;color:#1d2733;font:16px/1.5 system-ui,sans-serif}\
main{width:25rem;max-width:calc(100vw - 2rem);padding:2rem;background:#fff;border:1px solid #d8dee6;border-radius:8px;\
box-shadow:0 2px 12px rgba(20,40,70,.08)}\
header{margin-bottom:1.25rem;color:#0b5cab;font-size:1.4rem;font-weight:600}\
h1{margin:0 0 1rem;font-size:1.15rem}\
label{display:block;margin:.9rem 0 .3rem;color:#4a5666;font-size:.9rem}\
input{width:100%;padding:.6rem .7rem;border:1px solid #b4bfcc;border-radius:5px;font:inherit}\
input:focus{outline:2px solid #0b5cab;outline-offset:0;border-color:#0b5cab}\
button{width:100%;margin-top:1.25rem;padding:.65rem;border:1px solid #0b5cab;border-radius:5px;background:#0b5cab;\
color:#fff;font:inherit;font-weight:600;cursor:pointer}\
button.plain{background:#fff;color:#0b5cab}\
.pair{display:flex;gap:.75rem}\
.wrong{margin:0 0 .5rem;padding:.6rem .8rem;border-left:4px solid #b3261e;background:#fdecea}\
ul{margin:.5rem 0;padding-left:1.2rem}\
code{overflow-wrap:anywhere}\
footer{margin-top:1.25rem;color:#6b7787;font-size:.8rem}";

fn text(foreign: &str) -> String {
    let mut safe = String::with_capacity(foreign.len());
    for character in foreign.chars() {
        match character {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            other => safe.push(other),
        }
    }
    safe
}

fn page(title: &str, body: &str) -> Reply {
    let html = format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <link rel=\"icon\" href=\"data:,\">\
         <title>{title}</title><style>{STYLE}</style></head>\n<body><main><header>Practice Salesforce</header>\n\
         {body}\n</main><footer>A simulator on this machine; nothing here is Salesforce.</footer></body></html>\n"
    );
    let headers = [
        ("content-type", "text/html;charset=UTF-8"),
        ("cache-control", "no-store"),
        ("x-frame-options", "DENY"),
        ("content-security-policy", "default-src 'none'; style-src 'unsafe-inline'; img-src data:"),
    ];
    Answer {
        status: StatusCode::OK,
        headers: headers.map(|(name, value)| (name, value.to_owned())).to_vec(),
        body: Content::Whole(html.into_bytes()),
        billed: false,
    }
}

/// Asks who it is, and goes on to `start`.
pub(super) fn login(start: &str, username: &str, wrong: Option<&str>) -> Reply {
    let wrong =
        wrong.map(|wrong| format!("<p class=\"wrong\" id=\"error\">{}</p>", text(wrong))).unwrap_or_default();
    let body = format!(
        "<form method=\"post\" action=\"/login\" id=\"login_form\">\n{wrong}\
         <input type=\"hidden\" name=\"startURL\" value=\"{start}\">\n\
         <label for=\"username\">Username</label>\
         <input id=\"username\" name=\"username\" type=\"email\" autocomplete=\"username\" value=\"{username}\" required>\n\
         <label for=\"password\">Password</label>\
         <input id=\"password\" name=\"pw\" type=\"password\" autocomplete=\"current-password\" required>\n\
         <button id=\"Login\" name=\"Login\" value=\"Log In\">Log In</button>\n</form>",
        start = text(start),
        username = text(username),
    );
    page("Login", &body)
}

/// Asks whether the app may.
pub(super) fn approval(action: &str, request: &str, app: &str, user: &str, scopes: &[String]) -> Reply {
    let scopes: String = scopes
        .iter()
        .map(|scope| format!("<li>{} (<code>{}</code>)</li>", text(meaning(scope)), text(scope)))
        .collect();
    let body = format!(
        "<h1>Allow Access?</h1>\n<p><strong id=\"app\">{app}</strong> is asking to:</p>\n<ul id=\"scopes\">{scopes}</ul>\n\
         <p>Do you want to allow access for <span id=\"user\">{user}</span>?</p>\n\
         <form method=\"post\" action=\"{action}\">\
         <input type=\"hidden\" name=\"request\" value=\"{request}\">\n<div class=\"pair\">\
         <button class=\"plain\" id=\"oadeny\" name=\"cancel\" value=\"Deny\">Deny</button>\
         <button id=\"oaapprove\" name=\"save\" value=\"Allow\">Allow</button></div></form>",
        app = text(app),
        user = text(user),
        action = text(action),
        request = text(request),
    );
    page("Allow Access?", &body)
}

fn meaning(scope: &str) -> &'static str {
    match scope {
        "api" => "Manage user data via APIs",
        "refresh_token" => "Perform requests at any time",
        "id" | "profile" | "email" | "address" | "phone" => "Access the identity URL service",
        "openid" => "Access unique user identifiers",
        "web" => "Manage user data via Web browsers",
        "full" => "Full access",
        _ => "Use a further service",
    }
}

/// Where the browser stays when the callback may not learn of it.
pub(super) fn error(error: &str, description: &str) -> Reply {
    let body = format!(
        "<h1>OAuth Error</h1>\n<p>We can't authorize you because of an OAuth error. For more information, contact your \
         Salesforce administrator.</p>\n<p><code id=\"error\">{}</code>: <span id=\"description\">{}</span></p>",
        text(error),
        text(description),
    );
    page("OAuth Error", &body)
}

/// A callback that shows nothing useful: what counts is in the address bar.
pub(super) fn nothing_useful() -> Reply {
    page("Remote Access Application Authorization", "<h1>Remote Access Application Authorization</h1>")
}

#[cfg(test)]
mod tests {
    use super::text;

    #[test]
    fn foreign_text_cannot_leave_its_place() {
        assert_eq!(text("<a b='c' d=\"e\">&"), "&lt;a b=&#39;c&#39; d=&quot;e&quot;&gt;&amp;");
    }
}
