//! A release on several sticks, on a bare device, and what an operator is told before anything is
//! copied.

use anyhow::{Context as _, Result};
use cloister_flows::{Scene, assert_refused};
use cloister_stage::{facility::Outcome, stick::Stick, tamper};
use serde_json::Value;
use std::{
    fs::File,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    process::Command,
};

/// The first event of a kind.
fn event<'a>(outcome: &'a Outcome, kind: &str) -> Result<&'a Value> {
    let found = outcome.said.iter().find_map(|value| value.get(kind));
    found.with_context(|| format!("no {kind} in {:?}", outcome.said))
}

/// The demo's first release in several volumes.
fn volumes(scene: &Scene) -> Result<Vec<PathBuf>> {
    let tree = scene.tree("v1")?;
    let volumes = scene.facility.publish_with(&tree, "1.0.0", 1, &["--volume-bytes", "600000"])?;
    anyhow::ensure!(volumes.len() >= 3, "{} volumes", volumes.len());
    Ok(volumes)
}

/// Changes a letter of a volume's trust metadata, so that nobody signed it any more.
fn spoil_signed_words(volume: &Path) -> Result<()> {
    let file = File::options().read(true).write(true).open(volume)?;
    let mut start = vec![0; 64 << 10];
    file.read_exact_at(&mut start, 0)?;
    let text = b"\"spec_version\"";
    let place = start.windows(text.len()).position(|some| some == text).context("metadata")?;
    Ok(file.write_all_at(b"\"sqec", place as u64)?)
}

#[test]
fn volumes_over_several_sticks_in_any_order_become_one_release() -> Result<()> {
    let scene = Scene::enrolled()?;
    let mut volumes = volumes(&scene)?;
    let last = volumes.pop().context("a volume")?;
    let number = volumes.len() as u64 + 1;

    let stick = Stick::plug_in(scene.path(), "third", &[last])?;
    let foreseen = scene.facility.cloister(&["import", "--dry-run", path(stick.folder())?])?;
    assert_eq!(foreseen.exit, 0, "{:?}", foreseen.said);
    assert_eq!(event(&foreseen, "checked")?["missing"]["of"], number);
    assert_eq!(event(&foreseen, "forecast")?["volume"], number);
    assert!(scene.facility.cloister(&["status"])?.done()?["imports"] == serde_json::json!([]));

    let outcome = scene.facility.import(stick.folder())?;
    assert_refused(&outcome, "intake.volume.more");
    let missing = event(&outcome, "parted")?["missing"].clone();
    let others: Vec<u64> = (1..number).collect();
    assert_eq!(missing["volumes"], serde_json::json!(others));
    assert!(missing["stored_bytes"].as_u64() > Some(1 << 18), "{missing}");
    assert_eq!(missing, event(&foreseen, "checked")?["missing"], "as was foreseen");
    let status = scene.facility.cloister(&["status"])?;
    let import = &status.done()?["imports"][0];
    assert_eq!(import["problem"]["code"], "intake.volume.more", "{import}");
    // The same stick again costs nothing.
    let again = scene.facility.import(stick.folder())?;
    assert_eq!(event(&again, "repeated")?["volume"], number);
    assert_eq!(event(&again, "parted")?["missing"], missing);

    let stick = Stick::plug_in(scene.path(), "first", &volumes)?;
    let outcome = scene.facility.import(stick.folder())?;
    assert_eq!(outcome.done()?["state"], "awaiting-approval");
    let progress = event(&outcome, "progress")?;
    assert!(progress["done_bytes"].as_u64() > Some(0) && progress.get("left_s").is_some());
    let accepted = scene.events()?.iter().filter(|event| *event == "import-accepted").count();
    assert_eq!(accepted, 1);
    // The same release once more is held already, whichever of its volumes comes.
    assert_refused(&scene.facility.import(&volumes[0])?, "bundle.already-held");
    Ok(())
}

