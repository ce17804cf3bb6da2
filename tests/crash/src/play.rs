//! One act with its strikes: played by the real daemons, brought to rest, judged.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use cloister_stage::facility;
use serde_json::Value;

use crate::{
    appliance::{Appliance, NO_ANSWER},
    disk::{Facts, facts},
    fixture::Fixture,
    scene::{Outcome, Scene},
    tracer::{Act, Call, Happening, Strike},
};

/// How long daemons that were killed may take to come to rest.
const REST: Duration = Duration::from_secs(8);
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(4);
/// How often an act that did not happen is asked for again.
const AGAIN_MAX: u32 = 4;

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
    /// What it had come to when everything was at rest.
    pub(crate) outcome: Outcome,
    /// The calls of the whole run, if they were asked for.
    pub(crate) calls: Vec<Call>,
}

/// How an act is played.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Manner {
    /// Keep the bytes that are written.
    pub(crate) bytes: bool,
    /// Start the daemons again, without strikes, before anything is judged.
    pub(crate) restart: bool,
}

/// Plays `scene` from its beginning with `strikes`.
///
/// # Errors
/// When what is left is neither old nor new, when something acknowledged is missing, when an error has no
/// code, or when the daemons do not come to rest.
pub(crate) fn play(
    appliance: &mut Appliance,
    fixture: &Fixture,
    scene: &Scene,
    strikes: &[Strike],
    manner: Manner,
) -> Result<Played> {
    appliance.put_back(&fixture.base(scene.base))?;
    appliance.start(strikes, manner.bytes)?;
    let key = appliance.log_key()?;
    let session = appliance.session()?;
    session.arm();
    let said = ask(appliance, fixture, scene)?;
    let told = told(scene, &said)?;
    if told == Told::Done {
        session.mark();
    }
    // Who waits for an evaluation waits until the disk takes its figures.
    let for_good = strikes.iter().any(|strike| matches!(strike.act, Act::FailFrom(_)));
    let waits = told == Told::Refused(NO_ANSWER.to_owned());
    ensure!(for_good || !waits, "the command got no answer");
    let (struck, mut happenings) = (session.struck(), Vec::new());
    if manner.restart {
        happenings = appliance.end()?;
        appliance.begin_unwatched()?;
        appliance.wait_for_sockets()?;
    }
    let (facts, first) = rest(appliance, fixture, scene, &key, &told)?;
    if told == Told::Done {
        ensure!(first == Outcome::New, "the operator was told that it is done, and it is not");
        acknowledged(&said, &facts)?;
    }
    let struck = if manner.restart { struck } else { appliance.session()?.struck() };
    let (mut outcome, mut again) = (first, 0);
    while outcome == Outcome::Old {
        again += 1;
        let told = self::told(scene, &ask(appliance, fixture, scene)?)?;
        outcome = rest(appliance, fixture, scene, &key, &told)?.1;
        ensure!(
            again < AGAIN_MAX || outcome == Outcome::New,
            "asked again it does not happen: {told:?}"
        );
    }
    happenings.extend(appliance.end()?);
    died(&happenings, strikes)?;
    let call = |happening| match happening {
        Happening::Call(call) => Some(call),
        Happening::Struck(_) | Happening::Mark | Happening::Ended(..) => None,
    };
    let calls = happenings.into_iter().filter_map(call).collect();
    Ok(Played { struck, told, outcome: first, calls })
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
/// was told that the act is done.
pub(crate) fn rest(
    appliance: &Appliance,
    fixture: &Fixture,
    scene: &Scene,
    key: &str,
    told: &Told,
) -> Result<(Facts, Outcome)> {
    let begun = Instant::now();
    let mut last: Option<Outcome> = None;
    loop {
        let seen = judge(appliance, fixture, scene, key);
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
            Err(_not_yet) => last = None,
        }
        std::thread::park_timeout(PAUSE);
    }
}

/// What lies on the disk now.
///
/// # Errors
/// When it is neither old nor new, or not whole.
pub(crate) fn judge(
    appliance: &Appliance,
    fixture: &Fixture,
    scene: &Scene,
    key: &str,
) -> Result<(Facts, Outcome)> {
    let facts = facts(appliance.config(), key, &scene.allowed(fixture))?;
    let outcome = scene.outcome(fixture, &facts)?;
    Ok((facts, outcome))
}

/// Every record and import that the answer names is there.
fn acknowledged(said: &facility::Outcome, facts: &Facts) -> Result<()> {
    for answer in &said.said {
        if let Some(record) = answer.get("record").and_then(Value::as_u64) {
            let record = usize::try_from(record)?;
            ensure!(record < facts.log.len(), "record {record} was acknowledged and is lost");
        }
        if let Some(import) = answer.get("import").and_then(Value::as_i64) {
            ensure!(facts.imports.contains_key(&import), "import {import} was named and is lost");
        }
    }
    Ok(())
}

/// A daemon ends by itself only where a call of its start came back with an error, and never by a
/// signal.
fn died(happenings: &[Happening], strikes: &[Strike]) -> Result<()> {
    let failing = |strike: &Strike| !matches!(strike.act, Act::Kill | Act::KillAll);
    let may_end = strikes.iter().any(failing);
    for happening in happenings {
        let Happening::Ended(unit, how) = happening else { continue };
        if !may_end || how.starts_with("SIG") {
            bail!("{} ended by itself: {how}", unit.name());
        }
    }
    Ok(())
}

/// The acts with how many calls each of them makes when nothing disturbs it.
///
/// # Errors
/// When an undisturbed act does not end well.
pub(crate) fn survey(
    appliance: &mut Appliance,
    fixture: &Fixture,
    scenes: &[Scene],
) -> Result<Vec<(Scene, Vec<Call>)>> {
    let mut surveyed = Vec::new();
    for scene in scenes {
        let played = play(appliance, fixture, scene, &[], Manner::default())
            .with_context(|| format!("{}, undisturbed", scene.name))?;
        ensure!(played.told == Told::Done, "{} was refused: {:?}", scene.name, played.told);
        surveyed.push((*scene, played.calls));
    }
    Ok(surveyed)
}
