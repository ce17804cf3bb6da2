//! A disk that does not take what was written, and names that nobody flushed: neither is taken for kept.

use std::fs;

use cloister_bundle::handover::{Answer, Plan};
use cloister_daemon::files::read_limited;

use crate::{
    kill::{Killer, Updaterd},
    support::{World, bundle::Bundle, wait_until},
};

#[test]
fn a_chunk_off_the_shelf_that_the_disk_lost_is_not_there() {
    let mut world = World::enrolled();
    world.promoted(&Bundle::new(1, "0.5"), 1);
    world.stop_updaterd();
    let updaterd = Updaterd::start(&world);
    let two = Bundle::new(2, "0.4");
    let receiving = world.begin(&two, 2).unwrap();
    // A file that both releases have.
    let number = two.files.iter().position(|(name, _)| name == "evaluation/heldout.txt").unwrap();
    let part = receiving.folder.join(Plan::part_name(number));
    fs::write(&part, b"").unwrap();
    let killer = Killer::failing(&updaterd, "fdatasync", &part);
    let failed = receiving.fill(&[number as u64]);
    assert!(
        matches!(&failed, Answer::Problem(problem) if problem.code == "import.quarantine"),
        "{failed:?}"
    );
    assert_eq!(fs::metadata(&part).unwrap().len(), 0, "in memory it would be whole");
    drop((killer, receiving));
    let receiving = world.begin(&two, 2).unwrap();
    assert!(
        matches!(receiving.fill(&[number as u64]), Answer::Filled { chunks } if chunks.len() == 1)
    );
    assert_eq!(read_limited(&part, 1 << 10).unwrap(), two.files[number].1);
}

#[test]
fn a_trust_state_that_is_there_already_is_flushed_when_the_updater_starts() {
    let mut world = World::enrolled();
    world.stop_updaterd();
    let log = world.config.paths.state.with_extension("calls");
    let _updaterd = Updaterd::traced(&world, "fsync", &log);
    let flushed = format!("<{}>)", world.config.paths.trust().display());
    let calls = || String::from_utf8(read_limited(&log, 1 << 20).unwrap()).unwrap();
    wait_until(|| calls().contains(&flushed)).unwrap_or_else(|()| panic!("{}", calls()));
}
