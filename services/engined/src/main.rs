//! The language model's process; one for each slot.

use std::error::Error;

use cloister_config::Role;
use cloister_daemon::Daemon;

fn main() -> Result<(), Box<dyn Error>> {
    let daemon = Daemon::start(Role::Engined)?;
    cloister_engined::run(&daemon)?;
    Ok(())
}
