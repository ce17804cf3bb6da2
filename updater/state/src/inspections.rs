//! What the inspection of a release found.

use cloister_domain::{ImportId, RecordIndex};
use cloister_wire::supply::Inspection;
use rusqlite::{OptionalExtension as _, params};

use crate::{State, StateError, json, of_json, signed};

impl State {
    /// Stores the inspection of an import's files; a second one takes the first one's place.
    ///
    /// # Errors
    /// [`StateError::Database`].
    pub fn inspected(
        &mut self,
        import: ImportId,
        inspection: &Inspection,
        record: RecordIndex,
    ) -> Result<(), StateError> {
        self.connection
            .execute(
                "INSERT INTO inspections (import, inspection, record) VALUES (?1, ?2, ?3)
                 ON CONFLICT (import) DO UPDATE SET inspection = ?2, record = ?3",
                params![signed(import.0)?, json(inspection), signed(record.0)?],
            )
            .map(drop)
            .map_err(StateError::sqlite("store an inspection"))
    }

    /// The inspection of an import's files, once there is one.
    ///
    /// # Errors
    /// [`StateError::Row`], [`StateError::Database`].
    pub fn inspection(&self, import: ImportId) -> Result<Option<Inspection>, StateError> {
        let row: Option<String> = self
            .connection
            .query_row(
                "SELECT inspection FROM inspections WHERE import = ?1",
                [signed(import.0)?],
                |row| row.get(0),
            )
            .optional()
            .map_err(StateError::sqlite("read an inspection"))?;
        row.map(|text| of_json(&text, "inspections")).transpose()
    }
}
