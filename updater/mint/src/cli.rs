//! The words of `cloister-mint`.

use std::{io::Write, path::PathBuf};

use anyhow::{Context as _, Result};
use clap::{Args, Parser, Subcommand, ValueEnum};
use cloister_attest::SigningKey;
use cloister_domain::{Principal, Secret};

use crate::{
    build::{Package, Spec, VOLUME_BYTES},
    files, inspect,
    keys::{self, Holder},
    prepare::{Order, prepare},
    trust::{Folder, Roles},
    volume::{Volume, replace_meta},
};

/// Metadata expires then unless another time is given. No appliance reads a clock: expiry counts
/// only against times that are proven to have passed.
const EXPIRES: &str = "2036-01-01T00:00:00Z";

/// Makes keys, trust roots and signed volumes on the connected side.
#[derive(Debug, Parser)]
#[command(name = "cloister-mint", version)]
pub struct Arguments {
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
    Root(RootCommand),
    /// As the importer: let a publisher make releases of some names.
    Delegate(Delegate),
    /// As a publisher: lay models out in a release tree.
    Prepare(Prepare),
    /// As a publisher: make signed volumes from a release tree.
    Build(Box<Build>),
    /// As the importer: list releases, and put the metadata into their volumes.
    Admit(Admit),
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
        /// A file of 32 bytes to derive the key from, instead of random bytes.
        #[arg(long)]
        seed_file: Option<PathBuf>,
    },
    /// Print the public half of a key file.
    Show {
        /// The key file.
        key: PathBuf,
    },
}

#[derive(Debug, Subcommand)]
enum RootCommand {
    /// Write 1.root.json.
    Create(Root),
    /// Write the root that follows; old and new officers sign it.
    Rotate(Root),
}

#[derive(Debug, Args)]
struct Root {
    /// The trust folder.
    #[arg(long)]
    trust: PathBuf,
    /// An officer, as PERSON=PUBLICKEY; three are usual.
    #[arg(long = "root", required = true)]
    root: Vec<Holder>,
    /// Officers who must sign.
    #[arg(long, default_value_t = 2)]
    threshold: u64,
    /// The facility's importer, as PERSON=PUBLICKEY.
    #[arg(long, required = true)]
    importer: Vec<Holder>,
    /// A person who approves, as PERSON=PUBLICKEY.
    #[arg(long, required = true)]
    approver: Vec<Holder>,
    /// Approvals that a release needs.
    #[arg(long, default_value_t = 2)]
    approvals: u64,
    /// A publisher's name and key, as PERSON=PUBLICKEY.
    #[arg(long)]
    publisher: Vec<Holder>,
    /// Key file of an officer who signs.
    #[arg(long, required = true)]
    sign: Vec<PathBuf>,
    /// When the root expires.
    #[arg(long, default_value = EXPIRES)]
    expires: String,
}

#[derive(Debug, Args)]
struct Delegate {
    /// The trust folder.
    #[arg(long)]
    trust: PathBuf,
    /// Key file of the importer.
    #[arg(long)]
    key: PathBuf,
    /// Name of the delegation.
    #[arg(long, default_value = "publisher")]
    name: String,
    /// A publisher, as PERSON=PUBLICKEY.
    #[arg(long, required = true)]
    publisher: Vec<Holder>,
    /// Publishers who must sign a release.
    #[arg(long, default_value_t = 1)]
    threshold: u64,
    /// Releases that it covers, such as 'cloister-demo/*'.
    #[arg(long = "path", required = true)]
    paths: Vec<String>,
    /// When the metadata expires.
    #[arg(long, default_value = EXPIRES)]
    expires: String,
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
    /// A licence, as SPDX expression.
    #[arg(long = "licence", required = true)]
    licences: Vec<String>,
    /// Memory that the release needs, in bytes.
    #[arg(long, default_value_t = 0)]
    ram_bytes: u64,
    /// Key file of a publisher.
    #[arg(long, required = true)]
    key: Vec<PathBuf>,
    /// The folder for the volumes.
    #[arg(long)]
    out: PathBuf,
    /// The largest volume, in bytes.
    #[arg(long, default_value_t = VOLUME_BYTES)]
    volume_bytes: u64,
}

