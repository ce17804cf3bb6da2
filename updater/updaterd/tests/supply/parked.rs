//! Imports that wait for volumes.

use cloister_bundle::handover::{self, Blob, Missing};
use cloister_config::Role;
use cloister_daemon::Connection;
use cloister_domain::{ByteCount, Class, Digest, ImportId};
use cloister_wire::{
    Problem,
    intake::Parked,
    supply::{Answer, ImportState, Request},
};

use crate::{
    decisions::OPERATOR,
    support::{World, bundle::Bundle, wait_until},
};

fn connect(world: &World) -> Connection {
    Connection::connect(&world.config.paths.socket(Role::Updaterd)).unwrap()
}

fn parked(world: &World) -> Vec<Parked> {
    match connect(world).ask(&handover::Request::Parked).unwrap() {
        handover::Answer::Parked(parked) => parked,
        other => panic!("{other:?}"),
    }
}

/// Brings one of two volumes.
fn park(world: &World, bundle: &Bundle, version: u64) {
    let connection = connect(world);
    let offer = handover::Request::Offer(bundle.offer(version, false));
    let answer: handover::Answer = connection.ask(&offer).unwrap();
    assert!(matches!(answer, handover::Answer::Seen(_)), "{answer:?}");
    let index = handover::Request::Index { part: Blob(bundle.index.clone()) };
    let answer: handover::Answer = connection.ask(&index).unwrap();
    assert!(matches!(answer, handover::Answer::Plan(_)), "{answer:?}");
    let parted = handover::Request::Parted {
        volume: Digest::of(b"volume"),
        read_bytes: ByteCount(9),
        missing: Missing {
            volumes: vec![2],
            of: 2,
            chunks: 1,
            stored_bytes: ByteCount(5),
            needs: 0,
        },
        problem: Problem::new(Class::Busy, "intake.volume.more", "volume 2 is missing"),
    };
    assert_eq!(connection.ask::<_, handover::Answer>(&parted).unwrap(), handover::Answer::Kept);
}

#[test]
fn an_import_of_which_volumes_are_missing_waits_and_says_so() {
    let world = World::enrolled();
    let bundle = Bundle::new(1, "0.5");
    park(&world, &bundle, 1);
    let waiting = Parked { import: ImportId(1), generation: bundle.generation() };
    assert_eq!(parked(&world), [waiting]);
    let shown = world.review(ImportId(1));
    assert_eq!(shown.state, ImportState::Receiving);
    assert_eq!(shown.problem.unwrap().code, "intake.volume.more");
    // Fifty lists of thousands of files would not fit an answer; the review has them.
    let Ok(Answer::Status(status)) = world.ask(&Request::Status) else { panic!("no status") };
    let listed = status.imports[0].summary.as_ref().unwrap();
    assert!(listed.files.is_empty() && !shown.summary.unwrap().files.is_empty());
    let records = world.records();
    let parted = records.iter().filter(|(_, facts)| facts["missing_chunks"] == 1);
    assert_eq!(parted.count(), 1);
    // A volume that merely calls itself like it, signed by nobody known, changes nothing.
    let forged = Bundle::signed_by(1, "0.5", crate::support::bundle::STRANGER);
    assert_eq!(forged.generation(), bundle.generation());
    assert_eq!(world.import(&forged, 2).unwrap_err().code, "bundle.signature.unknown-signer");
    assert_eq!(parked(&world), [waiting]);
    // Its last volume, with a list that is newer than the forger's, ends the wait.
    let import = world.import(&bundle, 3).unwrap();
    assert_eq!(import, ImportId(1));
    world.until(import, ImportState::AwaitingApproval);
    assert_eq!(parked(&world), []);
}

/// Who reads the log must know the person behind each user who operated an import.
#[test]
fn each_record_that_names_an_operator_names_the_person() {
    let world = World::with(&format!("operators = [\"{OPERATOR}=eve\"]"));
    world.enrol();
    let bundle = Bundle::new(1, "0.5");
    park(&world, &bundle, 1);
    // Another brings the second volume.
    let bundle = bundle.imported_by(OPERATOR);
    park(&world, &bundle, 2);
    world.import(&bundle, 3).unwrap();
    let (mut acts, eve) = (0, OPERATOR.to_string());
    for (_, facts) in world.records().iter().filter(|(event, _)| event == "media-seen") {
        let Some(operator) = facts.get("operator") else { continue };
        let is_eve = operator.as_str() == Some(eve.as_str());
        let persons = facts["persons"].as_array().unwrap();
        assert_eq!(persons.contains(&"eve".into()), is_eve, "{facts}");
        acts += usize::from(is_eve);
    }
    assert!(acts > 2, "taking over, and two volumes");
}

#[test]
fn a_release_that_was_signed_anew_meanwhile_comes_in_by_its_new_signatures() {
    let world = World::enrolled();
    park(&world, &Bundle::new(1, "0.5"), 1);
    // The importer's newer list has the new envelope only.
    let anew = Bundle::new(1, "0.5").signed_anew();
    let import = world.import(&anew, 2).unwrap();
    assert_eq!(import, ImportId(1), "what waited goes on");
    world.until(import, ImportState::AwaitingApproval);
}

#[test]
fn a_release_that_is_taken_back_while_it_waits_ends() {
    let world = World::enrolled();
    let (one, two) = (Bundle::new(1, "0.5"), Bundle::new(2, "0.5"));
    park(&world, &one, 1);
    park(&world, &two, 2);
    let three = Bundle::new(3, "0.5").taking_back(one.generation());
    world.import(&three, 3).unwrap();
    let waiting = Parked { import: ImportId(2), generation: two.generation() };
    assert_eq!(parked(&world), [waiting], "the other waits on");
    let shown = world.review(ImportId(1));
    assert_eq!(shown.state, ImportState::Refused);
    assert_eq!(shown.problem.unwrap().code, "bundle.revoked");
    assert!(!world.config.paths.quarantine().join("1").exists());
    assert_eq!(world.count("import-refused", "code", "bundle.revoked"), 1);
}

