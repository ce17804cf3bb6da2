//! Messages of `cloister-intaked`, the only process that opens a medium.

use std::fmt;

use cloister_domain::{ByteCount, Digest, GenerationId, ImportId, Sensitive, counted};
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
    /// Say what an import would read and what it would come to; writes nothing.
    Check {
        /// As of an import.
        #[serde(serialize_with = "Sensitive::onto_socket")]
        path: Sensitive<String>,
        /// As of an import.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        into: Option<ImportId>,
    },
    /// Ask which chunks, by content, an import lacks that thin volumes left out.
    Needs {
        /// The import.
        import: ImportId,
    },
    /// Bring a medium's volumes into quarantine. Importing again after an interruption goes on where
    /// it was; other volumes of the release may come later, in any order.
    Import {
        /// A volume file, a device that a volume was written to, or the folder of a stick.
        #[serde(serialize_with = "Sensitive::onto_socket")]
        path: Sensitive<String>,
        /// Take only volumes that this import waits for.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        into: Option<ImportId>,
    },
}

/// A name that stands on a medium: somebody's words, with what a terminal would obey escaped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ForeignName {
    /// For the terminal of whoever put the medium in, and nowhere else.
    #[serde(serialize_with = "Sensitive::onto_socket")]
    pub name: Sensitive<String>,
}

/// What lies on a medium, before anything of it is believed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Medium {
    /// What the kernel calls its file system.
    pub filesystem: String,
    /// Whether it is mounted, or opened, read-only.
    pub read_only: bool,
    /// Its volumes.
    pub volumes: Vec<Piece>,
    /// What is on it beside them and is not looked at; at most [`Medium::IGNORED_MAX`].
    pub ignored: Vec<ForeignName>,
    /// How many are ignored in all.
    pub ignored_count: u64,
    /// Imports that wait for volumes.
    pub parked: Vec<Parked>,
}

impl Medium {
    /// Ignored names that are listed.
    pub const IGNORED_MAX: usize = 100;
}

/// An import that waits for volumes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parked {
    /// The import.
    pub import: ImportId,
    /// Its release.
    pub generation: GenerationId,
}

/// A volume on a medium.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Piece {
    /// Its file; absent for a device.
    pub name: Option<ForeignName>,
    /// The file's length; absent for a device.
    pub bytes: Option<ByteCount>,
    /// What is done with it.
    pub fate: Fate,
}

/// What is done with a volume.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fate {
    /// It says that it belongs to the release that is read.
    Read(Place),
    /// It says that it belongs to another release, and is left alone.
    OtherRelease(Place),
    /// It brings trust metadata and no part of a release.
    Trust,
    /// It is no volume, or cannot be read.
    Refused(Problem),
}

/// What a volume says of itself; a hint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// The release.
    pub generation: GenerationId,
    /// This volume, from 1.
    pub volume: u32,
    /// Volumes of the release.
    pub volumes: u32,
    /// Chunks in this volume.
    pub chunks: u64,
}

/// What a volume's manifest says. Nobody has looked at a signature.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Said {
    /// The release.
    pub generation: GenerationId,
    /// Its name.
    pub name: String,
    /// Version text.
    pub version: String,
    /// The publisher's release counter.
    pub counter: u64,
    /// Key ids of the signatures, as they stand there.
    pub keys: Vec<String>,
    /// Licences, as SPDX expressions.
    pub licences: Vec<String>,
    /// Size after unpacking.
    pub plain_bytes: ByteCount,
    /// Size on the medium.
    pub stored_bytes: ByteCount,
    /// Files.
    pub files: u64,
}

/// What of a release is still to come.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Missing {
    /// The volumes that must bring it, from 1, ascending.
    pub volumes: Vec<u32>,
    /// Volumes of the release.
    pub of: u32,
    /// Chunks.
    pub chunks: u64,
    /// Their size on the medium.
    pub stored_bytes: ByteCount,
    /// How many of the chunks no missing volume has: thin volumes left them out, and the shelf does
    /// not have them.
    #[serde(default)]
    pub needs: u64,
}

impl fmt::Display for Missing {
    /// `volumes 1, 4 to 6 of 9 are still to come: 2.3 GiB in 2345 chunks`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.volumes.is_empty() {
            let (needs, bytes) = (self.needs, self.stored_bytes);
            let verb = if needs == 1 { "is" } else { "are" };
            let needs = counted(needs, "chunk");
            return write!(f, "{needs} ({bytes}) that a thin bundle left out {verb} not here");
        }
        let mut runs: Vec<(u32, u32)> = Vec::new();
        for volume in &self.volumes {
            match runs.last_mut() {
                Some((_, last)) if last.checked_add(1) == Some(*volume) => *last = *volume,
                _ => runs.push((*volume, *volume)),
            }
        }
        let (noun, verb) = match self.volumes.len() {
            1 => ("volume", "is"),
            _ => ("volumes", "are"),
        };
        write!(f, "{noun} ")?;
        for (place, (first, last)) in runs.iter().enumerate() {
            let comma = if place == 0 { "" } else { ", " };
            match last.saturating_sub(*first) {
                0 => write!(f, "{comma}{first}")?,
                1 => write!(f, "{comma}{first}, {last}")?,
                _ => write!(f, "{comma}{first} to {last}")?,
            }
        }
        let (of, bytes, chunks) = (self.of, self.stored_bytes, counted(self.chunks, "chunk"));
        write!(f, " of {of} {verb} still to come: {bytes} in {chunks}")?;
        match self.needs {
            0 => Ok(()),
            1 => write!(f, ", of which 1 was left out and is not here"),
            needs => write!(f, ", of which {needs} were left out and are not here"),
        }
    }
}

