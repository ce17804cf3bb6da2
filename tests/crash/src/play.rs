//! One act with its strikes: played by the real daemons, brought to rest, judged.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use cloister_stage::facility;
use serde_json::Value;

use crate::{
    appliance::{Appliance, NO_ANSWER, Run},
    disk::{Facts, facts},
    fixture::Fixture,
    log::{Signer, begins_with, digests},
    scene::{Outcome, Scene},
    sight::Expected,
    tracer::{Act, Call, Happening, Harm, Strike, Watch},
    tree::OnDisk,
};

/// How often the log is looked at while it grows, until it can be read.
const READS_MAX: u32 = 500;

/// How long daemons that were killed may take to come to rest.
const REST: Duration = Duration::from_secs(8);
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(4);
/// How often an act that did not happen is asked for again.
const AGAIN_MAX: u32 = 4;
/// How often a look at a release may be spoilt by whoever takes it off the shelf meanwhile.
const LOOKS_MAX: u32 = 3;

/// An act with what it comes to when nothing disturbs it, and the calls that it makes.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    /// The act.
    pub(crate) scene: Scene,
    /// What it leads from and to.
    pub(crate) expected: Expected,
    /// Its calls.
    pub(crate) calls: Vec<Call>,
}

/// What an operator was told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Told {
    /// It is done.
    Done,
    /// It is not, with this code.
    Refused(String),
}

/// What became of an act.
#[derive(Clone, Debug)]
pub(crate) struct Played {
    /// The calls that were struck, as they were.
    pub(crate) struck: Vec<String>,
    /// What the operator was told.
    pub(crate) told: Told,
    /// Whether the operator was told that it is done before the restart, if not at first then when asking again.
    pub(crate) done: bool,
    /// What it had come to when everything was at rest.
    pub(crate) outcome: Outcome,
    /// What the operator's command said, when it was asked last.
    pub(crate) said: facility::Outcome,
    /// Everything that happened, up to the restart if there was one.
    pub(crate) happenings: Vec<Happening>,
    /// The log's key.
    pub(crate) key: String,
    /// The log's entries, by their digests, that were durable when the operator was answered.
    pub(crate) log: Vec<String>,
}

/// What must be there from now on, whatever happens.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Held<'a> {
    /// What the operator's command said, if that was that the act is done.
    pub(crate) said: Option<&'a facility::Outcome>,
    /// The log's entries that were durable, by their digests.
    pub(crate) log: &'a [String],
}

/// What an act came to.
#[derive(Clone, Debug)]
pub(crate) struct Settled {
    /// At first.
    pub(crate) first: Outcome,
    /// What the operator's command said when it was asked again and told that it is done.
    pub(crate) said: Option<facility::Outcome>,
}

/// How an act is played.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Manner {
    /// Keep the bytes that are written.
    pub(crate) bytes: bool,
    /// Judge what the daemons come to that met the strikes, before they are started again.
    pub(crate) lives: bool,
    /// Start the daemons again, without strikes, before the last judgement.
    pub(crate) restart: bool,
    /// What is done to the disk when a strike has killed the updater, which a judge must notice.
    pub(crate) harm: Option<Harm>,
}

