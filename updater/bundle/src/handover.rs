//! What intaked and updaterd say to each other, over updaterd's socket.
//!
//! One connection is one volume: `Offer` → `Seen`; then, for an import, `Index` parts → `More` until
//! the last → `Plan`; for a thin volume `Fill` → `Filled`; `Progress` without answers; `Complete` →
//! `Adopted`, or `Parted` → `Kept` where other volumes hold the rest. For a check, `Index` parts →
//! `More` to the last and `Fill` → `Filled`, which then says what the shelf has and writes nothing.
//! At any point `Problem` or `Abort` ends it. `Parked` may be asked before; a volume of trust metadata
//! alone is a `Trust` → `Trusted`, and an import stands under a `Begin` on a connection of its own. Nothing of the payload is read before `Seen`, no byte is
//! decompressed before `Plan`. After an interruption the same `Offer` continues the same import:
//! intaked finds by hashing what already lies in quarantine.
//!
//! The requests' JSON tags are disjoint from those of `cloister_wire::supply::Request`, so one
//! socket takes both.

use base64::{Engine as _, display::Base64Display, prelude::BASE64_STANDARD};
use cloister_domain::{ByteCount, Digest, GenerationId, ImportId};
pub use cloister_wire::intake::Missing;
use cloister_wire::{
    Problem,
    intake::{Parked, Summary, Trusted},
};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// The most bytes of one `Index` part, so that its frame stays small.
pub const INDEX_PART_BYTES_MAX: usize = 1 << 20;

/// The most chunks of one `Fill`: about a quarter of a GiB is hashed and copied for an answer.
pub const FILL_CHUNKS_MAX: usize = 256;

/// Bytes inside a JSON message, as base64.
#[derive(Clone, PartialEq, Eq)]
pub struct Blob(pub Vec<u8>);

impl std::fmt::Debug for Blob {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Blob({} bytes)", self.0.len())
    }
}

impl Serialize for Blob {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&Base64Display::new(&self.0, &BASE64_STANDARD))
    }
}

impl<'de> Deserialize<'de> for Blob {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        let bytes = BASE64_STANDARD.decode(text.as_bytes());
        bytes.map(Self).map_err(|_cause| de::Error::custom("not base64"))
    }
}

/// From intaked to updaterd.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Request {
    /// Which imports wait for volumes.
    Parked,
    /// A medium is about to be imported; answered as `Parked`. Until this connection ends, everything that
    /// comes from it takes one step of time together.
    Begin,
    /// Trust metadata that came without a release. Answered by `Trusted`, or by `Problem` after which the
    /// connection goes on.
    Trust {
        /// `clb/10-meta`.
        meta: Blob,
        /// Whether to keep it; else it counts for what is judged on this connection afterwards.
        keep: bool,
    },
    /// The first members of a volume, unread but for their headers.
    Offer(Offer),
    /// The next bytes of `clb/40-index`, from its start; at most [`INDEX_PART_BYTES_MAX`].
    Index {
        /// The bytes.
        part: Blob,
    },
    /// Chunks of the verified index, by position, that a thin volume does not carry and quarantine
    /// lacks; at most [`FILL_CHUNKS_MAX`]. Answered by `Filled`.
    Fill {
        /// The chunks.
        chunks: Vec<u64>,
    },
    /// Bytes that are safely in quarantine; has no answer.
    Progress {
        /// Plain bytes written or already there.
        done_bytes: ByteCount,
    },
    /// Every planned chunk lies in quarantine, hashed and fsynced.
    Complete(Complete),
    /// Nothing of this volume is missing any more; other volumes hold the rest.
    Parted {
        /// SHA-256 of the bytes read in this session, in their order, without the content of chunks.
        volume: Digest,
        /// Bytes read from the medium in this session.
        read_bytes: ByteCount,
        /// What is still to come.
        missing: Missing,
        /// The same, as people are told while the import waits.
        problem: Problem,
    },
    /// The volume turned out to be wrong or unreadable; updaterd records it and answers `Aborted`.
    Abort {
        /// What was wrong.
        problem: Problem,
        /// Whether importing the same volume again may succeed (a pulled stick), so that the
        /// quarantine is kept.
        resumable: bool,
    },
}

/// What a volume is offered for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Purpose {
    /// To be imported.
    Import,
    /// To be told whether an import would be allowed and what it would read; nothing is kept.
    Check,
    /// To be told what it is; answer `Seen` and forget.
    Inspect,
}

