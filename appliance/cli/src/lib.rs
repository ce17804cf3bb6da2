//! The operator's command: what it says on the line, and one module for each noun.
//!
//! Every verb prints for people, and with `--json` one JSON object (`import` prints one a line).
//! Exit codes: 0 done, 1 failed, 2 usage, 4 needs approval, 5 verification failed, 7 refused.

mod approve;
mod ask;
mod consent;
mod corpus;
mod failure;
mod fit;
mod http;
mod import;
mod inventory;
mod keys;
mod medium;
mod mount;
mod new_folder;
mod proof;
mod queries;
mod receipt;
mod records;
mod review;
mod sheet;
mod shelf;
mod sign;
mod succeed;
mod supply;
mod trial;
mod witness;

use std::{io::Write, path::PathBuf};

use clap::{Parser, Subcommand};
use cloister_config::{Config, Role};
use cloister_daemon::Connection;
use cloister_domain::{GenerationId, ImportId};
use cloister_wire::Reply;
use serde::{Serialize, de::DeserializeOwned};

pub use approve::Approve;
pub use consent::{Acknowledge, Authorise};
pub use failure::Failure;
pub use proof::{Prove, VerifyProof};
pub use queries::{About, Changes};
pub use receipt::{ReceiptOf, VerifyReceipt};
pub use records::{RecordsVerb, Verify};
pub use sign::Signing;
pub use succeed::Succeed;
pub use trial::{Start, TrialVerb};
pub use witness::{Accept, Witness, WitnessKeyOf};

/// Run and keep current a private AI appliance.
#[derive(Debug, Parser)]
#[command(name = "cloister", version)]
pub struct Arguments {
    /// The configuration file.
    #[arg(long, global = true, value_name = "FILE", default_value = "/etc/cloister/cloister.toml")]
    pub config: PathBuf,
    /// Print JSON instead of text.
    #[arg(long, global = true)]
    pub json: bool,
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Enrol the trust root, once, from a file that did not come with the stick.
    Enrol {
        /// The TUF root file.
        root: PathBuf,
        /// The digest that the officers compared; without it, digest and words are shown.
        #[arg(long, value_name = "SHA256")]
        confirm: Option<String>,
    },
    /// Bring in a bundle: shows who signed what, then copies, verifies and evaluates it.
    Import {
        /// A volume, the folder of a mounted stick, or a device (one with a file system as root).
        path: PathBuf,
        /// Show what lies there, what its volumes say of themselves and whether they would be
        /// believed, and stop.
        #[arg(long, conflicts_with_all = ["dry_run", "into"])]
        inspect: bool,
        /// Check all that can be checked without copying, show what would be read, and stop.
        #[arg(long)]
        dry_run: bool,
        /// Take only volumes that this import waits for.
        #[arg(long, value_name = "IMPORT")]
        into: Option<u64>,
    },
    /// A stick's file system, mounted read-only for intaked; as root.
    #[command(subcommand)]
    Medium(MediumVerb),
    /// Write what the shelf holds to a file for the connected side, so that a thin bundle can leave
    /// it out; or what an import still needs.
    Inventory {
        /// The file to write; must be new.
        out: PathBuf,
        /// Write what this import needs that a thin bundle left out.
        #[arg(long, value_name = "IMPORT")]
        needs: Option<u64>,
    },
    /// Show what is active, what is retained, and how imports stand.
    Status,
    /// Give up an import that waits for volumes; what it brought so far is deleted.
    Discard {
        /// The import.
        id: u64,
    },
    /// Show what an approver must see before signing.
    Review {
        /// The import.
        id: u64,
        /// Write it as one page of HTML that prints, instead of text; must be new.
        #[arg(long, value_name = "FILE")]
        page: Option<PathBuf>,
    },
    /// Have a release judged again, whose policy changed or whose approvals expired; what was approved before is void.
    Evaluate {
        /// The import.
        id: u64,
    },
    /// Sign an approval with your own key, which stays with you.
    Approve(Approve),
    /// Try a release out on some people, or beside them.
    #[command(subcommand)]
    Trial(TrialVerb),
    /// Sign a leave to return to a release below its floor, once; so many approvers as a release needs
    /// must.
    Authorise(Authorise),
    /// Sign that the appliance may go on although its log was restored from an old copy.
    Acknowledge(Acknowledge),
    /// Let the machine's host key take the place of the log's, which is lost: sign that (--sign), or hand
    /// in what so many approvers signed as a release needs.
    Succeed(Succeed),
    /// Switch to an approved release.
    Activate {
        /// The import.
        id: u64,
    },
    /// Keep a release on the shelf whatever comes after it.
    Pin {
        /// The release.
        generation: GenerationId,
    },
    /// Let a release go that was pinned.
    Unpin {
        /// The release.
        generation: GenerationId,
    },
    /// Read every file of the shelf again, and take off what is damaged; it takes as long as reading does.
    Scrub,
    /// Remove releases from the shelf for which nothing speaks; `status` shows what speaks for each.
    Sweep {
        /// Only say what would go.
        #[arg(long)]
        dry_run: bool,
    },
    /// Bring back the state database after it was lost, from trust metadata, shelf and log.
    Rebuild,
    /// Return to the release that was active before.
    Rollback {
        /// Another retained release to return to.
        #[arg(long, value_name = "GENERATION")]
        to: Option<GenerationId>,
    },
    /// API keys.
    #[command(subcommand)]
    Key(KeyVerb),
    /// The facility's own documents.
    #[command(subcommand)]
    Corpus(CorpusVerb),
    /// Ask a question; the answer cites its sources.
    Ask {
        /// The question.
        question: String,
        /// File with an API key; default: the variable CLOISTER_KEY_FILE.
        #[arg(long, value_name = "FILE")]
        key: Option<PathBuf>,
        /// Search only these collections.
        #[arg(long, value_name = "NAME")]
        collection: Vec<String>,
    },
    /// The signed records.
    #[command(subcommand)]
    Records(Box<RecordsVerb>),
}