/// Plays an act from its beginning with `strikes`.
///
/// # Errors
/// When what is left is neither old nor new, when something acknowledged is missing, when an error has no
/// code, or when the daemons do not come to rest.
pub(crate) fn play(
    appliance: &mut Appliance,
    fixture: &Fixture,
    known: &Known,
    strikes: &[Strike],
    manner: Manner,
) -> Result<Played> {
    let scene = &known.scene;
    appliance.put_back(&fixture.base(scene.base))?;
    let watch = Watch {
        look: Some(scene.look(fixture)),
        shelf: appliance.config().paths.shelf(),
        harm: manner.harm.filter(|_harm| !manner.restart),
    };
    let run = Run { bytes: manner.bytes, recorded: manner.bytes, watch, ..Run::default() };
    appliance.start(strikes, run)?;
    let key = appliance.log_key()?;
    let session = appliance.session()?;
    session.arm();
    let mut said = ask(appliance, fixture, scene)?;
    let told = told(scene, &said)?;
    let is_failing = strikes.iter().any(Strike::is_failing);
    let mut log = durable(appliance, &key, is_failing)?;
    let session = appliance.session()?;
    if told == Told::Done {
        session.mark();
    }
    // Who waits for an evaluation waits until the disk takes its figures.
    let for_good = strikes.iter().any(|strike| matches!(strike.act, Act::FailFrom(_)));
    let waits = told == Told::Refused(NO_ANSWER.to_owned());
    ensure!(for_good || !waits, "the command got no answer");
    if session.struck().len() < strikes.len() {
        // What follows the answer is struck, too.
        appliance.quiet()?;
    }
    let (struck, mut happenings) = (appliance.session()?.struck(), Vec::new());
    let (mut done, mut outcome) = (told == Told::Done, None);
    if manner.lives {
        let held = Held { said: done.then_some(&said), log: &log };
        let settled = settle(appliance, fixture, known, &key, held).context("without a restart")?;
        outcome = Some(settled.first);
        log = durable(appliance, &key, true)?;
        if let Some(again) = settled.said {
            appliance.session()?.mark();
            (done, said) = (true, again);
        }
    }
    if manner.restart {
        happenings = appliance.end()?;
        died(&happenings, strikes)?;
        if let Some(harm) = manner.harm {
            harm(&appliance.config().paths.shelf())?;
        }
        come_back(appliance, fixture, scene)?;
    }
    let held = Held { said: done.then_some(&said), log: &log };
    let settled = settle(appliance, fixture, known, &key, held)?;
    let outcome = outcome.unwrap_or(settled.first);
    let struck = if manner.restart { struck } else { appliance.session()?.struck() };
    let last = appliance.end()?;
    let strikes = if manner.restart { &[] } else { strikes };
    died(&last, strikes)?;
    if !manner.restart {
        happenings = last;
    }
    Ok(Played { struck, told, done, outcome, said, happenings, key, log })
}

/// Starts the daemons anew, unwatched, on a disk on which nothing runs, which is looked at first.
///
/// # Errors
/// When something else is served than the old release or the new one, or a release is not whole.
pub(crate) fn come_back(appliance: &mut Appliance, fixture: &Fixture, scene: &Scene) -> Result<()> {
    let shelf = appliance.config().paths.shelf();
    scene.look(fixture).at(&OnDisk, &shelf).context("before anybody recovers")?;
    appliance.begin_unwatched()?;
    appliance.wait_for_sockets()
}

/// The log's entries that are durable now, by their digests, read off the disk while daemons run. One whose
/// flush failed may lie there and be taken back, so where calls fail only those count that recordd answers for.
///
/// # Errors
/// When what lies there never fits.
pub(crate) fn durable(appliance: &Appliance, key: &str, asked: bool) -> Result<Vec<String>> {
    // Of what it does not answer for nobody was told.
    let size = if asked { appliance.log_size().unwrap_or(0) } else { usize::MAX };
    let (folder, signer) = (appliance.config().paths.record(), Signer::parse(key)?);
    let mut looks = 0;
    loop {
        looks += 1;
        match digests(&OnDisk, &folder, &signer) {
            Ok(mut log) => {
                log.truncate(size);
                return Ok(log);
            }
            Err(wrong) if looks >= READS_MAX => return Err(wrong.context("the log, when answered")),
            Err(_grows) => std::thread::park_timeout(PAUSE),
        }
    }
}