/// The head of a volume, as it lies on the medium.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offer {
    /// What the volume is offered for.
    pub purpose: Purpose,
    /// `clb/00-head`.
    pub head: Blob,
    /// `clb/10-meta`.
    pub meta: Blob,
    /// `clb/20-manifest`.
    pub manifest: Blob,
    /// What the kernel calls the medium's file system, such as `ext2/ext3` or `msdos`.
    pub filesystem: String,
    /// Whether it is mounted read-only.
    pub read_only: bool,
    /// The user who asked for it (SO_PEERCRED).
    pub operator: u32,
}

/// What intaked did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Complete {
    /// SHA-256 of the bytes read in this session, in their order, without the content of chunks.
    pub volume: Digest,
    /// Stored bytes read from the medium in this session.
    pub read_bytes: ByteCount,
    /// Chunks that were found in quarantine from an earlier session.
    pub resumed_chunks: u64,
}

/// From updaterd to intaked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    /// The imports that wait for volumes.
    Parked(Vec<Parked>),
    /// What was parted is kept, and recorded.
    Kept,
    /// The metadata is verified; what it came to.
    Trusted(Trusted),
    /// The head is verified.
    Seen(Box<Seen>),
    /// The part is taken; send the next one.
    More,
    /// The index is verified; this is what to copy.
    Plan(Plan),
    /// These of the chunks were found on the shelf, hashed, and written to their places.
    Filled {
        /// The chunks.
        chunks: Vec<u64>,
    },
    /// The finished files were hashed again and lie on the shelf as a candidate.
    Adopted {
        /// The release.
        generation: GenerationId,
    },
    /// The abort is recorded.
    Aborted,
    /// Refused or failed; the connection ends.
    Problem(Problem),
}

/// A verified head.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// The import; for a check the one that would go on, if there is one.
    pub import: Option<ImportId>,
    /// Unless it is for an import, the files as a plan would name them.
    pub files: Vec<PlannedFile>,
    /// For people.
    pub summary: Summary,
    /// The members that follow the manifest, in order: the attestations.
    pub attestations: Vec<Expected>,
    /// The member after them.
    pub index: Expected,
}

/// A member that must come next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Expected {
    /// SHA-256 of its bytes.
    pub sha256: Digest,
    /// Its length.
    pub bytes: ByteCount,
}

/// What to copy, and where to. Chunks are those of the verified index, by position.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// The import.
    pub import: ImportId,
    /// The release.
    pub generation: GenerationId,
    /// The folder under `state/quarantine`, made by updaterd; attestations go to its `attest/`.
    pub folder: String,
    /// The files, in the order of the manifest; file `n` is written to `files/<n>.part`.
    pub files: Vec<PlannedFile>,
}

/// One file of the plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedFile {
    /// Its length.
    pub bytes: ByteCount,
    /// Its SHA-256.
    pub sha256: Digest,
    /// Whether the shelf has it already, so that its chunks are passed over.
    pub present: bool,
}

impl Plan {
    /// The name of file `number` under the plan's folder.
    #[must_use]
    pub fn part_name(number: usize) -> String {
        format!("files/{number}.part")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_return_from_their_text() {
        let offer = Request::Offer(Offer {
            purpose: Purpose::Import,
            head: Blob(vec![0, 255]),
            meta: Blob(Vec::new()),
            manifest: Blob(b"{}".to_vec()),
            filesystem: "ext2/ext3".to_owned(),
            read_only: true,
            operator: 0,
        });
        let text = serde_json::to_string(&offer).expect("strings");
        assert_eq!(serde_json::from_str::<Request>(&text).expect("our own text"), offer);
        assert!(text.starts_with(r#"{"offer":{"purpose":"import","head":"AP8=""#));
        let plan = Answer::Plan(Plan {
            import: ImportId(3),
            generation: GenerationId(Digest::of(b"g")),
            folder: "3".to_owned(),
            files: vec![PlannedFile {
                bytes: ByteCount(u64::MAX),
                sha256: Digest::of(b"f"),
                present: true,
            }],
        });
        let text = serde_json::to_string(&plan).expect("strings");
        assert_eq!(serde_json::from_str::<Answer>(&text).expect("our own text"), plan);
        assert_eq!(format!("{:?}", Blob(vec![1, 2, 3])), "Blob(3 bytes)");
        assert_eq!(Plan::part_name(12), "files/12.part");
    }
}
