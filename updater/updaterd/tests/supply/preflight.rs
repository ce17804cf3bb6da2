//! What does not fit is refused before its first chunk is read, and the worksheet shows why.

use std::{collections::BTreeMap, fs, os::unix::fs::MetadataExt as _, path::Path};

use cloister_bundle::{Release, Runtime, handover};
use cloister_config::Role;
use cloister_daemon::Connection;
use cloister_domain::ImportId;
use cloister_wire::{
    fit::{Measure, Term},
    supply::ImportState,
};

use super::support::{World, bundle::Bundle};

/// The worksheet that a look at the release gives.
fn worksheet(world: &World, bundle: &Bundle) -> Vec<Term> {
    let connection = Connection::connect(&world.config.paths.socket(Role::Updaterd)).unwrap();
    let offer = handover::Request::Offer(bundle.offer(1, true));
    match connection.ask(&offer).unwrap() {
        handover::Answer::Seen(seen) => seen.summary.fit,
        other => panic!("{other:?}"),
    }
}

fn lacking(fit: &[Term]) -> Vec<&str> {
    fit.iter().filter(|term| !term.holds()).map(|term| term.name.as_str()).collect()
}

#[test]
fn each_term_of_the_worksheet_can_refuse_a_release() {
    let ask = |change: fn(&mut Release)| Bundle::asking(1, change);
    for (config, bundle, term, code) in [
        ("", ask(|release| release.requires.ram_bytes = 1 << 50), "ram", "preflight.ram"),
        ("", ask(|release| release.requires.vram_bytes = 1), "vram", "preflight.vram"),
        (
            "",
            ask(|release| release.requires.features = vec!["warp-drive".to_owned()]),
            "features",
            "preflight.features",
        ),
        (
            "",
            ask(|release| {
                release.requires.runtime = Some(Runtime { min: "99.0.0".to_owned(), max: None });
            }),
            "runtime",
            "preflight.runtime",
        ),
        ("licences_allowed = [\"Apache-2.0\"]", ask(|_| {}), "licence", "preflight.licence"),
        (
            "attestations_required = [\"sbom\"]",
            ask(|_| {}),
            "attestations",
            "preflight.attestations",
        ),
    ] {
        let world = World::with(config);
        world.enrol();
        let fit = worksheet(&world, &bundle);
        assert_eq!(fit.len(), 9, "{fit:?}");
        assert_eq!(lacking(&fit), [term]);
        let problem = world.import(&bundle, 1).unwrap_err();
        assert_eq!(problem.code, code);
        assert_eq!(world.count("import-refused", "code", code), 1, "{code}");
        assert_eq!(world.review(ImportId(1)).state, ImportState::Refused);
        let quarantine = world.config.paths.quarantine();
        assert!(!quarantine.exists() || fs::read_dir(quarantine).unwrap().next().is_none());
    }
}

#[test]
fn what_fits_goes_on() {
    let world = World::with(
        "licences_allowed = [\"MIT\"]\nattestations_required = [\"https://example.org/claim\"]",
    );
    world.enrol();
    let bundle = Bundle::asking(1, |release| {
        release.licences = vec!["MIT OR GPL-3.0-only".to_owned()];
        release.requires.features = vec!["llama".to_owned(), "q8_0".to_owned()];
        release.requires.runtime =
            Some(Runtime { min: "0.0.1".to_owned(), max: Some("99.0.0".to_owned()) });
        release.attestations = vec![cloister_bundle::Attached {
            predicate_type: "https://example.org/claim".to_owned(),
            sha256: cloister_domain::Digest::of(b"claim"),
            length: 5,
        }];
    });
    assert!(lacking(&worksheet(&world, &bundle)).is_empty());
}

/// Blocks that files below `folder` have on the disk, in bytes, by their inodes.
fn on_disk(folder: &Path, found: &mut BTreeMap<u64, u64>) {
    let Ok(listing) = fs::read_dir(folder) else { return };
    for entry in listing.map(Result::unwrap) {
        let about = entry.metadata().unwrap();
        if about.is_dir() {
            on_disk(&entry.path(), found);
        } else {
            found.insert(about.ino(), about.blocks() * 512);
        }
    }
}

#[test]
fn the_worksheet_asks_for_what_the_files_take_on_the_disk() {
    let world = World::with("evaluation_required = false");
    world.enrol();
    let bundle = Bundle::documents(1, 49);
    let fit = worksheet(&world, &bundle);
    let term = fit.iter().find(|term| term.name == "disk").unwrap();
    let Measure::Amount { needed, .. } = term.measure else { panic!("{term:?}") };
    let taken = || {
        let mut found = BTreeMap::new();
        on_disk(&world.config.paths.quarantine(), &mut found);
        on_disk(&world.config.paths.shelf().join("objects"), &mut found);
        (found.len(), found.into_values().sum::<u64>())
    };
    // At its largest, while it lies in quarantine, and as a candidate.
    let import = world.import_spoilt(&bundle, 1, |_folder| {
        let (files, bytes) = taken();
        assert_eq!(files, 51, "49 documents, the model, the index");
        assert!(bytes <= needed, "{bytes} bytes on the disk, {needed} asked for");
    });
    import.unwrap();
    let (files, bytes) = taken();
    assert_eq!(files, 50);
    assert!(bytes <= needed, "{bytes} bytes on the disk, {needed} asked for");
}
