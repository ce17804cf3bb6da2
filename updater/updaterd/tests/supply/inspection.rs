//! What the inspection of a release does to its import.

use std::{fs, sync::atomic::Ordering};

use cloister_domain::{Class, Digest, ImportId, RecordIndex};
use cloister_state::State;
use cloister_wire::{
    Problem,
    record::Event,
    supply::{ImportState, Inspection, Scan},
};

use super::support::{World, bundle::Bundle, inspector::Faults, wait_until};

/// Files of the shelf that hold content.
fn objects(world: &World) -> usize {
    let folder = world.config.paths.shelf().join("objects");
    let fans = fs::read_dir(folder).unwrap();
    fans.map(|fan| fs::read_dir(fan.unwrap().path()).unwrap().count()).sum()
}

#[test]
fn every_file_is_inspected_and_recorded_before_a_release_is_a_candidate() {
    let world = World::enrolled();
    let import = world.import(&Bundle::new(1, "0.5"), 1).unwrap();
    let inspection = world.until(import, ImportState::AwaitingApproval).inspection.unwrap();
    assert_eq!((inspection.accepted, inspection.refused, inspection.not_scanned), (5, 0, 0));
    let kinds: Vec<_> = inspection.files.iter().map(|file| file.kind.as_deref().unwrap()).collect();
    assert_eq!(kinds, ["json", "text", "json", "text", "text"]);
    assert!(inspection.files.iter().all(|file| file.scan == Scan::Off));
    let events: Vec<String> = world.records().into_iter().map(|record| record.0).collect();
    let place = |wanted: &str| events.iter().position(|event| event == wanted).unwrap();
    assert!(place("inspection") < place("import-accepted"), "{events:?}");
}

#[test]
fn one_bad_file_refuses_the_release_and_nothing_of_it_is_left() {
    let world = World::enrolled();
    let pickle = "cos\nsystem\n(S'id'\ntR.";
    let problem = world.import(&Bundle::new(1, pickle), 1).unwrap_err();
    assert_eq!(problem.code, "inspect.pickle", "{problem}");
    let import = ImportId(1);
    let shown = world.review(import);
    assert_eq!(shown.state, ImportState::Refused);
    let inspection = shown.inspection.unwrap();
    assert_eq!((inspection.accepted, inspection.refused), (4, 1));
    // Refused ones first; it is the fifth of the release.
    assert_eq!(inspection.files[0].file, 4);
    assert_eq!(inspection.files[0].code.as_deref(), Some("inspect.pickle"));
    let refused = |(event, facts): &(String, serde_json::Value)| {
        event == "inspection" && facts["refused"] == 1
    };
    assert!(world.records().iter().any(refused));
    assert_eq!(world.count("import-refused", "code", "inspect.pickle"), 1);
    assert!(!world.config.paths.quarantine().join(import.to_string()).exists());
    assert_eq!(objects(&world), 0, "nothing is left on the shelf");
}

#[test]
fn a_file_that_kills_its_inspector_is_refused_for_that() {
    let world = World::enrolled();
    world.inspector.crashes.store(true, Ordering::SeqCst);
    let problem = world.import(&Bundle::new(1, "0.5"), 1).unwrap_err();
    assert_eq!(problem.code, "inspect.crashed", "{problem}");
    assert_eq!(objects(&world), 0);
}

#[test]
fn without_an_inspector_nothing_becomes_a_candidate_until_there_is_one() {
    let world = World::enrolled();
    world.inspector.absent.store(true, Ordering::SeqCst);
    let problem = world.import(&Bundle::new(1, "0.5"), 1).unwrap_err();
    assert_eq!(problem.code, "inspect.unavailable", "{problem}");
    let import = ImportId(1);
    assert_eq!(world.review(import).state, ImportState::Received);
    let listed = fs::read_dir(world.config.paths.shelf().join("generations")).unwrap().count();
    assert_eq!(listed, 0);
    world.inspector.absent.store(false, Ordering::SeqCst);
    // The worker takes it up again without being asked.
    wait_until(|| world.review(import).state == ImportState::AwaitingApproval).unwrap();
}

