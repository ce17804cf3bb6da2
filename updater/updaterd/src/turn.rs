//! Media that are being imported: from when on the time is counted that what lies on one proves.

use std::{collections::BTreeMap, sync::Mutex};

use cloister_verify::{Instant, TrustState};

use crate::{
    core::{Core, UNPOISONED},
    error::ActError,
};

/// The imports of media that run, with the floor that each began at.
#[derive(Debug, Default)]
pub(crate) struct Turns(Mutex<BTreeMap<u64, Option<Instant>>>);

/// One that runs; it is over when this is dropped.
#[derive(Debug)]
pub(crate) struct Turn<'a> {
    turns: &'a Turns,
    number: u64,
}

impl Core {
    /// Begins one.
    pub(crate) fn begin_turn(&self) -> Turn<'_> {
        let floor = self.enrolled().and_then(|trust| trust.stored().vector.time_floor.clone());
        let mut turns = self.turns.0.lock().expect(UNPOISONED);
        let number = turns.last_key_value().map_or(0, |(last, _)| last.saturating_add(1));
        turns.insert(number, floor);
        Turn { turns: &self.turns, number }
    }

    /// The trust state for what comes from a medium: a step of time begins where its import began.
    pub(crate) fn trust_of_turn(&self) -> Result<TrustState, ActError> {
        let trust = self.trust()?;
        let turns = self.turns.0.lock().expect(UNPOISONED);
        let earliest = turns.values().flatten().min().cloned();
        Ok(trust.stepping_from(earliest))
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.turns.0.lock().expect(UNPOISONED).remove(&self.number);
    }
}
