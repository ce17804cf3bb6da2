//! Why an act of the supply flow did not happen.

use cloister_bundle::BundleError;
use cloister_daemon::{
    FrameError, ListenError, ServeError, StartError, caged::AskError, files::FileError,
};
use cloister_domain::{ByteCount, Class, Coded, ImportId};
use cloister_promotion::Refusal;
use cloister_shelf::ShelfError;
use cloister_state::StateError;
use cloister_verify::VerifyError;
use cloister_wire::{Problem, supply::ImportState};

use crate::{exam::ExamError, preflight::Lacking};

/// Why the daemon does not start, or ended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UpdaterdError {
    /// The state database cannot be opened.
    #[error("the state database cannot be opened")]
    State(#[source] StateError),
    /// The shelf cannot be opened.
    #[error("the shelf cannot be opened")]
    Shelf(#[source] ShelfError),
    /// The stored trust state cannot be taken back.
    #[error("the stored trust state is not usable")]
    Trust(#[source] VerifyError),
    /// Trust metadata cannot be kept beside the database.
    #[error("trust metadata cannot be kept beside the database")]
    Anchor(#[source] FileError),
    /// A folder of the state cannot be made.
    #[error("a folder of the state cannot be made")]
    Folder(#[source] std::io::Error),
    /// The socket cannot be had.
    #[error("the socket cannot be had")]
    Listen(#[source] ListenError),
    /// A thread cannot be started, or a descriptor be had.
    #[error("the daemon cannot start its work")]
    Start(#[source] StartError),
    /// Serving failed for good.
    #[error("serving failed")]
    Serve(#[source] ServeError),
}

impl Coded for UpdaterdError {
    fn class(&self) -> Class {
        match self {
            Self::State(cause) => cause.class(),
            Self::Shelf(cause) => cause.class(),
            Self::Trust(cause) => cause.class(),
            Self::Anchor(cause) => cause.class(),
            Self::Folder(_) => Class::Fault,
            Self::Listen(cause) => cause.class(),
            Self::Start(cause) => cause.class(),
            Self::Serve(cause) => cause.class(),
        }
    }

    fn code(&self) -> &'static str {
        match self {
            Self::State(cause) => cause.code(),
            Self::Shelf(cause) => cause.code(),
            Self::Trust(cause) => cause.code(),
            Self::Anchor(cause) => cause.code(),
            Self::Folder(_) => "updaterd.folder",
            Self::Listen(cause) => cause.code(),
            Self::Start(cause) => cause.code(),
            Self::Serve(cause) => cause.code(),
        }
    }
}

/// Why one act did not happen.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum ActError {
    #[error(transparent)]
    State(#[from] StateError),
    #[error(transparent)]
    Shelf(#[from] ShelfError),
    #[error(transparent)]
    Verify(#[from] VerifyError),
    #[error(transparent)]
    Bundle(#[from] BundleError),
    #[error(transparent)]
    Exam(#[from] ExamError),
    #[error(transparent)]
    File(#[from] FileError),
    /// The log cannot be reached; nothing happens without a record.
    #[error("the log cannot be reached, so nothing is done; see that recordd runs")]
    Recordd(#[source] FrameError),
    /// Another daemon cannot be reached or broke off.
    #[error("{daemon} cannot be reached or broke off; see that it runs")]
    Peer {
        daemon: &'static str,
        #[source]
        cause: FrameError,
    },
    /// Another daemon answered something that does not belong to the question.
    #[error("{daemon} gave an answer that does not belong to the question")]
    Answer { daemon: &'static str },
    /// A file of the release could not be inspected; nothing is known of it.
    #[error(transparent)]
    Inspector(AskError),
    /// Another daemon refused; its own words.
    #[error("{0}")]
    Told(Problem),
    /// The log begins with something else than this enrolment.
    #[error("the log begins with another enrolment; this appliance cannot be enrolled again")]
    NotFirst,
    /// The release is on the shelf already.
    #[error("import {import} brought this release already; it is {state}")]
    AlreadyHeld { import: ImportId, state: ImportState },
    /// A person's veto is of the release, whoever brings it again.
    #[error("a person rejected this release, so it does not come in again; ask for a later one")]
    Rejected,
    /// The release that the candidate is measured beside, and not the candidate, failed.
    #[error("the active release cannot be measured beside the candidate, which waits: {0}")]
    Beside(Box<Self>),
    /// Another connection receives the same import, or it is on its way to the shelf.
    #[error(
        "import {import} is being received or taken to the shelf; try again when that has ended"
    )]
    Receiving { import: ImportId },
    /// An import that waits neither for volumes nor for a verdict is not given up.
    #[error(
        "import {import} is {state}; only one that waits for volumes or for a verdict is discarded, and \
         what awaits approval is rejected (`cloister approve {import} --reject`)"
    )]
    NotWaiting { import: ImportId, state: ImportState },
    /// The word of the record of an import that was given up.
    #[error("an operator discarded it while it waited; import the release again to have it")]
    Discarded,
    /// An import was given up, and the log could not be told.
    #[error(
        "import {import} is given up, and the log that must say so cannot be reached; see that recordd \
         runs, then run the command again"
    )]
    Unrecorded {
        import: ImportId,
        #[source]
        cause: FrameError,
    },
    /// A message came out of order.
    #[error("a message of an import came out of order")]
    Order,
    /// The volume's head speaks of another release than its manifest.
    #[error("the volume's head names another release than its manifest")]
    OtherRelease,
    /// The release is larger than the facility allows.
    #[error("the release unpacks to {bytes}, more than the {max} that this facility allows")]
    TooLarge { bytes: ByteCount, max: ByteCount },
    /// The release does not fit the machine or the facility.
    #[error(transparent)]
    Lacking(#[from] Lacking),
    /// The file system does not tell how much is free.
    #[error("the file system does not tell how much is free")]
    Disk(#[source] nix::Error),
    /// The quarantine cannot be prepared or cleared.
    #[error("the quarantine cannot be {act}")]
    Quarantine {
        act: &'static str,
        #[source]
        source: std::io::Error,
    },
    /// The rules of promotion refused.
    #[error(transparent)]
    Promotion(#[from] Refusal),
    /// An approval that was signed for another machine.
    #[error(
        "the approval names the log of another appliance; run `cloister review` on this one and sign \
         what it shows"
    )]
    OtherAppliance,
    /// The log was restored from an old copy.
    #[error(
        "the log lacks records that it had: it was restored from an old copy; {needed} approvers must \
         allow to go on, each with `cloister acknowledge`"
    )]
    RestoredLog { needed: u64 },
    /// A consent to go on with a log that lacks nothing, or other records.
    #[error(
        "the log does not lack what this consent is about; `cloister status` shows how it stands"
    )]
    NothingLacks,
    /// A consent to another succession than the one that waits.
    #[error(
        "a word is about another key, or about another state of the log, than what waits; \
         `cloister status` shows that: sign anew (`cloister succeed --sign`)"
    )]
    OtherSuccession,
    /// A consent to a downgrade that is none.
    #[error(
        "the release is at or above the floor; `cloister rollback --to` returns to it without anybody's leave"
    )]
    NotBelowFloor,
    /// One trial at a time.
    #[error("trial {trial} is under way; end it first (`cloister trial end`)")]
    TrialUnderWay { trial: u64 },
    /// There is nothing to end.
    #[error("no trial is under way")]
    NoTrial,
    /// A trial of nobody or of too many, or for no time or too long.
    #[error(
        "a trial is of 1 to 256 principals or a share of 0.1 to 100 %, and lasts 1 to {seconds_max} seconds"
    )]
    TrialBounds { seconds_max: u32 },
    /// A shadow of a release that is not awaiting approval.
    #[error(
        "import {import} is {state}; only what awaits approval runs as a shadow, and what is approved \
         as a canary"
    )]
    NotAwaiting { import: ImportId, state: ImportState },
    /// A shadow belongs to what is approved.
    #[error(
        "trial {trial} is a shadow of this release, and its report belongs to what is approved; end it \
         first (`cloister trial end`)"
    )]
    Shadowed { trial: u64 },
    /// A shadow beside nothing.
    #[error("nothing is active, so there is nothing that a shadow could run beside")]
    NothingActive,
    /// The shelf is being read again already.
    #[error("the shelf is being read again already; ask again when that has ended")]
    Scrubbing,
    /// The database is empty, and the log is not.
    #[error(
        "the state database is gone, and the log says what happened before; what serves goes on \
         serving: run `cloister rebuild`, which brings the database back"
    )]
    Lost,
    /// The database lacks what the log has.
    #[error(
        "the state database is an older copy: the log tells of acts that it does not know. Stop \
         cloister-updaterd and its socket, move `supply.db` and the files beside it away, start both \
         again, and run `cloister rebuild`; see the runbook `rebuild`"
    )]
    OlderDatabase,
    /// There is a database.
    #[error("the state database is there; nothing has to be rebuilt")]
    NotLost,
    /// The trust metadata that the log names is gone too.
    #[error(
        "the trust metadata that the log names is not in the folder `trust` of the state; restore \
         that folder from a backup, then run `cloister rebuild` again"
    )]
    TrustNotKept,
    /// There is nothing to return to.
    #[error("there is no generation to return to")]
    NoPrevious,
    /// The engine that was to answer holds something else.
    #[error("the engine does not hold the generation after loading it")]
    NotHeld,
    /// The engine that was to answer holds it, and gave no token.
    #[error(
        "the engine holds the generation and gave no token in {seconds} s; see its journal, and restart it"
    )]
    Silent {
        /// How long it had.
        seconds: u32,
    },
    /// The daemon is about to stop.
    #[error("the updater is stopping; ask again when it is back")]
    Stopping,
    /// The generation was switched to and did not answer; the one before is active again.
    #[error("the generation did not answer after the switch; the one before is active again")]
    Returned(#[source] Box<Self>),
}

