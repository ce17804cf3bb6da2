//! The chapter in which somebody outside keeps what the log was, so that nobody can put back an old
//! copy unseen.

use std::{fs, path::PathBuf, process::Command};

use anyhow::{Result, ensure};
use cloister_stage::{facility::Facility, release::checkout};

use super::{Demo, Head, head, text, utf8};
use crate::story::Story;

/// The witness.
const NAME: &str = "wren";

/// Makes the witness's key, and has the appliance know it. Before the appliance's first start.
pub(super) fn appoint(facility: &Facility) -> Result<()> {
    facility.make_key(NAME, NAME)?;
    let key = witness_key(facility)?;
    let path = facility.stage.config_path();
    let config = String::from_utf8(cloister_stage::release::read_file(&path)?)?;
    Ok(fs::write(path, format!("{config}\n[record]\nwitnesses = [{key:?}]\n"))?)
}

fn witness_key(facility: &Facility) -> Result<String> {
    let key = facility.key(NAME);
    let said = facility.cloister(&["records", "witness-key", "--key", utf8(&key)?])?;
    Ok(text(said.done()?, "/witness_key").to_owned())
}

/// A stick goes to the witness and back, and an auditor asks for its signature.
pub(super) fn play(demo: &Demo, story: &mut Story<'_>) -> Result<()> {
    story.chapter("A witness signs what the log is, by files on a stick")?;
    let facility = &demo.facility;
    let stick = facility.home().join("witness-stick");
    fs::create_dir(&stick)?;
    facility.cloister(&["records", "request", utf8(&stick)?])?.done()?;
    let Head { log_key, .. } = head(facility)?;
    let key = facility.key(NAME);
    let kept = facility.home().join("witness.state");
    let request = stick.join("req/enclave+appliance.request");
    let answer = stick.join("resp/enclave+appliance.response");
    let words = ["records", "witness", "--key", utf8(&key)?, "--state", utf8(&kept)?];
    let words = [&words[..], &["--log", &log_key, utf8(&request)?, utf8(&answer)?]].concat();
    facility.cloister(&words)?.done()?;
    facility.cloister(&["records", "accept", utf8(&answer)?])?.done()?;
    story.tell(
        "its key never came near the appliance; it keeps the size and the head that it signed",
    )?;
    let export = facility.home().join("witnessed");
    facility.cloister(&["records", "export", "--witnessed", utf8(&export)?])?.done()?;
    let policy = policy_file(facility);
    let witness = witness_key(facility)?;
    fs::write(&policy, format!("log {log_key}\nwitness {NAME} {witness}\nquorum {NAME}\n"))?;
    let root = facility.root_file();
    let brought =
        ["--log-key", &log_key, "--root", utf8(&root)?, "--policy", utf8(&policy)?, utf8(&export)?];
    facility.cloister(&[&["records", "verify"], &brought[..]].concat())?.done()?;
    let second = Command::new(&demo.python)
        .arg(checkout().join("appliance/record/audit.py"))
        .args(brought)
        .output()?;
    ensure!(second.status.success(), "the second verifier misses the witness");
    story.tell("both verifiers find its signature; without it they would refuse the export")
}

/// The policy that asks for the witness, once it has signed.
pub(super) fn policy_file(facility: &Facility) -> PathBuf {
    facility.home().join("witness.policy")
}