/// What to do with a stick's file system.
#[derive(Debug, Subcommand)]
pub enum MediumVerb {
    /// Make the device read-only and mount it; prints where.
    Open {
        /// The device, such as /dev/sdb1.
        device: PathBuf,
    },
    /// Let it go.
    Close {
        /// The device.
        device: PathBuf,
    },
}

/// What to do with API keys.
#[derive(Debug, Subcommand)]
pub enum KeyVerb {
    /// Make a key; its value is shown this once.
    Create {
        /// Who will use it.
        #[arg(long, value_name = "NAME")]
        principal: String,
        /// What its user may read; may be given several times.
        #[arg(long, value_name = "LABEL")]
        label: Vec<String>,
        /// Write the value to this new file (mode 0600) instead of the terminal.
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// List the keys.
    List,
    /// Withdraw a key.
    Revoke {
        /// The key's public name.
        id: String,
    },
}

/// What to do with documents.
#[derive(Debug, Subcommand)]
pub enum CorpusVerb {
    /// Take in every text file of a folder.
    Add {
        /// A folder, or one file.
        path: PathBuf,
        /// Who may read them.
        #[arg(long)]
        label: String,
        /// Where they belong.
        #[arg(long, default_value = cloister_wire::corpus::FACILITY_COLLECTION)]
        collection: String,
    },
    /// Delete a document: text, postings and vectors; prints the receipt.
    Delete {
        /// The document.
        id: String,
    },
    /// List documents that carry these labels.
    List {
        /// Labels to list for; may be given several times.
        #[arg(long, required = true)]
        label: Vec<String>,
    },
    /// Check that database, postings and vectors agree.
    Verify,
}

/// Does what the line says and prints to `out`.
///
/// # Errors
/// A [`Failure`] with the problem's code and the exit code.
pub fn run(arguments: Arguments, out: &mut dyn Write) -> Result<(), Failure> {
    let json = arguments.json;
    if let Verb::Records(verb) = &arguments.verb {
        return records::records(verb, &arguments.config, json, out);
    }
    let config = read_config(&arguments.config)?;
    match arguments.verb {
        Verb::Enrol { root, confirm } => {
            supply::enrol(&config, &root, confirm.as_deref(), json, out)
        }
        Verb::Import { path, inspect, dry_run, into } => {
            let into = into.map(ImportId);
            let act = match (inspect, dry_run) {
                (true, _) => import::Act::Inspect,
                (false, true) => import::Act::Check { into },
                (false, false) => import::Act::Import { into },
            };
            import::import(&config, &path, act, json, out)
        }
        Verb::Medium(MediumVerb::Open { device }) => {
            let folder = mount::open(&config, &device)?;
            say!(out, "{}", folder.display());
            Ok(())
        }
        Verb::Medium(MediumVerb::Close { device }) => mount::close(&config, &device),
        Verb::Inventory { out: file, needs } => match needs {
            Some(import) => inventory::needs(&config, ImportId(import), &file, json, out),
            None => inventory::inventory(&config, &file, json, out),
        },
        Verb::Status => supply::status(&config, json, out),
        Verb::Discard { id } => supply::discard(&config, ImportId(id), json, out),
        Verb::Evaluate { id } => supply::evaluate(&config, ImportId(id), json, out),
        Verb::Review { id, page } => {
            review::review(&config, ImportId(id), page.as_deref(), json, out)
        }
        Verb::Approve(said) => approve::approve(&config, &said, json, out),
        Verb::Trial(verb) => trial::trial(&config, verb, json, out),
        Verb::Authorise(said) => consent::authorise(&config, &said, json, out),
        Verb::Acknowledge(said) => consent::acknowledge(&config, &said, json, out),
        Verb::Succeed(said) => succeed::succeed(&config, &said, json, out),
        Verb::Activate { id } => supply::activate(&config, ImportId(id), json, out),
        Verb::Pin { generation } => shelf::pin(&config, generation, true, json, out),
        Verb::Unpin { generation } => shelf::pin(&config, generation, false, json, out),
        Verb::Scrub => shelf::scrub(&config, json, out),
        Verb::Sweep { dry_run } => shelf::sweep(&config, dry_run, json, out),
        Verb::Rebuild => shelf::rebuild(&config, json, out),
        Verb::Rollback { to } => supply::rollback(&config, to, json, out),
        Verb::Key(verb) => keys::keys(&config, verb, json, out),
        Verb::Corpus(verb) => corpus::corpus(&config, verb, json, out),
        Verb::Ask { question, key, collection } => {
            ask::ask(&config, &question, key.as_deref(), &collection, json, out)
        }
        Verb::Records(_) => unreachable!("answered above; most need no configuration"),
    }
}

/// Asks a daemon one thing.
fn ask_daemon<Question: Serialize, Answer: DeserializeOwned>(
    config: &Config,
    role: Role,
    question: &Question,
) -> Result<Answer, Failure> {
    let connection =
        Connection::connect(&config.paths.socket(role)).map_err(|error| Failure::of(&error))?;
    let reply: Reply<Answer> = connection.ask(question).map_err(|error| Failure::of(&error))?;
    reply.map_err(Failure::from)
}

/// Reads a file that the line names; a failure names it too, on the terminal of whoever wrote the line.
fn read(path: &std::path::Path, bytes_max: u64, what: &str) -> Result<Vec<u8>, Failure> {
    cloister_daemon::files::read_limited(path, bytes_max)
        .map_err(|error| Failure::usage(&format!("{}: {error}: {what}", path.display())))
}

fn read_config(path: &std::path::Path) -> Result<Config, Failure> {
    let bytes = read(path, 1 << 20, "the configuration; give its file with --config")?;
    let text = String::from_utf8(bytes)
        .map_err(|_content| Failure::usage("the configuration file is not UTF-8"))?;
    Config::parse(&text).map_err(|error| Failure::of(&error))
}

/// Prints `value` as one line of JSON.
fn print_json(value: &impl Serialize, out: &mut dyn Write) -> Result<(), Failure> {
    let text = serde_json::to_string(value).map_err(|_detail| Failure::output())?;
    writeln!(out, "{text}").map_err(|_detail| Failure::output())
}

/// Writes one line for a person.
macro_rules! say {
    ($out:expr, $($what:tt)*) => {
        writeln!($out, $($what)*).map_err(|_detail| $crate::Failure::output())?
    };
}
use say;
