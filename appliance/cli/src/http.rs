//! One HTTP/1.1 exchange with the gateway on loopback (RFC 9112), enough for `cloister ask`.
//!
//! No HTTP client crate stands in the tree of anything on the appliance; this connects to the
//! loopback address that gatewayd itself named, and to nothing else.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use crate::Failure;

/// The largest answer that is read.
const ANSWER_BYTES_MAX: u64 = 16 << 20;
/// An answer of a slow model takes long; a dead gateway is noticed in the end.
const TIMEOUT: Duration = Duration::from_secs(600);

/// Posts JSON and returns status and body.
///
/// # Errors
/// When the gateway is not on loopback, is gone, or does not speak HTTP/1.1.
pub(crate) fn post(
    address: &str,
    path: &str,
    key: &str,
    body: &[u8],
) -> Result<(u16, Vec<u8>), Failure> {
    let address: SocketAddr = address.parse().map_err(|_text| Failure::conversation("gatewayd"))?;
    if !address.ip().is_loopback() {
        return Err(Failure::usage("the API does not listen on loopback; ask through its clients"));
    }
    let failed = |_detail| Failure::conversation("gatewayd");
    let mut stream = TcpStream::connect(address).map_err(failed)?;
    stream.set_read_timeout(Some(TIMEOUT)).map_err(failed)?;
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {key}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body)).map_err(failed)?;
    let mut answer = Vec::new();
    stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer).map_err(failed)?;
    parse(&answer).ok_or_else(|| Failure::conversation("gatewayd"))
}

/// Status and body of an answer whose end is the end of the connection.
fn parse(answer: &[u8]) -> Option<(u16, Vec<u8>)> {
    let split = answer.windows(4).position(|window| window == b"\r\n\r\n")?;
    let (head, rest) = answer.split_at(split);
    let head = std::str::from_utf8(head).ok()?;
    let status = head.strip_prefix("HTTP/1.1 ")?.split(' ').next()?.parse().ok()?;
    // A chunked body would need decoding; gatewayd sends whole answers with their length.
    let chunked = head.to_ascii_lowercase().contains("transfer-encoding");
    if chunked { None } else { Some((status, rest.get(4..)?.to_vec())) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_and_body_are_separated() {
        let answer = b"HTTP/1.1 404 Not Found\r\ncontent-length: 2\r\n\r\n{}";
        assert_eq!(parse(answer), Some((404, b"{}".to_vec())));
        for broken in [
            &b""[..],
            b"HTTP/1.1 200",
            b"HTTP/2 200\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        ] {
            assert_eq!(parse(broken), None);
        }
    }
}
