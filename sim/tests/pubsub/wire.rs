//! The simulator's HTTP side, as far as these tests need it: one request per connection.

use serde_json::Value as Json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

pub async fn get(origin: &str, target: &str, token: Option<&str>) -> Json {
    send(origin, "GET", target, token, "").await
}

pub async fn post(origin: &str, target: &str, body: &str) -> Json {
    send(origin, "POST", target, None, body).await
}

pub async fn send(origin: &str, method: &str, target: &str, token: Option<&str>, body: &str) -> Json {
    let address = origin.strip_prefix("http://").unwrap();
    let mut stream = TcpStream::connect(address).await.unwrap();
    let token = token.map_or_else(String::new, |token| format!("authorization: Bearer {token}\r\n"));
    let request = format!(
        "{method} {target} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n{token}content-length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    let answer = String::from_utf8(answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(!head.contains("transfer-encoding"), "{head}");
    serde_json::from_str(body).unwrap_or_else(|_| Json::String(body.to_owned()))
}
