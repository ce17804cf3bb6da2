//! What goes into the store and comes out of it.

use cloister_corpus::{Query, Scope, document_id, normalise};
use cloister_domain::{CitationId, Digest, DocumentId, GenerationId, Label, Principal, Sensitive};

/// The store's own number of a passage; never used for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ChunkKey(pub u64);

/// Who holds a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Holder {
    /// The facility; brought by this principal.
    Facility(Principal),
    /// A release.
    Generation(GenerationId),
}

/// A document on its way in.
#[derive(Clone, Debug)]
pub struct Incoming {
    /// Its id.
    pub(crate) id: DocumentId,
    /// Where it belongs.
    pub(crate) collection: String,
    /// What a reader must hold.
    pub(crate) label: Label,
    /// Its name for people.
    pub(crate) name: Sensitive<String>,
    /// Its text, normalised.
    pub(crate) text: Sensitive<String>,
}

impl Incoming {
    /// A document from its original text; id and normalised text are computed here.
    #[must_use]
    pub fn new(collection: &str, label: Label, name: &Sensitive<String>, original: &str) -> Self {
        Self {
            id: document_id(collection, name.expose(), original.as_bytes()),
            collection: collection.to_owned(),
            label,
            name: name.clone(),
            text: Sensitive::new(normalise(original)),
        }
    }

    /// Its id.
    #[must_use]
    pub const fn id(&self) -> DocumentId {
        self.id
    }
}

/// The vectors of one embedding model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Space {
    /// SHA-256 of the model's weights.
    pub model: Digest,
    /// Components of a vector.
    pub width: u32,
}

/// What [`crate::CorpusStore::put`] did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Taken {
    /// Documents that were not there before.
    pub documents: u32,
    /// Their passages.
    pub chunks: u32,
}

/// A document in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DocumentInfo {
    /// The document.
    pub id: DocumentId,
    /// Where it belongs.
    pub collection: String,
    /// What a reader must hold.
    pub label: Label,
    /// Its name for people.
    pub name: Sensitive<String>,
    /// Size of its normalised text.
    pub bytes: u64,
    /// Number of passages.
    pub chunks: u32,
    /// Whether a release holds it.
    pub bundled: bool,
}

/// A question to the store.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// What the reader may see.
    pub scope: &'a Scope,
    /// The words.
    pub query: &'a Query,
    /// The vector and its space.
    pub vector: Option<(Space, &'a [f32])>,
    /// Most passages to answer with.
    pub hits_max: usize,
}

/// A passage that answers.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    /// What to cite.
    pub citation: CitationId,
    /// SHA-256 of its text.
    pub chunk: Digest,
    /// Where its document belongs.
    pub collection: String,
    /// What its reader must hold.
    pub label: Label,
    /// Its document's name for people.
    pub name: Sensitive<String>,
    /// Its text.
    pub text: Sensitive<String>,
    /// Its place, in [0, 1]; 1 for an opened citation.
    pub score: f32,
}

/// What a deletion removes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// The document.
    pub document: DocumentId,
    /// Passages.
    pub chunks: u32,
    /// Vectors, in all spaces.
    pub vectors: u32,
    /// Digest over the passages' digests, in order.
    pub removed: Digest,
}

/// A deletion and its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tombstone {
    /// Counted from 1.
    pub serial: u64,
    /// What it removed.
    pub receipt: Receipt,
}

/// What was compared and found equal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verified {
    /// Documents whose passages have the digests they were cut with.
    pub documents: u64,
    /// Passages that the index of words has too, and nothing else.
    pub chunks: u64,
    /// Vectors that are where the database says and have length 1.
    pub vectors: u64,
}
