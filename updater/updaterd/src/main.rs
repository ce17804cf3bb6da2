//! The keeper of trust, shelf and the supply flow.

use std::error::Error;

use cloister_config::Role;
use cloister_daemon::Daemon;

fn main() -> Result<(), Box<dyn Error>> {
    let daemon = Daemon::start(Role::Updaterd)?;
    cloister_updaterd::run(&daemon)?;
    Ok(())
}
