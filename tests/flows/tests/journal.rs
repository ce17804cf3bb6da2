//! The journal of all daemons, at debug level, holds nothing that people wrote.

use anyhow::{Context as _, Result};
use cloister_flows::Scene;
use cloister_stage::{Options, journal, tamper};
use std::{fs, io::Write as _};

const CANARIES: [&str; 4] = [
    "canary-prompt-heliotrope",
    "canary-document-vermilion",
    "canary-filename-cerulean",
    "canary-stop-ochre",
];

#[test]
fn no_canary_reaches_the_journal_on_success_or_error_and_a_control_does() -> Result<()> {
    if journal::wrapper().is_none() {
        writeln!(
            std::io::stdout(),
            "no private journald can be had here; the daemons' JSON lines are searched instead"
        )?;
    }
    let mut scene = Scene::with(&Options { journal: true, ..Options::default() })?;
    scene.promote("v1", "1.0.0", 1)?;
    // The control is planted like the canaries: it is there only because this release was made active,
    // and it may be logged.
    let control = scene.active().context("nothing is active")?;
    let folder = scene.path().join(CANARIES[2]);
    fs::create_dir(&folder)?;
    let text = format!("# Note\n\nThe {} is kept in the blue cupboard of room 9.\n", CANARIES[1]);
    fs::write(folder.join(format!("{}.md", CANARIES[2])), text)?;
    scene
        .facility
        .cloister(&["corpus", "add", folder.to_str().unwrap(), "--label", "open"])?
        .done()?;
    let client = scene.client("ada", &["open"])?;
    let found = client.ask(&format!("Where is the {} kept? {}", CANARIES[1], CANARIES[0]))?;
    assert_eq!(found["evidence"], true, "{found}");
    let chat = ["chat", CANARIES[0], "--max-tokens", "4", "--stop", CANARIES[3]];
    let answered = client.act(&chat)?;
    assert!(answered["finish"].is_string(), "{answered}");
    // Errors: too long a prompt, a citation that is not there, a bad volume, an unreadable path.
    let long = format!("{} ", CANARIES[0]).repeat(4000);
    let refused = client.act(&["chat", &long, "--stop", CANARIES[3]])?;
    assert_eq!(refused["code"], "context_length_exceeded");
    client.act(&["cite", CANARIES[3]])?;
    let bad = folder.join(format!("{}.clb", CANARIES[2]));
    tamper::flip_a_bit(&scene.fresh_volume("2.0.0", 2)?, &bad, 64 << 10)?;
    assert_ne!(scene.facility.import(&bad)?.exit, 0);
    assert_ne!(scene.facility.import(&folder.join("absent"))?.exit, 0);
    scene.facility.stage.stop()?;
    let logged = journal::logged(scene.stage().root())?;
    assert!(logged.contains(&control), "the control string {control} is not there");
    // The errors were heard too: the code of a refusal above.
    assert!(logged.contains("bundle.digest"), "no refusal was logged");
    for canary in CANARIES {
        assert!(!logged.to_lowercase().contains(canary), "{canary} was logged");
    }
    Ok(())
}
