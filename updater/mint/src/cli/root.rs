//! The officers' words: the trust root, and the ceremony that makes it.

use std::{
    io::Write,
    path::{Path, PathBuf},
    str::FromStr,
};

use anyhow::{Context as _, Result, bail, ensure};
use clap::{Args, Subcommand};
use cloister_attest::Algorithm;
use cloister_domain::Digest;
use cloister_signer::{Passphrases, Spec as Key};
use cloister_verify::{Instant, check_draft};

use super::{EXPIRES, algorithm, importer, open_all, time};
use crate::{
    ceremony::Draft,
    error::MintError,
    files::{self, Pending},
    keys::{self, Holders},
    trust::{Demanded, Folder, Roles},
};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Write 1.root.json, with all officers' keys at hand.
    Create(Root),
    /// Write the root that follows; old and new officers sign it.
    Rotate(Root),
    /// Write a root that nobody signed yet, for officers who sign apart.
    Draft {
        #[command(flatten)]
        persons: Persons,
        /// The trust folder, where the root follows another.
        #[arg(long)]
        trust: Option<PathBuf>,
        /// The draft to write.
        #[arg(long)]
        out: PathBuf,
    },
    /// Show what a draft or a root says, with its digest in words.
    Show {
        /// The file.
        file: PathBuf,
    },
    /// As an officer: add your signature to a copy of a draft.
    Sign {
        /// The draft.
        draft: PathBuf,
        /// Your key: PATH, tpm:PATH, credential:NAME or pkcs11:…; several for both halves.
        #[arg(long, required = true)]
        key: Vec<Key>,
        /// The digest that the officers compared; without it the draft is shown and not signed.
        #[arg(long, value_name = "SHA256")]
        confirm: Option<Digest>,
        /// The root that this one replaces, where you are an officer of that one.
        #[arg(long, value_name = "FILE")]
        previous: Option<PathBuf>,
        /// The signed copy to write.
        #[arg(long)]
        out: PathBuf,
    },
    /// Join the officers' signed copies and write the root into the trust folder.
    Finish {
        /// The trust folder.
        #[arg(long)]
        trust: PathBuf,
        /// What happened, for the files of the facility.
        #[arg(long)]
        transcript: PathBuf,
        /// The signed copies.
        #[arg(required = true)]
        copies: Vec<PathBuf>,
    },
}

#[derive(Debug, Args)]
pub(super) struct Root {
    /// The trust folder.
    #[arg(long)]
    trust: PathBuf,
    #[command(flatten)]
    persons: Persons,
    /// Key of an officer who signs.
    #[arg(long, required = true)]
    sign: Vec<Key>,
}

/// Who holds which role. A holder is PERSON=PUBLICKEY, or @FILE with such lines.
#[derive(Debug, Args)]
pub(super) struct Persons {
    /// An officer; three are usual.
    #[arg(long = "root", required = true, value_name = "HOLDER")]
    root: Vec<Holders>,
    /// Officers who must sign.
    #[arg(long, default_value_t = 2)]
    threshold: u64,
    /// The facility's importer.
    #[arg(long, required = true, value_name = "HOLDER")]
    importer: Vec<Holders>,
    /// Importers who must sign.
    #[arg(long, default_value_t = 1)]
    importer_threshold: u64,
    /// The station that writes sticks; without one the importers do.
    #[arg(long, value_name = "HOLDER")]
    station: Vec<Holders>,
    /// A person who approves.
    #[arg(long, required = true, value_name = "HOLDER")]
    approver: Vec<Holders>,
    /// Approvals that a release needs.
    #[arg(long, default_value_t = 2)]
    approvals: u64,
    /// A publisher, so that releases show the name.
    #[arg(long, value_name = "HOLDER")]
    publisher: Vec<Holders>,
    /// An algorithm, such as ed25519 or ml-dsa-65, of which each person of a role must bring a signature.
    /// The role is root, importer, station or approver; without one it is root and importer.
    #[arg(long = "demand", value_name = "[ROLE=]ALGORITHM")]
    demanded: Vec<Demand>,
    /// When the root expires.
    #[arg(long, default_value = EXPIRES, value_parser = time)]
    expires: String,
    /// The time that the officers vouch for, such as 2030-01-31T00:00:00Z; now, by this machine's clock,
    /// unless it is given. An appliance takes no stick that is more than 400 days ahead of it.
    #[arg(long, value_name = "TIME")]
    issued: Option<Instant>,
}

impl Persons {
    fn roles(self) -> Result<Roles> {
        let issued = self.issued.map_or_else(importer::now, Ok)?;
        Ok(Roles {
            root: keys::all(self.root)?,
            root_threshold: self.threshold,
            importers: keys::all(self.importer)?,
            importer_threshold: self.importer_threshold,
            stations: keys::all(self.station)?,
            approvers: keys::all(self.approver)?,
            approvals: self.approvals,
            publishers: keys::all(self.publisher)?,
            expires: self.expires,
            issued: Some(issued),
            demanded: demanded(&self.demanded),
        })
    }
}

/// An algorithm, and the role whose persons must sign with it.
#[derive(Clone, Copy, Debug)]
struct Demand {
    role: Option<Demanding>,
    algorithm: Algorithm,
}

