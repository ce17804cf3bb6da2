//! A share of all walks in every run: as `./x crash --only walks`, with seeds of its own.

use std::io::Write as _;

use cloister_crash::{Kinds, Wish, missing, walks};

const SEED: u64 = 20_261_122;
const WALKS: usize = 20;

#[test]
fn walks_of_many_acts_serve_nothing_but_what_may_be_and_come_home() {
    if let Some(what) = missing(Kinds { walks: true, ..Kinds::NONE }) {
        let line = format!("skipped: walks cannot be taken here, {what} is missing\n");
        std::io::stderr().write_all(line.as_bytes()).unwrap();
        return;
    }
    let wish = Wish { seed: SEED, points: WALKS, ..Wish::default() };
    let walked = walks(&wish, |_line| Ok(())).unwrap();
    let wrong: Vec<&String> = walked.lines.iter().filter(|line| line.contains("WRONG")).collect();
    assert!(
        wrong.is_empty(),
        "{}",
        wrong.iter().map(|line| format!("\n{line}")).collect::<String>()
    );
    let often = |what: &str| walked.counts.get(what).copied().unwrap_or(0);
    assert_eq!(often("walks"), WALKS as u64);
    for (what, least) in [
        ("walk promotions", 8),
        ("walk kill hit", 30),
        ("walk two at once", 30),
        ("walk import done", 20),
        ("walk import not done", 20),
        ("walk approve done", 20),
        ("walk approve not done", 20),
        ("walk activate not done", 5),
        ("walk weather disk full", 5),
        ("walk weather silent", 5),
        ("walk weather engines gone", 5),
        ("walk restart", 5),
    ] {
        assert!(often(what) >= least, "{what}: {} of {least}", often(what));
    }
}
