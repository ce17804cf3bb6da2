//! The fit worksheet as a table for people: each sum with its terms, in units that are read at a glance.
//! `--json` has the same to the byte.

use std::io::Write;

use cloister_domain::{ByteCount, counted};
use cloister_wire::fit::{Measure, Part, Term};

use crate::{Failure, say};

/// Shows each term with what is needed, what is there and what is left over; below it what the sum is
/// made of, the reserve last.
pub(crate) fn show(fit: &[Term], out: &mut dyn Write) -> Result<(), Failure> {
    if fit.is_empty() {
        return Ok(());
    }
    say!(out, "{:<34} {:>16} {:>16} {:>16}  verdict", "fit", "needed", "there", "left over");
    for term in fit {
        let verdict = if term.holds() { "good" } else { "NOT GOOD" };
        let name = plain_name(&term.name);
        match &term.measure {
            Measure::Amount { unit, parts, needed, reserve, there } => {
                let sum = amount(unit, needed.saturating_add(*reserve));
                let there = there.map_or_else(|| "not known".to_owned(), |all| amount(unit, all));
                let left = term.margin().map_or_else(|| "-".to_owned(), |left| signed(unit, left));
                say!(out, "  {name:<32} {sum:>16} {there:>16} {left:>16}  {verdict}");
                for Part { what, amount: part } in parts {
                    say!(out, "    {what:<30} {:>16}", amount(unit, *part));
                }
                if *reserve > 0 {
                    say!(out, "    {:<30} {:>16}", "reserve, kept free", amount(unit, *reserve));
                }
            }
            Measure::Words { needed, missing } => {
                let met = needed.len().saturating_sub(missing.len());
                let (asked, met) = match needed.len() {
                    0 => ("none asked".to_owned(), "-".to_owned()),
                    asked => (format!("{asked} asked"), format!("{met} met")),
                };
                say!(out, "  {name:<32} {asked:>16} {met:>16} {:>16}  {verdict}", "-");
                for word in needed {
                    let mark = if missing.contains(word) { "MISSING" } else { "met    " };
                    say!(out, "    {mark}  {word}");
                }
            }
        }
    }
    Ok(())
}

/// What a term is about. It begins with the word that its refusal ends with (`preflight.ram`).
pub(crate) fn plain_name(term: &str) -> &str {
    match term {
        "disk" => "disk, free",
        "inodes" => "inodes, one for each file",
        "ram" => "ram, to serve alone",
        "ram-while-judged" => "ram, beside the active release",
        "vram" => "vram, of an accelerator",
        "runtime" => "runtime, the appliance's version",
        "features" => "features of the engine",
        "licence" => "licence, by the facility's list",
        "attestations" => "attestations that are asked for",
        other => other,
    }
}

pub(crate) fn amount(unit: &str, amount: u64) -> String {
    match unit {
        "bytes" => ByteCount(amount).to_string(),
        other => match other.strip_suffix('s') {
            Some(one) => counted(amount, one).to_string(),
            None => format!("{amount} {other}"),
        },
    }
}

fn signed(unit: &str, left: i128) -> String {
    let size = amount(unit, u64::try_from(left.unsigned_abs()).unwrap_or(u64::MAX));
    if left < 0 { format!("-{size}") } else { size }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(what: &str, amount: u64) -> Part {
        Part { what: what.to_owned(), amount }
    }

    #[test]
    fn each_sum_has_a_unit_and_its_terms() {
        let gib = 1 << 30;
        let bytes = |name: &str, parts: Vec<Part>, reserve, there| {
            Term::amount(name, "bytes", parts, reserve, there)
        };
        let copies = vec![part("in quarantine", 3 * gib), part("copied to the shelf", 3 * gib)];
        let words = |name: &str, needed: &[&str], missing: &[&str]| Term {
            name: name.to_owned(),
            measure: Measure::Words {
                needed: needed.iter().map(|word| (*word).to_owned()).collect(),
                missing: missing.iter().map(|word| (*word).to_owned()).collect(),
            },
        };
        let fit = [
            bytes("disk", copies, 2 * gib, Some(7 * gib)),
            Term::amount("inodes", "files", vec![part("files", 464)], 0, Some(1000)),
            bytes("vram", vec![part("as the publisher states", 0)], 0, None),
            words("runtime", &[], &[]),
            words("features", &["llama", "warp"], &["warp"]),
        ];
        let mut out = Vec::new();
        show(&fit, &mut out).expect("written");
        let expected = "\
fit                                          needed            there        left over  verdict
  disk, free                                8.0 GiB          7.0 GiB         -1.0 GiB  NOT GOOD
    in quarantine                           3.0 GiB
    copied to the shelf                     3.0 GiB
    reserve, kept free                      2.0 GiB
  inodes, one for each file               464 files       1000 files        536 files  good
    files                                 464 files
  vram, of an accelerator                       0 B        not known                -  good
    as the publisher states                     0 B
  runtime, the appliance's version       none asked                -                -  good
  features of the engine                    2 asked            1 met                -  NOT GOOD
    met      llama
    MISSING  warp
";
        assert_eq!(String::from_utf8(out).expect("text"), expected);
        for term in ["disk", "inodes", "ram", "ram-while-judged", "vram", "runtime", "features"]
            .into_iter()
            .chain(["licence", "attestations"])
        {
            let name = plain_name(term);
            assert!(name != term && name.len() <= 32, "{name}: the columns stand below each other");
        }
    }
}
