//! The drills of what is signed on the appliance's side: a state that was put back, approvers' cards, a
//! witness's laptop.

use std::{fs, io::Write, path::Path, process::Command};

use anyhow::{Context as _, Result, ensure};
use cloister_stage::{
    Unit,
    facility::{Holders, Outcome, import_number},
    release::read_file,
};

use super::{super::Progress, Site, once};

/// Where the section of the log begins, which a drill writes at the configuration's end.
const RECORD: &str = "\n[record]\n";

/// A path as a word of a command.
pub(super) fn text(path: &Path) -> Result<&str> {
    path.to_str().context("a path is not UTF-8")
}

/// Copies or replaces a whole folder with its links.
fn copy(from: &Path, to: &Path) -> Result<()> {
    if to.exists() {
        fs::remove_dir_all(to)?;
    }
    let done = Command::new("cp").arg("-a").arg(from).arg(to).status()?;
    ensure!(done.success(), "the state could not be copied");
    Ok(())
}

/// Somebody outside who signs what the log is.
pub(super) struct Witness {
    name: &'static str,
    pub(super) log_key: String,
}

impl Witness {
    /// Makes a key, and has the appliance know it in the place of any other.
    pub(super) fn appointed(site: &mut Site<'_>, name: &'static str) -> Result<Self> {
        let facility = &mut site.facility;
        facility.make_key(name, name)?;
        let key = facility.key(name);
        let said = facility.cloister(&["records", "witness-key", "--key", text(&key)?])?;
        let key = said.done()?["witness_key"].as_str().context("no key")?.to_owned();
        facility.stage.stop()?;
        let path = facility.stage.config_path();
        let config = String::from_utf8(read_file(&path)?)?;
        let rest = config.split(RECORD).next().unwrap_or_default();
        fs::write(path, format!("{rest}{RECORD}witnesses = [{key:?}]\n"))?;
        facility.stage.start()?;
        let log_key = site.log_key()?;
        Ok(Self { name, log_key })
    }

    /// A stick goes to the witness and back; what the witness said, and what the appliance.
    pub(super) fn asked(&self, site: &Site<'_>, more: &[&str]) -> Result<(Outcome, Outcome)> {
        let (facility, home) = (&site.facility, site.facility.home());
        let stick = home.join("stick");
        if stick.exists() {
            fs::remove_dir_all(&stick)?;
        }
        fs::create_dir(&stick)?;
        facility.cloister(&["records", "request", text(&stick)?])?.done()?;
        let (key, state) = (facility.key(self.name), home.join(format!("{}.state", self.name)));
        let request = stick.join("req/enclave+appliance.request");
        let answer = stick.join("resp/enclave+appliance.response");
        let words = ["records", "witness", "--key", text(&key)?, "--state", text(&state)?];
        let words = [&words[..], more, &[text(&request)?, text(&answer)?]].concat();
        let said = facility.cloister(&words)?;
        Ok((said, facility.cloister(&["records", "accept", text(&answer)?])?))
    }

    /// As [`Witness::asked`], where both agree.
    pub(super) fn signs(&self, site: &Site<'_>, more: &[&str]) -> Result<()> {
        let (said, taken) = self.asked(site, more)?;
        said.done()?;
        taken.done()?;
        Ok(())
    }
}

impl Site<'_> {
    pub(super) fn log_key(&self) -> Result<String> {
        use cloister_wire::{
            Reply,
            record::{Answer, Request},
        };
        let socket = self.facility.stage.socket(Unit::Recordd);
        let reply: Reply<Answer> = cloister_stage::ask(&socket, &Request::Head)?;
        match reply? {
            Answer::Head { log_key, .. } => Ok(log_key),
            _ => anyhow::bail!("recordd gave no head"),
        }
    }

    /// Whether an auditor who asks for the signature of this witness accepts the witnessed log.
    fn is_witnessed_by(&self, name: &str) -> Result<bool> {
        self.is_witnessed_from(&self.log_key()?, name)
    }

    /// The same, for one who knows the log by this key.
    pub(super) fn is_witnessed_from(&self, log_key: &str, name: &str) -> Result<bool> {
        let (facility, home) = (&self.facility, self.facility.home());
        let (export, policy) = (home.join("export"), home.join("policy"));
        if export.exists() {
            fs::remove_dir_all(&export)?;
        }
        facility.cloister(&["records", "export", "--witnessed", text(&export)?])?.done()?;
        let key = facility.key(name);
        let said = facility.cloister(&["records", "witness-key", "--key", text(&key)?])?;
        let key = said.done()?["witness_key"].as_str().context("no key")?.to_owned();
        fs::write(&policy, format!("log {log_key}\nwitness {name} {key}\nquorum {name}\n"))?;
        let root = facility.root_file();
        let words = ["records", "verify", "--log-key", log_key, "--root", text(&root)?];
        let words = [&words[..], &["--policy", text(&policy)?, text(&export)?]].concat();
        Ok(facility.cloister(&words)?.exit == 0)
    }
}

