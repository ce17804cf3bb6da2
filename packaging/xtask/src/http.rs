//! One request to the API of a scratch root, over loopback.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use cloister_stage::loopback::{Request, exchange};
use serde_json::Value;

/// The largest answer that is read.
const ANSWER_BYTES_MAX: u64 = 16 << 20;
/// How long an answer may take; a large model on a CPU needs a while for its first token.
const SILENCE_MAX: Duration = Duration::from_secs(300);

/// Sends `body` (or nothing, then it is a GET) to `path` and returns the JSON of a 200 answer.
///
/// # Errors
/// When nobody answers, or with another status.
pub(crate) fn ask(address: &str, key: &str, path: &str, body: Option<&Value>) -> Result<Value> {
    let text = body.map(Value::to_string);
    let answer = exchange(&Request {
        host: address,
        path,
        bearer: Some(key),
        body: text.as_deref().map(str::as_bytes),
        answer_bytes_max: ANSWER_BYTES_MAX,
        silence_max: SILENCE_MAX,
    })
    .context("asking the API")?;
    let said = String::from_utf8_lossy(&answer.body);
    ensure!(answer.status == 200, "{path} was answered with status {}: {said}", answer.status);
    serde_json::from_slice(&answer.body).context("the API answered with something that is no JSON")
}
