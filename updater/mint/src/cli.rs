//! The words of `cloister-mint`.

mod importer;
mod root;

use std::{
    io::{self, Write},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, ensure};
use clap::{Args, Parser, Subcommand, ValueEnum};
use cloister_attest::{Algorithm, PublicKey, Signer};
use cloister_bundle::receipt::{ContentIds, RECEIPT_BYTES_MAX, read_receipt};
use cloister_domain::{ByteCount, Principal, Secret, counted};
use cloister_sealed::Recipient;
use cloister_signer::{Passphrases, Spec as Key};
use cloister_verify::{Instant, InstantError};

use crate::{
    build::{Package, Part, Spec, VOLUME_BYTES, plan},
    ceremony::compared,
    error::MintError,
    files, inspect, judge,
    keys::{self, Guard, Holders},
    prepare::{Order, prepare},
    seal,
    volume::Volume,
};

/// Bytes from which a key is derived.
const SEED_BYTES: u64 = 32;

/// Metadata expires then unless another time is given. No appliance reads a clock: expiry counts
/// only against times that are proven to have passed.
const EXPIRES: &str = "2036-01-01T00:00:00Z";

/// What the page of help ends with.
const EXIT_STATUS: &str = "Exit status: 0 done, 1 the machine failed, 2 the command line is wrong, \
                           5 stored bytes are damaged, 7 refused.\n\
                           A failure is one line on standard error that ends with its code in brackets.";

/// Makes keys, trust roots and signed volumes on the connected side.
#[derive(Debug, Parser)]
#[command(name = "cloister-mint", version, after_help = EXIT_STATUS)]
pub struct Arguments {
    /// A file with one passphrase or PIN a line, in the order in which keys ask, instead of the terminal;
    /// /dev/fd/3 reads descriptor 3.
    #[arg(long, global = true, value_name = "FILE")]
    passphrase_file: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Keys of persons.
    #[command(subcommand)]
    Key(KeyCommand),
    /// The trust root: who holds which role.
    #[command(subcommand)]
    Root(root::Command),
    #[command(flatten)]
    Importer(importer::Command),
    /// As a publisher: lay models out in a release tree.
    Prepare(Prepare),
    /// As a publisher: make signed volumes from a release tree.
    Build(Box<Build>),
    /// As a publisher: count what a build would carry, to an appliance that holds much already.
    Plan {
        /// The release tree.
        tree: PathBuf,
        #[command(flatten)]
        thin: Thin,
    },
    /// For an appliance: make the key that opens volumes sealed for it, and print whom to seal for.
    Unsealing {
        /// The identity file to write (mode 0600).
        #[arg(long)]
        out: PathBuf,
    },
    /// Seal volumes so that only their appliances can read them: the last step, since nothing of a
    /// sealed volume can be changed any more.
    Seal {
        /// Whom to seal for (an age recipient); may be given several times.
        #[arg(long = "to", value_name = "RECIPIENT", required = true)]
        recipients: Vec<Recipient>,
        /// The volumes.
        #[arg(required = true)]
        volumes: Vec<PathBuf>,
    },
    /// Show what a volume says of itself; no key is needed and no signature is checked.
    Inspect {
        /// The volume.
        volume: PathBuf,
        /// Read the payload too and compare every digest.
        #[arg(long)]
        chunks: bool,
    },
}

