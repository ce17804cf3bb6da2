//! Messages of `cloister-corpusd`, the keeper of the documents.

use std::path::PathBuf;

use cloister_domain::{
    ByteCount, CitationId, Digest, DocumentId, GenerationId, Label, LabelSet, Principal, Sensitive,
};
use serde::{Deserialize, Serialize};

/// The collection that facility documents go to unless another is named.
pub const FACILITY_COLLECTION: &str = "facility";

/// A question to the index.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Search {
    /// The generation in whose documents and vector space to search.
    pub generation: GenerationId,
    /// The question.
    #[serde(serialize_with = "Sensitive::onto_socket")]
    pub query: Sensitive<String>,
    /// Collections to search; empty is all.
    pub collections: Vec<String>,
    /// The reader's labels; access is decided before ranking.
    pub labels: LabelSet,
    /// Most hits, 1 to 50.
    pub hits_max: u32,
}

impl Request {
    /// Whether only the appliance's daemons may ask it: who searches and opens is known to gatewayd, and what
    /// a release holds to updaterd.
    #[must_use]
    pub const fn is_a_daemons(&self) -> bool {
        match self {
            Self::Stage { .. } | Self::Drop { .. } | Self::Search(_) | Self::Open { .. } => true,
            Self::Add { .. } | Self::Delete { .. } | Self::List { .. } | Self::Verify => false,
        }
    }
}

/// A request to corpusd. Each has one answer, a [`crate::Reply`] of [`Answer`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Request {
    /// Take in a generation's documents so that they can be searched under its id. Idempotent.
    Stage {
        /// The generation.
        generation: GenerationId,
        /// Its folder on the shelf, with `tree/` inside.
        directory: PathBuf,
    },
    /// Forget a generation's documents (a refused or swept candidate).
    Drop {
        /// The generation.
        generation: GenerationId,
    },
    /// Take in one of the facility's own documents. The same document again is a no-op.
    Add {
        /// Where it belongs.
        collection: String,
        /// Who may read it.
        label: Label,
        /// Who brought it.
        owner: Principal,
        /// Its name for people; shown to readers only.
        #[serde(serialize_with = "Sensitive::onto_socket")]
        name: Sensitive<String>,
        /// Its text (UTF-8; at most 8 MiB).
        #[serde(serialize_with = "Sensitive::onto_socket")]
        text: Sensitive<String>,
    },
    /// Delete a facility document: text, postings and vectors.
    Delete {
        /// The document.
        document: DocumentId,
    },
    /// List facility documents and those of the active generation that `labels` may see.
    List {
        /// The generation whose documents are listed too.
        generation: Option<GenerationId>,
        /// The reader's labels.
        labels: LabelSet,
    },
    /// Search.
    Search(Search),
    /// Open a citation; access is decided again.
    Open {
        /// What to open.
        citation: CitationId,
        /// The generation that is active now.
        generation: GenerationId,
        /// The reader's labels.
        labels: LabelSet,
    },
    /// Check that database, postings and vectors agree.
    Verify,
}

/// A passage that answers a search.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Hit {
    /// What to cite.
    pub citation: CitationId,
    /// SHA-256 of the passage's text.
    pub chunk: Digest,
    /// Where it belongs.
    pub collection: String,
    /// What a reader must hold.
    pub label: Label,
    /// The document's name for people.
    #[serde(serialize_with = "Sensitive::onto_socket")]
    pub name: Sensitive<String>,
    /// The passage.
    #[serde(serialize_with = "Sensitive::onto_socket")]
    pub text: Sensitive<String>,
    /// Fused score in [0, 1]; comparable within one search.
    pub score: f32,
    /// Whether words alone were used because no embedding model was there.
    pub words_only: bool,
}

/// A document in a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listed {
    /// The document.
    pub document: DocumentId,
    /// Where it belongs.
    pub collection: String,
    /// What a reader must hold.
    pub label: Label,
    /// Its name for people.
    #[serde(serialize_with = "Sensitive::onto_socket")]
    pub name: Sensitive<String>,
    /// Size of its text.
    pub bytes: ByteCount,
    /// Number of passages.
    pub chunks: u32,
    /// Whether it came in a bundle and so cannot be deleted alone.
    pub bundled: bool,
}

/// What a deletion removed; goes to the record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// The document.
    pub document: DocumentId,
    /// Passages removed.
    pub chunks: u32,
    /// Vectors overwritten.
    pub vectors: u32,
    /// Digest over the removed passages' digests, in order.
    pub removed: Digest,
}

/// An answer of corpusd.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    /// The generation's documents can be searched.
    Staged {
        /// Documents taken in.
        documents: u32,
        /// Passages taken in.
        chunks: u32,
        /// Passages with a vector.
        vectors: u32,
    },
    /// The generation's documents are gone.
    Dropped,
    /// The document is there.
    Added(Listed),
    /// The document is gone.
    Deleted(Receipt),
    /// The documents that may be seen.
    Documents(Vec<Listed>),
    /// The best passages, best first; empty means no evidence.
    Hits(Vec<Hit>),
    /// The cited passage.
    Passage(Hit),
    /// The stores agree.
    Verified {
        /// Documents checked.
        documents: u64,
        /// Passages checked.
        chunks: u64,
        /// Vectors checked.
        vectors: u64,
    },
}
