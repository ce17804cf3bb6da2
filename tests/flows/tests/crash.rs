//! All daemons die by SIGKILL; afterwards the state is old or new, and the records agree.

use anyhow::Result;
use cloister_flows::Scene;
use std::{
    process::{Command, Stdio},
    time::Duration,
};

/// Each intent has exactly one outcome, and the last good outcome is what is active.
fn records_agree(scene: &Scene) -> Result<()> {
    let records = scene.records()?;
    let mut intents = Vec::new();
    let mut active = None;
    for record in &records {
        let kind = record["predicateType"].as_str().unwrap_or_default();
        let act = record["predicate"]["act"].as_str().unwrap_or_default();
        if kind.contains("activation-intent") {
            intents.push(act.replace("/intent", "/outcome"));
        } else if kind.contains("activation-outcome") {
            let Some(place) = intents.iter().position(|intent| intent == act) else {
                anyhow::bail!("an outcome without an intent: {record}");
            };
            intents.remove(place);
            if record["predicate"].to_string().contains("promoted") {
                let mut subjects = record["subject"].as_array().into_iter().flatten();
                let bundle = subjects.find(|one| one["name"] == "bundle");
                active = bundle.and_then(|one| one["digest"]["sha256"].as_str()).map(str::to_owned);
            }
        }
    }
    assert_eq!(intents, Vec::<String>::new(), "intents without an outcome");
    assert_eq!(scene.active(), active, "the pointer and the records agree");
    Ok(())
}

#[test]
fn killed_during_activation() -> Result<()> {
    let scene = Scene::serving()?;
    let first = scene.active().unwrap();
    let import = scene.import(&scene.volume("v2", "2.0.0", 2)?)?;
    scene.facility.approve(&import)?;
    for delay_ms in [0u64, 3, 10, 30, 100] {
        let before = scene.active().unwrap();
        let forth = before == first;
        let words: &[&str] = if forth { &["activate", &import] } else { &["rollback"] };
        let mut act = Command::new(cloister_stage::programs()?.join("cloister"))
            .arg("--config")
            .arg(scene.stage().config_path())
            .args(words)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        std::thread::park_timeout(Duration::from_millis(delay_ms));
        scene.stage().kill_all()?;
        act.wait()?;
        let status = scene.settle()?;
        let active = status["status"]["generations"]
            .as_array()
            .or_else(|| status["generations"].as_array())
            .unwrap()
            .iter()
            .filter(|generation| generation["active"] == true)
            .count();
        assert_eq!(active, 1, "exactly one generation is active");
        settle_records(&scene)?;
        records_agree(&scene)?;
    }
    let client = scene.client("ada", &["open"])?;
    let said = client.ask("Where is the assembly point?")?;
    assert_eq!(said["evidence"], true, "{said}");
    Ok(())
}

/// Recovery runs beside the first answers; wait until no intent is open.
fn settle_records(scene: &Scene) -> Result<()> {
    for _try in 0..200 {
        let events = scene.events()?;
        let count = |name: &str| events.iter().filter(|event| *event == name).count();
        if count("activation-intent") == count("activation-outcome") {
            return Ok(());
        }
        std::thread::park_timeout(Duration::from_millis(100));
    }
    anyhow::bail!("an activation stays without an outcome: {:?}", scene.events()?)
}

#[test]
fn killed_while_serving() -> Result<()> {
    let scene = Scene::serving()?;
    let before = scene.active();
    let client = scene.client("ada", &["open"])?;
    for _round in 0..3 {
        let asking = client.keep_asking("Where is the assembly point?")?;
        std::thread::park_timeout(Duration::from_millis(1500));
        scene.stage().kill_all()?;
        // The requests in flight are lost with the daemons; that is no promise of a crash.
        drop(asking.answers());
        scene.settle()?;
        let said = client.ask("Where is the assembly point?")?;
        assert_eq!(said["evidence"], true, "{said}");
    }
    assert_eq!(scene.active(), before);
    records_agree(&scene)
}
