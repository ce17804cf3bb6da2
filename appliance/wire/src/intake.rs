//! Messages of `cloister-intaked`, the only process that opens a medium.

use cloister_domain::{ByteCount, Digest, GenerationId, ImportId, Sensitive};
use serde::{Deserialize, Serialize};

use crate::{Problem, fit::Term};

/// A request to intaked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Request {
    /// Show what a volume says of itself, and whether its signatures hold; writes nothing.
    Inspect {
        /// A volume file, or the folder of a stick that holds volumes.
        #[serde(serialize_with = "Sensitive::onto_socket")]
        path: Sensitive<String>,
    },
    /// Bring a volume into quarantine. Importing again after an interruption goes on where it was.
    Import {
        /// A volume file, or the folder of a stick that holds volumes.
        #[serde(serialize_with = "Sensitive::onto_socket")]
        path: Sensitive<String>,
    },
}

/// What a verified volume holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// The release.
    pub generation: GenerationId,
    /// Its name and version, such as `cloister-demo` and `1.0.0`.
    pub name: String,
    /// Version text.
    pub version: String,
    /// The publisher's release counter.
    pub counter: u64,
    /// Distinct persons who signed the release, by their names in the trust metadata.
    pub signers: Vec<String>,
    /// Version of the trust root that judged it.
    pub root_version: u64,
    /// Size after unpacking.
    pub plain_bytes: ByteCount,
    /// Size on the medium.
    pub stored_bytes: ByteCount,
    /// Bytes already in quarantine or on the shelf.
    pub present_bytes: ByteCount,
    /// Files, by path inside the release, with sizes.
    pub files: Vec<(String, ByteCount)>,
    /// The fit worksheet: what the release needs, and what this machine has.
    #[serde(default)]
    pub fit: Vec<Term>,
}

/// Something intaked says while it works.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Event {
    /// The head was verified; nothing of the payload was read yet.
    Seen(Summary),
    /// Bytes that are safely in quarantine.
    Progress {
        /// The import.
        import: ImportId,
        /// Plain bytes written or already there.
        done_bytes: ByteCount,
        /// Plain bytes of the release.
        total_bytes: ByteCount,
    },
    /// Every byte is in quarantine and updaterd has taken over.
    Received {
        /// The import.
        import: ImportId,
        /// Digest of all stored bytes in the order they were read.
        volume: Digest,
    },
    /// The end of an inspection.
    Inspected,
    /// Refused or failed; nothing follows.
    Problem(Problem),
}
