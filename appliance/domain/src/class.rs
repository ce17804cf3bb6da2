//! How an error is to be answered, and the stable code that names it.

use serde::{Deserialize, Serialize};

/// What kind of failure an error is; it decides the HTTP status, the exit code and who is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Class {
    /// The input is wrong or not allowed; the caller must change it (4xx).
    Refused,
    /// A limit is reached; the same input may be accepted later (429 or 503).
    Busy,
    /// The surroundings failed: disk, socket, another process (5xx).
    Fault,
    /// Stored bytes are not what they were; the object is isolated and an alarm raised (5xx).
    Corrupt,
}

/// An error with a class and a stable code, such as `bundle.signature.threshold`.
///
/// The text of such an error never quotes a prompt, an answer, a document or a file name.
pub trait Coded: std::error::Error {
    /// How the error is to be answered.
    fn class(&self) -> Class;
    /// The stable, dotted name of the error; listed in `docs/reference/errors.md`.
    fn code(&self) -> &'static str;
}
