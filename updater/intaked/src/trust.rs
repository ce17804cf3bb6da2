//! Trust metadata that lies on a medium by itself: judged before any release beside it, one volume at a
//! time, so that a forged one keeps no good one from being heard.

use cloister_config::Config;
use cloister_daemon::Connection;
use cloister_domain::{Class, Coded as _};
use cloister_sealed::Identity;
use cloister_wire::intake::{Event, Trusted};

use crate::{
    IntakeError,
    survey::{Alone, Survey},
    updaterd::Updaterd,
};

/// Has what is good kept, and the rest recorded; tells the client of each. Gives the first refusal.
pub(crate) fn take(
    config: &Config,
    survey: &Survey<'_>,
    client: &Connection,
) -> Result<Option<IntakeError>, IntakeError> {
    let settled = settle(survey, client, |alone| {
        let meta = alone.meta(survey.identities)?;
        // One that a later one makes good is not recorded as refused.
        Updaterd::connect(config)?.trust(meta.clone(), false)?;
        Updaterd::connect(config)?.trust(meta, true)
    })?;
    for (alone, error) in &settled.refused {
        match Updaterd::connect(config)?.trust(alone.meta(survey.identities)?, true) {
            Err(again) if again.class() == Class::Refused => {}
            Err(fault) => return Err(fault),
            Ok(_) => return Err(IntakeError::Changed),
        }
        tracing::info!(code = error.code(), "trust metadata is refused");
    }
    Ok(settled.first())
}

/// Trust metadata that is believed, for whoever looks at what lies beside it.
#[derive(Debug)]
pub(crate) struct Supposed<'a> {
    identities: &'a [Identity],
    believed: Vec<Alone<'a>>,
}

impl Supposed<'_> {
    /// A conversation in which it counts.
    pub(crate) fn updaterd(&self, config: &Config) -> Result<Updaterd, IntakeError> {
        let updaterd = Updaterd::connect(config)?;
        for alone in &self.believed {
            updaterd.trust(alone.meta(self.identities)?, false)?;
        }
        Ok(updaterd)
    }
}

/// Has it judged and nothing kept. Gives what is believed, and the first refusal.
pub(crate) fn suppose<'a>(
    config: &Config,
    survey: &Survey<'a>,
    client: &Connection,
) -> Result<(Supposed<'a>, Option<IntakeError>), IntakeError> {
    if survey.alone.is_empty() {
        return Ok((Supposed { identities: survey.identities, believed: Vec::new() }, None));
    }
    let updaterd = Updaterd::connect(config)?;
    let mut settled =
        settle(survey, client, |alone| updaterd.trust(alone.meta(survey.identities)?, false))?;
    let believed = std::mem::take(&mut settled.believed);
    Ok((Supposed { identities: survey.identities, believed }, settled.first()))
}

/// What became of each.
struct Settled<'a> {
    believed: Vec<Alone<'a>>,
    refused: Vec<(Alone<'a>, IntakeError)>,
}

impl Settled<'_> {
    fn first(self) -> Option<IntakeError> {
        self.refused.into_iter().next().map(|(_, error)| error)
    }
}

/// Has `judge` judge each, and those that it refuses again for as long as another one was news: one may
/// bring the root that the next is signed under.
fn settle<'a>(
    survey: &Survey<'a>,
    client: &Connection,
    mut judge: impl FnMut(Alone<'a>) -> Result<Trusted, IntakeError>,
) -> Result<Settled<'a>, IntakeError> {
    let mut settled = Settled { believed: Vec::new(), refused: Vec::new() };
    let mut open = survey.alone.clone();
    loop {
        let mut news = false;
        for alone in std::mem::take(&mut open) {
            match judge(alone) {
                Ok(trusted) => {
                    news |= trusted.newer;
                    settled.believed.push(alone);
                    client.write(&Event::Trusted(trusted)).map_err(IntakeError::Client)?;
                }
                Err(error) if error.class() == Class::Refused => {
                    settled.refused.push((alone, error))
                }
                Err(error) => return Err(error),
            }
        }
        if !news || settled.refused.is_empty() {
            break;
        }
        open = std::mem::take(&mut settled.refused).into_iter().map(|(alone, _)| alone).collect();
    }
    // A single one is told as the end's problem.
    if !survey.is_single() {
        for (alone, error) in &settled.refused {
            let event = Event::Refused { name: alone.name(), problem: error.problem() };
            client.write(&event).map_err(IntakeError::Client)?;
        }
    }
    Ok(settled)
}
