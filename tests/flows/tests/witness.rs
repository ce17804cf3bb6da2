//! Witnesses who are asked by files on a stick make the log's past undeniable.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};
use cloister_flows::{Scene, assert_refused};
use cloister_stage::{Options, Unit, ask, facility::Outcome, outside, release::checkout};
use cloister_wire::{
    Reply,
    record::{Answer, Request},
};

const WITNESSES: [&str; 2] = ["wren", "wim"];

/// An appliance that knows two witnesses, and what passes between them.
struct Room {
    scene: Scene,
    log_key: String,
}

impl Room {
    fn new() -> Result<Self> {
        let units = vec![Unit::Recordd, Unit::Updaterd, Unit::Intaked];
        let mut scene = Scene::new(&Options { units, ..Options::default() })?;
        for name in WITNESSES {
            scene.facility.make_key(name, name)?;
        }
        let keys = WITNESSES.map(|name| witness_key(&scene, name));
        let [one, other] = keys;
        scene.facility.stage.stop()?;
        let path = scene.stage().config_path();
        let config = String::from_utf8(cloister_stage::release::read_file(&path)?)?;
        fs::write(path, format!("{config}\n[record]\nwitnesses = [{:?}, {:?}]\n", one?, other?))?;
        scene.facility.stage.start()?;
        scene.facility.enrol()?;
        let reply: Reply<Answer> = ask(&scene.stage().socket(Unit::Recordd), &Request::Head)?;
        let Answer::Head { log_key, .. } = reply? else { anyhow::bail!("recordd gave no head") };
        Ok(Self { scene, log_key })
    }

    fn cloister(&self, words: &[&str]) -> Result<Outcome> {
        self.scene.facility.cloister(words)
    }

    /// A folder or file of the test's own.
    fn path(&self, name: &str) -> String {
        self.scene.path().join(name).display().to_string()
    }

    fn answer(&self, stick: &str) -> String {
        self.path(&format!("{stick}/resp/enclave+appliance.response"))
    }

    fn ask_for(&self, stick: &str, name: &str) -> Result<()> {
        self.cloister(&["records", "request", &self.path(stick), "--witness", name])?.done()?;
        Ok(())
    }

    fn witness(&self, stick: &str, name: &str, more: &[&str]) -> Result<Outcome> {
        let key = self.scene.facility.key(name).display().to_string();
        let (state, answer) = (self.path(&format!("{name}.state")), self.answer(stick));
        let request = self.path(&format!("{stick}/req/enclave+appliance.request"));
        let words = ["records", "witness", "--key", &key, "--state", &state, &request, &answer];
        self.cloister(&[&words, more].concat())
    }

    fn accept(&self, stick: &str) -> Result<Outcome> {
        self.cloister(&["records", "accept", &self.answer(stick)])
    }

    /// What both verifiers say of an export under a policy; they must agree.
    fn verify(&self, export: &str, policy: &str) -> Result<bool> {
        let root = self.scene.facility.root_file().display().to_string();
        let words = ["--log-key", &self.log_key, "--root", &root, "--policy", policy, export];
        let first = self.cloister(&[&["records", "verify"], &words[..]].concat())?.exit == 0;
        let second = Command::new(outside::python()?)
            .arg(checkout().join("appliance/record/audit.py"))
            .args(words)
            .output()?
            .status
            .success();
        ensure!(first == second, "the verifiers differ: {first} and {second}");
        Ok(first)
    }

    /// A refused import, which leaves records.
    fn grow(&self) -> Result<()> {
        let volume = self.scene.path().join("no-volume.clb");
        fs::write(&volume, [7; 4096])?;
        ensure!(self.scene.facility.import(&volume)?.exit != 0, "that is no volume");
        Ok(())
    }
}

fn witness_key(scene: &Scene, name: &str) -> Result<String> {
    let key = scene.facility.key(name).display().to_string();
    let said = scene.facility.cloister(&["records", "witness-key", "--key", &key])?;
    let key = said.done()?["witness_key"].as_str().context("no key")?;
    Ok(key.to_owned())
}