/// Waits until everything is at rest and judges it; `held` is what was known when the operator was answered.
/// What has not happened is asked for again until it has. What it came to at first.
///
/// # Errors
/// When it is neither old nor new, or something that was acknowledged is missing.
pub(crate) fn settle(
    appliance: &Appliance,
    fixture: &Fixture,
    known: &Known,
    key: &str,
    held: Held<'_>,
) -> Result<Settled> {
    let scene = &known.scene;
    let told = if held.said.is_some() { Told::Done } else { Told::Refused(String::new()) };
    let (facts, first) = rest(appliance, fixture, known, key, (&told, held.log))?;
    if let Some(said) = held.said {
        ensure!(first == Outcome::New, "what was acknowledged is lost: the act is not done");
        acknowledged(fixture, scene, said, &facts)?;
    }
    let mut log = durable(appliance, key, true)?;
    let (mut outcome, mut again, mut last) = (first, 0, None);
    while outcome == Outcome::Old {
        again += 1;
        for words in scene.again(fixture)? {
            appliance.cloister(&words.iter().map(String::as_str).collect::<Vec<_>>())?.done()?;
        }
        let said = ask(appliance, fixture, scene)?;
        let told = self::told(scene, &said)?;
        let (facts, now) = rest(appliance, fixture, known, key, (&told, &log))?;
        (outcome, log) = (now, durable(appliance, key, true)?);
        if told == Told::Done {
            ensure!(outcome == Outcome::New, "asked again the answer is that it is done");
            acknowledged(fixture, scene, &said, &facts)?;
            last = Some(said);
        }
        ensure!(
            again < AGAIN_MAX || outcome == Outcome::New,
            "asked again it does not happen: {told:?}"
        );
    }
    Ok(Settled { first, said: last })
}

/// Asks for the act as its operator would.
pub(crate) fn ask(
    appliance: &Appliance,
    fixture: &Fixture,
    scene: &Scene,
) -> Result<facility::Outcome> {
    let words = scene.words(fixture)?;
    appliance.cloister(&words.iter().map(String::as_str).collect::<Vec<_>>())
}

pub(crate) fn told(scene: &Scene, said: &facility::Outcome) -> Result<Told> {
    if said.exit == 0 || scene.ends_with(said.code()) {
        return Ok(Told::Done);
    }
    let code = said.code();
    ensure!(!code.is_empty(), "the command ended with {} and gave no code", said.exit);
    Ok(Told::Refused(code.to_owned()))
}

/// Waits until the disk holds what is whole, and the same twice in a row; the new state, where the operator
/// was told that the act is done, and the log with what it held. What no moment may show ends the waiting.
fn rest(
    appliance: &Appliance,
    fixture: &Fixture,
    known: &Known,
    key: &str,
    (told, log): (&Told, &[String]),
) -> Result<(Facts, Outcome)> {
    let (begun, look) = (Instant::now(), known.scene.look(fixture));
    let paths = &appliance.config().paths;
    let mut last: Option<Outcome> = None;
    loop {
        look.at_pointer(&OnDisk, &paths.shelf())?;
        let seen = judge(appliance, fixture, known, key, log);
        let over = appliance.session()?.is_over();
        match seen {
            // What is done may still be on its way.
            Ok((_, Outcome::Old)) if *told == Told::Done && begun.elapsed() < REST && !over => {}
            Ok((facts, outcome)) if last == Some(outcome) => {
                // At rest, and the daemons answer.
                appliance.wait_for_sockets()?;
                return Ok((facts, outcome));
            }
            Ok((_, outcome)) => last = Some(outcome),
            Err(wrong) if begun.elapsed() > REST || over => return Err(wrong),
            Err(_not_yet) => {
                last = None;
                let torn = || look.at(&OnDisk, &paths.shelf()).err();
                let mut torn = (0..LOOKS_MAX).map_while(|_look| torn());
                if let Some(wrong) = torn.nth(LOOKS_MAX as usize - 1) {
                    return Err(wrong.context("while the daemons recover"));
                }
            }
        }
        std::thread::park_timeout(PAUSE);
    }
}

/// What lies on the disk now.
///
/// # Errors
/// When it is neither old nor new, or not whole, or the log lacks something that it held.
fn judge(
    appliance: &Appliance,
    fixture: &Fixture,
    known: &Known,
    key: &str,
    log: &[String],
) -> Result<(Facts, Outcome)> {
    let facts = facts(&appliance.config().paths, key, &known.scene.allowed(fixture))?;
    begins_with(&facts.log, fixture.log(known.scene.base))?;
    begins_with(&facts.log, log)?;
    let outcome = known.scene.outcome(fixture, &known.expected, &facts)?;
    Ok((facts, outcome))
}