#[test]
fn one_that_waits_is_given_up_by_word_but_not_under_whoever_receives_it() {
    let world = World::enrolled();
    let (one, two) = (Bundle::new(1, "0.5"), Bundle::new(2, "0.5"));
    let discard = |import| world.ask(&Request::Discard { import: ImportId(import) });
    assert_eq!(discard(1).unwrap_err().code, "import.unknown");
    let receiving = world.begin(&one, 1).unwrap();
    assert_eq!(discard(1).unwrap_err().code, "import.receiving");
    assert!(world.config.paths.quarantine().join("1").exists());
    drop(receiving);
    park(&world, &two, 2);
    // The connection that ended lets go within a moment.
    wait_until(|| discard(1).is_ok()).unwrap();
    assert_eq!(world.review(ImportId(1)).state, ImportState::Refused);
    assert!(!world.config.paths.quarantine().join("1").exists());
    assert_eq!(world.count("import-refused", "code", "import.discarded"), 1);
    assert_eq!(parked(&world).len(), 1, "the other waits on");
    assert_eq!(discard(1).unwrap_err().code, "import.not-waiting");
    let whole = world.import(&two, 3).unwrap();
    world.until(whole, ImportState::AwaitingApproval);
    assert_eq!(discard(whole.0).unwrap_err().code, "import.not-waiting", "an approver rejects it");
}

#[test]
fn one_that_is_given_up_without_the_log_is_not_gone_on_with() {
    let mut world = World::enrolled();
    let bundle = Bundle::new(1, "0.5");
    park(&world, &bundle, 1);
    world.stop_recordd();
    let mut code = String::new();
    // The connection that ended lets go within a moment.
    wait_until(|| {
        code = world.ask(&Request::Discard { import: ImportId(1) }).unwrap_err().code;
        code != "import.receiving"
    })
    .unwrap();
    assert_eq!(code, "import.unrecorded");
    world.start_recordd();
    assert_eq!(parked(&world), [], "nobody is asked for its volumes");
    // The next volume is that of a new import, and the log says how the first one ended.
    let import = world.import(&bundle, 2).unwrap();
    assert_eq!(import, ImportId(2));
    world.until(import, ImportState::AwaitingApproval);
    assert_eq!(world.review(ImportId(1)).state, ImportState::Refused);
    assert_eq!(world.count("import-refused", "code", "import.discarded"), 1);
}

#[test]
fn before_the_enrolment_nothing_is_given_up() {
    let world = World::new();
    let failed = world.ask(&Request::Discard { import: ImportId(1) }).unwrap_err();
    assert_eq!(failed.code, "trust.not-enrolled");
}

#[test]
fn what_lies_on_one_medium_takes_one_step_of_time() {
    let world = World::enrolled();
    let trust = |version, time: &str| -> handover::Answer {
        let meta = Bundle::new(1, "0.5").issued(time).offer(version, false).meta;
        connect(&world).ask(&handover::Request::Trust { meta, keep: true }).unwrap()
    };
    let is_far = |answer: handover::Answer| matches!(answer, handover::Answer::Problem(told) if told.code == "bundle.trust.time-step");
    assert!(!is_far(trust(1, "2028-01-01T00:00:00Z")), "nothing is known of the time before");
    let medium = connect(&world);
    let begun: handover::Answer = medium.ask(&handover::Request::Begin).unwrap();
    assert!(matches!(begun, handover::Answer::Parked(_)), "{begun:?}");
    assert!(!is_far(trust(2, "2028-10-01T00:00:00Z")), "274 days");
    assert!(is_far(trust(3, "2029-06-01T00:00:00Z")), "517 days after the medium came");
    drop(medium);
    // The next one begins where this one ended.
    wait_until(|| !is_far(trust(3, "2029-06-01T00:00:00Z"))).unwrap();
    assert!(is_far(trust(4, "2030-12-01T00:00:00Z")));
}

#[test]
fn trust_metadata_without_a_file_is_none_and_the_next_is_heard() {
    let world = World::enrolled();
    let connection = connect(&world);
    for keep in [true, false] {
        for (meta, code) in
            [(vec![0; 1024], "bundle.meta"), (vec![1], "bundle.container.truncated")]
        {
            let request = handover::Request::Trust { meta: Blob(meta), keep };
            let answer: handover::Answer = connection.ask(&request).unwrap();
            assert!(
                matches!(&answer, handover::Answer::Problem(told) if told.code == code),
                "{answer:?}"
            );
        }
    }
}

#[test]
fn two_releases_may_wait_at_once_and_one_that_was_overtaken_ends() {
    let world = World::enrolled();
    let (one, two) = (Bundle::new(1, "0.5"), Bundle::new(2, "0.5"));
    park(&world, &one, 1);
    park(&world, &two, 2);
    assert_eq!(parked(&world).len(), 2);
    world.promoted(&two, 2);
    assert_eq!(parked(&world).len(), 1, "the older one still waits");
    assert_eq!(world.import(&one, 3).unwrap_err().code, "bundle.rollback");
    assert_eq!(parked(&world), []);
    let shown = world.review(ImportId(1));
    assert_eq!(shown.state, ImportState::Refused);
    assert_eq!(shown.problem.unwrap().code, "bundle.rollback");
    assert!(!world.config.paths.quarantine().join("1").exists());
    assert_eq!(world.count("import-refused", "code", "bundle.rollback"), 1, "one end, one record");
}
