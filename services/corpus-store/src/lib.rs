//! Where documents lie: SQLite is the truth, and beside it stand two things that can be made again
//! from it, a tantivy index that ranks by words and one file of vectors for each embedding model.
//!
//! Access is decided before anything is ranked or counted: a question's [`Scope`] becomes a set of
//! passages, and both rankings look at that set alone. A document that is removed leaves no text,
//! word or vector in any file of the store.

mod bitmap;
mod database;
mod error;
mod model;
mod schema;
mod search;
mod store;
mod vectors;
mod wiping;
mod words;

pub use cloister_corpus::Scope;
pub use error::StoreError;
pub use model::{
    ChunkKey, DocumentInfo, Found, Holder, Incoming, Question, Receipt, Space, Taken, Tombstone,
    Verified,
};
pub use store::FileStore;

use cloister_domain::{CitationId, DocumentId, GenerationId};

use cloister_domain::Sensitive;

/// A keeper of documents. Each call that changes something has happened wholly, and lasts, when it
/// returns; a process that is killed inside one leaves the state before or after it.
pub trait CorpusStore: std::fmt::Debug + Send + Sync {
    /// Takes documents in for `holder`. One that is there already is held once more, not stored
    /// again; a facility document that is there already stays as it is.
    ///
    /// # Errors
    /// [`StoreError::OtherLabel`], [`StoreError::Bundled`] for facility documents; else the
    /// surroundings.
    fn put(&self, holder: &Holder, documents: &[Incoming]) -> Result<Taken, StoreError>;

    /// Makes a generation's documents, put before, visible under its id, and says in which space
    /// its vectors are. Repeating it with a space fills in what was not known.
    ///
    /// # Errors
    /// The surroundings.
    fn complete(&self, generation: GenerationId, space: Option<Space>) -> Result<(), StoreError>;

    /// Whether `generation` is complete, and its space.
    ///
    /// # Errors
    /// The surroundings.
    fn generation(&self, generation: GenerationId) -> Result<Option<Option<Space>>, StoreError>;

    /// Documents and passages of `generation`, and how many of the passages have a vector in its
    /// space.
    ///
    /// # Errors
    /// The surroundings.
    fn counts(&self, generation: GenerationId) -> Result<(u32, u32, u32), StoreError>;

    /// Lets a generation's documents go; those that nothing else holds are removed as
    /// [`CorpusStore::delete`] does. An unknown generation is let go already.
    ///
    /// # Errors
    /// The surroundings.
    fn drop_generation(&self, generation: GenerationId) -> Result<(), StoreError>;

    /// At most `count` passages that `space` should have a vector of and has not, oldest first.
    ///
    /// # Errors
    /// The surroundings.
    fn missing(
        &self,
        space: Space,
        count: u32,
    ) -> Result<Vec<(ChunkKey, Sensitive<String>)>, StoreError>;

    /// Keeps vectors. One for a passage that is gone, or that has one, is left out.
    ///
    /// # Errors
    /// [`StoreError::Vector`] for one that is not of the space's width or not of length 1.
    fn put_vectors(
        &self,
        space: Space,
        vectors: &[(ChunkKey, Vec<f32>)],
    ) -> Result<u32, StoreError>;

    /// What deleting `document` would remove, and the serial number it would have.
    ///
    /// # Errors
    /// [`StoreError::Absent`], [`StoreError::Bundled`].
    fn would_delete(&self, document: DocumentId) -> Result<Tombstone, StoreError>;

    /// Removes a facility document: text, words and vectors. Once begun it is finished, if not now
    /// then when the store is next opened.
    ///
    /// # Errors
    /// [`StoreError::Absent`], [`StoreError::Bundled`]; after an error of the surroundings the
    /// document is there or can no longer be seen.
    fn delete(&self, document: DocumentId) -> Result<Tombstone, StoreError>;

    /// Deletions that are done and whose record nobody has confirmed.
    ///
    /// # Errors
    /// The surroundings.
    fn unrecorded(&self) -> Result<Vec<Tombstone>, StoreError>;

    /// Notes that the record of a deletion is durable.
    ///
    /// # Errors
    /// The surroundings.
    fn recorded(&self, serial: u64) -> Result<(), StoreError>;

    /// The documents that `scope` admits, by collection and name.
    ///
    /// # Errors
    /// The surroundings.
    fn list(&self, scope: &Scope) -> Result<Vec<DocumentInfo>, StoreError>;

    /// The passages that answer, best first; none if nothing does.
    ///
    /// # Errors
    /// The surroundings.
    fn search(&self, question: &Question<'_>) -> Result<Vec<Found>, StoreError>;

    /// The passage of a citation, if it is one and `scope` admits it.
    ///
    /// # Errors
    /// [`StoreError::Inconsistent`] if the text is not what was cut.
    fn open(&self, citation: CitationId, scope: &Scope) -> Result<Option<Found>, StoreError>;

    /// Compares database, words and vectors.
    ///
    /// # Errors
    /// [`StoreError::Inconsistent`] at the first difference.
    fn verify(&self) -> Result<Verified, StoreError>;
}
