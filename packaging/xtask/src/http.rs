//! One request to the API of a scratch root, over loopback.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

/// The largest answer that is read.
const ANSWER_BYTES_MAX: u64 = 16 << 20;
/// How long an answer may take; a large model on a CPU needs a while for its first token.
const LIMIT: Duration = Duration::from_secs(300);

/// Sends `body` (or nothing, then it is a GET) to `path` and returns the JSON of a 200 answer.
///
/// # Errors
/// When nobody answers, or with another status.
pub(crate) fn ask(address: &str, key: &str, path: &str, body: Option<&Value>) -> Result<Value> {
    let mut stream = TcpStream::connect(address).context("connecting to the API")?;
    stream.set_read_timeout(Some(LIMIT))?;
    stream.set_nodelay(true)?;
    let text = body.map(Value::to_string).unwrap_or_default();
    let method = if body.is_some() { "POST" } else { "GET" };
    // HTTP/1.0, so that the answer ends with the connection and is not chunked.
    let request = format!(
        "{method} {path} HTTP/1.0\r\nAuthorization: Bearer {key}\r\nContent-Length: {}\r\n\r\n{text}",
        text.len()
    );
    stream.write_all(request.as_bytes())?;
    let mut answer = String::new();
    stream.take(ANSWER_BYTES_MAX).read_to_string(&mut answer).context("reading the answer")?;
    let (head, content) = answer.split_once("\r\n\r\n").context("no HTTP answer")?;
    let status = head.split(' ').nth(1).unwrap_or_default();
    ensure!(status == "200", "{path} was answered with status {status}: {content}");
    serde_json::from_str(content).context("the API answered with something that is no JSON")
}