/// The state of the whole appliance is put back to an older copy.
pub(crate) fn drill_6(progress: &mut Progress, out: &mut dyn Write) -> Result<()> {
    once(progress, out, |out| {
        let mut site = Site::found(Holders::officers(3, 2), out)?;
        let witness = Witness::appointed(&mut site, "wren")?;
        witness.signs(&site, &["--log", &witness.log_key])?;
        let state = site.facility.stage.config().paths.state.clone();
        let aside = site.facility.home().join("older");
        site.facility.stage.stop()?;
        copy(&state, &aside)?;
        site.facility.stage.start()?;
        let read = site.read;
        site.goes_on("publisher", 2)?;
        witness.signs(&site, &[])?;
        site.tell("the machine is lost, and a copy of before release 2 is put back")?;
        site.facility.stage.stop()?;
        copy(&aside, &state)?;
        site.facility.stage.start()?;
        site.read = read;
        let (said, taken) = witness.asked(&site, &[])?;
        ensure!(said.is_refused_with("record.witness.smaller"), "the witness signed: {said:?}");
        ensure!(taken.is_refused_with("record.rolled-back"), "not convicted: {taken:?}");
        site.tell("the witness does not sign, and its answer convicts the log")?;
        let volume = site.release("publisher", 3)?;
        site.refuses(&volume, "record.restored", "anything new")?;
        for approver in site.holders.approvers.clone() {
            let key = site.facility.key(&approver);
            site.facility.cloister(&["acknowledge", "--key", text(&key)?])?.done()?;
        }
        site.expect(&["acknowledgement", "acknowledgement"], &["import-accepted"])?;
        site.tell("both approvers looked at what may be missing, and signed")?;
        site.goes_on("publisher", 4)?;
        site.end()
    })
}

/// All approvers' cards have expired.
pub(crate) fn drill_7(progress: &mut Progress, out: &mut dyn Write) -> Result<()> {
    once(progress, out, |out| {
        let mut site = Site::found(Holders::officers(3, 2), out)?;
        let volume = site.release("publisher", 2)?;
        let waiting = import_number(site.facility.import(&volume)?.done()?)?;
        site.facility.approve_as("ada", &waiting)?.done()?;
        site.tell(
            "release 2 has one approval; then all cards expire, and the approvers get new ones",
        )?;
        for person in ["ada", "bob"] {
            site.facility.make_key(&format!("{person}-new"), person)?;
        }
        let approvers = ["ada-new", "bob-new"].map(str::to_owned).to_vec();
        let next = Holders { approvers, ..site.holders.clone() };
        site.rotate(next, &["officer-1", "officer-2"])?;
        // Any metadata of the importer carries the root; here it comes with a release.
        let records = site.goes_on("publisher", 3)?;
        Site::root_is(&records, 2)?;
        let old = site.facility.approve_as("bob", &waiting)?;
        ensure!(old.is_refused_with("approval.unknown-signer"), "an old card signed: {old:?}");
        site.facility.approve_as("bob-new", &waiting)?.done()?;
        let alone = site.facility.cloister(&["activate", &waiting])?;
        ensure!(alone.is_refused_with("approval.threshold"), "the old approval counted: {alone:?}");
        site.expect(&["act-refused", "approval", "act-refused"], &["activation-intent"])?;
        site.tell("an old card signs nothing, and what it signed counts no more")?;
        site.facility.approve_as("ada-new", &waiting)?.done()?;
        site.facility.cloister(&["activate", &waiting])?.done()?;
        site.expect(&["approval", "activation-intent", "activation-outcome"], &[])?;
        site.end()
    })
}

/// The witness's laptop is lost, with its key and what it kept.
pub(crate) fn drill_8(progress: &mut Progress, out: &mut dyn Write) -> Result<()> {
    once(progress, out, |out| {
        let mut site = Site::found(Holders::officers(3, 2), out)?;
        let lost = Witness::appointed(&mut site, "wren")?;
        lost.signs(&site, &["--log", &lost.log_key])?;
        ensure!(site.is_witnessed_by("wren")?, "the witness's signature is not found");
        site.tell("the witness's laptop is lost; another witness is appointed")?;
        let next = Witness::appointed(&mut site, "wim")?;
        site.goes_on("publisher", 2)?;
        // The log's key comes from the paper, since the new witness has seen nothing.
        let (unknown, _) = next.asked(&site, &[])?;
        ensure!(unknown.exit != 0, "a witness signed a log that it knows nothing of");
        next.signs(&site, &["--log", &next.log_key])?;
        ensure!(site.is_witnessed_by("wim")?, "the new witness's signature is not found");
        let (_, taken) = lost.asked(&site, &[])?;
        ensure!(taken.exit != 0, "what the finder of the laptop signed was taken: {taken:?}");
        ensure!(!site.is_witnessed_by("wren")?, "the lost key still vouches for what came later");
        site.tell("what the finder of the laptop signs is not taken")?;
        site.goes_on("publisher", 3)?;
        site.end()
    })
}