impl ActError {
    /// As it is told and recorded.
    pub(crate) fn problem(&self) -> Problem {
        match self {
            Self::Told(problem) => problem.clone(),
            other => Problem::of(other),
        }
    }
}

impl Coded for ActError {
    fn class(&self) -> Class {
        match self {
            Self::State(cause) => cause.class(),
            Self::Shelf(cause) => cause.class(),
            Self::Verify(cause) => cause.class(),
            Self::Bundle(cause) => cause.class(),
            Self::Exam(cause) => cause.class(),
            Self::File(cause) => cause.class(),
            Self::Inspector(cause) => cause.class(),
            Self::Told(problem) => problem.class,
            Self::Recordd(_)
            | Self::Peer { .. }
            | Self::Answer { .. }
            | Self::Unrecorded { .. }
            | Self::Disk(_)
            | Self::Beside(_)
            | Self::Quarantine { .. }
            | Self::NotHeld
            | Self::Silent { .. }
            | Self::Returned(_) => Class::Fault,
            Self::Lacking(cause) => cause.class(),
            Self::Promotion(cause) => cause.class(),
            Self::Lost | Self::OlderDatabase | Self::TrustNotKept => Class::Corrupt,
            Self::Receiving { .. }
            | Self::Scrubbing
            | Self::TrialUnderWay { .. }
            | Self::Stopping => Class::Busy,
            Self::NotFirst
            | Self::AlreadyHeld { .. }
            | Self::Rejected
            | Self::NotWaiting { .. }
            | Self::Discarded
            | Self::Order
            | Self::OtherRelease
            | Self::TooLarge { .. }
            | Self::OtherAppliance
            | Self::NotLost
            | Self::RestoredLog { .. }
            | Self::NothingLacks
            | Self::OtherSuccession
            | Self::NotBelowFloor
            | Self::NoTrial
            | Self::TrialBounds { .. }
            | Self::NotAwaiting { .. }
            | Self::Shadowed { .. }
            | Self::NothingActive
            | Self::NoPrevious => Class::Refused,
        }
    }

