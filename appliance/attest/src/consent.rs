//! What persons allow beside releases: a return below the floor (`downgrade/v1`), going on with a log
//! that was restored from an old copy (`acknowledgement/v1`), and another host key for the log
//! (`succession/v1`). Each person signs alone; how many must is `cloister-promotion`'s to say.

use cloister_domain::{Digest, GenerationId, LogHead, Principal};
use serde::{Deserialize, Serialize};

use crate::{
    AttestError,
    dsse::Envelope,
    statement::{Statement, Subject, predicate_type},
};

/// What a person allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Matter {
    /// To serve `to`, which is below the floor of its name, in place of `from`, once.
    Downgrade {
        /// The release to return to.
        to: GenerationId,
        /// The release that is active.
        from: GenerationId,
    },
    /// To go on although the log lacks records that `checkpoint` says it had.
    Acknowledgement {
        /// SHA-256 of the checkpoint's text, as `cloister status` shows it.
        checkpoint: Digest,
    },
    /// To go on with the log under another host key. The consent's `log.size` is the head's exactly.
    Succession {
        /// SHA-256 of the text (origin, size, root) of the head that the log has.
        checkpoint: Digest,
        /// The id of the new host key.
        key: Digest,
    },
}

impl Matter {
    /// The name of its event in the log, and of its predicate type.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Downgrade { .. } => "downgrade",
            Self::Acknowledgement { .. } => "acknowledgement",
            Self::Succession { .. } => "succession",
        }
    }

    fn subject(&self) -> Vec<Subject> {
        let named = |name: &str, sha256| Subject { name: name.to_owned(), sha256 };
        match self {
            Self::Downgrade { to, from } => vec![named("bundle", to.0), named("from", from.0)],
            Self::Acknowledgement { checkpoint } => vec![named("checkpoint", *checkpoint)],
            Self::Succession { checkpoint, key } => {
                vec![named("checkpoint", *checkpoint), named("host-key", *key)]
            }
        }
    }

    fn of(statement: &Statement) -> Option<Self> {
        let matter = if statement.predicate_type == predicate_type("downgrade") {
            let (to, from) = (statement.subject("bundle")?, statement.subject("from")?);
            Self::Downgrade { to: GenerationId(to), from: GenerationId(from) }
        } else if statement.predicate_type == predicate_type("succession") {
            let checkpoint = statement.subject("checkpoint")?;
            Self::Succession { checkpoint, key: statement.subject("host-key")? }
        } else {
            Self::Acknowledgement { checkpoint: statement.subject("checkpoint")? }
        };
        // Nothing else is signed along with it.
        let exact = statement.predicate_type == predicate_type(matter.name())
            && statement.subject == matter.subject();
        exact.then_some(matter)
    }
}

