//! What stays on the shelf, and why.

use std::collections::{BTreeMap, BTreeSet};

use cloister_domain::{GenerationId, ImportId, Slot};
use cloister_wire::supply::Reason;

/// What the shelf holds and what speaks for it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Holdings {
    /// Every release on the shelf.
    pub on_shelf: BTreeSet<GenerationId>,
    /// What `active` names.
    pub active: Option<GenerationId>,
    /// What was active before, and what a rollback without a name returns to.
    pub previous: Option<GenerationId>,
    /// What a canary answers by.
    pub canary: Option<GenerationId>,
    /// What the engines hold.
    pub slots: BTreeMap<Slot, GenerationId>,
    /// What somebody said is to stay.
    pub pinned: BTreeSet<GenerationId>,
    /// What was once active, the latest first.
    pub promoted: Vec<GenerationId>,
    /// What the importer took back.
    pub revoked: BTreeSet<GenerationId>,
    /// Imports that have not come to their end.
    pub imports: BTreeMap<ImportId, GenerationId>,
    /// How many former releases stay to be returned to.
    pub retained_max: u32,
}

/// Every release on the shelf with the reasons for which it stays. One without a reason goes.
///
/// What was taken back takes no place among the retained ones; it goes as soon as nothing else speaks
/// for it.
#[must_use]
pub fn marks(holdings: &Holdings) -> BTreeMap<GenerationId, BTreeSet<Reason>> {
    let mut marks: BTreeMap<GenerationId, BTreeSet<Reason>> =
        holdings.on_shelf.iter().map(|id| (*id, BTreeSet::new())).collect();
    let mut mark = |id: GenerationId, reason| {
        if let Some(reasons) = marks.get_mut(&id) {
            reasons.insert(reason);
        }
    };
    let standing = [
        (holdings.active, Reason::Active),
        (holdings.previous, Reason::Previous),
        (holdings.canary, Reason::Canary),
    ];
    for (id, reason) in standing {
        id.into_iter().for_each(|id| mark(id, reason));
    }
    holdings.slots.iter().for_each(|(slot, id)| mark(*id, Reason::Slot(*slot)));
    holdings.pinned.iter().for_each(|id| mark(*id, Reason::Pinned));
    holdings.imports.iter().for_each(|(import, id)| mark(*id, Reason::Import(*import)));
    let former = holdings.promoted.iter().filter(|id| {
        holdings.active != Some(**id)
            && holdings.on_shelf.contains(id)
            && !holdings.revoked.contains(id)
    });
    let retained_max = usize::try_from(holdings.retained_max).unwrap_or(usize::MAX);
    former.take(retained_max).for_each(|id| mark(*id, Reason::Retained));
    marks
}

#[cfg(test)]
mod tests {
    use cloister_domain::Digest;

    use super::*;

    fn id(number: u8) -> GenerationId {
        GenerationId(Digest::of(&[number]))
    }

    fn ids(numbers: &[u8]) -> Vec<GenerationId> {
        numbers.iter().map(|number| id(*number)).collect()
    }

    /// The releases without a reason, by number.
    fn gone(holdings: &Holdings) -> Vec<u8> {
        let marks = marks(holdings);
        let goes = |number: &u8| marks.get(&id(*number)).is_some_and(BTreeSet::is_empty);
        (0..20).filter(goes).collect()
    }

    fn five() -> Holdings {
        Holdings {
            on_shelf: ids(&[1, 2, 3, 4, 5]).into_iter().collect(),
            active: Some(id(5)),
            promoted: ids(&[5, 4, 3, 2, 1]),
            retained_max: 2,
            ..Holdings::default()
        }
    }

    #[test]
    fn the_active_one_and_the_last_former_ones_stay() {
        assert_eq!(gone(&five()), [1, 2]);
        assert_eq!(gone(&Holdings { retained_max: 0, ..five() }), [1, 2, 3, 4]);
        assert_eq!(gone(&Holdings { active: Some(id(3)), ..five() }), [1, 2]);
        assert_eq!(
            gone(&Holdings { active: None, promoted: Vec::new(), ..five() }),
            [1, 2, 3, 4, 5]
        );
    }

    #[test]
    fn whatever_speaks_for_a_release_keeps_it_and_is_named() {
        let none = Holdings { retained_max: 0, ..five() };
        let cases = [
            (Holdings { previous: Some(id(1)), ..none.clone() }, Reason::Previous),
            (Holdings { canary: Some(id(1)), ..none.clone() }, Reason::Canary),
            (
                Holdings { slots: BTreeMap::from([(Slot::B, id(1))]), ..none.clone() },
                Reason::Slot(Slot::B),
            ),
            (Holdings { pinned: BTreeSet::from([id(1)]), ..none.clone() }, Reason::Pinned),
            (
                Holdings { imports: BTreeMap::from([(ImportId(7), id(1))]), ..none.clone() },
                Reason::Import(ImportId(7)),
            ),
        ];
        for (holdings, reason) in cases {
            assert_eq!(gone(&holdings), [2, 3, 4], "{reason:?}");
            assert_eq!(marks(&holdings)[&id(1)], BTreeSet::from([reason]));
        }
        assert_eq!(marks(&none)[&id(5)], BTreeSet::from([Reason::Active]));
    }

    #[test]
    fn what_was_taken_back_takes_no_place() {
        let revoked = Holdings { revoked: BTreeSet::from([id(4)]), ..five() };
        assert_eq!(gone(&revoked), [1, 4]);
        let pinned = Holdings { pinned: BTreeSet::from([id(4)]), ..revoked };
        assert_eq!(gone(&pinned), [1]);
        // What is not on the shelf takes none either, and is not invented.
        let swept = Holdings { on_shelf: ids(&[1, 2, 5]).into_iter().collect(), ..five() };
        assert_eq!(gone(&swept), Vec::<u8>::new());
        assert_eq!(marks(&swept).len(), 3);
    }
}
