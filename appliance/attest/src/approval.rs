//! A person's approval or rejection of a release (`approval/v1`).

use cloister_domain::{Digest, GenerationId, LogHead, Principal};
use serde::{Deserialize, Serialize};

use crate::{
    AttestError, SigningKey,
    dsse::Envelope,
    statement::{Statement, Subject, predicate_type},
};

/// What a person decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Decision {
    /// The release may be activated, as far as this person goes.
    Approve,
    /// The release must not be activated; one rejection outweighs all approvals.
    Reject,
}

/// The longest comment, in bytes.
const COMMENT_BYTES_MAX: usize = 4096;

/// What the person signs: exactly what was shown, by digest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Approval {
    /// Digest over manifest, policy and evidence, as `review` shows it.
    pub package: Digest,
    /// The release.
    pub bundle: GenerationId,
    /// The policy that judged it.
    pub policy: Digest,
    /// What was found: inspection and evaluation.
    pub evidence: Digest,
    /// The log whose appliance showed it.
    pub log: LogHead,
    /// The decision.
    pub decision: Decision,
    /// The person, by the name that the signed trust metadata gives the key.
    pub person: Principal,
    /// Free words of the person; empty when there are none.
    pub comment: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Predicate {
    decision: Decision,
    log: LogHead,
    person: Principal,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    comment: String,
}

impl Approval {
    /// The approval in an envelope, signed by the person's Ed25519 key.
    ///
    /// # Errors
    /// [`AttestError::TooLong`] for a comment beyond 4096 bytes.
    pub fn sign(&self, key: &SigningKey) -> Result<Envelope, AttestError> {
        Ok(self.unsigned()?.sign_with(key))
    }

    /// The approval in an envelope that nobody signed yet; [`Envelope::sign_by`] adds each half.
    ///
    /// # Errors
    /// [`AttestError::TooLong`] for a comment beyond 4096 bytes.
    pub fn unsigned(&self) -> Result<Envelope, AttestError> {
        check_comment(&self.comment)?;
        let predicate = Predicate {
            decision: self.decision,
            log: self.log.clone(),
            person: self.person.clone(),
            comment: self.comment.clone(),
        };
        let statement = Statement {
            subject: vec![
                Subject { name: "package".to_owned(), sha256: self.package },
                Subject { name: "bundle".to_owned(), sha256: self.bundle.0 },
                Subject { name: "policy".to_owned(), sha256: self.policy },
                Subject { name: "evidence".to_owned(), sha256: self.evidence },
            ],
            predicate_type: predicate_type("approval"),
            predicate: serde_json::to_value(predicate).expect("texts and a number"),
        };
        statement.envelope()
    }

    /// Reads the statement of an approval; whether its signature holds, and whose it is, is
    /// `cloister-verify`'s to say.
    ///
    /// # Errors
    /// [`AttestError::PredicateType`], [`AttestError::Predicate`] and those of [`Statement::exactly_of`].
    pub fn of(envelope: &Envelope) -> Result<Self, AttestError> {
        let statement = Statement::exactly_of(envelope)?;
        if statement.predicate_type != predicate_type("approval") {
            return Err(AttestError::PredicateType);
        }
        let subject = |name: &str| statement.subject(name).ok_or(AttestError::Predicate);
        let (package, bundle) = (subject("package")?, subject("bundle")?);
        let (policy, evidence) = (subject("policy")?, subject("evidence")?);
        if statement.subject.len() != 4 {
            return Err(AttestError::Predicate);
        }
        let Predicate { decision, log, person, comment } =
            serde_json::from_value(statement.predicate).map_err(|_cause| AttestError::Predicate)?;
        check_comment(&comment)?;
        let bundle = GenerationId(bundle);
        let this = Self { package, bundle, policy, evidence, log, decision, person, comment };
        // What reads the same (`{"approve":null}`, a list for an object) is another text to others.
        if this.unsigned()?.payload != envelope.payload {
            return Err(AttestError::Predicate);
        }
        Ok(this)
    }
}

fn check_comment(comment: &str) -> Result<(), AttestError> {
    if comment.len() > COMMENT_BYTES_MAX {
        return Err(AttestError::TooLong { bytes: comment.len(), max: COMMENT_BYTES_MAX });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use cloister_domain::Secret;
    use serde_json::json;

    use super::*;

    fn approval() -> Approval {
        Approval {
            package: Digest::of(b"package"),
            bundle: GenerationId(Digest::of(b"bundle")),
            policy: Digest::of(b"policy"),
            evidence: Digest::of(b"evidence"),
            log: LogHead { origin: "enclave/one".to_owned(), size: 7 },
            decision: Decision::Approve,
            person: "ada".parse().expect("a name"),
            comment: String::new(),
        }
    }

    #[test]
    fn an_approval_returns_from_its_envelope() {
        let key = SigningKey::from_seed(&Secret::new(vec![7; 32])).expect("32 bytes");
        let approval = approval();
        let envelope = approval.sign(&key).expect("a short comment");
        assert_eq!(Approval::of(&envelope), Ok(approval.clone()));
        assert_eq!(envelope.good_keys(&[key.public()]).len(), 1);
        let text = String::from_utf8(envelope.payload).expect("JSON is UTF-8") + " ";
        let spaced = Envelope::unsigned(crate::dsse::PAYLOAD_TYPE, text.into_bytes());
        assert_eq!(Approval::of(&spaced), Err(AttestError::NotCanonical));
        let long = Approval { comment: "x".repeat(4097), ..approval };
        assert!(matches!(long.sign(&key), Err(AttestError::TooLong { .. })));
    }

    #[test]
    fn an_approval_has_one_form() {
        let approval = approval();
        let payload = approval.unsigned().expect("no comment").payload;
        let good = serde_json::from_slice::<serde_json::Value>(&payload).expect("our own text");
        let changed = |change: &dyn Fn(&mut serde_json::Value)| {
            let mut statement = good.clone();
            change(&mut statement);
            let payload = crate::json::canonical(&statement).expect("integers");
            Approval::of(&Envelope::unsigned(crate::dsse::PAYLOAD_TYPE, payload))
        };
        assert_eq!(changed(&|_as_is| {}), Ok(approval));
        for (place, value) in [
            ("/predicate/decision", json!({"approve": null})),
            ("/predicate/decision", json!(["approve"])),
            ("/predicate/log", json!(["enclave/one", 7])),
            ("/predicate", json!(["approve", {"origin": "enclave/one", "size": 7}, "ada", ""])),
        ] {
            let form = |statement: &mut serde_json::Value| {
                *statement.pointer_mut(place).expect("it is there") = value.clone();
            };
            assert_eq!(changed(&form), Err(AttestError::Predicate), "{place}: {value}");
        }
        let empty =
            |statement: &mut serde_json::Value| statement["predicate"]["comment"] = "".into();
        assert_eq!(changed(&empty), Err(AttestError::Predicate));
        let reversed = |statement: &mut serde_json::Value| {
            statement["subject"].as_array_mut().expect("a list").reverse();
        };
        assert_eq!(changed(&reversed), Err(AttestError::Predicate));
    }
}
