//! What the tracer does for somebody while daemons run: lets strikes fall from now on, has a daemon stand still or
//! stay away, and kills them all.

use std::{
    collections::{BTreeSet, VecDeque},
    fs,
    sync::atomic::Ordering,
};

use anyhow::Result;
use cloister_stage::Unit;
use nix::{
    sys::{ptrace, signal::Signal},
    unistd::Pid,
};

use super::{Errand, Tracer};

/// What errands left.
#[derive(Debug, Default)]
pub(super) struct State {
    /// The daemon that stands still.
    frozen: Option<Unit>,
    /// Its threads, with the signals that they are about to be given.
    standing: Vec<(Pid, Option<Signal>)>,
    /// The daemon that stays away, and those that died since.
    away: Option<Unit>,
    down: BTreeSet<&'static str>,
}

impl State {
    /// Whether a daemon that ended is not started again for now.
    pub(super) fn stays_away(&mut self, unit: Unit) -> bool {
        let away = self.away == Some(unit);
        if away {
            self.down.insert(unit.name());
        }
        away
    }
}

impl Tracer {
    /// Whether this thread does not go on for now.
    pub(super) fn stands_still(&mut self, pid: Pid, signal: Option<Signal>) -> bool {
        let Some(frozen) = self.errands.frozen else { return false };
        let unit = self.threads.get(&pid).map(|thread| thread.unit).or_else(|| self.owner(pid));
        let stands = unit == Some(frozen);
        if stands {
            self.errands.standing.push((pid, signal));
        }
        stands
    }

    /// Runs what waits.
    pub(super) fn run_errands(&mut self) -> Result<()> {
        let waiting = {
            let mut errands =
                self.shared.errands.lock().expect("nobody panics while adding an errand");
            std::mem::take(&mut *errands)
        };
        for errand in waiting {
            self.deaths = 0;
            self.run_errand(errand)?;
            self.shared.run.fetch_add(1, Ordering::SeqCst);
        }
        Ok(())
    }

    fn run_errand(&mut self, errand: Errand) -> Result<()> {
        match errand {
            Errand::Strike(strikes) => {
                self.order.watched = !strikes.is_empty();
                self.strikes = VecDeque::from(strikes);
                (self.count, self.failing) = (0, None);
                self.interrupt(None);
            }
            Errand::Freeze(unit) => {
                self.errands.frozen = Some(unit);
                self.interrupt(Some(unit));
            }
            Errand::Thaw => {
                self.errands.frozen = None;
                for (pid, signal) in std::mem::take(&mut self.errands.standing) {
                    self.go_on(pid, signal)?;
                }
            }
            Errand::Hold(unit) => {
                self.errands.away = Some(unit);
                self.kill(unit)?;
            }
            Errand::Release => {
                self.errands.away = None;
                let down = std::mem::take(&mut self.errands.down);
                for unit in self.order.units.clone() {
                    if down.contains(unit.name()) {
                        self.spawn(unit)?;
                    }
                }
            }
            Errand::KillAll => self.kill_everything()?,
        }
        Ok(())
    }

    /// Stops every thread of a daemon, or of all, for a moment: from then on its calls are looked at or not, or it
    /// stands still.
    fn interrupt(&self, only: Option<Unit>) {
        let leaders =
            self.leaders.iter().filter(|(_, unit)| only.is_none_or(|only| only == **unit));
        for leader in leaders.map(|(pid, _)| *pid) {
            let tasks =
                fs::read_dir(format!("/proc/{leader}/task")).into_iter().flatten().flatten();
            let tasks = tasks.filter_map(|task| task.file_name().to_str()?.parse().ok());
            for task in tasks {
                // One that has just ended, or that the tracer has not met yet, is not stopped.
                ptrace::interrupt(Pid::from_raw(task)).unwrap_or_default();
            }
        }
    }
}
