//! An org that answers by script, for tests of what goes wrong: real sockets, any bytes, any cut.
//!
//! Comes in: for parts of paths, the answers to give one after another (the last one stays). Goes out: those
//! answers, and the requests that came. Tokens are checked and can be expired. What no script expects is answered
//! with the error code UNSCRIPTED, which no test accepts.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use super::{Client, Pace};
use crate::config::{Auth, SalesforceSettings, Secret};
use crate::error::Error;

#[derive(Clone, Debug, Default)]
pub struct Reply {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    /// Send only so many bytes of the body, then close.
    cut: Option<usize>,
    /// Send it only when there is a permit.
    held: Option<Arc<Semaphore>>,
}

pub fn reply(status: u16, body: impl Into<Vec<u8>>) -> Reply {
    Reply { status, body: body.into(), ..Reply::default() }
        .with("content-type", "application/json;charset=UTF-8")
}

pub fn refuse(status: u16, code: &str, message: &str) -> Reply {
    reply(status, serde_json::json!([{"errorCode": code, "message": message}]).to_string())
}

impl Reply {
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.retain(|(have, _)| have != name);
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// It takes effect, and its answer waits for a permit.
    pub fn held_by(mut self, gate: &Arc<Semaphore>) -> Self {
        self.held = Some(Arc::clone(gate));
        self
    }

    pub fn cut_at(mut self, bytes: usize) -> Self {
        self.cut = Some(bytes);
        self
    }
}

#[derive(Clone, Debug)]
pub struct Request {
    pub line: String,
    pub head: String,
    pub body: String,
}

#[derive(Default)]
struct State {
    rules: Vec<(String, VecDeque<Reply>)>,
    requests: Vec<Request>,
    /// The token that is good now is `T{session}`.
    session: u64,
    /// Where logins send to, if not here.
    instance: Option<String>,
    login: VecDeque<Reply>,
    date: Option<String>,
}

#[derive(Clone)]
pub struct Org {
    pub origin: String,
    state: Arc<Mutex<State>>,
    listening: Arc<Mutex<Option<tokio::task::JoinHandle<()>>>>,
}

