//! Trust metadata, byte for byte as it was received, and the vector of versions that ratchet.

use std::sync::Arc;

use cloister_domain::{Digest, RecordIndex};
use rusqlite::{OptionalExtension, Transaction, params};

use crate::{State, StateError, digest, index, signed};

/// A file of trust metadata.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrustFile {
    /// Its name as TUF gives it: `1.root.json`, `timestamp.json`, …
    pub name: String,
    /// Its bytes; shared with whoever judged them.
    pub bytes: Arc<[u8]>,
}

/// What is trusted now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trust {
    /// The verifier's own account of versions and counters, as JSON text.
    pub vector: String,
    /// The newest file of each name, by name.
    pub files: Vec<TrustFile>,
    /// The record of the last change.
    pub record: RecordIndex,
}

impl State {
    /// What is trusted; none before the enrolment.
    ///
    /// # Errors
    /// [`StateError::Database`].
    pub fn trust(&self) -> Result<Option<Trust>, StateError> {
        let failed = StateError::sqlite("read the trust metadata");
        let head: Option<(String, i64)> = self
            .connection
            .query_row("SELECT vector, record FROM trust", [], |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()
            .map_err(&failed)?;
        let Some((vector, record)) = head else { return Ok(None) };
        let mut statement = self
            .connection
            .prepare(
                "SELECT name, bytes FROM trust_files AS file WHERE serial =
                   (SELECT max(serial) FROM trust_files WHERE name = file.name) ORDER BY name",
            )
            .map_err(&failed)?;
        let files = statement
            .query_map([], |row| {
                let bytes: Vec<u8> = row.get(1)?;
                Ok(TrustFile { name: row.get(0)?, bytes: bytes.into() })
            })
            .and_then(Iterator::collect)
            .map_err(&failed)?;
        Ok(Some(Trust { vector, files, record: index(record)? }))
    }

    /// Enrols the trust root; `record` is the record of the enrolment.
    ///
    /// # Errors
    /// [`StateError::Enrolled`] when there is one, [`StateError::Database`].
    pub fn enrol(
        &mut self,
        root: &TrustFile,
        vector: &str,
        record: RecordIndex,
    ) -> Result<(), StateError> {
        if self.trust()?.is_some() {
            return Err(StateError::Enrolled);
        }
        self.store_trust(std::slice::from_ref(root), vector, record)
    }

    /// Stores files that came later and the vector that they led to.
    ///
    /// # Errors
    /// [`StateError::NotEnrolled`] before the enrolment, [`StateError::Database`].
    pub fn advance_trust(
        &mut self,
        files: &[TrustFile],
        vector: &str,
        record: RecordIndex,
    ) -> Result<(), StateError> {
        let enrolled = "SELECT EXISTS (SELECT 1 FROM trust)";
        let enrolled = self.connection.query_row(enrolled, [], |row| row.get(0));
        if !enrolled.map_err(StateError::sqlite("read the trust metadata"))? {
            return Err(StateError::NotEnrolled);
        }
        self.store_trust(files, vector, record)
    }

    /// Keeps the verifier's ratchets after a promotion.
    ///
    /// # Errors
    /// [`StateError::Database`].
    pub fn ratchet(&mut self, vector: &str) -> Result<(), StateError> {
        self.connection
            .execute("UPDATE trust SET vector = ?1", [vector])
            .map_err(StateError::sqlite("raise the floor"))?;
        Ok(())
    }

    fn store_trust(
        &mut self,
        files: &[TrustFile],
        vector: &str,
        record: RecordIndex,
    ) -> Result<(), StateError> {
        let failed = StateError::sqlite("store trust metadata");
        let change = self.connection.transaction().map_err(&failed)?;
        store_trust_in(&change, files, vector, record)?;
        change.commit().map_err(&failed)
    }

    /// The highest release counter that was accepted under `name`, with its generation.
    ///
    /// # Errors
    /// [`StateError::Database`].
    pub fn counter(
        &self,
        name: &str,
    ) -> Result<Option<(u64, cloister_domain::GenerationId)>, StateError> {
        let row: Option<(i64, String)> = self
            .connection
            .query_row("SELECT counter, generation FROM counters WHERE name = ?1", [name], |row| {
                Ok((row.get(0)?, row.get(1)?))
            })
            .optional()
            .map_err(StateError::sqlite("read a release counter"))?;
        row.map(|(counter, generation)| {
            let generation = digest(&generation, "counters")?;
            Ok((crate::unsigned(counter)?, cloister_domain::GenerationId(generation)))
        })
        .transpose()
    }
}

pub(crate) fn store_trust_in(
    change: &Transaction<'_>,
    files: &[TrustFile],
    vector: &str,
    record: RecordIndex,
) -> Result<(), StateError> {
    for file in files {
        store_file(change, file, record)?;
    }
    change
        .execute(
            "INSERT INTO trust (one, vector, record) VALUES (1, ?1, ?2)
             ON CONFLICT (one) DO UPDATE SET vector = ?1, record = ?2",
            params![vector, signed(record.0)?],
        )
        .map_err(StateError::sqlite("store trust metadata"))?;
    Ok(())
}

fn store_file(
    change: &Transaction<'_>,
    file: &TrustFile,
    record: RecordIndex,
) -> Result<(), StateError> {
    change
        .execute(
            "INSERT INTO trust_files (name, sha256, bytes, record) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT DO NOTHING",
            params![
                file.name,
                Digest::of(&file.bytes).to_string(),
                &*file.bytes,
                signed(record.0)?
            ],
        )
        .map_err(StateError::sqlite("store trust metadata"))?;
    Ok(())
}

/// Raises the counter of `name`; it never falls.
impl State {
    /// Digest of the facility's policy as it was last recorded, if it was.
    ///
    /// # Errors
    /// [`StateError::Row`], [`StateError::Database`].
    pub fn policy(&self) -> Result<Option<Digest>, StateError> {
        let text: Option<String> = self
            .connection
            .query_row("SELECT policy FROM policies ORDER BY serial DESC LIMIT 1", [], |row| {
                row.get(0)
            })
            .optional()
            .map_err(StateError::sqlite("read the policy"))?;
        text.map(|text| digest(&text, "policies")).transpose()
    }

    /// Keeps the facility's policy, with its record.
    ///
    /// # Errors
    /// [`StateError::Database`].
    pub fn keep_policy(&mut self, policy: Digest, record: RecordIndex) -> Result<(), StateError> {
        self.connection
            .execute(
                "INSERT INTO policies (policy, record) VALUES (?1, ?2)",
                params![policy.to_string(), signed(record.0)?],
            )
            .map_err(StateError::sqlite("store the policy"))?;
        Ok(())
    }
}

pub(crate) fn raise_counter(
    change: &Transaction<'_>,
    name: &str,
    counter: u64,
    generation: cloister_domain::GenerationId,
    record: RecordIndex,
) -> Result<(), StateError> {
    change
        .execute(
            "INSERT INTO counters (name, counter, generation, record) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT (name) DO UPDATE SET counter = ?2, generation = ?3, record = ?4
             WHERE excluded.counter > counters.counter",
            params![name, signed(counter)?, generation.to_string(), signed(record.0)?],
        )
        .map_err(StateError::sqlite("raise a release counter"))?;
    Ok(())
}
