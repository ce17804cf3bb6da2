//! What persons allow beside releases; what it comes to is judged by `cloister-promotion`.

use cloister_attest::consent::Matter;
use cloister_domain::{Digest, Principal, RecordIndex};
use rusqlite::{Connection, params};

use crate::{State, StateError, signed};

impl State {
    /// Stores a person's consent, in the place of one to the same matter.
    ///
    /// # Errors
    /// [`StateError::Database`].
    pub fn consent(
        &mut self,
        matter: &Matter,
        person: &Principal,
        envelope: &[u8],
        record: RecordIndex,
    ) -> Result<(), StateError> {
        insert(&self.connection, matter, person, envelope, record)
    }

    /// The envelopes of all who consented to something of this kind about the same release or
    /// checkpoint, oldest first.
    ///
    /// # Errors
    /// [`StateError::Database`].
    pub fn consents(&self, matter: &Matter) -> Result<Vec<Vec<u8>>, StateError> {
        let failed = StateError::sqlite("read consents");
        let mut statement = self
            .connection
            .prepare(
                "SELECT envelope FROM consents WHERE matter = ?1 AND about = ?2 ORDER BY record",
            )
            .map_err(&failed)?;
        let rows = statement
            .query_map(params![matter.name(), about(matter).to_string()], |row| row.get(0))
            .map_err(&failed)?;
        rows.map(|row| row.map_err(&failed)).collect()
    }
}

pub(crate) fn insert(
    connection: &Connection,
    matter: &Matter,
    person: &Principal,
    envelope: &[u8],
    record: RecordIndex,
) -> Result<(), StateError> {
    connection
        .execute(
            "INSERT INTO consents (matter, about, person, envelope, record)
             VALUES (?1, ?2, ?3, ?4, ?5)
             ON CONFLICT (matter, about, person) DO UPDATE SET envelope = ?4, record = ?5",
            params![
                matter.name(),
                about(matter).to_string(),
                person.as_str(),
                envelope,
                signed(record.0)?
            ],
        )
        .map_err(StateError::sqlite("store a consent"))?;
    Ok(())
}

/// What a matter is kept under.
const fn about(matter: &Matter) -> Digest {
    match matter {
        Matter::Downgrade { to, .. } => to.0,
        Matter::Acknowledgement { checkpoint } | Matter::Succession { checkpoint, .. } => {
            *checkpoint
        }
    }
}