#[derive(Debug, Subcommand)]
enum KeyCommand {
    /// Make a key file (mode 0600) and print its public half.
    Create {
        /// The key file to write.
        #[arg(long)]
        out: PathBuf,
        /// Who holds the key.
        #[arg(long)]
        person: Principal,
        /// ed25519, ml-dsa-65 or ml-dsa-87.
        #[arg(long, default_value = "ed25519", value_parser = algorithm)]
        algorithm: Algorithm,
        /// A file of 32 bytes to derive the key from, instead of random bytes.
        #[arg(long)]
        seed_file: Option<PathBuf>,
        /// What keeps the file from whoever finds it.
        #[arg(long, value_enum, default_value_t = Protection::Mode)]
        protect: Protection,
        /// The TPM to seal with, as systemd-creds(1) names it.
        #[arg(long)]
        tpm_device: Option<String>,
    },
    /// Print the public half of a key.
    Show {
        /// The key: PATH, tpm:PATH, credential:NAME or pkcs11:…
        key: Key,
    },
    /// Print public halves as `root show` prints them, for their holders to compare.
    Id {
        /// The holders: PERSON=PUBLICKEY, or @FILE.
        #[arg(required = true)]
        holders: Vec<Holders>,
    },
    /// Write a copy of a key file under a passphrase or a TPM's seal.
    Protect {
        /// The key file.
        key: PathBuf,
        /// The key file to write.
        #[arg(long)]
        out: PathBuf,
        /// What keeps the new file from whoever finds it.
        #[arg(long, value_enum, default_value_t = Protection::Passphrase)]
        protect: Protection,
        /// The TPM to seal with, as systemd-creds(1) names it.
        #[arg(long)]
        tpm_device: Option<String>,
    },
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Protection {
    /// Nothing but its mode, 0600.
    Mode,
    /// A passphrase, asked for.
    Passphrase,
    /// This machine's TPM.
    Tpm,
}

impl Protection {
    fn guard(self, tpm_device: Option<String>) -> Guard {
        match self {
            Self::Mode => Guard::Mode,
            Self::Passphrase => Guard::Passphrase,
            Self::Tpm => Guard::Tpm(tpm_device),
        }
    }
}

/// A time as the files write it; looked at before anybody is asked for a passphrase.
fn time(word: &str) -> Result<String, InstantError> {
    word.parse().map(|time: Instant| time.into())
}

fn algorithm(word: &str) -> Result<Algorithm> {
    Algorithm::of_word(word).context("the algorithms are ed25519, ml-dsa-65 and ml-dsa-87")
}

#[derive(Debug, Args)]
struct Prepare {
    /// The release tree; its folders model, embed and provenance are written.
    #[arg(long)]
    tree: PathBuf,
    /// A language model: a Hugging Face folder, or a GGUF file.
    #[arg(long)]
    model: PathBuf,
    /// Write the matrices in blocks of 8 bits.
    #[arg(long)]
    quantise: Option<Quantised>,
    /// The message format, where the model brings none: template.json, or a Jinja file.
    #[arg(long)]
    template: Option<PathBuf>,
    /// A sentence embedding model: a Hugging Face folder.
    #[arg(long)]
    embedding: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Quantised {
    /// 32 signed bytes and a scale.
    #[value(name = "q8_0")]
    Q8_0,
}

#[derive(Debug, Args)]
struct Build {
    /// The release tree.
    tree: PathBuf,
    /// Name of the release.
    #[arg(long)]
    name: String,
    /// Its version.
    #[arg(long)]
    version: String,
    /// Its number; greater than that of any release before.
    #[arg(long)]
    counter: u64,
    /// The least number that may be activated once this release was.
    #[arg(long, default_value_t = 1)]
    min_counter: u64,
    /// Memory of an accelerator that the model needs, in bytes.
    #[arg(long, default_value_t = 0)]
    vram_bytes: u64,
    /// An ability of the engine that the release needs, such as `llama` or `q8_0`.
    #[arg(long = "feature")]
    features: Vec<String>,
    /// The least version of the appliance that the release needs, such as 0.2.0.
    #[arg(long)]
    runtime_min: Option<String>,
    /// Evidence that travels with the release: the URI of what it claims, `=`, and its file.
    #[arg(long = "attest", value_name = "URI=FILE")]
    attestations: Vec<String>,
    /// A licence, as SPDX expression.
    #[arg(long = "licence", required = true)]
    licences: Vec<String>,
    /// Memory that the release needs, in bytes.
    #[arg(long, default_value_t = 0)]
    ram_bytes: u64,
    /// Key of a publisher.
    #[arg(long, required = true)]
    key: Vec<Key>,
    /// The folder for the volumes.
    #[arg(long)]
    out: PathBuf,
    /// The largest volume, in bytes.
    #[arg(long, default_value_t = VOLUME_BYTES)]
    volume_bytes: u64,
    /// Sign files too that an appliance of this version refuses.
    #[arg(long)]
    uninspected: bool,
    #[command(flatten)]
    thin: Thin,
}

/// Which chunks a volume carries.
#[derive(Debug, Args)]
struct Thin {
    /// Leave out what the appliance of this receipt holds (`cloister inventory`).
    #[arg(
        long = "thin",
        visible_alias = "inventory",
        value_name = "RECEIPT",
        requires = "host_key"
    )]
    receipt: Option<PathBuf>,
    /// The appliance's host key, in hexadecimal, by another way than the receipt.
    #[arg(long, value_name = "HEX")]
    host_key: Option<String>,
    /// Carry only what this request of an import asks for (`cloister inventory --needs`).
    #[arg(long, value_name = "REQUEST", conflicts_with = "receipt")]
    request: Option<PathBuf>,
}