#[test]
fn what_is_no_answer_or_comes_before_its_time_makes_no_file_good() {
    let world = World::enrolled();
    world.inspector.babbles.store(true, Ordering::SeqCst);
    let problem = world.import(&Bundle::new(1, "0.5"), 1).unwrap_err();
    assert_eq!(problem.code, "inspect.crashed", "{problem}");
    assert_eq!(objects(&world), 0);
    // Nothing is known of a file over which nobody said that it had begun, or that was not read.
    for code in ["inspect.unavailable", "inspect.unreadable"] {
        let world = World::enrolled();
        let Faults { hasty, faulty, .. } = &*world.inspector;
        let fault = if code == "inspect.unavailable" { hasty } else { faulty };
        fault.store(true, Ordering::SeqCst);
        let problem = world.import(&Bundle::new(1, "0.5"), 1).unwrap_err();
        assert_eq!(problem.code, code, "{problem}");
        let import = ImportId(1);
        assert_eq!(world.review(import).state, ImportState::Received);
        let inspected = world.records().iter().any(|(event, _)| event == "inspection");
        assert!(!inspected, "nothing is said about the release");
        fault.store(false, Ordering::SeqCst);
        wait_until(|| world.review(import).state == ImportState::AwaitingApproval).unwrap();
    }
}

/// The release of an appliance with a scanner that says `scan`, or dies.
fn scanned(scan: Option<Scan>, more: &str) -> (World, Result<Inspection, Problem>) {
    let world = World::with(&format!("scanner = [\"scanner\"]\n{more}"));
    world.enrol();
    *world.inspector.scan.lock().unwrap() = scan;
    let imported = world.import(&Bundle::new(1, "0.5"), 1);
    let inspection = imported.map(|import| world.review(import).inspection.unwrap());
    (world, inspection)
}

#[test]
fn a_release_needs_the_scanners_word_for_every_file_that_it_is_given() {
    let (world, inspection) = scanned(Some(Scan::Clean), "");
    assert_eq!(inspection.unwrap().not_scanned, 0);
    assert_eq!(world.inspector.scanned.load(Ordering::SeqCst), 5);
    for (scan, code) in [
        (Some(Scan::Infected), "inspect.scan.infected"),
        (Some(Scan::Failed), "inspect.scan.failed"),
        // It died over the file.
        (None, "inspect.scan.failed"),
    ] {
        let (world, inspection) = scanned(scan, "");
        assert_eq!(inspection.unwrap_err().code, code);
        let shown = world.review(ImportId(1));
        let told = shown.inspection.unwrap();
        assert_eq!((shown.state, told.refused), (ImportState::Refused, 5));
        assert_eq!(objects(&world), 0, "nothing is left on the shelf");
    }
}

#[test]
fn what_is_too_large_for_the_scanner_is_not_given_to_it_and_counted() {
    let (world, inspection) = scanned(Some(Scan::Infected), "scanner_bytes_max = 1");
    let inspection = inspection.unwrap();
    assert_eq!((inspection.accepted, inspection.not_scanned), (5, 5));
    assert!(inspection.files.iter().all(|file| file.scan == Scan::TooLarge));
    assert_eq!(world.inspector.scanned.load(Ordering::SeqCst), 0);
}

#[test]
fn without_the_process_that_scans_nothing_becomes_a_candidate() {
    for gone in [true, false] {
        let mut world = World::with("scanner = [\"scanner\"]");
        world.enrol();
        // There is nobody, or one that ends before it begins.
        world.inspector.scan_absent.store(true, Ordering::SeqCst);
        if gone {
            world.stop_scanner();
        }
        let problem = world.import(&Bundle::new(1, "0.5"), 1).unwrap_err();
        assert_eq!(problem.code, "inspect.unavailable", "{problem}");
        assert_eq!(world.review(ImportId(1)).state, ImportState::Received);
    }
}

