//! What can go wrong on the connected side, beside the errors of the libraries.
//!
//! The connected side is the preparer's own machine, so these name the files that its owner gave.

use std::{
    io,
    path::{Path, PathBuf},
};

use cloister_domain::{ByteCount, Class, Coded};

/// What went wrong with a file or a folder.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FileError {
    /// It is not there.
    #[error("{} is not there; check the path", .path.display())]
    Absent {
        /// As it was given.
        path: PathBuf,
    },
    /// A folder lies in the place of a file.
    #[error("{} is a folder; name a file", .path.display())]
    Folder {
        /// As it was given.
        path: PathBuf,
    },
    /// A file lies in the place of a folder.
    #[error("{} is no folder, or a part of its path is none; name a folder", .path.display())]
    NoFolder {
        /// As it was given.
        path: PathBuf,
    },
    /// The operating system does not let this user.
    #[error(
        "{} is closed to this user; change its owner or mode, or have its owner do this",
        .path.display()
    )]
    Denied {
        /// As it was given.
        path: PathBuf,
    },
    /// A file that is only ever written anew is there.
    #[error("{} is there already and is not written over; name another file", .path.display())]
    Exists {
        /// As it was given.
        path: PathBuf,
    },
    /// No room is left.
    #[error(
        "{} cannot be written: the disk or a limit of this user is full; make room and run this again",
        .path.display()
    )]
    Full {
        /// As it was given.
        path: PathBuf,
    },
    /// It has more bytes than such a file may have.
    #[error("{} is larger than {max}, which such a file never is; check the path", .path.display())]
    TooLarge {
        /// As it was given.
        path: PathBuf,
        /// The most that is read.
        max: ByteCount,
    },
    /// Reading fails.
    #[error("{} cannot be read; check the disk", .path.display())]
    Read {
        /// As it was given.
        path: PathBuf,
        /// What the operating system said.
        #[source]
        cause: io::Error,
    },
    /// Writing fails.
    #[error("{} cannot be written; check the disk", .path.display())]
    Write {
        /// As it was given.
        path: PathBuf,
        /// What the operating system said.
        #[source]
        cause: io::Error,
    },
    /// It is a link, a socket or the like.
    #[error("{} is neither a file nor a folder; take it out", .path.display())]
    Kind {
        /// Below the folder that was given.
        path: PathBuf,
    },
    /// An act that was killed left it.
    #[error("{} was left by a command that was broken off; delete it", .path.display())]
    Unfinished {
        /// Below the folder that was given.
        path: PathBuf,
    },
    /// A name is no text.
    #[error("a name under {} is not UTF-8; rename it", .path.display())]
    Name {
        /// The folder that was given.
        path: PathBuf,
    },
    /// A text file is no text.
    #[error("{} is not UTF-8 text; check that it is the right file", .path.display())]
    Text {
        /// As it was given.
        path: PathBuf,
    },
    /// A JSON file is none. What stands there is never quoted.
    #[error(
        "{} is not JSON (line {line}, column {column}); check that it is the right file",
        .path.display()
    )]
    Json {
        /// As it was given.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// Counted from 1.
        column: usize,
    },
}

impl FileError {
    /// Why `path` could not be read.
    pub(crate) fn reading(path: &Path, cause: io::Error) -> Self {
        Self::plain(path, cause.kind()).unwrap_or_else(|path| Self::Read { path, cause })
    }

    /// Why `path` could not be written.
    pub(crate) fn writing(path: &Path, cause: io::Error) -> Self {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        // A new file is not there, of course; what is missing is the folder.
        let missing = if cause.kind() == io::ErrorKind::NotFound { folder } else { None };
        Self::plain(missing.unwrap_or(path), cause.kind())
            .unwrap_or_else(|path| Self::Write { path, cause })
    }

    /// What says everything by its kind; the path for anything else.
    fn plain(path: &Path, kind: io::ErrorKind) -> Result<Self, PathBuf> {
        let path = path.to_owned();
        Ok(match kind {
            io::ErrorKind::NotFound => Self::Absent { path },
            io::ErrorKind::IsADirectory => Self::Folder { path },
            io::ErrorKind::NotADirectory => Self::NoFolder { path },
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                Self::Denied { path }
            }
            io::ErrorKind::AlreadyExists => Self::Exists { path },
            io::ErrorKind::StorageFull
            | io::ErrorKind::QuotaExceeded
            | io::ErrorKind::FileTooLarge => Self::Full { path },
            _ => return Err(path),
        })
    }
}