/// What an import would read of one volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forecast {
    /// The volume.
    pub volume: u32,
    /// Chunks in it.
    pub chunks: u64,
    /// Chunks that would be read.
    pub read_chunks: u64,
    /// Bytes of these chunks on the medium.
    pub read_bytes: ByteCount,
    /// Chunks that a thin volume leaves out and quarantine does not hold.
    #[serde(default)]
    pub left_out_chunks: u64,
    /// How many of these the shelf would fill in.
    #[serde(default)]
    pub filled_chunks: u64,
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
    /// Size as packed, all volumes together; a thin one carries less.
    pub stored_bytes: ByteCount,
    /// Bytes already in quarantine or on the shelf.
    pub present_bytes: ByteCount,
    /// Files, by path inside the release, with sizes.
    pub files: Vec<(String, ByteCount)>,
    /// The fit worksheet: what the release needs, and what this machine has.
    #[serde(default)]
    pub fit: Vec<Term>,
}

/// Content ids of one answer; an import with more of them asks again when these have come.
pub const NEEDS_MAX: usize = 100_000;

/// What trust metadata came to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trusted {
    /// Whether it is newer than what was held.
    pub newer: bool,
    /// Whether it is kept; not where somebody only looks.
    pub kept: bool,
    /// Version of the trust root.
    pub root_version: u64,
    /// Version of the importer's list.
    pub targets_version: u64,
    /// The stick's number; 0 if sticks bear none.
    pub stick: u64,
    /// Releases on the shelf that are taken back.
    pub revoked: Vec<GenerationId>,
}

/// Something intaked says while it works.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Event {
    /// What lies on the medium.
    Medium(Medium),
    /// What a volume says of itself; only when somebody looks.
    Says(Said),
    /// Trust metadata that came without a release was verified.
    Trusted(Trusted),
    /// One volume is refused; what lies beside it is still looked at.
    Refused {
        /// Its file; absent for a device.
        name: Option<ForeignName>,
        /// Why.
        problem: Problem,
    },
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
        /// The volume that is being read.
        volume: u32,
        /// Plain bytes a second over the last seconds; absent before there is anything to tell.
        bytes_per_s: Option<ByteCount>,
        /// Seconds until this volume is read, at that rate.
        left_s: Option<u64>,
    },
    /// A volume of which nothing was missing; it was not read again.
    Repeated {
        /// The import.
        import: ImportId,
        /// The volume.
        volume: u32,
    },
    /// The medium is read, and others must bring the rest.
    Parted {
        /// The import, which waits.
        import: ImportId,
        /// What is still to come.
        missing: Missing,
    },
    /// What an import would read of a volume.
    Forecast(Forecast),
    /// The end of a check: what an import of this medium would come to.
    Checked {
        /// The import that it would go on with.
        import: Option<ImportId>,
        /// What would be missing afterwards.
        missing: Missing,
        /// Disk that it would take.
        needed_bytes: ByteCount,
    },
    /// Every byte is in quarantine and updaterd has taken over.
    Received {
        /// The import.
        import: ImportId,
        /// Digest of all stored bytes in the order they were read.
        volume: Digest,
    },
    /// The content ids that an import lacks, ascending, 32 bytes each, as base64; the first
    /// [`NEEDS_MAX`] of them.
    Needs {
        /// The ids.
        base64: String,
    },
    /// The end of an inspection.
    Inspected,
    /// Refused or failed; nothing follows.
    Problem(Problem),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_said_in_volumes_and_bytes() {
        let said = |volumes: &[u32]| {
            let stored_bytes = ByteCount(3 << 20);
            Missing { volumes: volumes.to_vec(), of: 9, chunks: 3, stored_bytes, needs: 0 }
                .to_string()
        };
        let rest = "still to come: 3.0 MiB in 3 chunks";
        assert_eq!(said(&[2]), format!("volume 2 of 9 is {rest}"));
        let left_out = |chunks, needs| {
            let stored_bytes = ByteCount(9);
            Missing { volumes: Vec::new(), of: 9, chunks, stored_bytes, needs }.to_string()
        };
        assert_eq!(left_out(1, 1), "1 chunk (9 B) that a thin bundle left out is not here");
        assert_eq!(left_out(2, 2), "2 chunks (9 B) that a thin bundle left out are not here");
        assert_eq!(said(&[1, 2, 9]), format!("volumes 1, 2, 9 of 9 are {rest}"));
        assert_eq!(said(&[1, 4, 5, 6]), format!("volumes 1, 4 to 6 of 9 are {rest}"));
    }
}
