//! Prints `docs/reference/errors.md`.

use std::io::Write as _;

use anyhow::Result;
use cloister_tidy::{Tree, error_page};

fn main() -> Result<()> {
    write!(std::io::stdout(), "{}", error_page(&Tree::read()?))?;
    Ok(())
}