#[test]
fn what_witnesses_signed_is_exported_proved_and_held_against_a_restored_copy() -> Result<()> {
    let room = Room::new()?;
    let [one, other] = WITNESSES;
    let policy = room.path("policy");
    let keys: Vec<String> = WITNESSES
        .iter()
        .map(|name| Ok(format!("witness {name} {}\n", witness_key(&room.scene, name)?)))
        .collect::<Result<_>>()?;
    let log = format!("log {}\n", room.log_key);
    fs::write(&policy, log + &keys.concat() + "group both all wren wim\nquorum both\n")?;

    // A log that the witness does not know yet is signed with its key from the paper alone.
    room.ask_for("a", one)?;
    assert_refused(&room.witness("a", one, &[])?, "cli.usage");
    room.witness("a", one, &["--log", &room.log_key])?.done()?;
    room.accept("a")?.done()?;
    let export = room.path("early");
    room.cloister(&["records", "export", &export])?.done()?;
    assert!(!room.verify(&export, &policy)?, "one of two is too few");
    room.ask_for("b", other)?;
    room.witness("b", other, &["--log", &room.log_key])?.done()?;
    room.accept("b")?.done()?;
    let export = room.path("export");
    room.cloister(&["records", "export", &export])?.done()?;
    assert!(room.verify(&export, &policy)?);

    // One record convinces alone.
    let proofs = room.path("proofs");
    room.cloister(&["records", "prove", &export, "0", &proofs, "--log-key", &room.log_key])?
        .done()?;
    let (record, proof) = (format!("{proofs}/0.json"), format!("{proofs}/0.tlog-proof"));
    let prove = |record: &str| {
        room.cloister(&["records", "verify-proof", record, &proof, "--policy", &policy])
    };
    prove(&record)?.done()?;
    assert_refused(&prove(&policy)?, "record.verification");

    // The log goes on. What was witnessed is exported as it was.
    let old = room.scene.path().join("old");
    copy(&room.scene.stage().config().paths.record(), &old)?;
    room.grow()?;
    let (now, witnessed) = (room.path("now"), room.path("witnessed"));
    room.cloister(&["records", "export", &now])?.done()?;
    room.cloister(&["records", "export", "--witnessed", &witnessed])?.done()?;
    assert!(!room.verify(&now, &policy)? && room.verify(&witnessed, &policy)?);

    // An answer that was lost is made good by the next one.
    room.ask_for("a", one)?;
    room.witness("a", one, &[])?.done()?;
    room.grow()?;
    room.ask_for("b", one)?;
    assert_refused(&room.witness("b", one, &[])?, "record.witness.conflict");
    room.accept("b")?.done()?;
    room.ask_for("b", one)?;
    room.witness("b", one, &[])?.done()?;
    room.accept("b")?.done()?;

    restored(room, &old)
}

/// An old copy is put back: the witness does not sign it, and its answer convicts the log.
fn restored(mut room: Room, old: &Path) -> Result<()> {
    room.scene.facility.stage.stop()?;
    let record = room.scene.stage().config().paths.record();
    fs::remove_dir_all(&record)?;
    copy(old, &record)?;
    room.scene.facility.stage.start()?;
    room.ask_for("c", WITNESSES[0])?;
    let refused = room.witness("c", WITNESSES[0], &[])?;
    assert_refused(&refused, "record.witness.smaller");
    assert_eq!(refused.exit, 7);
    let convicted = room.accept("c")?;
    assert_refused(&convicted, "record.rolled-back");
    assert_eq!(convicted.exit, 5);
    let socket = room.scene.stage().socket(Unit::Recordd);
    let reply: Reply<Answer> = ask(&socket, &Request::Head)?;
    let Answer::Head { rolled_back, .. } = reply? else { anyhow::bail!("recordd gave no head") };
    assert!(rolled_back.iter().any(|one| one.note.contains("\u{2014} wren ")));
    Ok(())
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for found in fs::read_dir(from)? {
        let found = found?;
        let target: PathBuf = to.join(found.file_name());
        if found.file_type()?.is_dir() {
            copy(&found.path(), &target)?;
        } else {
            fs::copy(found.path(), target)?;
        }
    }
    Ok(())
}