impl Org {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let origin = format!("http://{}", listener.local_addr().unwrap());
        let state = Arc::new(Mutex::new(State { session: 1, ..State::default() }));
        let org = Self { origin, state, listening: Arc::default() };
        let serving = org.clone();
        let listening = tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let org = serving.clone();
                tokio::spawn(async move {
                    let _ = org.serve(socket).await;
                });
            }
        });
        *org.listening.lock().unwrap() = Some(listening);
        org
    }

    /// Nobody listens there any more.
    pub async fn close(&self) {
        let listening = self.listening.lock().unwrap().take().unwrap();
        listening.abort();
        let _ = listening.await;
    }

    /// Requests whose line contains `part` get these answers, the last one for ever.
    pub fn on(&self, part: &str, replies: impl IntoIterator<Item = Reply>) {
        self.state.lock().unwrap().rules.push((part.to_owned(), replies.into_iter().collect()));
    }

    /// The token endpoint gives these before it gives tokens.
    pub fn on_login(&self, replies: impl IntoIterator<Item = Reply>) {
        self.state.lock().unwrap().login.extend(replies);
    }

    /// The token given last is no longer good; the next login gets another.
    pub fn expire(&self) {
        self.state.lock().unwrap().session += 1;
    }

    /// From now on logins send to another place, whose token is this org's.
    pub fn move_to(&self, other: &Self) {
        let mut state = self.state.lock().unwrap();
        state.session += 1;
        state.instance = Some(other.origin.clone());
        other.state.lock().unwrap().session = state.session;
    }

    /// The same, without ending the session: this place answers on by its script.
    pub fn move_instance_to(&self, other: &Self) {
        self.state.lock().unwrap().instance = Some(other.origin.clone());
    }

    pub fn set_date(&self, date: &str) {
        self.state.lock().unwrap().date = Some(date.to_owned());
    }

    pub fn requests(&self, part: &str) -> Vec<Request> {
        let state = self.state.lock().unwrap();
        state.requests.iter().filter(|request| request.line.contains(part)).cloned().collect()
    }

    pub fn settings(&self) -> SalesforceSettings {
        let auth =
            Auth::ClientCredentials { client_id: "3MVG9".to_owned(), client_secret: Secret::new("s3cret") };
        let mut settings = SalesforceSettings::new(url::Url::parse(&self.origin).unwrap(), auth);
        settings.budget.per_second = 10_000;
        settings
    }

    pub async fn try_client(&self) -> Result<Client, Error> {
        Client::connect_with(&self.settings(), quick()).await
    }

    pub async fn client(&self) -> Client {
        self.try_client().await.unwrap()
    }

    async fn serve(&self, mut socket: TcpStream) -> std::io::Result<()> {
        let mut bytes = Vec::new();
        let head_end = loop {
            if socket.read_buf(&mut bytes).await? == 0 {
                return Ok(());
            }
            if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
                break end + 4;
            }
        };
        let head = String::from_utf8_lossy(&bytes[..head_end]).into_owned();
        let length = head
            .lines()
            .find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length:")?.trim().parse().ok())
            .unwrap_or(0);
        while bytes.len() < head_end + length {
            if socket.read_buf(&mut bytes).await? == 0 {
                return Ok(());
            }
        }
        let request = Request {
            line: head.lines().next().unwrap_or_default().to_owned(),
            body: String::from_utf8_lossy(&bytes[head_end..]).into_owned(),
            head,
        };
        let reply = self.answer(request);
        if let Some(gate) = &reply.held {
            gate.acquire().await.unwrap().forget();
        }
        let sent = reply.cut.unwrap_or(reply.body.len());
        let mut head = format!("HTTP/1.1 {} X\r\nconnection: close\r\n", reply.status);
        if !matches!(reply.status, 204 | 304) {
            head.push_str(&format!("content-length: {}\r\n", reply.body.len()));
        }
        for (name, value) in &reply.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        socket.write_all(format!("{head}\r\n").as_bytes()).await?;
        socket.write_all(&reply.body[..sent]).await?;
        socket.shutdown().await
    }

    fn answer(&self, request: Request) -> Reply {
        let mut state = self.state.lock().unwrap();
        let (line, head) = (request.line.clone(), request.head.clone());
        state.requests.push(request);
        let date =
            state.date.clone().unwrap_or_else(|| httpdate::fmt_http_date(std::time::SystemTime::now()));
        let reply = state.reply(&self.origin, &line, &head);
        if date.is_empty() { reply } else { reply.with("date", &date) }
    }
}

impl State {
    fn reply(&mut self, origin: &str, line: &str, head: &str) -> Reply {
        if line.starts_with("POST /services/oauth2/token ") {
            if let Some(reply) = self.login.pop_front() {
                return reply;
            }
            let token = serde_json::json!({
                "access_token": format!("T{}", self.session),
                "instance_url": self.instance.as_deref().unwrap_or(origin),
                "id": "https://login.salesforce.com/id/00D5g00000AbCdEEAV/0055g00000XyZzzAAF",
                "token_type": "Bearer", "issued_at": "1767225600123", "signature": "x",
            });
            return reply(200, token.to_string());
        }
        if line.starts_with("GET /services/data/ ") {
            return reply(200, r#"[{"label":"Spring '25","url":"/services/data/v65.0","version":"65.0"}]"#);
        }
        if !head.to_ascii_lowercase().contains(&format!("authorization: bearer t{}\r\n", self.session)) {
            return refuse(401, "INVALID_SESSION_ID", "Session expired or invalid");
        }
        let Some((_, replies)) = self.rules.iter_mut().find(|(part, _)| line.contains(part.as_str())) else {
            return refuse(400, "UNSCRIPTED", line);
        };
        match replies.len() {
            0 => refuse(400, "UNSCRIPTED", line),
            1 => replies.front().cloned().unwrap_or_default(),
            _ => replies.pop_front().unwrap_or_default(),
        }
    }
}

/// All the patience that a test has.
pub fn quick() -> Pace {
    Pace {
        first_pause: Duration::from_millis(4),
        longest_pause: Duration::from_millis(16),
        give_up_after: Duration::from_millis(400),
        answer_timeout: Duration::from_secs(5),
        maintenance: Duration::from_secs(60),
        idle_timeout: Duration::from_secs(5),
        job_first_look: Duration::from_millis(1),
        job_longest_look: Duration::from_millis(4),
        job_stall: Duration::from_millis(300),
        limit_pause: Duration::from_millis(30),
        wait_for_allowance: true,
        ..Pace::default()
    }
}