/// What the person signs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Consent {
    /// What is allowed.
    pub matter: Matter,
    /// The log at the moment of signing; what it allows ages by its records.
    pub log: LogHead,
    /// The person, by the name that the signed trust metadata gives the key.
    pub person: Principal,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Said {
    Consent,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Predicate {
    decision: Said,
    log: LogHead,
    person: Principal,
}

impl Consent {
    /// The consent in an envelope that nobody signed yet; [`Envelope::sign_by`] adds each half.
    ///
    /// # Errors
    /// [`AttestError::JsonNumber`] for a log beyond 2^53 records.
    pub fn unsigned(&self) -> Result<Envelope, AttestError> {
        let predicate = Predicate {
            decision: Said::Consent,
            log: self.log.clone(),
            person: self.person.clone(),
        };
        let statement = Statement {
            subject: self.matter.subject(),
            predicate_type: predicate_type(self.matter.name()),
            predicate: serde_json::to_value(predicate).expect("texts and a number"),
        };
        statement.envelope()
    }

    /// Reads the statement of a consent; whether its signature holds, and whose it is, is
    /// `cloister-verify`'s to say.
    ///
    /// # Errors
    /// [`AttestError::PredicateType`], [`AttestError::Predicate`] and those of [`Statement::exactly_of`].
    pub fn of(envelope: &Envelope) -> Result<Self, AttestError> {
        let statement = Statement::exactly_of(envelope)?;
        let kinds = ["downgrade", "acknowledgement", "succession"].map(predicate_type);
        if !kinds.contains(&statement.predicate_type) {
            return Err(AttestError::PredicateType);
        }
        let matter = Matter::of(&statement).ok_or(AttestError::Predicate)?;
        let Predicate { decision: Said::Consent, log, person } =
            serde_json::from_value(statement.predicate).map_err(|_cause| AttestError::Predicate)?;
        let this = Self { matter, log, person };
        // What reads the same (`{"consent":null}`, a list for an object) is another text to others.
        if this.unsigned()?.payload != envelope.payload {
            return Err(AttestError::Predicate);
        }
        Ok(this)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn consent(matter: Matter) -> Consent {
        let log = LogHead { origin: "enclave/one".to_owned(), size: 7 };
        Consent { matter, log, person: "ada".parse().expect("a name") }
    }

    fn matters() -> [Matter; 3] {
        let id = |name: &[u8]| GenerationId(Digest::of(name));
        let checkpoint = Digest::of(b"checkpoint");
        [
            Matter::Downgrade { to: id(b"old"), from: id(b"new") },
            Matter::Acknowledgement { checkpoint },
            Matter::Succession { checkpoint, key: Digest::of(b"key") },
        ]
    }

    #[test]
    fn a_consent_returns_from_its_envelope() {
        for matter in matters() {
            let envelope = consent(matter).unsigned().expect("a small number");
            assert_eq!(Consent::of(&envelope), Ok(consent(matter)));
        }
    }

    #[test]
    fn a_statement_of_another_kind_or_with_more_in_it_is_no_consent() {
        let text = |matter| consent(matter).unsigned().expect("a small number").payload;
        let [down, acknowledged, succeeded] =
            matters().map(|matter| String::from_utf8(text(matter)).unwrap());
        let (from, name, key) = (r#""from""#, r#""name":"checkpoint""#, r#""name":"host-key""#);
        for (payload, error) in [
            (down.replace("downgrade/v1", "approval/v1"), AttestError::PredicateType),
            (down.replace("downgrade/v1", "acknowledgement/v1"), AttestError::Predicate),
            (acknowledged.replace("acknowledgement/v1", "downgrade/v1"), AttestError::Predicate),
            (succeeded.replace("succession/v1", "acknowledgement/v1"), AttestError::Predicate),
            (acknowledged.replace("acknowledgement/v1", "succession/v1"), AttestError::Predicate),
            (succeeded.replace(key, r#""name":"log""#), AttestError::Predicate),
            (down.replace(from, r#""of""#), AttestError::Predicate),
            (acknowledged.replace(name, r#""name":"log""#), AttestError::Predicate),
            (down.replace(r#""consent""#, r#""reject""#), AttestError::Predicate),
            (down.replace(r#""decision""#, r#""also":1,"decision""#), AttestError::Predicate),
            (down.replace(r#""consent""#, r#"{"consent":null}"#), AttestError::Predicate),
            (succeeded.replace(r#""consent""#, r#"{"consent":null}"#), AttestError::Predicate),
            (
                down.replace(r#"{"origin":"enclave/one","size":7}"#, r#"["enclave/one",7]"#),
                AttestError::Predicate,
            ),
            (down.replace(r#""from""#, r#""from" "#), AttestError::NotCanonical),
        ] {
            assert_ne!(payload, down);
            assert_ne!(payload, acknowledged);
            assert_ne!(payload, succeeded);
            let envelope = Envelope::unsigned(crate::dsse::PAYLOAD_TYPE, payload.into_bytes());
            assert_eq!(Consent::of(&envelope), Err(error));
        }
    }
}