impl Coded for FileError {
    fn class(&self) -> Class {
        match self {
            Self::Full { .. } | Self::Read { .. } | Self::Write { .. } => Class::Fault,
            _ => Class::Refused,
        }
    }

    fn code(&self) -> &'static str {
        match self {
            Self::Absent { .. } => "mint.file.absent",
            Self::Folder { .. } => "mint.file.folder",
            Self::NoFolder { .. } => "mint.file.no-folder",
            Self::Denied { .. } => "mint.file.denied",
            Self::Exists { .. } => "mint.file.exists",
            Self::Full { .. } => "mint.file.full",
            Self::TooLarge { .. } => "mint.file.too-large",
            Self::Read { .. } => "mint.file.read",
            Self::Write { .. } => "mint.file.write",
            Self::Kind { .. } => "mint.file.kind",
            Self::Unfinished { .. } => "mint.file.unfinished",
            Self::Name { .. } => "mint.file.name",
            Self::Text { .. } => "mint.file.text",
            Self::Json { .. } => "mint.file.json",
        }
    }
}

/// Why an act was not done.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MintError {
    /// The words of the command contradict each other or lack something.
    #[error("the command cannot be carried out: {what}")]
    Usage {
        /// What to write instead.
        what: &'static str,
    },
    /// Standard output is gone.
    #[error("the output could not be written")]
    Output(#[source] io::Error),
    /// Something failed that no other code names.
    #[error("something failed that has no name of its own")]
    Unnamed,
    /// The operating system gives no random bytes.
    #[error("the operating system gives no random bytes")]
    Random,
    /// A seed is of another length.
    #[error("{} is no seed: it must have 32 bytes", .path.display())]
    Seed {
        /// As it was given.
        path: PathBuf,
    },
    /// A line of a file of public halves is none.
    #[error(
        "line {line} of {} is not PERSON=PUBLICKEY, as `key show` prints it",
        .path.display()
    )]
    HolderLine {
        /// As it was given.
        path: PathBuf,
        /// From 1.
        line: usize,
    },
    /// A file of public halves is empty.
    #[error("{} names nobody; write what `key show` printed into it", .path.display())]
    NoHolder {
        /// As it was given.
        path: PathBuf,
    },
    /// A root lacks something, or says it in no known way.
    #[error("the root is not understood: {what}")]
    RootForm {
        /// What.
        what: &'static str,
    },
    /// A root holds more than can be shown.
    #[error(
        "it says something that this program does not know and cannot show; nobody should sign it"
    )]
    RootUnshown,
    /// A role of a root names a key that the root does not hold.
    #[error("a role names a key that is not there")]
    RootRole,
    /// A root has expired at the time that it vouches for.
    #[error(
        "the time that it states is not before the time at which it expires; see --issued and --expires"
    )]
    RootTime,
    /// A key of a root stands under the id of another.
    #[error("a key stands under an id that is not its own; find out who wrote this")]
    RootKeyId,
    /// Somebody signs who is no officer.
    #[error("the key of {person} is no officer's of this root")]
    RootOfficer {
        /// Who holds the key.
        person: String,
    },
    /// A signature was made by nobody who may.
    #[error("a signature is of a key that is no officer's")]
    RootSigner,
    /// Copies of different drafts cannot be joined.
    #[error("these are signatures of different drafts; have all officers sign the same one")]
    RootDrafts,
    /// The officers compared something else.
    #[error("{} is not the draft that was compared; compare its words again", .path.display())]
    RootCompared {
        /// As it was given.
        path: PathBuf,
    },
    /// The root does not follow the one in the trust folder.
    #[error("the root that comes next in {} has version {expected}; draft it again", .path.display())]
    RootVersion {
        /// The trust folder.
        path: PathBuf,
        /// The version that it must have.
        expected: u64,
    },
    /// A first root was made before.
    #[error("{} holds a root already; rotate it", .path.display())]
    RootHeld {
        /// The trust folder.
        path: PathBuf,
    },
    /// No root was made yet.
    #[error("there is no root in {} yet; create it, or check --trust", .path.display())]
    RootAbsent {
        /// The trust folder.
        path: PathBuf,
    },
    /// A delegation that nobody could fulfil.
    #[error("{threshold} of {publishers} cannot sign; see --threshold")]
    Threshold {
        /// Publishers who must sign.
        threshold: u64,
        /// Those that there are, with their noun.
        publishers: String,
    },
    /// The releases of a delegation are no names.
    #[error(
        "a path is NAME/VERSION.json, or such a pattern, with the letters that names and versions of \
         releases have; this one would cover none"
    )]
    Pattern,
    /// No release has such a name.
    #[error(
        "--below takes NAME=COUNTER: a name has 1 to 64 of a-z 0-9 . _ - and begins with a letter or a digit"
    )]
    RevokedName,
    /// Nothing has a number below it.
    #[error(
        "--below takes NAME=COUNTER: the numbers of releases begin with 1, so a counter is 1 to 2^53 - 1"
    )]
    RevokedCounter,
    /// A key that is taken back as a publisher's speaks for another role.
    #[error(
        "this key is no publisher's, it holds the {role} role; the officers take it out with the next root"
    )]
    RevokedRole {
        /// The role in the root.
        role: &'static str,
    },
    /// A key that is taken back is another person's.
    #[error(
        "this key is not {person}'s, by what list and root say; see the names with `cloister-mint inspect`"
    )]
    RevokedPerson {
        /// As it was given.
        person: String,
    },
    /// A key that is taken back was never heard of.
    #[error(
        "neither list nor root names this key of {person}; compare it with its holder, and give --former \
         for one that was delegated to before"
    )]
    RevokedUnknown {
        /// As it was given.
        person: String,
    },
    /// The importer's list is not as this program writes it.
    #[error("targets.json has no {what}; restore the trust folder from its copy")]
    Targets {
        /// What is missing.
        what: &'static str,
    },
    /// The importer did nothing yet.
    #[error("there is no targets.json in {} yet; delegate or admit something first", .path.display())]
    TargetsAbsent {
        /// The trust folder.
        path: PathBuf,
    },
    /// Nobody who may sign is at hand.
    #[error(
        "none of the keys at hand holds the {role} role of {}; give the right one with --key",
        .path.display()
    )]
    Role {
        /// The trust folder.
        path: PathBuf,
        /// The role.
        role: String,
    },
    /// A request that would leave the whole release out.
    #[error("{} asks for nothing; write it again with `cloister inventory --needs`", .path.display())]
    RequestEmpty {
        /// As it was given.
        path: PathBuf,
    },
    /// A sealed volume is opened by its appliances alone.
    #[error(
        "{} is sealed, so only the appliances that it is for can read it; see it there with \
         `cloister import --inspect`, or use the volume as it was before `seal`",
        .path.display()
    )]
    Sealed {
        /// As it was given.
        path: PathBuf,
    },
    /// A volume is sealed once.
    #[error("{} is sealed already", .path.display())]
    SealedAlready {
        /// As it was given.
        path: PathBuf,
    },
    /// A volume that could never be imported is not sealed.
    #[error(
        "{} is not admitted: it brings no metadata that lists its release, and nothing can be put into \
         it once it is sealed; run `cloister-mint admit` with it first",
        .path.display()
    )]
    NotAdmitted {
        /// As it was given.
        path: PathBuf,
    },
    /// A volume without a release where one is needed.
    #[error(
        "{} brings trust metadata and no release; see it with `cloister-mint inspect`",
        .path.display()
    )]
    TrustAlone {
        /// As it was given.
        path: PathBuf,
    },
    /// A part of a volume is larger than an appliance takes.
    #[error("{member} is too large for a volume")]
    Member {
        /// The member's name.
        member: String,
    },
    /// A piece of evidence is not the one that the manifest names.
    #[error("an attestation has another digest than the manifest says; build the volume again")]
    Attestation,
    /// An appliance would refuse files of the release.
    #[error(
        "an appliance would refuse what {} holds; mend it (docs/runbooks/inspect.md), or give \
         --uninspected for appliances that take it",
        .path.display()
    )]
    Inspection {
        /// The release tree.
        path: PathBuf,
        /// What is refused, and why, one each.
        refused: Vec<String>,
    },
    /// A file of a release has a name that no release may have.
    #[error("{} cannot be part of a release: {rule}", .path.display())]
    ReleasePath {
        /// The file.
        path: PathBuf,
        /// The rule that it breaks.
        rule: cloister_bundle::PathRule,
    },
    /// A model's folder holds what nobody looked at.
    #[error("{} is not known as a part of a model; take it out", .path.display())]
    ModelFile {
        /// The file.
        path: PathBuf,
    },
    /// What is quantised already.
    #[error("a GGUF file is taken as it is; quantise the safetensors it came from")]
    ModelGguf,
    /// A GGUF file that nobody could talk to.
    #[error("the GGUF file carries no tokenizer")]
    ModelTokenizer,
    /// `config.json` lacks a field, or says what cannot be.
    #[error("config.json has no usable {field}")]
    ModelField {
        /// The field.
        field: String,
    },
    /// The model has something that GGUF has no word for.
    #[error("{what} cannot be said in GGUF; leave --quantise out")]
    ModelUnsaid {
        /// What.
        what: String,
    },
    /// The model has a tensor that is in no known architecture.
    #[error("the tensor {name} is not known; leave --quantise out")]
    ModelTensor {
        /// Its name.
        name: String,
    },
    /// An embedding model works in a way that this product does not.
    #[error("the embedding model cannot be used: {what}")]
    Embedding {
        /// What is not supported.
        what: String,
    },
}