/// The roles of a root, as the arguments call them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Demanding {
    Root,
    Importer,
    Station,
    Approver,
}

impl FromStr for Demand {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let Some((role, word)) = text.split_once('=') else {
            return Ok(Self { role: None, algorithm: algorithm(text)? });
        };
        let role = match role {
            "root" => Demanding::Root,
            "importer" => Demanding::Importer,
            "station" => Demanding::Station,
            "approver" => Demanding::Approver,
            _ => bail!("the roles are root, importer, station and approver"),
        };
        Ok(Self { role: Some(role), algorithm: algorithm(word)? })
    }
}

fn demanded(demands: &[Demand]) -> Demanded {
    // Whoever names no role means those on whose word everything else hangs.
    let of = |role: Demanding, unnamed: bool| -> Vec<Algorithm> {
        let meant = |demand: &&Demand| demand.role.map_or(unnamed, |named| named == role);
        demands.iter().filter(meant).map(|demand| demand.algorithm).collect()
    };
    Demanded {
        root: of(Demanding::Root, true),
        importers: of(Demanding::Importer, true),
        stations: of(Demanding::Station, false),
        approvers: of(Demanding::Approver, false),
    }
}

pub(super) fn run(command: Command, ask: &mut Passphrases, out: &mut dyn Write) -> Result<()> {
    match command {
        Command::Create(root) => {
            let signers = open_all(&root.sign, ask)?;
            let digest = Folder::at(&root.trust)?.create_root(&root.persons.roles()?, &signers)?;
            show_root(&digest, out)
        }
        Command::Rotate(root) => {
            let signers = open_all(&root.sign, ask)?;
            let digest = Folder::at(&root.trust)?.rotate_root(&root.persons.roles()?, &signers)?;
            show_root(&digest, out)
        }
        Command::Draft { persons, trust, out: path } => {
            let signed = match trust {
                Some(trust) => Folder::at(&trust)?.next_root(&persons.roles()?),
                None => Folder::first(&persons.roles()?),
            };
            let draft = Draft::new(signed).context("no officer could sign this")?;
            // Before the officers meet, not after all have signed.
            check_draft(&draft.text()?).context("no officer could make this a root")?;
            write_draft(&draft, &path, out)
        }
        Command::Show { file } => {
            // What officers compare stands last, since that is what they read to each other.
            show_root(&Digest::of(&files::read_limited(&file, 1 << 20)?), out)?;
            Ok(write!(out, "{}", Draft::read(&file)?.describe()?)?)
        }
        Command::Sign { draft: given, key, confirm, previous, out: path } => {
            let mut draft = Draft::read(&given)?;
            let previous = previous.as_deref().map(Draft::read).transpose()?;
            let Some(confirmed) = confirm else {
                write!(out, "{}", draft.describe()?)?;
                writeln!(out, "not signed: compare the words with the others, then --confirm")?;
                return Ok(());
            };
            ensure!(confirmed == draft.digest()?, MintError::RootCompared { path: given });
            for key in &key {
                let signed = draft.sign(&keys::open(key, ask)?, previous.as_ref());
                signed.with_context(|| key.to_string())?;
            }
            write_draft(&draft, &path, out)?;
            write!(out, "{}", draft.check(previous.as_ref())?)?;
            Ok(())
        }
        Command::Finish { trust, transcript, copies } => {
            finish_root(&Folder::at(&trust)?, &transcript, &copies, out)
        }
    }
}

fn write_draft(draft: &Draft, path: &Path, out: &mut dyn Write) -> Result<()> {
    let text = draft.text()?;
    files::write_whole(path, |file| Ok(file.write_all(&text)?))?;
    write!(out, "{}", draft.describe()?)?;
    Ok(())
}

fn finish_root(
    folder: &Folder,
    transcript: &Path,
    copies: &[PathBuf],
    out: &mut dyn Write,
) -> Result<()> {
    let previous = folder.newest_root().map(|path| Draft::read(&path)).transpose()?;
    let mut whole: Option<Draft> = None;
    for path in copies {
        let copy = Draft::read(path)?;
        let joined = copy
            .check(previous.as_ref())
            .and_then(|_| Draft::join(whole.take().into_iter().chain([copy])));
        whole = Some(joined.with_context(|| path.display().to_string())?);
    }
    let whole = whole.ok_or(MintError::Usage { what: "no signed draft was given" })?;
    let expected = folder.root_version() + 1;
    let follows = whole.version() == expected;
    ensure!(follows, MintError::RootVersion { path: folder.path().to_owned(), expected });
    let mut told = Vec::new();
    write!(told, "{}{}", whole.describe()?, whole.check(previous.as_ref())?)?;
    let text = whole.text()?;
    folder.trusted_root(&text)?;
    show_root(&Digest::of(&text), &mut told)?;
    // The transcript is complete before there is a root, and in its place after.
    let transcript = Pending::write(transcript, |file| Ok(file.write_all(&told)?))?;
    folder.adopt_root(&text)?;
    transcript.place()?;
    Ok(out.write_all(&told)?)
}

/// The digest of a root file: what is enrolled, or carried to the enclave.
fn show_root(digest: &Digest, out: &mut dyn Write) -> Result<()> {
    writeln!(out, "root file   {digest}")?;
    writeln!(out, "in words    {}", digest.words(16))?;
    Ok(())
}