#[test]
fn an_inspection_that_refused_something_is_made_again_after_a_crash() {
    let mut world = World::enrolled();
    world.inspector.absent.store(true, Ordering::SeqCst);
    world.import(&Bundle::new(1, "0.5"), 1).unwrap_err();
    let import = ImportId(1);
    world.stop_updaterd();
    // What it left that was cut off between the inspection and the refusal.
    let mut state = State::open(&world.config.paths.supply_database()).unwrap();
    let refused = Inspection {
        tool: "before the crash".to_owned(),
        accepted: 4,
        refused: 1,
        not_scanned: 0,
        files: Vec::new(),
    };
    state.inspected(import, &refused, RecordIndex(1)).unwrap();
    drop(state);
    world.inspector.absent.store(false, Ordering::SeqCst);
    world.start_updaterd();
    let inspection = world.until(import, ImportState::AwaitingApproval).inspection.unwrap();
    assert_ne!(inspection.tool, refused.tool);
    assert_eq!((inspection.accepted, inspection.refused), (5, 0));
}

#[test]
fn what_another_look_finds_has_a_record_of_its_own() {
    let world = World::enrolled();
    world.inspector.absent.store(true, Ordering::SeqCst);
    let bundle = Bundle::new(1, "0.5");
    world.import(&bundle, 1).unwrap_err();
    // What it left that was cut off between the record of an inspection and everything else.
    let found = |refused: u64| {
        serde_json::json!({
            "import": 1, "tool": "before the crash", "accepted": 5 - refused, "refused": refused,
            "not_scanned": 0, "files": [],
        })
    };
    let about = [("bundle", bundle.generation().0)];
    world.append(Event::Inspection, "import/1/inspected", &about, &found(1));
    let named = format!("import/1/inspected/{}", Digest::of(b"other findings"));
    world.append(Event::Inspection, &named, &about, &found(2));
    world.inspector.absent.store(false, Ordering::SeqCst);
    world.until(ImportId(1), ImportState::AwaitingApproval);
    let records = world.records();
    let inspections = records.iter().filter(|(event, _)| event == "inspection");
    let refused: Vec<_> = inspections.map(|(_, facts)| facts["refused"].clone()).collect();
    assert_eq!(refused, [1, 2, 0], "the last is that by which it was accepted");
}

#[test]
fn an_inspector_that_lies_says_nothing_but_what_inspections_say() {
    let verdict = |verdict: serde_json::Value| serde_json::json!({"verdict": verdict, "microseconds": 1, "peak_bytes": 1});
    let refused = |code: &str, class: &str, message: &str| {
        verdict(serde_json::json!({"Err": {"code": code, "class": class, "message": message}}))
    };
    let accepted = |kind: &str| verdict(serde_json::json!({"Ok": {"kind": kind, "tensors": 0}}));
    let words = "\u{1b}[2Jall is well\n".repeat(50_000);
    for (lie, code) in [
        (accepted("program"), "inspect.crashed"),
        (accepted(&words), "inspect.crashed"),
        (refused(&words, "refused", "x"), "inspect.crashed"),
        (refused("approval.rejected", "refused", "x"), "inspect.crashed"),
        (refused("inspect.pickle", "refused", &words), "inspect.pickle"),
        (refused("inspect.pickle", "busy", "x"), "inspect.pickle"),
        (refused("inspect.pickle", "fault", "x"), "inspect.pickle"),
    ] {
        let world = World::enrolled();
        *world.inspector.lie.lock().unwrap() = Some(lie);
        let problem = world.import(&Bundle::new(1, "0.5"), 1).unwrap_err();
        assert_eq!((problem.code.as_str(), problem.class), (code, Class::Refused), "{problem}");
        let shown = world.review(ImportId(1));
        assert_eq!(shown.state, ImportState::Refused);
        let stored = shown.problem.unwrap();
        assert!(stored.message.chars().count() < 400, "{}", stored.message.len());
        assert!(!stored.message.contains(char::is_control), "{stored}");
        let said = serde_json::to_string(&world.records()).unwrap();
        let listed = shown.inspection.unwrap().files;
        assert!(
            listed.iter().all(|file| file.code.as_deref() == Some(code) && file.kind.is_none())
        );
        assert!(!said.contains("well") && !said.contains("program"), "records hold no such words");
        assert_eq!(objects(&world), 0);
    }
}