impl Thin {
    /// What is to be carried; says what the receipt says of the appliance.
    fn part(&self, out: &mut dyn Write) -> Result<Part> {
        let read = |path: &PathBuf| files::read_limited(path, RECEIPT_BYTES_MAX);
        let shown = |path: &PathBuf| path.display().to_string();
        Ok(match (&self.receipt, &self.host_key, &self.request) {
            (Some(receipt), Some(host), _) => {
                let host = PublicKey::from_hex(host).context("the host key is not one")?;
                let said = read_receipt(&read(receipt)?, &host).with_context(|| shown(receipt))?;
                if let Some(reached) = &said.reached {
                    writeln!(out, "appliance   {reached}")?;
                }
                Part::NotHeld(said.held)
            }
            (_, _, Some(request)) => {
                let wanted = ContentIds::parse(&read(request)?).with_context(|| shown(request))?;
                let some = !wanted.as_slice().is_empty();
                ensure!(some, MintError::RequestEmpty { path: request.clone() });
                Part::Requested(wanted)
            }
            _ => Part::Whole,
        })
    }
}

/// Does what the command line asks and writes what happened to `out`.
///
/// # Errors
/// What went wrong, for a person.
pub fn run(arguments: Arguments, out: &mut dyn Write) -> Result<()> {
    let out: &mut dyn Write = &mut Output(out);
    let file = arguments.passphrase_file.as_deref();
    let lines = Passphrases::from_file_or_terminal(file);
    let ask = &mut keys::read(file.unwrap_or(Path::new("/dev/tty")), lines)?;
    match arguments.command {
        Command::Key(command) => key_command(command, ask, out)?,
        Command::Root(command) => root::run(command, ask, out)?,
        Command::Prepare(Prepare { tree, model, quantise, template, embedding }) => {
            let quantise = matches!(quantise, Some(Quantised::Q8_0));
            let order = Order { model, quantise, template, embedding };
            let prepared = prepare(&tree, &order)?;
            for name in prepared.passed_over {
                writeln!(out, "passed over {name}")?;
            }
            if let Some(name) = prepared.chosen_format {
                writeln!(
                    out,
                    "the model brings no chat template: its messages are written as {name}; \
                     give another format with --template"
                )?;
            }
        }
        Command::Build(build) => make_volumes(*build, ask, out)?,
        Command::Importer(command) => importer::run(command, ask, out)?,
        Command::Plan { tree, thin } => {
            let outlook = plan(&tree, &thin.part(out)?)?;
            let (all, carried) = (ByteCount(outlook.bytes), ByteCount(outlook.carried_bytes));
            writeln!(out, "release     {}, {all}", counted(outlook.chunks, "chunk"))?;
            writeln!(out, "carried     {}, {carried}", counted(outlook.carried_chunks, "chunk"))?;
        }
        Command::Unsealing { out: path } => {
            writeln!(out, "{}", seal::create_identity(&path)?)?;
        }
        Command::Seal { recipients, volumes } => {
            volumes.iter().try_for_each(|path| seal::sealable(path))?;
            for path in &volumes {
                seal::volume(path, &recipients)?;
                writeln!(out, "sealed {}", path.display())?;
            }
        }
        Command::Inspect { volume, chunks } => inspect::inspect(&volume, chunks, out)?,
    }
    Ok(())
}

