//! What decides about documents: which text is kept, how it is cut into passages, which words a
//! passage and a question consist of, which passages answer a question, who may see them, and the
//! names of documents and citations.
//!
//! Pure: no files, sockets, clocks, threads or randomness. The texts of errors never quote a
//! document, a question or a name.

mod access;
mod chunk;
mod fold;
mod fuse;
mod ids;
mod listing;
mod normalise;
mod stem;
mod stop;
mod terms;

pub use access::Scope;
pub use chunk::{CHUNK_BYTES_MAX, CHUNK_WORDS_MAX, Chunk, chunks};
pub use fuse::{Candidate, Evidence, Ranked, VECTOR_WEIGHT, fuse};
pub use ids::{chunk_digest, document_id, receipt};
pub use listing::{
    COLLECTIONS_MAX, Collection, DOCUMENTS_MAX, Listing, ListingError, NAME_BYTES_MAX, Source,
    check_name, listing,
};
pub use normalise::normalise;
pub use terms::{
    Bag, PAIR_WEIGHT, QUERY_TERMS_MAX, Query, QueryTerm, Statistics, TERM_BYTES_MAX, bag, query,
};
