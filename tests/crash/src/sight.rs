//! What an act comes to, in aspects that can be compared between two runs of it: each must be as before the
//! act, or each as after it.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Result, bail};

use crate::{
    books::{Import, Trial},
    disk::Facts,
    scene::Outcome,
};

/// What a state looks like: each aspect with what it is, in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sight(Vec<(&'static str, String)>);

/// What an undisturbed act leads from and to.
#[derive(Clone, Debug)]
pub(crate) struct Expected {
    old: Facts,
    new: Facts,
}

impl Expected {
    /// From what lay there before the act, and what it came to when nothing disturbed it.
    pub(crate) const fn of(old: Facts, new: Facts) -> Self {
        Self { old, new }
    }

    /// What became of the act in `facts`; `early` are aspects that may be new before the act is done,
    /// `done` says of a state whether the act has happened.
    ///
    /// # Errors
    /// When it is neither; names the aspects that are as neither, or those of either kind.
    pub(crate) fn outcome(
        &self,
        facts: &Facts,
        early: &[&str],
        done: impl Fn(&Facts) -> bool,
    ) -> Result<Outcome> {
        let first = self.old.books.imports.keys().copied().collect();
        let sight = |facts: &Facts| {
            let Sight(mut aspects) = Sight::of(facts, &first);
            aspects.push(("the act", if done(facts) { "done" } else { "not done" }.to_owned()));
            aspects
        };
        let (old, now, new) = (sight(&self.old), sight(facts), sight(&self.new));
        let mut as_old = Vec::new();
        let mut as_new = Vec::new();
        let mut may_be_old = true;
        for ((old, now), new) in old.iter().zip(&now).zip(&new) {
            let name = now.0;
            match (now == old, now == new) {
                (true, true) => {}
                (true, false) => as_old.push(name),
                (false, true) => {
                    as_new.push(name);
                    may_be_old &= early.contains(&name);
                }
                (false, false) => bail!(
                    "{name} is neither old nor new: {}; before the act {}, after it {}",
                    now.1,
                    old.1,
                    new.1
                ),
            }
        }
        match (as_old.is_empty(), may_be_old) {
            (true, _) => Ok(Outcome::New),
            (false, true) => Ok(Outcome::Old),
            (false, false) => bail!("{as_old:?} as before the act, and {as_new:?} as after it"),
        }
    }
}

impl Sight {
    /// The aspects of `facts`. Imports that are not among `first` count from where those end, without
    /// attempts that came to nothing.
    fn of(facts: &Facts, first: &BTreeSet<i64>) -> Self {
        let books = &facts.books;
        let numbers = numbers(&books.imports, first);
        let import = |number: &i64| numbers.get(number).copied();
        let imports: Vec<_> = books
            .imports
            .iter()
            .filter_map(|(number, held)| Some((import(number)?, &held.generation, &held.state)))
            .collect();
        let approvals: BTreeSet<_> = books
            .approvals
            .iter()
            .filter_map(|(number, person, decision)| Some((import(number)?, person, decision)))
            .collect();
        let evaluations: BTreeSet<_> = books
            .evaluations
            .iter()
            .filter_map(|(number, policy)| Some((import(number)?, policy)))
            .collect();
        // A canary that was cut off before it began is no trial.
        let begun = |trial: &&Trial| trial.ended.as_deref() != Some("not-begun");
        let trials: Vec<&Trial> = books.trials.values().filter(begun).collect();
        let shelf = &facts.shelf;
        Self(vec![
            ("what is served", format!("{:?}", shelf.active)),
            ("the releases", format!("{:?}", shelf.releases.keys())),
            ("the objects", format!("{:?}", shelf.objects)),
            ("what is isolated", format!("{:?}", shelf.isolated)),
            ("the trial on the shelf", format!("{:?}", shelf.trial)),
            ("the imports", format!("{imports:?}")),
            ("the approvals", format!("{approvals:?}")),
            ("the evaluations", format!("{evaluations:?}")),
            ("the pins", format!("{:?}", books.pins)),
            ("what was promoted", format!("{:?}", books.promoted)),
            ("the consents", format!("{:?}", books.consents)),
            ("the trials", format!("{trials:?}")),
            ("the counters", format!("{:?}", books.counters)),
            ("the trust", books.vector.clone()),
        ])
    }
}

/// The imports that are compared, each with the number that it has in an undisturbed run.
fn numbers(imports: &BTreeMap<i64, Import>, first: &BTreeSet<i64>) -> BTreeMap<i64, i64> {
    let end = first.last().copied().unwrap_or(0);
    let comes_to_something =
        |import: &Import| !matches!(import.state.as_str(), "receiving" | "refused");
    let kept = imports
        .iter()
        .filter(|(number, import)| first.contains(number) || comes_to_something(import));
    let mut next = end;
    kept.map(|(number, _)| {
        if first.contains(number) {
            (*number, *number)
        } else {
            next += 1;
            (*number, next)
        }
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::books::Books;

    fn facts(state: &str, approvals: &[&str], pin: Option<&str>) -> Facts {
        let import = Import { generation: None, state: state.to_owned(), needs: BTreeSet::new() };
        let approval = |person: &&str| (1, (*person).to_owned(), "approve".to_owned());
        let books = Books {
            imports: BTreeMap::from([(1, import)]),
            approvals: approvals.iter().map(approval).collect(),
            pins: pin.map(str::to_owned).into_iter().collect(),
            ..Books::default()
        };
        Facts { books, ..Facts::default() }
    }

    #[test]
    fn a_state_between_old_and_new_is_neither() {
        let old = facts("awaiting-approval", &["ada"], None);
        let new = facts("approved", &["ada", "bob"], None);
        let expected = Expected::of(old.clone(), new.clone());
        let outcome = |facts: &Facts| expected.outcome(facts, &[], |_| false);
        assert_eq!(outcome(&old).unwrap(), Outcome::Old);
        assert_eq!(outcome(&new).unwrap(), Outcome::New);
        outcome(&facts("approved", &["ada"], None)).expect_err("one approval");
        outcome(&facts("approved", &["bob"], None)).expect_err("ada's is gone");
        outcome(&facts("awaiting-approval", &["ada", "bob"], None)).expect_err("both, and waits");
        outcome(&facts("awaiting-approval", &["ada"], Some("r"))).expect_err("a pin of nobody");
    }

    #[test]
    fn an_attempt_that_came_to_nothing_is_no_import() {
        let old = facts("activated", &[], None);
        let mut new = old.clone();
        let state = "awaiting-approval".to_owned();
        let fresh = Import { generation: Some("r".to_owned()), state, needs: BTreeSet::new() };
        new.books.imports.insert(2, fresh.clone());
        let expected = Expected::of(old.clone(), new);
        let mut now = old;
        let gone = Import { state: "refused".to_owned(), ..fresh.clone() };
        now.books.imports.insert(2, gone);
        assert_eq!(expected.outcome(&now, &[], |_| false).unwrap(), Outcome::Old);
        now.books.imports.insert(3, fresh);
        assert_eq!(expected.outcome(&now, &[], |_| false).unwrap(), Outcome::New);
    }
}
