//! A share of the mutants; `./x prove hostile` offers them without end.

use cloister_hostile::{Base, mutants};

#[test]
fn some_mutants_are_refused() {
    let base = Base::new().unwrap();
    assert!(mutants::is_repeatable(&base, 3, 14).unwrap());
    let counts = mutants::run(1, 0, 2_000).unwrap();
    let refused: u64 = counts.iter().filter(|(code, _)| code.contains('.')).map(|(_, n)| n).sum();
    assert!(refused > 1_900, "{counts:?}");
}
