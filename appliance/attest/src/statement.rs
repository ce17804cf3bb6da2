//! In-toto statements, version 1 (in-toto/attestation, spec/v1/statement.md), with SHA-256
//! subjects.

use cloister_domain::Digest;
use serde_json::{Map, Value};

use crate::{
    AttestError,
    dsse::{Envelope, PAYLOAD_TYPE},
    json,
};

/// The `_type` of a statement.
pub const STATEMENT_TYPE: &str = "https://in-toto.io/Statement/v1";

/// The most subjects of one statement.
const SUBJECTS_MAX: usize = 1024;

/// The predicate type of the statement that this project calls `name`, in version 1.
#[must_use]
pub fn predicate_type(name: &str) -> String {
    format!("https://cloister.invalid/{name}/v1")
}

/// Something that a statement is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject {
    /// What it is called.
    pub name: String,
    /// Its SHA-256.
    pub sha256: Digest,
}

/// A claim about subjects. Unknown fields are passed over, as the specification demands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement {
    /// What it is about.
    pub subject: Vec<Subject>,
    /// The kind of claim, a URI.
    pub predicate_type: String,
    /// The claim.
    pub predicate: Value,
}

impl Statement {
    /// Reads the payload of an envelope; whether its signatures hold is the caller's to ask.
    ///
    /// # Errors
    /// [`AttestError::PayloadType`], else as [`Statement::parse`].
    pub fn of(envelope: &Envelope) -> Result<Self, AttestError> {
        if envelope.payload_type != PAYLOAD_TYPE {
            return Err(AttestError::PayloadType);
        }
        Self::parse(&envelope.payload)
    }

    /// As [`Statement::of`], for statements that have one spelling: the payload is the RFC 8785 text of
    /// a statement and holds nothing that a statement has no field for.
    ///
    /// # Errors
    /// [`AttestError::NotCanonical`], else as [`Statement::of`].
    pub fn exactly_of(envelope: &Envelope) -> Result<Self, AttestError> {
        let statement = Self::of(envelope)?;
        if statement.to_json()? == envelope.payload {
            Ok(statement)
        } else {
            Err(AttestError::NotCanonical)
        }
    }

    /// Reads a statement's JSON text.
    ///
    /// # Errors
    /// [`AttestError::Statement`] and those of [`json::parse_strict`].
    pub fn parse(text: &[u8]) -> Result<Self, AttestError> {
        let mut value = json::parse_strict(text, json::DEPTH_MAX)?;
        let predicate = value.get_mut("predicate").map(Value::take);
        let string = |field: &str| value.get(field).and_then(Value::as_str);
        if string("_type") != Some(STATEMENT_TYPE) {
            return Err(AttestError::Statement);
        }
        let subjects =
            value.get("subject").and_then(Value::as_array).ok_or(AttestError::Statement)?;
        if subjects.is_empty() || subjects.len() > SUBJECTS_MAX {
            return Err(AttestError::Statement);
        }
        Ok(Self {
            subject: subjects.iter().map(subject).collect::<Result<_, _>>()?,
            predicate_type: string("predicateType").ok_or(AttestError::Statement)?.to_owned(),
            predicate: predicate.unwrap_or_else(|| Value::Object(Map::new())),
        })
    }

    /// The statement as RFC 8785 text.
    ///
    /// # Errors
    /// [`AttestError::JsonNumber`] if the predicate holds a fraction or a number beyond 2^53.
    pub fn to_json(&self) -> Result<Vec<u8>, AttestError> {
        let string = |text: &str| Value::String(text.to_owned());
        let subjects = self.subject.iter().map(|subject| {
            let sha256 = Value::String(subject.sha256.to_string());
            let digest = Map::from_iter([("sha256".to_owned(), sha256)]);
            Value::Object(Map::from_iter([
                ("digest".to_owned(), Value::Object(digest)),
                ("name".to_owned(), string(&subject.name)),
            ]))
        });
        json::canonical(&Value::Object(Map::from_iter([
            ("_type".to_owned(), string(STATEMENT_TYPE)),
            ("predicate".to_owned(), self.predicate.clone()),
            ("predicateType".to_owned(), string(&self.predicate_type)),
            ("subject".to_owned(), Value::Array(subjects.collect())),
        ])))
    }