#[test]
fn a_damaged_volume_beside_good_ones_is_named_and_they_are_read() -> Result<()> {
    let scene = Scene::enrolled()?;
    let good = volumes(&scene)?;
    // In the order of names it is read after the first and before the last.
    let aside = scene.path().join("aside");
    std::fs::create_dir(&aside)?;
    let damaged = aside.join(good[1].file_name().context("a name")?);
    tamper::flip_a_bit(&good[1], &damaged, 300_000)?;
    let mut files = good.clone();
    files[1] = damaged;
    let stick = Stick::plug_in(scene.path(), "damaged", &files)?;
    let outcome = scene.facility.import(stick.folder())?;
    assert_refused(&outcome, "bundle.digest");
    let said = outcome.said.last().context("nothing said")?.to_string();
    assert!(said.contains("volume 2: "), "{said}");
    let status = scene.facility.cloister(&["status"])?;
    let import = &status.done()?["imports"][0];
    assert_eq!(import["state"], "receiving", "{import}");

    // A cut copy of the one that is missing stands before a good one, and one that lost its metadata.
    let cut = scene.path().join("a-cut-copy.clb");
    std::fs::copy(&good[1], &cut)?;
    let file = File::options().write(true).open(&cut)?;
    file.set_len(file.metadata()?.len() / 2)?;
    let unsigned = scene.path().join("a-copy-of-unsigned-words.clb");
    std::fs::copy(&good[1], &unsigned)?;
    spoil_signed_words(&unsigned)?;
    let stick = Stick::plug_in(scene.path(), "again", &[unsigned, cut, good[1].clone()])?;
    let outcome = scene.facility.import(stick.folder())?;
    assert_eq!(outcome.done()?["state"], "awaiting-approval");
    let refused = scene.events()?.iter().filter(|event| *event == "import-refused").count();
    assert_eq!(refused, 1, "nothing was refused for good but the words that nobody signed");
    Ok(())
}

#[test]
fn a_look_judges_the_head_of_each_volume_and_names_the_bad_one() -> Result<()> {
    let scene = Scene::enrolled()?;
    let good = volumes(&scene)?;
    let look = |name: &str, files: &[PathBuf]| -> Result<Outcome> {
        let stick = Stick::plug_in(scene.path(), name, files)?;
        scene.facility.cloister(&["import", "--inspect", path(stick.folder())?])
    };
    let whole = look("whole", &good)?;
    assert_eq!(whole.exit, 0, "{whole:?}");
    let judged = whole.said.iter().filter(|said| said.get("seen").is_some()).count();
    assert_eq!(judged, 1, "volumes of one release say the same");

    let mut files = good.clone();
    let last = files.last_mut().context("a volume")?;
    let unsigned = scene.path().join(last.file_name().context("a name")?);
    std::fs::copy(&*last, &unsigned)?;
    spoil_signed_words(&unsigned)?;
    *last = unsigned;
    let damaged = look("unsigned", &files)?;
    assert_ne!(damaged.exit, 0, "{damaged:?}");
    let refused = event(&damaged, "refused")?;
    assert_eq!(refused["name"].as_str(), good.last().and_then(|good| good.file_name()?.to_str()));
    let said = damaged.said.last().context("nothing said")?.to_string();
    assert!(said.contains(&format!("volume {}: ", good.len())), "{said}");
    assert!(event(&damaged, "seen").is_ok(), "the others are shown");

    // Numbers of a head that nobody signed, against the index that somebody did.
    let wrong = scene.path().join("wrong.clb");
    std::fs::copy(&good[1], &wrong)?;
    let file = File::options().read(true).write(true).open(&wrong)?;
    let mut start = vec![0; 4096];
    file.read_exact_at(&mut start, 0)?;
    let text = b"\"first_chunk\":";
    let place = start.windows(text.len()).position(|some| some == text).context("a head")?;
    let digit = place + text.len();
    let other = if start[digit] == b'9' { b'8' } else { start[digit] + 1 };
    file.write_all_at(&[other], digit as u64)?;
    assert_refused(&look("wrong", std::slice::from_ref(&wrong))?, "bundle.head.range");

    // Beside a good copy it keeps nothing out, and a dry run says so.
    let mut files = good;
    files.insert(0, wrong);
    let stick = Stick::plug_in(scene.path(), "beside", &files)?;
    let foreseen = scene.facility.cloister(&["import", "--dry-run", path(stick.folder())?])?;
    assert_eq!(foreseen.exit, 0, "{foreseen:?}");
    assert_eq!(event(&foreseen, "refused")?["problem"]["code"], "bundle.head.range");
    assert_eq!(event(&foreseen, "checked")?["missing"]["chunks"], 0);
    let outcome = scene.facility.import(stick.folder())?;
    assert_eq!(outcome.done()?["state"], "awaiting-approval");
    Ok(())
}

