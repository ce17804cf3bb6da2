//! Why an entry is not taken, and why the log cannot be kept.

use cloister_daemon::{ListenError, ServeError, credentials::CredentialError, files::FileError};
use cloister_domain::{Class, Coded};
use cloister_record::{Fault, RecordError};

/// Why recordd does not start, or refuses a request.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecorddError {
    /// The host key cannot be had.
    #[error("the host key cannot be had")]
    Key(#[source] CredentialError),
    /// The socket cannot be had.
    #[error("the socket cannot be had")]
    Listen(#[source] ListenError),
    /// The daemon cannot go on accepting.
    #[error("no more connections can be accepted")]
    Serve(#[source] ServeError),
    /// The log's files cannot be read.
    #[error("the log's files cannot be read")]
    Read(#[source] FileError),
    /// The entry cannot be made durable: the disk is full or failed. Nothing may happen meanwhile.
    #[error("the record cannot be written, so the act must not happen; free or repair the disk")]
    Disk(#[source] FileError),
    /// The log's files are not those of a log that this key signed.
    #[error("the stored log is damaged ({what}); keep the files and compare them with an export")]
    Damaged {
        /// Which of its files.
        what: &'static str,
    },
    /// The key or the log's name is not that of the stored log.
    #[error("the stored checkpoint is not by this host key and under record.origin as configured")]
    OtherLog,
    /// A log would begin under the name that is for trying out.
    #[error(
        "no log is begun as `enclave/appliance` where the daemons run as different users: give this \
         appliance's log a name of its own in record.origin; see the runbook `set-up`"
    )]
    Unnamed,
    /// The machine has another host key than the log, whose own is lost.
    #[error(
        "the host key is another than the log's, so nothing is recorded and nothing may happen that \
         must be: as many approvers as a release needs let the new key succeed (`cloister succeed`), \
         or the former key is put back; see the runbook `key-loss`"
    )]
    KeyChanged,
    /// A key is to succeed, or was to be recorded by other means, while the log has its own.
    #[error("the machine has the log's key; another one succeeds only when that is lost")]
    KeyStands,
    /// The machine has a key that the log had before.
    #[error(
        "the host key is one that this log had before another succeeded it; give the machine the \
         log's key, or a new one"
    )]
    FormerKey,
    /// What persons say does not let the key succeed.
    #[error("this does not let the key succeed: {0}")]
    Succession(Fault),
    /// More persons' envelopes than a succession takes.
    #[error("a succession takes {max} persons' envelopes at most")]
    Persons {
        /// The bound.
        max: usize,
    },
    /// The entry is not one that the log takes.
    #[error("{0}")]
    Entry(RecordError),
    /// Something is to be recorded before the trust root is enrolled.
    #[error("no trust root is enrolled; `cloister enrol` comes first and is record 0")]
    Unenrolled,
    /// A trust root is to be enrolled again.
    #[error("a trust root is enrolled already; a new one must be signed by the old one")]
    Enrolled,
    /// An intent follows one that has no outcome yet, or an outcome has no intent.
    #[error("an activation has one intent and after it one outcome; the last is not finished")]
    Activation,
    /// A checkpoint that this log signed is not in it.
    #[error(
        "this log signed a checkpoint of {size} records that its {held} records do not contain: its \
         state was restored from an old copy; import nothing, and see the runbook `audit`"
    )]
    RolledBack {
        /// Records of the checkpoint.
        size: u64,
        /// Records of the log.
        held: u64,
    },
    /// No witness that is configured cosigned what was brought, or has the name that was given.
    #[error("none of the witnesses in record.witnesses is meant, or cosigned what was brought")]
    UnknownWitness,
    /// There are several witnesses and none was named.
    #[error("there are several witnesses; name one with --witness")]
    WhichWitness,
    /// No witness has cosigned the log yet.
    #[error("no witness has cosigned this log yet; `cloister records request` asks one")]
    NeverWitnessed,
    /// An act's name was used for something else.
    #[error("this act is in the record already, about something else")]
    OtherAct,
}

impl Coded for RecorddError {
    fn class(&self) -> Class {
        match self {
            Self::Key(error) => error.class(),
            Self::Entry(error) => error.class(),
            Self::Listen(_) | Self::Serve(_) | Self::Read(_) | Self::Disk(_) => Class::Fault,
            Self::Damaged { .. } | Self::RolledBack { .. } => Class::Corrupt,
            Self::OtherLog
            | Self::Unnamed
            | Self::KeyChanged
            | Self::KeyStands
            | Self::FormerKey
            | Self::Succession(_)
            | Self::Persons { .. }
            | Self::Unenrolled
            | Self::Enrolled
            | Self::Activation
            | Self::UnknownWitness
            | Self::WhichWitness
            | Self::NeverWitnessed
            | Self::OtherAct => Class::Refused,
        }
    }

    fn code(&self) -> &'static str {
        match self {
            Self::Key(error) => error.code(),
            Self::Entry(error) => error.code(),
            Self::Listen(error) => error.code(),
            Self::Serve(error) => error.code(),
            Self::Read(_) => "record.read",
            Self::Disk(_) => "record.disk",
            Self::Damaged { .. } => "record.damaged",
            Self::OtherLog => "record.other-log",
            Self::Unnamed => "record.unnamed",
            Self::KeyChanged => "record.key.changed",
            Self::KeyStands => "record.key.stands",
            Self::FormerKey => "record.key.former",
            Self::Succession(_) => "record.key.succession",
            Self::Persons { .. } => "record.key.persons",
            Self::Unenrolled => "record.unenrolled",
            Self::Enrolled => "record.enrolled",
            Self::Activation => "record.activation",
            Self::RolledBack { .. } => "record.rolled-back",
            Self::UnknownWitness => "record.witness.unknown",
            Self::WhichWitness => "record.witness.which",
            Self::NeverWitnessed => "record.witness.never",
            Self::OtherAct => "record.other-act",
        }
    }
}
