//! `trial`: a release tried out on some people (canary) or beside them (shadow).

use std::io::Write;

use clap::{Args, Subcommand};
use cloister_config::Config;
use cloister_domain::{ImportId, Principal};
use cloister_wire::{
    supply::{Answer, Request},
    trial::{Kind, Scope, Shown, Tally},
};

use crate::{Failure, print_json, say, supply};

/// What to do with a trial.
#[derive(Debug, Subcommand)]
pub enum TrialVerb {
    /// Answer some people by an approved release.
    Canary(Start),
    /// Put what some people ask to a release that awaits approval too; its answers are compared and
    /// discarded.
    Shadow(Start),
    /// End the trial under way.
    End,
    /// Show the trial under way.
    Show,
}

/// Which release, on whom, how long.
#[derive(Debug, Args)]
pub struct Start {
    /// The import.
    id: u64,
    /// Who, by the name that the API key was made for; may be given several times.
    #[arg(long, value_name = "NAME", required_unless_present = "share")]
    principal: Vec<Principal>,
    /// Or so many per cent of all, such as 5 or 0.5.
    #[arg(long, value_name = "PERCENT", conflicts_with = "principal", value_parser = permille)]
    share: Option<u16>,
    /// How long at most, such as 90s, 30m, 12h or 2d.
    #[arg(long = "for", value_name = "TIME", default_value = "1h", value_parser = seconds)]
    lasts: u32,
}

/// `5` and `0.5` as thousandths.
fn permille(text: &str) -> Result<u16, &'static str> {
    let wrong = "a number of per cent from 0.1 to 100 with at most one digit behind the point";
    let (whole, tenths) = text.split_once('.').unwrap_or((text, "0"));
    if tenths.len() != 1 || text.starts_with('+') || tenths.starts_with('+') {
        return Err(wrong);
    }
    let whole: u16 = whole.parse().map_err(|_text| wrong)?;
    let tenths: u16 = tenths.parse().map_err(|_text| wrong)?;
    let permille = whole.checked_mul(10).and_then(|tens| tens.checked_add(tenths));
    permille.filter(|permille| (1..=1000).contains(permille)).ok_or(wrong)
}

/// `90s`, `30m`, `12h` and `2d` as seconds.
fn seconds(text: &str) -> Result<u32, &'static str> {
    let wrong = "a whole number with its unit: 90s, 30m, 12h or 2d";
    let unit = text.chars().last().ok_or(wrong)?;
    let each = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3600,
        'd' => 86_400,
        _ => return Err(wrong),
    };
    let count: u32 = text.strip_suffix(unit).unwrap_or_default().parse().map_err(|_text| wrong)?;
    count.checked_mul(each).filter(|seconds| *seconds > 0).ok_or(wrong)
}

pub(crate) fn trial(
    config: &Config,
    verb: TrialVerb,
    json: bool,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let answer = match verb {
        TrialVerb::Canary(start) => supply::ask(config, &request(Kind::Canary, start))?,
        TrialVerb::Shadow(start) => supply::ask(config, &request(Kind::Shadow, start))?,
        TrialVerb::End => supply::ask(config, &Request::EndTrial)?,
        TrialVerb::Show => match supply::ask_status(config)?.trial {
            Some(trial) => Answer::Trial(Box::new(trial)),
            None if json => return print_json(&serde_json::Value::Null, out),
            None => {
                say!(out, "no trial is under way");
                return Ok(());
            }
        },
    };
    let Answer::Trial(trial) = answer else { return Err(Failure::conversation("updaterd")) };
    if json { print_json(&trial, out) } else { show(&trial, out) }
}

fn request(kind: Kind, start: Start) -> Request {
    let scope = match start.share {
        Some(permille) => Scope::Share { permille },
        None => Scope::Principals(start.principal.into_iter().collect()),
    };
    Request::StartTrial { kind, import: ImportId(start.id), scope, seconds: start.lasts }
}

/// A trial and what it came to.
pub(crate) fn show(trial: &Shown, out: &mut dyn Write) -> Result<(), Failure> {
    let state = match trial.ended {
        Some(end) => format!("ended: {end}"),
        None => "under way".to_owned(),
    };
    say!(out, "trial {:>4}   {} of import {}: {state}", trial.trial, trial.kind, trial.import);
    say!(out, "  release   {}", trial.generation);
    say!(out, "  scope     {}", trial.scope);
    say!(out, "  lasted    {} of {} s", trial.lasted_s, trial.seconds);
    say!(
        out,
        "  {:<10}{:>10}{:>8}{:>16}{:>14}",
        "",
        "answered",
        "failed",
        "first piece ms",
        "tokens each"
    );
    row("on trial", &trial.report.candidate, out)?;
    row("active", &trial.report.active, out)?;
    if trial.kind == Kind::Shadow {
        let report = &trial.report;
        say!(out, "  same      {} of {} answers", report.same, report.candidate.answered);
        say!(out, "  passed over {}", report.passed_over);
    }
    Ok(())
}

fn row(name: &str, tally: &Tally, out: &mut dyn Write) -> Result<(), Failure> {
    let text = |mean: Option<u64>| mean.map_or_else(|| "-".to_owned(), |mean| mean.to_string());
    let first = tally.mean_first_piece().map(|microseconds| microseconds / 1000);
    say!(
        out,
        "  {name:<10}{:>10}{:>8}{:>16}{:>14}",
        tally.answered,
        tally.failed,
        text(first),
        text(tally.mean_tokens())
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_and_times_are_read_exactly() {
        for (text, value) in [("5", 50), ("0.5", 5), ("100", 1000), ("100.0", 1000), ("0.1", 1)] {
            assert_eq!(permille(text), Ok(value), "{text}");
        }
        for text in
            ["0", "0.0", "100.1", "101", "5.55", "5.", ".", "+5", "-5", "5.-", "5,5", "9999999"]
        {
            assert!(permille(text).is_err(), "{text}");
        }
        for (text, value) in [("90s", 90), ("30m", 1800), ("12h", 43_200), ("2d", 172_800)] {
            assert_eq!(seconds(text), Ok(value), "{text}");
        }
        for text in ["", "s", "5", "0s", "-5s", "1.5h", "5 m", "99999999d", "5ß"] {
            assert!(seconds(text).is_err(), "{text}");
        }
    }
}
