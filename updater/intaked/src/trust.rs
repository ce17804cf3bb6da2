//! Trust metadata that lies on a medium by itself: judged before any release beside it, one volume at a
//! time, so that a forged one keeps no good one from being heard.

use cloister_config::Config;
use cloister_daemon::Connection;
use cloister_domain::{Class, Coded as _};
use cloister_wire::intake::Event;

use crate::{IntakeError, survey::Survey, updaterd::Updaterd};

/// Has each judged and, with `keep`, kept; tells the client what each came to. Gives the first refusal.
pub(crate) fn judge(
    config: &Config,
    survey: &mut Survey<'_>,
    keep: bool,
    client: &Connection,
) -> Result<Option<IntakeError>, IntakeError> {
    let (mut refused, single) = (None, survey.is_single());
    for alone in survey.take_trust() {
        let event = match Updaterd::connect(config)?.trust(alone.meta, keep) {
            Ok(trusted) => Some(Event::Trusted(trusted)),
            Err(error) if error.class() == Class::Refused => {
                let problem = error.problem();
                refused = refused.or(Some(error));
                // A single one is told as the end's problem.
                (!single).then_some(Event::Refused { name: alone.name, problem })
            }
            Err(error) => return Err(error),
        };
        if let Some(event) = event {
            client.write(&event).map_err(IntakeError::Client)?;
        }
    }
    Ok(refused)
}
