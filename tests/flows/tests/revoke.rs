//! What the importer takes back does not serve again, and a stick with nothing but that word is enough.

use anyhow::{Context as _, Result};
use cloister_flows::{Scene, assert_refused};
use cloister_stage::{facility::Outcome, tamper};
use std::path::PathBuf;

/// A stick that takes back what `words` say, and brings no release.
fn taking_back(scene: &Scene, name: &str, words: &[&str]) -> Result<PathBuf> {
    let stick = scene.path().join(name);
    let (trust, key) = (scene.facility.trust(), scene.facility.key("importer"));
    let path = |path: &PathBuf| path.to_str().map(str::to_owned).context("not UTF-8");
    let (trust, key, out) = (path(&trust)?, path(&key)?, path(&stick)?);
    let mut all = vec!["revoke", "--trust", &trust, "--key", &key, "--alone", &out];
    all.extend(words);
    scene.facility.mint(&all)?;
    Ok(stick)
}

#[test]
fn a_release_that_was_taken_back_is_not_returned_to() -> Result<()> {
    let scene = Scene::serving()?;
    let first = scene.active().unwrap();
    scene.promote("v2", "2.0.0", 2)?;
    let second = scene.active().unwrap();
    let stick = taking_back(&scene, "word.clb", &["--generation", &first])?;

    // Looking changes nothing.
    let look = scene.facility.cloister(&["import", "--inspect", stick.to_str().unwrap()])?;
    let said = look.said.iter().find_map(|said| said.get("trusted")).unwrap();
    assert_eq!((&said["newer"], &said["kept"]), (&true.into(), &false.into()), "{said}");
    let taken = scene.facility.import(&stick)?;
    taken.done()?;
    let said = taken.said.iter().find_map(|said| said.get("trusted")).unwrap();
    assert_eq!((&said["newer"], &said["kept"]), (&true.into(), &true.into()), "{said}");
    assert_eq!(said["revoked"], serde_json::json!([first]), "{said}");
    scene.last_record("trust-update")?;

    assert_refused(&scene.facility.cloister(&["rollback"])?, "bundle.revoked");
    let record = scene.last_record("act-refused")?;
    assert!(record["predicate"].to_string().contains("bundle.revoked"), "{record}");
    assert_eq!(scene.active().unwrap(), second);
    let status = scene.facility.cloister(&["status"])?;
    let status = status.done()?;
    let marked: Vec<bool> = status["generations"]
        .as_array()
        .unwrap()
        .iter()
        .map(|held| held["revoked"].as_bool().unwrap())
        .collect();
    assert_eq!(marked, [false, true], "newest first: {status}");

    // The same word again is no news.
    let again = scene.facility.import(&stick)?;
    again.done()?;
    let said = again.said.iter().find_map(|said| said.get("trusted")).unwrap();
    assert_eq!(said["newer"], false, "{said}");
    Ok(())
}

#[test]
fn a_candidate_that_is_taken_back_is_not_activated_whoever_approved() -> Result<()> {
    let scene = Scene::serving()?;
    let import = scene.import(&scene.volume("v2", "2.0.0", 2)?)?;
    scene.facility.approve(&import)?;
    let stick = taking_back(&scene, "word.clb", &["--below", "cloister-demo=3"])?;
    scene.facility.import(&stick)?.done()?;
    assert_refused(&scene.facility.cloister(&["activate", &import])?, "bundle.revoked");
    // Nor does a release of that kind enter any more; the next one does.
    let old = scene.fresh_volume("2.1.0", 2);
    assert!(old.is_err(), "mint would not admit it: {old:?}");
    scene.promote("v2", "3.0.0", 3)?;
    Ok(())
}

#[test]
fn a_damaged_word_changes_nothing() -> Result<()> {
    let scene = Scene::serving()?;
    let first = scene.active().unwrap();
    let stick = taking_back(&scene, "word.clb", &["--generation", &first])?;
    let before = scene.events()?.len();
    for place in [600, 3000, 6000] {
        let bad = scene.path().join("bad.clb");
        tamper::flip_a_bit(&stick, &bad, place)?;
        let outcome = scene.facility.import(&bad)?;
        assert!(outcome.exit != 0, "a bit at {place}: {outcome:?}");
    }
    let events = scene.events()?;
    assert!(events[before..].iter().all(|event| event != "trust-update"), "{events:?}");
    assert_eq!(scene.active().unwrap(), first);
    Ok(())
}

