//! What an approver is shown.

use cloister_domain::ImportId;
use cloister_wire::{
    review::{Change, Part, Review},
    supply::{ImportState, Request},
};

use crate::{
    status,
    support::{
        World,
        bundle::{self, Bundle},
    },
};

fn shown(world: &World, import: ImportId) -> Review {
    *world.review(import).review.expect("while the release is there")
}

#[test]
fn an_approver_sees_what_differs_from_the_active_release_and_who_vouches_for_it() {
    let world = World::enrolled();
    let (one, two) = (Bundle::new(1, "0.5"), Bundle::new(2, "0.4"));
    let first = world.import(&one, 1).unwrap();
    world.until(first, ImportState::AwaitingApproval);
    let alone = shown(&world, first);
    assert!(alone.difference.active.is_none());
    assert_eq!(alone.difference.files.len(), one.files.len());
    world.promoted_again(first);
    let second = world.import(&two, 2).unwrap();
    world.until(second, ImportState::AwaitingApproval);
    let Review { difference, provenance } = shown(&world, second);
    assert_eq!(difference.active.unwrap().generation, one.generation());
    let changed: Vec<Part> = difference
        .parts
        .iter()
        .filter(|part| !matches!(part.change, Change::Same | Change::Absent))
        .map(|part| part.part)
        .collect();
    assert_eq!(changed, [Part::Model, Part::Documents]);
    let files: Vec<&str> = difference.files.iter().map(|file| file.path.as_str()).collect();
    assert_eq!(files, ["documents/handbook/pump.md", "model/weights.txt"]);
    let bound = difference.numbers.iter().find(|one| one.name == "policy.golden-passed-min");
    assert_eq!(bound.map(|bound| (bound.active, bound.candidate)), Some((Some(1), Some(1))));

    let told: Vec<(&str, u64, u64, Vec<&str>)> = provenance
        .chain
        .iter()
        .map(|link| {
            let people = link.signers.iter().map(|one| one.person.as_deref().unwrap_or("?"));
            (link.text.as_str(), link.version, link.needed, people.collect())
        })
        .collect();
    assert_eq!(
        told,
        [
            ("root", 1, 2, vec!["ada", "bob"]),
            ("timestamp", 2, 1, vec!["imp"]),
            ("snapshot", 2, 1, vec!["imp"]),
            ("targets", 2, 1, vec!["imp"]),
            ("manifest", 2, 1, vec!["pub"]),
        ]
    );
    assert_eq!(provenance.chain.last().unwrap().role, "publisher");
    let steps: Vec<ImportState> = provenance.steps.iter().map(|step| step.state).collect();
    let came = [
        ImportState::Receiving,
        ImportState::Received,
        ImportState::Evaluating,
        ImportState::AwaitingApproval,
    ];
    assert_eq!(steps, came);
    // A status shows fifty imports; what is beside one is for a review alone.
    assert!(status(&world).imports.iter().all(|import| import.review.is_none()));
    let discarded = world.ask(&Request::Review { import: ImportId(99) });
    crate::refused(discarded, "import.unknown");
}

#[test]
fn a_signature_that_is_not_good_names_nobody() {
    let world = World::enrolled();
    let import = world.import(&Bundle::new(1, "0.5").signed_anew(), 1).unwrap();
    let review = shown(&world, import);
    let manifest = review.provenance.chain.last().unwrap();
    let people: Vec<_> = manifest.signers.iter().map(|one| one.person.as_deref()).collect();
    assert_eq!(people, [Some("pub")], "{} signed too and is nobody here", bundle::STRANGER);
}
