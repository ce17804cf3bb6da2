//! A refusal as data: stable code, class, what happened and what to do.

use cloister_domain::{Class, Coded};
use serde::{Deserialize, Serialize};

/// What went wrong, for a person and for a program. Never quotes content.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message} [{code}]")]
pub struct Problem {
    /// The stable code, such as `bundle.signature.threshold`.
    pub code: String,
    /// How the failure is to be answered.
    pub class: Class,
    /// What happened, to what, and what to do next.
    pub message: String,
}

impl Problem {
    /// A problem from its parts; `message` must not quote content.
    #[must_use]
    pub fn new(class: Class, code: &str, message: impl Into<String>) -> Self {
        Self { code: code.to_owned(), class, message: message.into() }
    }

    /// A problem from a typed error.
    pub fn of(error: &(impl Coded + ?Sized)) -> Self {
        Self::new(error.class(), error.code(), error.to_string())
    }
}

/// The answer to a request that has one answer.
pub type Reply<T> = Result<T, Problem>;