    /// The statement in an envelope that nobody signed yet.
    ///
    /// # Errors
    /// As [`Statement::to_json`].
    pub fn envelope(&self) -> Result<Envelope, AttestError> {
        Ok(Envelope::unsigned(PAYLOAD_TYPE, self.to_json()?))
    }

    /// The digest of the subject called `name`.
    #[must_use]
    pub fn subject(&self, name: &str) -> Option<Digest> {
        self.subject.iter().find(|subject| subject.name == name).map(|subject| subject.sha256)
    }
}

fn subject(value: &Value) -> Result<Subject, AttestError> {
    let name = value.get("name").and_then(Value::as_str).ok_or(AttestError::Statement)?;
    let sha256 = value
        .get("digest")
        .and_then(|digest| digest.get("sha256"))
        .and_then(Value::as_str)
        .and_then(|text| text.parse().ok())
        .ok_or(AttestError::Statement)?;
    Ok(Subject { name: name.to_owned(), sha256 })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn statement() -> Statement {
        Statement {
            subject: vec![Subject { name: "a".to_owned(), sha256: Digest::of(b"a") }],
            predicate_type: predicate_type("release"),
            predicate: json!({"z": 1, "a": [true, null]}),
        }
    }

    #[test]
    fn a_statement_returns_from_its_envelope() {
        let envelope = statement().envelope().expect("integers");
        assert_eq!(Statement::of(&envelope), Ok(statement()));
        let text = String::from_utf8(envelope.payload.clone()).expect("JSON is UTF-8");
        assert!(
            text.starts_with(r#"{"_type":"https://in-toto.io/Statement/v1","predicate":{"a":"#)
        );
        let other = Envelope { payload_type: "application/json".to_owned(), ..envelope };
        assert_eq!(Statement::of(&other), Err(AttestError::PayloadType));
    }

    #[test]
    fn an_exact_statement_has_one_spelling() {
        let envelope = statement().envelope().expect("integers");
        assert_eq!(Statement::exactly_of(&envelope), Ok(statement()));
        let text = String::from_utf8(envelope.payload.clone()).expect("JSON is UTF-8");
        for (from, to) in [
            ("{\"_type\"", " {\"_type\""),
            ("null]", "null ]"),
            ("\"a\":[", "\"\\u0061\":["),
            ("}]}", "}]}\n"),
            ("}]}", "}],\"x\":1}"),
            ("\"name\":\"a\"", "\"mode\":1,\"name\":\"a\""),
            ("{\"sha256\"", "{\"md5\":\"\",\"sha256\""),
        ] {
            let payload = text.replacen(from, to, 1).into_bytes();
            assert_ne!(payload, envelope.payload, "{from}");
            let other = Envelope { payload, ..envelope.clone() };
            assert_eq!(Statement::of(&other), Ok(statement()), "{to}: the same statement");
            assert_eq!(Statement::exactly_of(&other), Err(AttestError::NotCanonical), "{to}");
        }
    }

    #[test]
    fn a_statement_without_a_subject_or_of_another_version_is_refused() {
        let good = serde_json::from_slice::<Value>(&statement().to_json().expect("integers"))
            .expect("our own text");
        for (field, value) in [
            ("subject", json!([])),
            ("subject", json!([{"name": "a", "digest": {"sha512": "00"}}])),
            ("subject", json!([{"digest": {"sha256": Digest::of(b"").to_string()}}])),
            ("_type", json!("https://in-toto.io/Statement/v0.1")),
            ("predicateType", json!(null)),
        ] {
            let mut bad = good.clone();
            bad[field] = value;
            let text = bad.to_string();
            assert_eq!(Statement::parse(text.as_bytes()), Err(AttestError::Statement), "{text}");
        }
    }
}