    fn code(&self) -> &'static str {
        match self {
            Self::State(cause) => cause.code(),
            Self::Shelf(cause) => cause.code(),
            Self::Verify(cause) => cause.code(),
            Self::Bundle(cause) => cause.code(),
            Self::Exam(cause) => cause.code(),
            Self::File(cause) => cause.code(),
            Self::Recordd(_) => "record.unavailable",
            Self::Peer { .. } => "peer.unavailable",
            Self::Answer { .. } => "peer.answer",
            Self::Inspector(cause) => cause.code(),
            Self::Told(_) => "peer.told",
            Self::NotFirst => "trust.not-first",
            Self::AlreadyHeld { .. } => "bundle.already-held",
            Self::Rejected => "bundle.rejected",
            Self::Beside(_) => "evaluation.active",
            Self::Receiving { .. } => "import.receiving",
            Self::NotWaiting { .. } => "import.not-waiting",
            Self::Discarded => "import.discarded",
            Self::Unrecorded { .. } => "import.unrecorded",
            Self::Order => "import.order",
            Self::OtherRelease => "bundle.head.other",
            Self::TooLarge { .. } => "import.too-large",
            Self::Lacking(cause) => cause.code(),
            Self::Disk(_) => "import.disk",
            Self::Quarantine { .. } => "import.quarantine",
            Self::Promotion(cause) => cause.code(),
            Self::OtherAppliance => "approval.appliance",
            Self::RestoredLog { .. } => "record.restored",
            Self::NothingLacks => "record.whole",
            Self::OtherSuccession => "record.key.other",
            Self::NotBelowFloor => "downgrade.not-needed",
            Self::TrialUnderWay { .. } => "trial.under-way",
            Self::NoTrial => "trial.none",
            Self::TrialBounds { .. } => "trial.bounds",
            Self::NotAwaiting { .. } => "trial.not-awaiting-approval",
            Self::Shadowed { .. } => "approval.shadow-under-way",
            Self::NothingActive => "trial.nothing-active",
            Self::Scrubbing => "shelf.scrubbing",
            Self::Lost => "state.lost",
            Self::OlderDatabase => "state.older",
            Self::NotLost => "state.not-lost",
            Self::TrustNotKept => "trust.not-kept",
            Self::NoPrevious => "rollback.no-previous",
            Self::NotHeld => "activation.not-held",
            Self::Silent { .. } => "activation.silent",
            Self::Stopping => "daemon.stopping",
            Self::Returned(_) => "activation.returned",
        }
    }
}