impl Coded for MintError {
    fn class(&self) -> Class {
        match self {
            Self::Output(_) | Self::Unnamed | Self::Random => Class::Fault,
            _ => Class::Refused,
        }
    }

    fn code(&self) -> &'static str {
        match self {
            Self::Usage { .. } => "mint.usage",
            Self::Output(_) => "mint.output",
            Self::Unnamed => "mint.unnamed",
            Self::Random => "mint.random",
            Self::Seed { .. } => "mint.seed",
            Self::HolderLine { .. } => "mint.holder.line",
            Self::NoHolder { .. } => "mint.holder.none",
            Self::RootForm { .. } => "mint.root.form",
            Self::RootUnshown => "mint.root.unshown",
            Self::RootRole => "mint.root.role",
            Self::RootTime => "mint.root.time",
            Self::RootKeyId => "mint.root.key-id",
            Self::RootOfficer { .. } => "mint.root.officer",
            Self::RootSigner => "mint.root.signer",
            Self::RootDrafts => "mint.root.drafts",
            Self::RootCompared { .. } => "mint.root.compared",
            Self::RootVersion { .. } => "mint.root.version",
            Self::RootHeld { .. } => "mint.root.held",
            Self::RootAbsent { .. } => "mint.root.absent",
            Self::Threshold { .. } => "mint.delegation.threshold",
            Self::Pattern => "mint.delegation.path",
            Self::RevokedName => "mint.revoke.name",
            Self::RevokedCounter => "mint.revoke.counter",
            Self::RevokedRole { .. } => "mint.revoke.role",
            Self::RevokedPerson { .. } => "mint.revoke.person",
            Self::RevokedUnknown { .. } => "mint.revoke.unknown",
            Self::Targets { .. } => "mint.targets.form",
            Self::TargetsAbsent { .. } => "mint.targets.absent",
            Self::Role { .. } => "mint.role",
            Self::RequestEmpty { .. } => "mint.request.empty",
            Self::Sealed { .. } => "mint.volume.sealed",
            Self::SealedAlready { .. } => "mint.volume.sealed-already",
            Self::NotAdmitted { .. } => "mint.volume.not-admitted",
            Self::TrustAlone { .. } => "mint.volume.trust-alone",
            Self::Member { .. } => "mint.volume.member",
            Self::Attestation => "mint.volume.attestation",
            Self::Inspection { .. } => "mint.inspection",
            Self::ReleasePath { .. } => "mint.release.path",
            Self::ModelFile { .. } => "mint.model.file",
            Self::ModelGguf => "mint.model.gguf",
            Self::ModelTokenizer => "mint.model.tokenizer",
            Self::ModelField { .. } => "mint.model.field",
            Self::ModelUnsaid { .. } => "mint.model.unsaid",
            Self::ModelTensor { .. } => "mint.model.tensor",
            Self::Embedding { .. } => "mint.model.embedding",
        }
    }
}