#[derive(Debug, Args)]
struct Admit {
    /// The trust folder.
    #[arg(long)]
    trust: PathBuf,
    /// Key file of the importer.
    #[arg(long)]
    key: PathBuf,
    /// When the metadata expires.
    #[arg(long, default_value = EXPIRES)]
    expires: String,
    /// The volumes.
    #[arg(required = true)]
    volumes: Vec<PathBuf>,
}

/// Does what the command line asks and writes what happened to `out`.
///
/// # Errors
/// What went wrong, for a person.
pub fn run(arguments: Arguments, out: &mut dyn Write) -> Result<()> {
    match arguments.command {
        Command::Key(KeyCommand::Create { out: path, person, seed_file }) => {
            let seed = match seed_file {
                Some(file) => Some(Secret::new(files::read_limited(&file, 32)?)),
                None => None,
            };
            writeln!(out, "{}", keys::create(&path, &person, seed)?)?;
        }
        Command::Key(KeyCommand::Show { key }) => {
            writeln!(out, "{}", keys::holder(&keys::load(&key)?))?;
        }
        Command::Root(RootCommand::Create(root)) => make_root(root, Folder::create_root, out)?,
        Command::Root(RootCommand::Rotate(root)) => make_root(root, Folder::rotate_root, out)?,
        Command::Delegate(delegate) => {
            let key = keys::load(&delegate.key)?.key;
            let Delegate { name, publisher, threshold, paths, expires, .. } = &delegate;
            let folder = Folder::at(&delegate.trust)?;
            folder.delegate(name, publisher, *threshold, paths, &key, expires)?;
        }
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
        Command::Build(build) => make_volumes(*build, out)?,
        Command::Admit(admit) => {
            let key = keys::load(&admit.key)?.key;
            let folder = Folder::at(&admit.trust)?;
            for path in &admit.volumes {
                folder.admit(&Volume::open(path)?.envelope, &key, &admit.expires)?;
            }
            let meta = folder.meta()?;
            for path in &admit.volumes {
                replace_meta(path, &meta)?;
                writeln!(out, "admitted {}", path.display())?;
            }
        }
        Command::Inspect { volume, chunks } => inspect::inspect(&volume, chunks, out)?,
    }
    Ok(())
}

fn make_root(
    root: Root,
    make: fn(&Folder, &Roles, &[SigningKey]) -> Result<cloister_domain::Digest>,
    out: &mut dyn Write,
) -> Result<()> {
    let signers = load_all(&root.sign)?;
    let folder = Folder::at(&root.trust)?;
    let roles = Roles {
        root: root.root,
        root_threshold: root.threshold,
        importers: root.importer,
        approvers: root.approver,
        approvals: root.approvals,
        publishers: root.publisher,
        expires: root.expires,
    };
    let digest = make(&folder, &roles, &signers)?;
    writeln!(out, "root        {digest}")?;
    writeln!(out, "in words    {}", digest.words(16))?;
    Ok(())
}

fn make_volumes(build: Build, out: &mut dyn Write) -> Result<()> {
    let publishers = load_all(&build.key)?;
    std::fs::create_dir_all(&build.out)
        .with_context(|| format!("cannot make {}", build.out.display()))?;
    let spec = Spec {
        name: build.name,
        version: build.version,
        counter: build.counter,
        min_counter: build.min_counter,
        licences: build.licences,
        ram_bytes: build.ram_bytes,
        features: Vec::new(),
        attestations: Vec::new(),
    };
    let mut package = Package::build(&build.tree, &spec, &publishers, &build.out)?;
    let empty = cloister_bundle::container::archive([])?;
    writeln!(out, "generation  {}", package.manifest().generation())?;
    for path in package.write(&build.out, &empty, build.volume_bytes)? {
        writeln!(out, "volume      {}", path.display())?;
    }
    Ok(())
}

fn load_all(paths: &[PathBuf]) -> Result<Vec<SigningKey>> {
    paths.iter().map(|path| Ok(keys::load(path)?.key)).collect()
}
