//! What a server of this machine has at a URL.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use cloister_stage::loopback::{Request, exchange};

/// The largest answer that is read, in bytes.
pub(crate) const ANSWER_BYTES_MAX: u64 = 64 << 20;
/// How long a server may be silent.
const SILENCE_MAX: Duration = Duration::from_secs(30);

/// What a server has at `url`; `None` where it says that there is nothing (403 or 404).
pub(crate) fn get(url: &str) -> Result<Option<Vec<u8>>> {
    let rest = url.strip_prefix("http://").context("a URL begins with http://")?;
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    let answer = exchange(&Request {
        host,
        path: &format!("/{path}"),
        bearer: None,
        body: None,
        answer_bytes_max: ANSWER_BYTES_MAX,
        silence_max: SILENCE_MAX,
    })?;
    match answer.status {
        200 => Ok(Some(answer.body)),
        403 | 404 => Ok(None),
        _ => bail!("the server answered with another status"),
    }
}