fn key_command(command: KeyCommand, ask: &mut Passphrases, out: &mut dyn Write) -> Result<()> {
    match command {
        KeyCommand::Create { out: path, person, algorithm, seed_file, protect, tpm_device } => {
            let seed = match seed_file {
                Some(file) => {
                    let seed = files::read_limited(&file, SEED_BYTES)?;
                    let whole = seed.len() as u64 == SEED_BYTES;
                    ensure!(whole, MintError::Seed { path: file });
                    Some(Secret::new(seed))
                }
                None => None,
            };
            let guard = protect.guard(tpm_device);
            writeln!(out, "{}", keys::create(&path, &person, algorithm, seed, &guard, ask)?)?;
        }
        KeyCommand::Show { key } => {
            writeln!(out, "{}", keys::holder(&keys::open(&key, ask)?))?;
        }
        KeyCommand::Id { holders } => {
            for holder in keys::all(holders)? {
                writeln!(out, "{}", compared(&holder))?;
            }
        }
        KeyCommand::Protect { key, out: path, protect, tpm_device } => {
            keys::protect(&key, &path, &protect.guard(tpm_device), ask)?;
            writeln!(out, "wrote {}; destroy {} when it opens", path.display(), key.display())?;
        }
    }
    Ok(())
}

fn make_volumes(build: Build, ask: &mut Passphrases, out: &mut dyn Write) -> Result<()> {
    let publishers = open_all(&build.key, ask)?;
    let part = build.thin.part(out)?;
    let spec = Spec {
        name: build.name,
        version: build.version,
        counter: build.counter,
        min_counter: build.min_counter,
        licences: build.licences,
        ram_bytes: build.ram_bytes,
        vram_bytes: build.vram_bytes,
        features: build.features,
        runtime_min: build.runtime_min,
        attestations: build
            .attestations
            .iter()
            .map(|order| evidence(order))
            .collect::<Result<_>>()?,
    };
    spec.check()?;
    if !build.uninspected {
        judge::release(&build.tree, &spec.attestations)?;
    }
    let _folder = files::Folder::at(&build.out)?;
    let mut package = Package::build(&build.tree, &spec, &publishers, &build.out)?;
    let empty = cloister_bundle::container::archive([])?;
    let volumes = package.write_part(&build.out, &empty, build.volume_bytes, &part)?;
    writeln!(out, "generation  {}", package.manifest().generation())?;
    for path in volumes {
        writeln!(out, "volume      {}", path.display())?;
    }
    Ok(())
}

/// A piece of evidence as it was ordered: what it claims, and its bytes.
fn evidence(order: &str) -> Result<(String, Vec<u8>)> {
    let (claim, path) =
        order.rsplit_once('=').ok_or(MintError::Usage { what: "--attest takes URI=FILE" })?;
    let most = cloister_bundle::limits::ATTESTATION_BYTES_MAX;
    Ok((claim.to_owned(), files::read_limited(Path::new(path), most)?))
}

/// Where a command says what it did; a failure is told from those of files.
struct Output<'a>(&'a mut dyn Write);

impl Write for Output<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes).map_err(lost)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush().map_err(lost)
    }
}

fn lost(cause: io::Error) -> io::Error {
    io::Error::new(cause.kind(), MintError::Output(cause))
}

/// Refuses volumes that cannot be opened, before anything else is done for them.
fn check_volumes(volumes: &[PathBuf]) -> Result<()> {
    volumes.iter().try_for_each(|path| Volume::open(path).map(drop))
}

fn open_all(specs: &[Key], ask: &mut Passphrases) -> Result<Vec<Box<dyn Signer>>> {
    specs.iter().map(|spec| Ok(keys::open(spec, ask)?.signer)).collect()
}
