//! A daemon's command line: `--config PATH`, and `--slot a|b` for an engine.

use std::{ffi::OsString, path::PathBuf};

use cloister_config::Role;
use cloister_domain::Slot;

use crate::StartError;

/// What the command line says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Arguments {
    pub(crate) config: Option<PathBuf>,
    pub(crate) slot: Option<Slot>,
}

impl Arguments {
    /// Reads `arguments` (without the program's name).
    pub(crate) fn parse(
        role: Role,
        arguments: impl Iterator<Item = OsString>,
    ) -> Result<Self, StartError> {
        let mut parsed = Self { config: None, slot: None };
        let mut arguments = arguments;
        let usage = || StartError::Usage { role };
        while let Some(option) = arguments.next() {
            let value = arguments.next().ok_or_else(usage)?;
            match option.to_str() {
                Some("--config") => parsed.config = Some(value.into()),
                Some("--slot") if role == Role::Engined => {
                    let slot = value.to_str().and_then(|text| text.parse().ok());
                    parsed.slot = Some(slot.ok_or_else(usage)?);
                }
                _ => return Err(usage()),
            }
        }
        if role == Role::Engined && parsed.slot.is_none() { Err(usage()) } else { Ok(parsed) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(role: Role, words: &[&str]) -> Option<Arguments> {
        Arguments::parse(role, words.iter().map(OsString::from)).ok()
    }

    #[test]
    fn an_engine_needs_a_slot_and_no_other_takes_one() {
        let engine = parse(Role::Engined, &["--slot", "b", "--config", "/c"]).expect("good");
        assert_eq!(engine, Arguments { config: Some("/c".into()), slot: Some(Slot::B) });
        assert_eq!(parse(Role::Engined, &[]), None);
        assert_eq!(parse(Role::Engined, &["--slot", "c"]), None);
        assert_eq!(parse(Role::Recordd, &["--slot", "a"]), None);
        assert_eq!(parse(Role::Recordd, &["--config"]), None);
        assert_eq!(parse(Role::Recordd, &[]), Some(Arguments { config: None, slot: None }));
    }
}
