//! The importer's words, and the station's.

use std::{
    collections::BTreeSet,
    io::Write,
    path::{Path, PathBuf},
    time::SystemTime,
};

use anyhow::{Context as _, Result, ensure};
use clap::{Args, Subcommand};
use cloister_attest::Algorithm;
use cloister_domain::{Digest, GenerationId, printable};
use cloister_signer::{Passphrases, Spec as Key};
use cloister_verify::Instant;

use super::{EXPIRES, algorithm, check_volumes, open_all, time};
use crate::{
    error::MintError,
    files::{self, Pending},
    importer::{Delegation, Importer, Listed, Revocation, Stick},
    keys::{self, Holder, Holders},
    trust::Folder,
    volume::{Volume, replace_meta, trust_volume},
};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// As the importer: let a publisher make releases of some names.
    Delegate(Delegate),
    /// As the importer: list releases, and put the metadata into their volumes.
    Admit(Admit),
    /// As the importer: take back a release, older releases, or a publisher's key.
    Revoke(Revoke),
    /// As the station, for each stick: state the time and the stick's number, and put the metadata
    /// into the volumes.
    Stamp(Stamp),
}

/// Where the files lie, and who signs them.
#[derive(Debug, Args)]
struct Desk {
    /// The trust folder.
    #[arg(long)]
    trust: PathBuf,
    /// Your key: PATH, tpm:PATH, credential:NAME or pkcs11:…; several where several must sign, and the
    /// station's where it is at hand.
    #[arg(long, required = true)]
    key: Vec<Key>,
    /// When the metadata expires.
    #[arg(long, default_value = EXPIRES, value_parser = time)]
    expires: String,
}

