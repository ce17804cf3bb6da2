//! A release is tried out beside the active one and on some people before it is switched to; below the
//! floor leads only what two approvers sign.

use anyhow::Result;
use cloister_flows::{Client, Scene, assert_refused};
use cloister_stage::{
    Options,
    facility::{APPROVERS, Outcome, import_number},
    release::Recipe,
};
use serde_json::Value;

const QUESTION: &str = "Where is the assembly point?";

fn count(trial: &Value, pointer: &str) -> u64 {
    trial.pointer(pointer).and_then(Value::as_u64).unwrap_or_default()
}

fn answered_by(client: &Client) -> Result<String> {
    Ok(client.ask(QUESTION)?["generation"].as_str().unwrap_or_default().to_owned())
}

/// Asks until the trial says so.
fn ask_until(scene: &Scene, client: &Client, pointer: &str) -> Result<Value> {
    for _question in 0..100 {
        client.ask(QUESTION)?;
        let shown = scene.facility.cloister(&["trial", "show"])?.done()?.clone();
        if count(&shown, pointer) > 0 {
            return Ok(shown);
        }
    }
    anyhow::bail!("{pointer} stays 0")
}

#[test]
fn a_release_is_tried_out_unseen_and_then_on_one_person() -> Result<()> {
    let scene = Scene::serving()?;
    let first = scene.active().unwrap();
    let (ada, bob) = (scene.client("ada", &["open"])?, scene.client("bob", &["open"])?);
    let volume = scene.volume("v2", "2.0.0", 2)?;
    let import = scene.import(&volume)?;
    let trial = |words: &[&str]| scene.facility.cloister(&[&["trial"], words].concat());

    // Beside the active release; nobody sees it.
    trial(&["shadow", &import, "--principal", "ada"])?.done()?;
    assert_refused(&scene.facility.approve_as(APPROVERS[0], &import)?, "approval.shadow-under-way");
    let shown = ask_until(&scene, &ada, "/report/candidate/answered")?;
    assert_eq!(count(&shown, "/report/candidate/failed"), 0, "{shown}");
    assert_eq!(answered_by(&ada)?, first);
    trial(&["end"])?.done()?;
    assert_refused(&trial(&["canary", &import, "--principal", "ada"])?, "approval.threshold");

    // On one person.
    scene.facility.approve(&import)?;
    trial(&["canary", &import, "--principal", "ada", "--for", "10m"])?.done()?;
    let second = answered_by(&ada)?;
    assert_ne!(second, first);
    assert_eq!((answered_by(&bob)?, scene.active().unwrap()), (first.clone(), first));
    let cited = &ada.ask(QUESTION)?["citations"][0];
    ada.act(&["cite", cited["id"].as_str().unwrap()])?;
    // For everybody.
    scene.facility.cloister(&["activate", &import])?.done()?;
    assert_eq!((answered_by(&bob)?, answered_by(&ada)?), (second.clone(), second));
    let facts = scene.last_record("trial-ended")?["predicate"]["facts"].clone();
    assert_eq!((&facts["ended"], &facts["kind"]), (&"promoted".into(), &"canary".into()));
    assert!(count(&facts, "/report/candidate/answered") >= 2, "{facts}");
    assert!(count(&facts, "/report/active/answered") >= 1, "{facts}");
    Ok(())
}

#[test]
fn two_approvers_lead_back_below_the_floor_once() -> Result<()> {
    // A floor rises when its release has stood its probation.
    let extra = "\n[update]\nprobation_s = 0\n".to_owned();
    let scene = Scene::with(&Options { extra, ..Options::default() })?;
    scene.promote("v1", "1.0.0", 1)?;
    let first = scene.active().unwrap();
    let tree = Recipe::demo("v2", None).lay_out(&scene.facility, "floor")?;
    let more = ["--min-counter", "2"];
    let volume = scene.facility.publish_with(&tree, "2.0.0", 2, &more)?.remove(0);
    let import = import_number(scene.facility.import(&volume)?.done()?)?;
    scene.facility.approve(&import)?;
    scene.facility.cloister(&["activate", &import])?.done()?;
    let second = scene.active().unwrap();
    let back = |to: &str| scene.facility.cloister(&["rollback", "--to", to]);
    let authorise = |person: &str| -> Result<Outcome> {
        let key = scene.facility.key(person).display().to_string();
        scene.facility.cloister(&["authorise", &first, "--key", &key])
    };
    assert_refused(&back(&first)?, "bundle.rollback");
    assert_refused(&authorise("importer")?, "approval.unknown-signer");
    authorise(APPROVERS[0])?.done()?;
    assert_refused(&back(&first)?, "approval.threshold");
    authorise(APPROVERS[1])?.done()?;
    back(&first)?.done()?;
    assert_eq!(scene.active(), Some(first.clone()));
    back(&second)?.done()?;
    assert_refused(&back(&first)?, "bundle.rollback");
    // Each signature is in the log, and both verifiers read it there.
    let signed = scene.events()?.iter().filter(|event| *event == "downgrade").count();
    assert_eq!(signed, 2);
    scene.verify_both()?;
    Ok(())
}
