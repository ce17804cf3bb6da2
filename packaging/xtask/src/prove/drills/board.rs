//! The drill of a machine whose board or TPM was replaced: the host key is gone with it.

use std::{fs, io::Write, path::PathBuf, process::Command};

use anyhow::{Context as _, Result, ensure};
use cloister_stage::facility::{Holders, import_number};

use super::{
    super::Progress,
    Site,
    evidence::{Witness, text},
    once,
};

const CHANGED: &str = "record.key.changed";

impl Site<'_> {
    /// A new board: what kept the host key is gone, and the next start makes another.
    fn replace_board(&mut self) -> Result<()> {
        self.facility.stage.stop()?;
        let record = self.facility.stage.config().paths.record();
        fs::remove_file(record.join("host.key"))?;
        self.facility.stage.start()?;
        self.tell("the board is replaced, and the host key is gone with it")
    }

    /// Nothing is done while the key is lost, and the active release serves.
    fn waits(&mut self, waiting: &str, api_key: &std::path::Path) -> Result<()> {
        let status = self.facility.cloister(&["status"])?;
        let shown = status.done()?["lost_key"].clone();
        ensure!(shown["needed"] == 2, "the status does not say what waits: {shown}");
        let before = self.facility.active()?;
        let volume = self.release("publisher", 7)?;
        let outcome = self.facility.import(&volume)?;
        ensure!(outcome.is_refused_with(CHANGED), "an import was not refused: {outcome:?}");
        for words in [&["activate", waiting][..], &["rollback"], &["evaluate", waiting]] {
            let outcome = self.facility.cloister(words)?;
            ensure!(outcome.is_refused_with(CHANGED), "{words:?} was not refused: {outcome:?}");
        }
        let outcome = self.facility.approve_as("bob", waiting)?;
        ensure!(outcome.is_refused_with(CHANGED), "an approval was taken: {outcome:?}");
        ensure!(self.facility.active()? == before, "something else is active");
        ensure!(self.new_records()?.is_empty(), "something was recorded");
        let question = ["ask", "What is the first step?", "--key", text(api_key)?];
        self.facility.cloister(&question)?.done().context("the release does not serve")?;
        self.tell(&format!("refused ({CHANGED}): whatever leaves a record; the release serves on"))
    }

    /// What `person` signs for the key that waits.
    fn word_of(&self, person: &str) -> Result<PathBuf> {
        let file = self.facility.home().join(format!("{person}.word"));
        let key = self.facility.key(person);
        let words = ["succeed", "--sign", text(&file)?, "--key", text(&key)?];
        self.facility.cloister(&words)?.done()?;
        Ok(file)
    }

    /// An export of now, and whether each of the two verifiers finds it good from this key on.
    fn verified_from(&self, log_key: &str) -> Result<[bool; 2]> {
        let export = self.facility.home().join("export");
        if export.exists() {
            fs::remove_dir_all(&export)?;
        }
        self.facility.cloister(&["records", "export", text(&export)?])?.done()?;
        let root = self.facility.root_file();
        let brought = ["--log-key", log_key, "--root", text(&root)?];
        let words = [&["records", "verify", text(&export)?][..], &brought].concat();
        let first = self.facility.cloister(&words)?.exit == 0;
        let mut second = Command::new("python3");
        second.arg(export.join("audit.py")).arg(&export).args(brought);
        Ok([first, second.output()?.status.success()])
    }
}

/// TPM or board are replaced: the log goes on under another key that two approvers signed.
pub(crate) fn drill_5(progress: &mut Progress, out: &mut dyn Write) -> Result<()> {
    once(progress, out, |out| {
        let mut site = Site::found(Holders::officers(3, 2), out)?;
        let witness = Witness::appointed(&mut site, "wren")?;
        let first = witness.log_key.clone();
        witness.signs(&site, &["--log", &first])?;
        let volume = site.release("publisher", 2)?;
        let waiting = import_number(site.facility.import(&volume)?.done()?)?;
        site.facility.approve_as("ada", &waiting)?.done()?;
        let api_key = site.facility.api_key("ward", &["open"])?;
        site.new_records()?;
        site.replace_board()?;
        site.waits(&waiting, &api_key)?;
        ensure!(site.is_witnessed_from(&first, "wren")?, "what was witnessed is lost");

        let ada = site.word_of("ada")?;
        let alone = site.facility.cloister(&["succeed", text(&ada)?, text(&ada)?])?;
        ensure!(alone.is_refused_with("approval.threshold"), "one was enough: {alone:?}");
        let bob = site.word_of("bob")?;
        let done = site.facility.cloister(&["succeed", text(&ada)?, text(&bob)?])?;
        let new = done.done()?["succeeded"]["log_key"].as_str().context("no key")?.to_owned();
        ensure!(new == site.log_key()? && new != first, "the log has another key: {new}");
        let never = ["act-refused", "import-accepted"];
        site.expect(&["succession", "succession", "key-succession"], &never)?;
        site.tell("two approvers compared the log with the paper, and signed; one was not enough")?;

        site.facility.approve_as("bob", &waiting)?.done()?;
        site.facility.cloister(&["activate", &waiting])?.done()?;
        site.expect(&["approval", "activation-intent", "activation-outcome"], &[])?;
        site.goes_on("publisher", 3)?;
        ensure!(site.verified_from(&first)? == [true, true], "an export does not verify");
        ensure!(site.verified_from(&new)? == [false, false], "the new key alone was believed");
        site.tell("both verifiers follow the log from the first key")?;
        receipts(&site, &new)?;

        let (unknown, _) = witness.asked(&site, &[])?;
        ensure!(unknown.exit != 0, "a witness signed under a key that it does not know");
        witness.signs(&site, &["--successor", &new])?;
        ensure!(site.is_witnessed_from(&first, "wren")?, "the witness's signature is not found");
        let (back, _) = witness.asked(&site, &["--successor", &first])?;
        ensure!(back.exit != 0, "a witness took the lost key back");
        site.tell("the witness signs on, once it is given the key that took over")?;

        site.facility.stage.stop()?;
        let database = site.facility.stage.config().paths.supply_database();
        for ending in ["", "-wal", "-shm"] {
            let mut name = database.clone().into_os_string();
            name.push(ending);
            match fs::remove_file(name) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(error.into());
                }
                _ => {}
            }
        }
        site.facility.stage.start()?;
        site.facility.cloister(&["rebuild"])?.done()?;
        site.tell("the state database is lost too, and rebuilt over both keys")?;
        site.goes_on("publisher", 4)?;
        ensure!(site.verified_from(&first)? == [true, true], "an export does not verify");
        site.end()
    })
}

/// Each receipt of a promotion convinces who believes the new key, whichever key signed the record.
fn receipts(site: &Site<'_>, new: &str) -> Result<()> {
    let policy = site.facility.home().join("receipts.policy");
    fs::write(&policy, format!("log {new}\nquorum none\n"))?;
    let mut count = 0;
    for found in fs::read_dir(site.facility.home().join("export/receipts"))? {
        let path = found?.path();
        if path.extension().is_some_and(|kind| kind == "receipt") {
            let words = ["records", "verify-receipt", text(&path)?, "--policy", text(&policy)?];
            site.facility.cloister(&words)?.done().with_context(|| path.display().to_string())?;
            count += 1;
        }
    }
    ensure!(count >= 3, "{count} receipts of three promotions");
    Ok(())
}
