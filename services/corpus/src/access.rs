//! Who may see which passage.

use std::collections::BTreeSet;

use cloister_domain::{GenerationId, Label, LabelSet};

/// What one reader's question may reach. Decided before anything is ranked or counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope {
    /// The generation whose documents are visible beside the facility's own, if any is.
    pub generation: Option<GenerationId>,
    /// Collections to search; empty is all.
    pub collections: BTreeSet<String>,
    /// The reader's labels.
    pub labels: LabelSet,
}

impl Scope {
    /// Whether a document that is held under `label`, in `collection`, by `holder` (a generation, or
    /// the facility) may be seen. A reader needs the document's own label; none implies another.
    #[must_use]
    pub fn admits(&self, holder: Option<GenerationId>, collection: &str, label: &Label) -> bool {
        let reachable = match holder {
            None => true,
            Some(generation) => self.generation == Some(generation),
        };
        reachable
            && self.labels.contains(label)
            && (self.collections.is_empty() || self.collections.contains(collection))
    }
}

#[cfg(test)]
mod tests {
    use cloister_domain::Digest;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn nobody_sees_without_the_label_or_another_generation(
            labels in prop::collection::btree_set("[a-c]", 0..3),
            label in "[a-c]",
            holder in prop::option::of(0u8..3),
            asked in prop::option::of(0u8..3),
            collections in prop::collection::btree_set("[x-z]", 0..3),
            collection in "[x-z]",
        ) {
            let id = |byte: u8| GenerationId(Digest::of(&[byte]));
            let scope = Scope {
                generation: asked.map(id),
                collections: collections.clone(),
                labels: labels.iter().map(|text| text.parse().expect("a name")).collect(),
            };
            let seen = scope.admits(holder.map(id), &collection, &label.parse().expect("a name"));
            prop_assert!(!seen || labels.contains(&label));
            prop_assert!(!seen || holder.is_none() || holder == asked);
            prop_assert!(!seen || collections.is_empty() || collections.contains(&collection));
        }
    }
}
