//! A stick is read once, verified before anything is unpacked, and goes on where it was.

use anyhow::Result;
use cloister_flows::Scene;
use cloister_stage::{Unit, release::read_file, stick::Stick};
use serde_json::Value;
use std::{
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Command, Stdio},
};

#[test]
fn a_release_on_a_filesystem_image_is_verified_and_evaluated() -> Result<()> {
    let scene = Scene::enrolled()?;
    let volume = scene.volume("v1", "1.0.0", 1)?;
    let stick = Stick::plug_in(scene.path(), "stick", &[volume])?;
    let outcome = scene.facility.import(stick.folder())?;
    let import = outcome.done()?;
    assert_eq!(import["state"], "awaiting-approval");
    let seen = outcome.seen()?;
    assert_eq!(seen["signers"], serde_json::json!(["publisher"]));
    let names: Vec<&str> = import["figures"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|figure| figure["name"].as_str())
        .collect();
    for wanted in ["heldout", "golden", "retrieval", "tokens", "memory"] {
        assert!(names.iter().any(|name| name.contains(wanted)), "{wanted} in {names:?}");
    }
    let events = scene.events()?;
    for wanted in ["import-accepted", "evaluation"] {
        assert!(events.iter().any(|event| event == wanted), "{wanted} in {events:?}");
    }
    assert_eq!(scene.active(), None, "nothing is active before people approved");
    Ok(())
}

#[test]
fn the_opener_of_media_is_shut_in() -> Result<()> {
    let scene = Scene::enrolled()?;
    let process = Path::new("/proc").join(scene.stage().pid(Unit::Intaked)?.to_string());
    let status = String::from_utf8(read_file(&process.join("status"))?)?;
    for wanted in ["NoNewPrivs:\t1", "Seccomp:\t2"] {
        assert!(status.lines().any(|line| line == wanted), "{wanted} in {status}");
    }
    // proc_pid_stat(5), field 41: the scheduling policy; 5 is SCHED_IDLE.
    let stat = String::from_utf8(read_file(&process.join("stat"))?)?;
    assert_eq!(stat.split_whitespace().nth(40), Some("5"), "an import runs at idle weight: {stat}");
    Ok(())
}

#[test]
fn an_import_that_is_killed_in_the_middle_goes_on() -> Result<()> {
    let scene = Scene::enrolled()?;
    let volume = scene.volume("v1", "1.0.0", 1)?;
    let mut first = Command::new(cloister_stage::programs()?.join("cloister"))
        .arg("--config")
        .arg(scene.stage().config_path())
        .args(["--json", "import"])
        .arg(&volume)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()?;
    let lines = BufReader::new(first.stdout.take().expect("piped")).lines();
    for line in lines {
        let event: Value = serde_json::from_str(&line?)?;
        let done = event.pointer("/progress/done_bytes").and_then(Value::as_u64).unwrap_or(0);
        let total =
            event.pointer("/progress/total_bytes").and_then(Value::as_u64).unwrap_or(u64::MAX);
        if done * 10 > total {
            scene.stage().kill(Unit::Intaked)?;
            break;
        }
    }
    first.wait()?;
    let outcome = scene.facility.import(&volume)?;
    let import = outcome.done()?;
    assert_eq!(import["state"], "awaiting-approval");
    let summary = outcome.seen()?;
    assert!(summary["plain_bytes"].as_u64() > Some(0));
    let record = scene.last_record("media-seen")?;
    let resumed = record["predicate"]["facts"]["resumed_chunks"].as_u64();
    assert!(resumed > Some(0), "nothing of the first attempt was kept: {record}");
    let accepted = scene.events()?.iter().filter(|event| *event == "import-accepted").count();
    assert_eq!(accepted, 1);
    Ok(())
}