/// Every record and import that the answer names is there, and the record is this act's.
///
/// # Errors
/// When one is not, or the answer of an act that tells of its record names none.
pub(crate) fn acknowledged(
    fixture: &Fixture,
    scene: &Scene,
    said: &facility::Outcome,
    facts: &Facts,
) -> Result<()> {
    let (mut records, mut imports) = (Vec::new(), Vec::new());
    for answer in &said.said {
        named(answer, "record", &mut records);
        named(answer, "import", &mut imports);
    }
    for record in &records {
        let entry = facts.log.get(usize::try_from(*record)?);
        let entry =
            entry.with_context(|| format!("record {record} was acknowledged and is lost"))?;
        let is = scene.is_record(fixture, entry);
        ensure!(is, "record {record} was acknowledged, and is now {} {}", entry.event, entry.act);
    }
    ensure!(
        !scene.tells_of_a_record() || !records.is_empty(),
        "the answer names no record: {:?}",
        said.said
    );
    for import in imports {
        let known = facts.books.imports.contains_key(&i64::try_from(import)?);
        ensure!(known, "import {import} was named and is lost");
    }
    Ok(())
}

/// Every number that stands under `name` anywhere in `answer`.
fn named(answer: &Value, name: &str, found: &mut Vec<u64>) {
    match answer {
        Value::Object(fields) => {
            for (field, value) in fields {
                if field == name {
                    found.extend(value.as_u64());
                }
                named(value, name, found);
            }
        }
        Value::Array(values) => values.iter().for_each(|value| named(value, name, found)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// A daemon ends by itself only where a call of its start came back with an error, and never by a
/// signal. Nothing that no moment may show was seen when a strike had killed one.
///
/// # Errors
/// When one did, or something was.
pub(crate) fn died(happenings: &[Happening], strikes: &[Strike]) -> Result<()> {
    let may_end = strikes.iter().any(Strike::is_failing);
    for happening in happenings {
        match happening {
            Happening::Ended(unit, how) if !may_end || how.starts_with("SIG") => {
                bail!("{} ended by itself: {how}", unit.name())
            }
            Happening::Wrong(what) => bail!("when it was killed: {what}"),
            _ => {}
        }
    }
    Ok(())
}

/// The acts with what they come to and the calls that each of them makes when nothing disturbs it.
///
/// # Errors
/// When an undisturbed act does not end well.
pub(crate) fn survey(
    appliance: &mut Appliance,
    fixture: &Fixture,
    scenes: &[Scene],
) -> Result<Vec<Known>> {
    let surveyed = scenes.iter().map(|scene| {
        undisturbed(appliance, fixture, scene)
            .with_context(|| format!("{}, undisturbed", scene.name))
    });
    surveyed.collect()
}

fn undisturbed(appliance: &mut Appliance, fixture: &Fixture, scene: &Scene) -> Result<Known> {
    appliance.put_back(&fixture.base(scene.base))?;
    appliance.start(&[], Run { recorded: true, ..Run::default() })?;
    let (key, allowed) = (appliance.log_key()?, scene.allowed(fixture));
    let paths = appliance.config().paths.clone();
    appliance.quiet()?;
    let old = facts(&paths, &key, &allowed).context("before the act")?;
    appliance.session()?.forget();
    appliance.session()?.arm();
    let said = ask(appliance, fixture, scene)?;
    let told = told(scene, &said)?;
    ensure!(told == Told::Done, "it was refused: {told:?}");
    appliance.session()?.mark();
    appliance.quiet()?;
    let new = facts(&paths, &key, &allowed)?;
    acknowledged(fixture, scene, &said, &new)?;
    let expected = Expected::of(old, new.clone());
    let outcome = scene.outcome(fixture, &expected, &new)?;
    ensure!(outcome == Outcome::New, "nothing came of it");
    let call = |happening| match happening {
        Happening::Call(call) => Some(call),
        _ => None,
    };
    let happenings = appliance.end()?;
    died(&happenings, &[])?;
    Ok(Known { scene: *scene, expected, calls: happenings.into_iter().filter_map(call).collect() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_found_wherever_an_answer_names_it() {
        let mut found = Vec::new();
        let answer = serde_json::json!({ "switched": { "record": 7, "from": [{ "record": 9 }] } });
        named(&answer, "record", &mut found);
        found.sort_unstable();
        assert_eq!(found, [7, 9]);
    }
}
