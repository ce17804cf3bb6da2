//! The keeper of the documents.

use std::error::Error;

use cloister_config::Role;
use cloister_daemon::Daemon;

fn main() -> Result<(), Box<dyn Error>> {
    let daemon = Daemon::start(Role::Corpusd)?;
    cloister_corpusd::run(&daemon)?;
    Ok(())
}