impl Desk {
    /// Does something in the folder with the keys; `issued` is the time to state.
    fn act<T>(
        &self,
        ask: &mut Passphrases,
        issued: Option<Instant>,
        act: impl FnOnce(&Folder, &Importer<'_, Box<dyn cloister_attest::Signer>>) -> Result<T>,
    ) -> Result<T> {
        let signers = open_all(&self.key, ask)?;
        let importer = Importer { issued, ..Importer::new(&signers, &self.expires) };
        act(&Folder::at(&self.trust)?, &importer)
    }

    /// Says which list came of an act, and that no enclave knows of it yet.
    fn tell(&self, listed: Listed, out: &mut dyn Write) -> Result<()> {
        let Listed { version, changed } = listed;
        let same = if changed { "" } else { ", which said so already" };
        writeln!(out, "list        version {version}{same}")?;
        let trust = self.trust.display();
        writeln!(
            out,
            "next        as the station, for the next stick: cloister-mint stamp --trust {trust} --key KEY \
             --alone FILE, or with volumes"
        )?;
        Ok(())
    }
}

#[derive(Debug, Args)]
pub(super) struct Delegate {
    #[command(flatten)]
    desk: Desk,
    /// Name of the delegation.
    #[arg(long, default_value = "publisher")]
    name: String,
    /// A publisher, as PERSON=PUBLICKEY or @FILE.
    #[arg(long, required = true, value_name = "HOLDER")]
    publisher: Vec<Holders>,
    /// Publishers who must sign a release.
    #[arg(long, default_value_t = 1)]
    threshold: u64,
    /// An algorithm of which each publisher must bring a signature, such as ed25519 and ml-dsa-65.
    #[arg(long = "demand", value_parser = algorithm)]
    algorithms: Vec<Algorithm>,
    /// Releases that it covers, such as 'cloister-demo/*'.
    #[arg(long = "path", required = true)]
    paths: Vec<String>,
}

#[derive(Debug, Args)]
pub(super) struct Admit {
    #[command(flatten)]
    desk: Desk,
    /// The volumes.
    #[arg(required = true)]
    volumes: Vec<PathBuf>,
}

#[derive(Debug, Args)]
pub(super) struct Revoke {
    #[command(flatten)]
    desk: Desk,
    /// A release, by its generation.
    #[arg(long, value_name = "SHA256")]
    generation: Vec<Digest>,
    /// All releases of a name below a counter, as NAME=COUNTER.
    #[arg(long, value_name = "NAME=COUNTER")]
    below: Vec<String>,
    /// A publisher's key, as PERSON=PUBLICKEY.
    #[arg(long, value_name = "HOLDER")]
    publisher: Vec<Holder>,
    /// The publisher's key may be one that neither the list nor a root names any more.
    #[arg(long, requires = "publisher")]
    former: bool,
    /// A volume to write that brings the metadata and no release.
    #[arg(long, value_name = "FILE")]
    alone: Option<PathBuf>,
    /// Volumes that shall carry the word; it counts from the next stick on.
    volumes: Vec<PathBuf>,
}

#[derive(Debug, Args)]
pub(super) struct Stamp {
    #[command(flatten)]
    desk: Desk,
    /// The time to state; now, by this machine's clock, unless it is given.
    #[arg(long, value_name = "TIME")]
    issued: Option<Instant>,
    /// A volume to write that brings the metadata and no release.
    #[arg(long, value_name = "FILE")]
    alone: Option<PathBuf>,
    /// The volumes.
    volumes: Vec<PathBuf>,
}

pub(super) fn run(command: Command, ask: &mut Passphrases, out: &mut dyn Write) -> Result<()> {
    match command {
        Command::Delegate(Delegate { desk, name, publisher, threshold, algorithms, paths }) => {
            let publishers = keys::all(publisher)?;
            let delegation = Delegation { name, publishers, threshold, paths, algorithms };
            let listed =
                desk.act(ask, None, |folder, importer| folder.delegate(&delegation, importer))?;
            let Delegation { name, publishers, threshold, paths, .. } = &delegation;
            let persons: BTreeSet<&str> =
                publishers.iter().map(|one| one.person.as_str()).collect();
            let persons = persons.into_iter().collect::<Vec<_>>().join(", ");
            let (name, paths) = (printable(name.as_bytes()), paths.join(", "));
            writeln!(out, "delegated   {name}: {threshold} of {persons}, for {paths}")?;
            desk.tell(listed, out)
        }
        Command::Admit(Admit { desk, volumes }) => {
            check_volumes(&volumes)?;
            let listed = desk.act(ask, None, |folder, importer| {
                let mut changed = false;
                let mut version = 0;
                for path in &volumes {
                    let admitted = folder.admit(&Volume::open(path)?.envelope, importer);
                    let listed = admitted.with_context(|| path.display().to_string())?;
                    (version, changed) = (listed.version, changed || listed.changed);
                }
                Ok(Listed { version, changed })
            })?;
            carry(&desk, &volumes, "admitted", out)?;
            desk.tell(listed, out)
        }
        Command::Revoke(revoke) => {
            let revocations = revocations(&revoke)?;
            check_volumes(&revoke.volumes)?;
            check_place(revoke.alone.as_deref())?;
            let listed = revoke
                .desk
                .act(ask, None, |folder, importer| folder.revoke(&revocations, importer))?;
            for revocation in &revocations {
                writeln!(out, "taken back  {revocation}")?;
            }
            revoke.desk.tell(listed, out)?;
            carry_alone(&revoke.desk, revoke.alone.as_deref(), out)?;
            carry(&revoke.desk, &revoke.volumes, "carries the word", out)
        }
        Command::Stamp(Stamp { desk, issued, alone, volumes }) => {
            let issued = issued.map_or_else(now, Ok)?;
            check_volumes(&volumes)?;
            check_place(alone.as_deref())?;
            let Stick { number, issued } =
                desk.act(ask, Some(issued), |folder, importer| folder.stamp(importer))?;
            let time = issued.map_or_else(|| "no time".to_owned(), String::from);
            writeln!(out, "stick       number {number}, {time}")?;
            carry_alone(&desk, alone.as_deref(), out)?;
            carry(&desk, &volumes, "stamped", out)
        }
    }
}

fn revocations(revoke: &Revoke) -> Result<Vec<Revocation>> {
    let bundles = revoke.generation.iter().map(|id| Ok(Revocation::Bundle(GenerationId(*id))));
    let below = revoke.below.iter().map(|text| {
        let parts =
            text.split_once('=').and_then(|(name, counter)| Some((name, counter.parse().ok()?)));
        let (name, counter) =
            parts.ok_or(MintError::Usage { what: "--below takes NAME=COUNTER" })?;
        Ok(Revocation::Below { name: name.to_owned(), counter })
    });
    let former = revoke.former;
    let keys = revoke
        .publisher
        .iter()
        .map(|holder| Ok(Revocation::Key { holder: Box::new(holder.clone()), former }));
    let all = bundles.chain(below).chain(keys).collect::<Result<Vec<_>>>()?;
    let what = "say what is taken back: --generation, --below or --publisher";
    ensure!(!all.is_empty(), MintError::Usage { what });
    Ok(all)
}

/// Puts the folder's metadata into volumes.
fn carry(desk: &Desk, volumes: &[PathBuf], done: &str, out: &mut dyn Write) -> Result<()> {
    let meta = Folder::at(&desk.trust)?.meta()?;
    for path in volumes {
        replace_meta(path, &meta)?;
        writeln!(out, "{done} {}", path.display())?;
    }
    Ok(())
}

/// Refuses a place where [`carry_alone`] could not write, before the act that it is to tell of.
fn check_place(path: Option<&Path>) -> Result<()> {
    path.map_or(Ok(()), |path| Pending::write(path, |_nothing_yet| Ok(())).map(drop))
}

/// Writes a volume of the folder's metadata and nothing else.
fn carry_alone(desk: &Desk, path: Option<&Path>, out: &mut dyn Write) -> Result<()> {
    let Some(path) = path else { return Ok(()) };
    let volume = trust_volume(&Folder::at(&desk.trust)?.meta()?)?;
    files::write_whole(path, |file| Ok(file.write_all(&volume)?))?;
    writeln!(out, "wrote {}", path.display())?;
    Ok(())
}

/// The time by this machine's clock. The enclave has none; it learns the time from here.
pub(super) fn now() -> Result<Instant> {
    #[expect(clippy::disallowed_methods, reason = "the connected side may know what time it is")]
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let seconds = since.map_or(0, |since| since.as_secs());
    let now = i64::try_from(seconds).ok().and_then(Instant::from_unix_seconds);
    let what = "this machine's clock says a year beyond 9999; set it";
    Ok(now.ok_or(MintError::Usage { what })?)
}
