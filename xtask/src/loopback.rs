//! Small questions to servers on 127.0.0.1: a free port, does it answer HTTP, is it a Kafka broker.
//!
//! In: a port. Out: an answer within seconds. Never talks to any other address, never waits without bound.

use std::io::{Error, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(5);
/// A reply longer than this is not one of the small ones that xtask asks for.
const LONGEST_REPLY: u64 = 4 << 20;

/// `count` different ports that nothing listens on right now.
pub fn free_ports(count: usize) -> std::io::Result<Vec<u16>> {
    let listeners = (0..count)
        .map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))
        .collect::<std::io::Result<Vec<_>>>()?;
    listeners.iter().map(|listener| listener.local_addr().map(|address| address.port())).collect()
}

pub fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}

fn connect(port: u16) -> std::io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)), PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// GET over HTTP/1.0: the status code and the body.
pub fn http_get(port: u16, path: &str) -> std::io::Result<(u16, String)> {
    let mut stream = connect(port)?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: 127.0.0.1:{port}\r\nAccept: */*\r\n\r\n")?;
    let mut reply = Vec::new();
    stream.take(LONGEST_REPLY).read_to_end(&mut reply)?;
    parse_http(&String::from_utf8_lossy(&reply)).ok_or_else(|| Error::new(ErrorKind::InvalidData, "not HTTP"))
}

fn parse_http(reply: &str) -> Option<(u16, String)> {
    let (head, body) = reply.split_once("\r\n\r\n")?;
    let mut first_line = head.lines().next()?.split(' ');
    first_line.next().filter(|version| version.starts_with("HTTP/1."))?;
    Some((first_line.next()?.parse().ok()?, body.to_owned()))
}

/// Asks for the protocol versions (Kafka's first question to any broker) and reads the answer's head.
pub fn speaks_kafka(port: u16) -> std::io::Result<()> {
    const CORRELATION: i32 = 0x5f2f_7e57;
    let mut request = vec![0, 0, 0, 10];
    request.extend_from_slice(&18_i16.to_be_bytes()); // ApiVersions
    request.extend_from_slice(&0_i16.to_be_bytes()); // its version 0
    request.extend_from_slice(&CORRELATION.to_be_bytes());
    request.extend_from_slice(&(-1_i16).to_be_bytes()); // no client id
    let mut stream = connect(port)?;
    stream.write_all(&request)?;
    let mut head = [0_u8; 10];
    stream.read_exact(&mut head)?;
    let [_, _, _, _, a, b, c, d, error_high, error_low] = head;
    if i32::from_be_bytes([a, b, c, d]) == CORRELATION && [error_high, error_low] == [0, 0] {
        Ok(())
    } else {
        Err(Error::new(ErrorKind::InvalidData, "not a Kafka broker's answer"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn free_ports_differ_and_are_free() {
        let ports = free_ports(3).unwrap();
        assert!(ports[0] != ports[1] && ports[1] != ports[2] && ports[0] != ports[2], "{ports:?}");
        assert!(ports.iter().all(|port| is_free(*port)));
    }

    #[test]
    fn a_taken_port_is_not_free() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        assert!(!is_free(listener.local_addr().unwrap().port()));
    }

    #[test]
    fn an_http_reply_is_taken_apart() {
        assert_eq!(parse_http("HTTP/1.1 200 OK\r\nA: b\r\n\r\n[]"), Some((200, "[]".to_owned())));
        assert_eq!(parse_http("SSH-2.0-x\r\n\r\n"), None);
        assert_eq!(parse_http("HTTP/1.1"), None);
    }

    #[test]
    fn a_server_that_is_no_broker_is_told_apart() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").unwrap();
        });
        assert!(speaks_kafka(port).is_err());
        server.join().unwrap();
    }
}
