//! One GET request to a server on this machine (HTTP/1.0, RFC 1945).

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream, ToSocketAddrs as _},
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};

/// The largest answer that is read, in bytes.
pub(crate) const ANSWER_BYTES_MAX: u64 = 64 << 20;
/// How long a server may be silent.
const LIMIT: Duration = Duration::from_secs(30);

/// What a server has at `url`; `None` where it says that there is nothing (403 or 404).
pub(crate) fn get(url: &str) -> Result<Option<Vec<u8>>> {
    let rest = url.strip_prefix("http://").context("a URL begins with http://")?;
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    let addresses: Vec<SocketAddr> = host.to_socket_addrs().context("an unknown host")?.collect();
    ensure!(
        addresses.iter().all(|address| address.ip().is_loopback()),
        "only servers on this machine are asked"
    );
    let mut stream = TcpStream::connect(&addresses[..]).context("connecting")?;
    stream.set_read_timeout(Some(LIMIT))?;
    write!(stream, "GET /{path} HTTP/1.0\r\nHost: {host}\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer).context("reading the answer")?;
    let end = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n").context("no HTTP answer")?;
    let body = answer.split_off(end + 4);
    let head = String::from_utf8_lossy(&answer).to_ascii_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:"));
    if let Some(length) = length {
        ensure!(length.trim().parse() == Ok(body.len()), "the answer was cut short");
    }
    match head.split_whitespace().nth(1) {
        Some("200") => Ok(Some(body)),
        Some("403" | "404") => Ok(None),
        _ => bail!("the server answered with another status"),
    }
}
