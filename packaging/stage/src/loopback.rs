//! One request to a server on this machine (HTTP/1.0, RFC 1945), for the tools that ask a scratch root
//! or a test's own server. It reaches nothing outside, and nothing on the appliance names this crate.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream, ToSocketAddrs as _},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};

/// What to ask for.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The server, as `HOST:PORT`.
    pub host: &'a str,
    /// The path, with its slash.
    pub path: &'a str,
    /// The key that the request shows, if it shows one.
    pub bearer: Option<&'a str>,
    /// What is posted; a request without it is a GET.
    pub body: Option<&'a [u8]>,
    /// The longest answer, in bytes, its head included.
    pub answer_bytes_max: u64,
    /// How long the server may be silent.
    pub silence_max: Duration,
}

/// What a server answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The status, such as 200.
    pub status: u16,
    /// The body, as long as the head says if it says so.
    pub body: Vec<u8>,
}

/// Sends a request and reads the answer to its end.
///
/// # Errors
/// When the server is not on this machine or does not answer, or its answer is no HTTP, is too long or
/// was cut short.
pub fn exchange(request: &Request<'_>) -> Result<Answer> {
    let Request { host, path, bearer, body, answer_bytes_max, silence_max } = *request;
    let addresses: Vec<SocketAddr> = host.to_socket_addrs().context("an unknown host")?.collect();
    ensure!(
        addresses.iter().all(|address| address.ip().is_loopback()),
        "only servers on this machine are asked"
    );
    let mut stream = TcpStream::connect(&addresses[..]).context("connecting")?;
    stream.set_read_timeout(Some(silence_max))?;
    stream.set_nodelay(true)?;
    let method = if body.is_some() { "POST" } else { "GET" };
    // HTTP/1.0, so that the answer ends with the connection and is not chunked.
    let mut text = format!("{method} {path} HTTP/1.0\r\nHost: {host}\r\n");
    if let Some(key) = bearer {
        text.push_str(&format!("Authorization: Bearer {key}\r\n"));
    }
    let body = body.unwrap_or_default();
    text.push_str(&format!("Content-Length: {}\r\n\r\n", body.len()));
    stream.write_all(&[text.as_bytes(), body].concat())?;
    let mut answer = Vec::new();
    let beyond = answer_bytes_max.saturating_add(1);
    stream.take(beyond).read_to_end(&mut answer).context("reading the answer")?;
    ensure!(answer.len() as u64 <= answer_bytes_max, "the answer is too long");
    parse(answer)
}

fn parse(mut answer: Vec<u8>) -> Result<Answer> {
    let end = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n").context("no HTTP answer")?;
    let body = answer.split_off(end + 4);
    let head = String::from_utf8_lossy(&answer).to_ascii_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:"));
    if let Some(length) = length {
        ensure!(length.trim().parse() == Ok(body.len()), "the answer was cut short");
    }
    let status = head.strip_prefix("http/1.").and_then(|rest| rest.split_whitespace().nth(1));
    let status = status.and_then(|digits| digits.parse().ok()).context("no HTTP answer")?;
    Ok(Answer { status, body })
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    fn request(host: &str) -> Request<'_> {
        Request {
            host,
            path: "/a",
            bearer: Some("key"),
            body: None,
            answer_bytes_max: 64,
            silence_max: Duration::from_secs(10),
        }
    }

    /// What is asked, and what is made of an answer.
    fn asked(answer: &[u8], body: Option<&[u8]>) -> (String, Result<Answer>) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let host = listener.local_addr().expect("bound").to_string();
        std::thread::scope(|scope| {
            let server = scope.spawn(move || {
                let (mut stream, _peer) = listener.accept().expect("asked");
                let mut asked = Vec::new();
                let (mut byte, wanted) = ([0], body.map_or(0, <[u8]>::len));
                let ended = |asked: &[u8]| {
                    let end = asked.windows(4).position(|four| four == b"\r\n\r\n");
                    end.is_some_and(|end| asked.len() == end + 4 + wanted)
                };
                while !ended(&asked) && stream.read(&mut byte).expect("read") > 0 {
                    asked.push(byte[0]);
                }
                stream.write_all(answer).expect("answered");
                String::from_utf8(asked).expect("text")
            });
            let made = exchange(&Request { body, ..request(&host) });
            (server.join().expect("ended"), made)
        })
    }

    #[test]
    fn a_request_is_answered_by_status_and_body() {
        let (said, answer) = asked(b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nhi", None);
        assert!(said.starts_with("GET /a HTTP/1.0\r\nHost: 127.0.0.1:"), "{said}");
        assert!(said.contains("\r\nAuthorization: Bearer key\r\n"), "{said}");
        assert_eq!(answer.expect("good"), Answer { status: 200, body: b"hi".to_vec() });
        let (said, answer) = asked(b"HTTP/1.1 404 None\r\n\r\n", Some(b"{}"));
        assert!(said.starts_with("POST /a ") && said.ends_with("\r\n\r\n{}"), "{said}");
        assert_eq!(answer.expect("good"), Answer { status: 404, body: Vec::new() });
    }

    #[test]
    fn an_answer_that_is_cut_short_too_long_or_none_is_refused() {
        let long = [b"HTTP/1.0 200 OK\r\n\r\n".as_slice(), &[b'x'; 64]].concat();
        for (answer, why) in [
            (b"HTTP/1.0 200 OK\r\ncontent-length: 3\r\n\r\nhi".as_slice(), "cut short"),
            (&long, "too long"),
            (b"", "no HTTP answer"),
            (b"HTTP/1.0 OK\r\n\r\n", "no HTTP answer"),
            (b"SSH-2.0 200\r\n\r\n", "no HTTP answer"),
        ] {
            let refusal = asked(answer, None).1.expect_err("refused");
            assert!(refusal.to_string().contains(why), "{refusal:#}");
        }
    }

    #[test]
    fn only_this_machine_is_asked() {
        // An address of documentation (RFC 5737), refused before anything is sent to it.
        let refusal = exchange(&request("192.0.2.1:80")).expect_err("refused");
        assert!(refusal.to_string().contains("on this machine"), "{refusal:#}");
    }
}
