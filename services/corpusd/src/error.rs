//! Why the daemon does not run, and why a request is not done.

use std::io;

use cloister_corpus::ListingError;
use cloister_corpus_store::StoreError;
use cloister_daemon::{FrameError, ListenError, ServeError, files::FileError};
use cloister_domain::{Class, Coded};
use cloister_wire::Problem;

/// A daemon that does not run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// The store cannot be opened.
    #[error("the corpus cannot be opened")]
    Store(#[source] StoreError),
    /// The socket cannot be had.
    #[error("the corpus cannot listen")]
    Listen(#[source] ListenError),
    /// Accepting failed.
    #[error("the corpus cannot go on serving")]
    Serve(#[source] ServeError),
    /// A thread cannot be started.
    #[error("the system has no thread for the corpus")]
    Thread(#[source] io::Error),
}

impl Coded for RunError {
    fn class(&self) -> Class {
        match self {
            Self::Store(error) => error.class(),
            Self::Listen(_) | Self::Serve(_) | Self::Thread(_) => Class::Fault,
        }
    }

    fn code(&self) -> &'static str {
        match self {
            Self::Store(error) => error.code(),
            Self::Listen(error) => error.code(),
            Self::Serve(error) => error.code(),
            Self::Thread(_) => "corpus.thread",
        }
    }
}

/// A request that is not done.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CorpusError {
    /// The store refused or failed.
    #[error("{0}")]
    Store(StoreError),
    /// A release's list of documents is refused.
    #[error("{0}")]
    Listing(ListingError),
    /// A file of a release cannot be read.
    #[error("a document of the release cannot be read")]
    File(#[source] FileError),
    /// A listed document that is no plain file, or not UTF-8.
    #[error("the release lists a document that is not a file of UTF-8 text")]
    Text,
    /// A folder that is not the generation's.
    #[error("the folder named is not that generation's folder on the shelf")]
    Directory,
    /// A document without words.
    #[error("the document holds no text")]
    Empty,
    /// A document beyond the bound.
    #[error(
        "the document is longer than {bytes_max} bytes, which corpus.document_bytes_max allows"
    )]
    TooLong {
        /// The bound.
        bytes_max: u64,
    },
    /// A name that cannot be used.
    #[error("a name of a document or collection is empty, too long, or has control characters")]
    Name,
    /// A search outside the bounds.
    #[error("a search asks for 1 to {hits_max} hits, in at most {query_bytes_max} bytes")]
    Search {
        /// Most hits.
        hits_max: u32,
        /// Longest question.
        query_bytes_max: usize,
    },
    /// A citation that is unknown or not for this reader: the two are not told apart.
    #[error("there is no such citation, or it is not for this reader")]
    CitationAbsent,
    /// The record did not take the entry, so the document was not deleted.
    #[error("the deletion could not be recorded, so nothing was deleted; see to recordd")]
    NotRecorded(#[source] RecordError),
}

/// A record that was not written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecordError {
    /// recordd could not be asked.
    #[error("recordd could not be asked")]
    Frame(#[source] FrameError),
    /// recordd refused.
    #[error("{0}")]
    Told(Problem),
    /// recordd answered something else.
    #[error("recordd answered something else")]
    Answer,
}

impl Coded for CorpusError {
    fn class(&self) -> Class {
        match self {
            Self::Store(error) => error.class(),
            Self::File(FileError::System { .. }) | Self::NotRecorded(_) => Class::Fault,
            Self::Listing(_)
            | Self::File(_)
            | Self::Text
            | Self::Directory
            | Self::Empty
            | Self::TooLong { .. }
            | Self::Name
            | Self::Search { .. }
            | Self::CitationAbsent => Class::Refused,
        }
    }

    fn code(&self) -> &'static str {
        match self {
            Self::Store(error) => error.code(),
            Self::Listing(error) => error.code(),
            Self::File(_) => "corpus.stage.file",
            Self::Text => "corpus.stage.text",
            Self::Directory => "corpus.stage.directory",
            Self::Empty => "corpus.document.empty",
            Self::TooLong { .. } => "corpus.document.too-long",
            Self::Name => "corpus.document.name",
            Self::Search { .. } => "corpus.search.bounds",
            Self::CitationAbsent => "corpus.citation.absent",
            Self::NotRecorded(_) => "corpus.delete.not-recorded",
        }
    }
}