#[test]
fn an_import_that_waits_is_given_up_by_word() -> Result<()> {
    let scene = Scene::enrolled()?;
    let good = volumes(&scene)?;
    assert_refused(&scene.facility.import(&good[0])?, "intake.volume.more");
    let status = scene.facility.cloister(&["status"])?;
    let import = status.done()?["imports"][0]["import"].to_string();
    let discarded = scene.facility.cloister(&["discard", &import])?;
    assert_eq!(discarded.done()?["state"], "refused");
    let record = scene.last_record("import-refused")?;
    assert!(record["predicate"].to_string().contains("import.discarded"), "{record}");
    assert_refused(&scene.facility.cloister(&["discard", &import])?, "import.not-waiting");
    // What it brought is gone, and the release may come again from the beginning.
    let again = scene.facility.import(&good[1])?;
    assert_refused(&again, "intake.volume.more");
    let missing = event(&again, "parted")?["missing"]["volumes"].clone();
    assert_eq!(missing.as_array().map(Vec::len), Some(good.len() - 1), "{missing}");
    Ok(())
}

#[test]
fn a_volume_on_a_bare_device_is_read_without_a_file_system() -> Result<()> {
    let scene = Scene::enrolled()?;
    let volume = scene.volume("v1", "1.0.0", 1)?;
    // What an earlier use left behind the volume is not its business.
    let image = scene.path().join("stick.img");
    std::fs::copy(&volume, &image)?;
    let mut file = File::options().append(true).open(&image)?;
    std::io::Write::write_all(&mut file, &[b'x'; 64 << 10])?;
    let made =
        Command::new("losetup").args(["--find", "--show", "--read-only"]).arg(&image).output()?;
    if !made.status.success() {
        // No loop devices on this machine; the way is tested in quarantine too.
        return Ok(());
    }
    let device = PathBuf::from(String::from_utf8(made.stdout)?.trim());
    let outcome = scene.facility.import(&device);
    let detached = Command::new("losetup").arg("--detach").arg(&device).status()?;
    assert!(detached.success());
    let outcome = outcome?;
    assert_eq!(outcome.done()?["state"], "awaiting-approval");
    assert_eq!(event(&outcome, "medium")?["filesystem"], "none (raw device)");
    Ok(())
}

#[test]
fn a_look_shows_what_an_unknown_signer_says_and_that_nobody_believes_it() -> Result<()> {
    let scene = Scene::enrolled()?;
    let tree = scene.tree("v1")?;
    let volume = scene.facility.sign("stranger", &tree, "1.0.0", 1)?;
    let before = scene.events()?;
    let outcome = scene.facility.cloister(&["import", "--inspect", path(&volume)?])?;
    assert_eq!(event(&outcome, "says")?["version"], "1.0.0");
    assert_ne!(outcome.exit, 0);
    assert_eq!(scene.events()?, before, "nothing is recorded");
    Ok(())
}

fn path(path: &Path) -> Result<&str> {
    path.to_str().context("a path that is not UTF-8")
}
