//! The record: what an entry says, the Merkle tree over the entries, the signed checkpoint, the
//! files that hold them, and the verification of a whole export.
//!
//! It decides what the bytes of the log are and whether given bytes are such a log. It never reads
//! a file, a clock or a socket (`cloister-recordd` does), and it never decides who may append.
//!
//! Formats are other people's: entries are in-toto statements in DSSE envelopes, hashing is that of
//! RFC 6962, files are those of C2SP tlog-tiles, the checkpoint is C2SP tlog-checkpoint in a C2SP
//! signed note. `docs/formats/record.md` shows the bytes.

mod checkpoint;
mod cosignature;
mod entry;
mod error;
mod fault;
mod note;
mod policy;
mod promotions;
mod proof;
mod receipt;
pub mod succession;
mod summary;
pub mod tiles;
pub mod tree;
mod verify;
mod witness;

pub use checkpoint::Checkpoint;
pub use cosignature::with_signatures;
pub use entry::{
    ENVELOPE_BYTES_MAX, Host, Place, Record, Said, Signer, Time, event_name, intent_of, is_act,
    is_act_of_the_host, is_signed_by_a_person, sign,
};
pub use error::RecordError;
pub use fault::{Fault, Numbers};
pub use note::{Note, VerifierKey, WitnessKey, open_note, sign_note};
pub use policy::{Policy, PolicyError, Witnessed};
pub use promotions::Promotions;
pub use proof::LogProof;
pub use receipt::{FormerKey, Receipt, join_parts, parts};
pub use succession::Keys;
pub use summary::{SUMMARY, SUMMARY_TYPE, Verified};
pub use verify::{
    Approvers, Check, Checked, Export, Report, Trust, check_past, prove, prove_chosen, verify,
    verify_spread,
};
pub use witness::{AddCheckpoint, Seen, WitnessError};

/// The second verifier: another language, no shared code. Every export carries it.
pub const AUDITOR: &str = include_str!("../audit.py");
