//! The sections and keys: names, defaults, bounds and reasons, from which both the reader and the
//! reference page are made.

use std::path::PathBuf;

use cloister_domain::{ByteCount, TokenCount};
use core::net::SocketAddr;

use crate::{
    ConfigError, Device, Level, Role,
    setting::{Bounds, MOST, Operator, Setting, User},
};

/// A section as the reference page shows it.
pub(crate) struct SectionInfo {
    pub(crate) name: &'static str,
    /// Lines of its doc comment.
    pub(crate) about: &'static [&'static str],
    pub(crate) keys: &'static [KeyInfo],
}

/// A key as the reference page shows it.
pub(crate) struct KeyInfo {
    pub(crate) name: &'static str,
    /// The default as TOML.
    pub(crate) default: &'static str,
    /// What it takes, in words.
    pub(crate) wanted: fn() -> String,
    /// Lines of its doc comment.
    pub(crate) about: &'static [&'static str],
}

/// Makes a section: its struct, its reader and its rows of the reference page.
///
/// `name: Type = "default as TOML"` with `in range` where the kind of value takes bounds.
macro_rules! sections {
    ($(
        $(#[doc = $about:literal])+
        $section:ident in $name:literal {
            $($(#[doc = $key_about:literal])+ $key:ident: $kind:ty = $default:literal $(in $range:expr)?;)+
        }
    )+) => {
        /// All sections, in the order of the reference page.
        pub(crate) const SECTIONS: &[SectionInfo] = &[$(
            SectionInfo {
                name: $name,
                about: &[$($about),+],
                keys: &[$(KeyInfo {
                    name: stringify!($key),
                    default: $default,
                    wanted: || <$kind as Setting>::wanted(&range!($($range)?)),
                    about: &[$($key_about),+],
                }),+],
            },
        )+];

        $(
            $(#[doc = $about])+
            #[derive(Clone, Debug, PartialEq, Eq)]
            #[non_exhaustive]
            pub struct $section {
                $($(#[doc = $key_about])+ #[doc = ""] #[doc = concat!("Default: `", $default, "`.")] pub $key: $kind,)+
            }

            impl $section {
                /// Takes the section out of `document`.
                pub(crate) fn take(document: &mut toml::Table) -> Result<Self, ConfigError> {
                    let mut section = match document.remove($name) {
                        None => toml::Table::new(),
                        Some(toml::Value::Table(section)) => section,
                        Some(_other) => return Err(ConfigError::NotASection { name: $name }),
                    };
                    let this = Self {
                        $($key: value(&mut section, $name, stringify!($key), $default, &range!($($range)?))?,)+
                    };
                    match section.keys().next() {
                        None => Ok(this),
                        Some(key) => {
                            let known = [$(stringify!($key)),+];
                            Err(ConfigError::unknown_key($name, key, known.into_iter()))
                        }
                    }
                }
            }
        )+
    };
}

macro_rules! range {
    () => {
        ()
    };
    ($range:expr) => {
        $range
    };
}

/// The value of a key, or its default.
fn value<T: Setting>(
    section: &mut toml::Table,
    section_name: &'static str,
    key: &'static str,
    default: &'static str,
    range: &T::Range,
) -> Result<T, ConfigError> {
    match section.remove(key) {
        Some(value) => T::read(&value, range).ok_or_else(|| ConfigError::Value {
            section: section_name,
            key,
            wanted: T::wanted(range),
        }),
        None => {
            let value = default_value(default);
            Ok(T::read(&value, range).expect("a test reads every default"))
        }
    }
}

/// A default, written in this file as TOML.
fn default_value(default: &'static str) -> toml::Value {
    let mut table: toml::Table =
        format!("default = {default}").parse().expect("a test reads every default");
    table.remove("default").expect("the line above names it")
}

/// Any number that TOML can write.
const ANY: Bounds = (0, MOST);

sections! {
    /// Where state and sockets lie. Daemons of one appliance share both folders.
    Paths in "paths" {
        /// Folder of all that lasts: log, trust, quarantine, shelf, documents, API keys. The place that
        /// the Filesystem Hierarchy Standard gives to such state. One file system must hold all of it,
        /// since files move from quarantine to the shelf by rename.
        state: PathBuf = "\"/var/lib/cloister\"";
        /// Folder of the daemons' sockets. A path of a Unix socket is at most 107 bytes, so it is short.
        runtime: PathBuf = "\"/run/cloister\"";
    }

    /// The HTTP edge.
    Gateway in "gateway" {
        /// Where the API listens. Loopback only: what comes from other machines ends at a proxy that the
        /// facility runs, since the appliance speaks no TLS here.
        listen: SocketAddr = "\"127.0.0.1:8000\"";
        /// Largest request body. A conversation that fills the longest context is far below it.
        body_bytes_max: ByteCount = "8388608" in (1024, 33_554_432);
        /// Most requests that are being answered at a time; more are told when to come back.
        requests_max: u32 = "64" in (1, 4096);
        /// Seconds that one answer may take; then it is cut off, and a canary's counts as a failure.
        answer_s: u32 = "600" in (1, 86_400);
        /// Fewest characters of an API key whose value is given and not drawn. A drawn one has 64.
        key_characters_min: u32 = "16" in (1, 512);
    }

    /// The language model's processes, one for each slot.
    Engine in "engine" {
        /// Where the products run. `auto` takes a CUDA device if the binary knows CUDA and one is there.
        device: Device = "\"auto\"";
        /// Whether an engine that was told `cuda` may use the CPU when there is no device. Off, it refuses
        /// to start: a machine that lost its GPU should be seen, not be slow.
        cpu_fallback: bool = "false";
        /// Threads for the products; 0 is one for each core that the process may use.
        threads: u32 = "0" in (0, 1024);
        /// Longest prompt and answer together. Bounded by the model's own context too; memory for the KV
        /// cache grows with it.
        context_tokens_max: TokenCount = "4096" in (64, 1_048_576);
        /// Conversations that one engine answers at a time; more wait or are refused.
        sequences_max: u32 = "16" in (1, 1024);
    }

    /// Imports, approvals and activation.
    Update in "update" {
        /// Persons who must approve a release, at least. The signed trust metadata may ask for more, never
        /// for fewer. Two, so that no one person can change what everybody is answered by.
        approvals_needed_min: u32 = "2" in (2, 16);
        /// Records after which an approval has expired: so many acts may lie between the moment at which a
        /// release was shown to a person and the moment at which it is activated.
        approval_records_max: u32 = "1000" in (1, 1_000_000);
        /// Former releases that stay on the shelf to be returned to, the last ones that were active. What is
        /// pinned stays beside them.
        retained_max: u32 = "4" in (1, 1000);
        /// Hours of uptime after which every object of the shelf is read again: a week. 0 turns that off;
        /// `cloister scrub` does it at once.
        scrub_hours: u32 = "168" in (0, 100_000);
        /// Pace of that reading in bytes a second: 64 MiB, so that a slow disk has room for others.
        scrub_bytes_per_s: ByteCount = "67108864" in (1_048_576, MOST);
        /// The persons behind the users of this machine, `USER=PERSON`. Who operated the import of a
        /// release does not count as its approver. A user who is not listed counts as the person of the
        /// same name.
        operators: Vec<Operator> = "[]";
        /// Largest release after unpacking; 2 TiB holds the largest open models several times.
        import_bytes_max: ByteCount = "2199023255552" in ANY;
        /// Free space that an import must leave, so that log and database can go on: 1 GiB.
        reserve_bytes: ByteCount = "1073741824" in ANY;
        /// Space that a file holds in the state folder, so that a rollback and a refusal can be noted when the
        /// disk is full: 8 MiB. It is given up then, and held again when there is room. 0 holds none.
        full_disk_bytes: ByteCount = "8388608" in ANY;
        /// Licences that a release may have, as SPDX names such as `Apache-2.0` or `LicenseRef-x`. Each of
        /// its expressions must be met by them. The empty list allows every licence.
        licences_allowed: Vec<String> = "[]";
        /// Evidence without which no release is taken: `sbom`, `sbom-cyclonedx`, `sbom-spdx`,
        /// `slsa-provenance`, or the URI of a predicate type.
        attestations_required: Vec<String> = "[]";
        /// Command line of a scanner that looks at each file of a release after its inspection. The number
        /// of a descriptor that reads the file is added as its last word. It ends with 0 for clean, with 1
        /// for a finding, and with anything else when it came to no verdict. Empty: no scanner.
        scanner: Vec<String> = "[]";
        /// Largest file that the scanner is given: 100 MiB, what clamscan looks at unless it is told
        /// otherwise. A larger one is recorded as not scanned.
        scanner_bytes_max: ByteCount = "104857600" in ANY;
        /// Address space of the scanner: 4 GiB. The signatures of ClamAV alone take more than one.
        scanner_memory_bytes: ByteCount = "4294967296" in (16_777_216, MOST);
        /// Seconds that the scanner may take for one file.
        scanner_s: u32 = "300" in (1, 86_400);
        /// File with the age identity (C2SP age, X25519) that opens volumes sealed for this appliance,
        /// readable by intaked alone. Empty: the systemd credential `age-identity` if there is one,
        /// else sealed volumes are refused.
        unsealing_key: Option<PathBuf> = "\"\"";
        /// Seconds after an activation in which an engine that fails takes the appliance back to the
        /// generation before; older releases that it forbids are forbidden from then on. It lasts longer while
        /// nothing answers, and begins anew when updaterd is started before its end. 0 turns that off.
        probation_s: u32 = "60" in (0, 86_400);
        /// Seconds in a row that an engine may not answer for a release in its probation or on trial, before
        /// the one before is active again or the trial ends: longer than an engine takes to start.
        engine_away_s: u32 = "20" in (1, 3600);
        /// Seconds that an engine may take for one token of a release that was just switched to, and for one that
        /// it is asked for in the probation; then the one before is active again. Longer than the first token
        /// takes after the weights have left the memory. An engine that has no place free is given half of it,
        /// and then has the other half to show that it works.
        probe_s: u32 = "60" in (1, 900);
        /// Seconds that a canary or a shadow lasts at most: a week.
        trial_s_max: u32 = "604800" in (1, 31_536_000);
        /// Answers of a release on trial that may fail through the appliance's own fault; one more ends the
        /// trial.
        trial_failures_max: u32 = "2" in (0, 1_000_000);
        /// Whether a release without an evaluation set is refused. Off, it is judged by whether it loads,
        /// scores with finite numbers and completes a sentence, and the record says so.
        evaluation_required: bool = "true";
        /// How much worse than the active release a candidate may be on held-out text, in thousandths of
        /// its bits per byte, whatever its publisher allows.
        heldout_worse_permille_max: u32 = "100" in (0, 1_000_000);
        /// How many fewer golden questions than the active release a candidate may answer, in thousandths
        /// of what the active one answers, whatever its publisher allows.
        golden_fewer_permille_max: u32 = "200" in (0, 1000);
        /// Golden questions of a release, in thousandths, that must be answered as expected, whatever its
        /// publisher asks for.
        golden_passed_permille_min: u32 = "0" in (0, 1000);
        /// Least speed of writing on this machine, in thousandths of a token a second; 0 asks for nothing.
        decode_millitokens_per_s_min: u32 = "0" in (0, 1_000_000_000);
        /// How much slower than the active release a candidate may write on this machine, in thousandths of
        /// its speed, whatever its publisher allows; 1000 asks for nothing: a larger model may be meant.
        decode_slower_permille_max: u32 = "1000" in (0, 1000);
        /// How much more memory than the active release a candidate may take, in thousandths of what that
        /// one takes, whatever its publisher allows; what does not fit the machine is refused before.
        peak_memory_more_permille_max: u32 = "1000000" in (0, 1_000_000);
    }

    /// The facility's documents.
    Corpus in "corpus" {
        /// Largest document as text: 8 MiB, which is more than the longest novels.
        document_bytes_max: ByteCount = "8388608" in (1, 16_777_216);
    }

    /// The log of signed records.
    Record in "record" {
        /// The log's name in its checkpoints (C2SP tlog-checkpoint, origin line). Name enclave and machine,
        /// such as `hospital-north/appliance-1`, before the first start: no two appliances share one, since
        /// what persons sign says by it which appliance is meant, and a log never changes it. The package's
        /// own file leaves it empty, and nothing starts with an empty one. The default is for trying out: where
        /// the daemons run as different users, no log is begun with it.
        origin: String = "\"enclave/appliance\"";
        /// File with the host key's seed (32 bytes), readable by recordd alone. Empty: the systemd
        /// credential `host-key` if there is one, else `record/host.key` in the state folder, made at
        /// the first start with mode 0600.
        key: Option<PathBuf> = "\"\"";
        /// Verifier keys of the witnesses whose cosignatures the log keeps, as `cloister records
        /// witness-key` prints them (C2SP tlog-cosignature, type 4). What others signed is refused.
        witnesses: Vec<String> = "[]";
        /// Space that a file holds in the log's folder, so that a record can be written when the disk is full:
        /// 8 MiB. It is given up then, and held again when there is room. 0 holds none.
        full_disk_bytes: ByteCount = "8388608" in ANY;
    }

    /// What the journal is told. Content of prompts, answers and documents is withheld at every level.
    Log in "log" {
        /// The least severe events that are logged. Other people's crates are never heard below `warn`.
        level: Level = "\"info\"";
    }

    /// Which users may connect to which daemon (SO_PEERCRED). An empty list admits the daemon's own user;
    /// root is always admitted.
    Peers in "peers" {
        /// Users of the daemons that write records.
        recordd: Vec<User> = "[]";
        /// Users of the operators who import.
        intaked: Vec<User> = "[]";
        /// User of intaked.
        updaterd: Vec<User> = "[]";
        /// User of updaterd.
        inspectd: Vec<User> = "[]";
        /// User of updaterd.
        scand: Vec<User> = "[]";
        /// Users of updaterd, corpusd and gatewayd.
        engined: Vec<User> = "[]";
        /// Users of updaterd and gatewayd.
        corpusd: Vec<User> = "[]";
        /// Users of the operators who make API keys.
        gatewayd: Vec<User> = "[]";
    }

    /// Which further users may ask a daemon what an operator asks, and nothing that only the appliance's own
    /// daemons may: a person does not write records, does not hand an import over in somebody else's
    /// name, and does not search documents with other labels than their own.
    Operators in "operators" {
        /// Users of the operators and auditors who read the records and export them.
        recordd: Vec<User> = "[]";
        /// Users of the operators who import, approve, switch and return.
        updaterd: Vec<User> = "[]";
        /// Users of the operators who add and delete documents.
        corpusd: Vec<User> = "[]";
    }
}

impl Peers {
    /// The users that may connect to `role`'s socket; empty is the daemon's own.
    #[must_use]
    pub fn of(&self, role: Role) -> &[User] {
        match role {
            Role::Recordd => &self.recordd,
            Role::Intaked => &self.intaked,
            Role::Updaterd => &self.updaterd,
            Role::Inspectd => &self.inspectd,
            Role::Scand => &self.scand,
            Role::Engined => &self.engined,
            Role::Corpusd => &self.corpusd,
            Role::Gatewayd => &self.gatewayd,
        }
    }
}

impl Operators {
    /// The further users that may ask `role`.
    #[must_use]
    pub fn of(&self, role: Role) -> &[User] {
        match role {
            Role::Recordd => &self.recordd,
            Role::Updaterd => &self.updaterd,
            Role::Corpusd => &self.corpusd,
            Role::Intaked | Role::Inspectd | Role::Scand | Role::Engined | Role::Gatewayd => &[],
        }
    }
}