#[test]
fn a_forged_word_keeps_neither_a_good_one_nor_a_release_out() -> Result<()> {
    let scene = Scene::serving()?;
    let first = scene.active().unwrap();
    let word = taking_back(&scene, "word.clb", &["--generation", &first])?;
    let folder = scene.path().join("stick");
    std::fs::create_dir(&folder)?;
    // In the order of names the forged ones stand before and behind.
    for name in ["a.clb", "z.clb"] {
        tamper::flip_a_bit(&word, &folder.join(name), 3000)?;
    }
    std::fs::copy(&word, folder.join("b.clb"))?;
    let stick = folder.to_str().unwrap();

    // Without a release the forged ones are the end's problem; the good one was heard.
    let look = scene.facility.cloister(&["import", "--inspect", stick])?;
    assert_ne!(look.exit, 0, "{look:?}");
    assert_eq!(refused_names(&look), ["a.clb", "z.clb"]);
    std::fs::copy(scene.volume("v2", "2.0.0", 2)?, folder.join("release.clb"))?;
    let taken = scene.facility.import(&folder)?;
    assert_eq!(taken.done()?["state"], "awaiting-approval", "{taken:?}");
    assert_eq!(refused_names(&taken), ["a.clb", "z.clb"]);
    let said = taken.said.iter().find_map(|said| said.get("trusted")).unwrap();
    assert_eq!(said["revoked"], serde_json::json!([first]), "{said}");
    Ok(())
}

#[test]
fn a_look_knows_what_lies_beside_a_release_as_an_import_does() -> Result<()> {
    let scene = Scene::enrolled()?;
    let release = scene.volume("v1", "1.0.0", 1)?;
    let look = scene.facility.cloister(&["import", "--inspect", release.to_str().unwrap()])?;
    let generation = look.seen()?["generation"].as_str().context("a name")?.to_owned();
    let folder = scene.path().join("stick");
    std::fs::create_dir(&folder)?;
    std::fs::copy(release, folder.join("a.clb"))?;
    let word = taking_back(&scene, "word.clb", &["--generation", &generation])?;
    std::fs::copy(word, folder.join("z.clb"))?;
    let stick = folder.to_str().unwrap();
    for words in [&["import", "--inspect", stick][..], &["import", "--dry-run", stick]] {
        assert_refused(&scene.facility.cloister(words)?, "bundle.revoked");
    }
    assert_refused(&scene.facility.import(&folder)?, "bundle.revoked");
    Ok(())
}

/// The names of the files that were refused by themselves.
fn refused_names(outcome: &Outcome) -> Vec<&str> {
    let refused = outcome.said.iter().filter_map(|said| said.get("refused"));
    refused.filter_map(|refused| refused["name"].as_str()).collect()
}

#[test]
fn a_crowd_of_words_is_not_read() -> Result<()> {
    let scene = Scene::serving()?;
    let first = scene.active().unwrap();
    let stick = taking_back(&scene, "word.clb", &["--generation", &first])?;
    let folder = scene.path().join("crowd");
    std::fs::create_dir(&folder)?;
    for number in 0..17 {
        std::fs::copy(&stick, folder.join(format!("{number}.clb")))?;
    }
    std::fs::copy(scene.volume("v2", "2.0.0", 2)?, folder.join("release.clb"))?;
    let folder = folder.to_str().unwrap();
    let before = scene.events()?.len();
    // What is not read may take back what lies beside it.
    for words in [&["import", "--inspect", folder][..], &["import", "--dry-run", folder]] {
        assert_refused(&scene.facility.cloister(words)?, "intake.trust.many");
    }
    assert_refused(&scene.facility.import(folder.as_ref())?, "intake.trust.many");
    let events = scene.events()?;
    let taken = events[before..].iter().any(|event| event == "trust-update");
    assert!(!taken, "nothing is taken: {events:?}");
    Ok(())
}
