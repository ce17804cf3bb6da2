//! The inspection of one artefact in a process of its own: how small its cage is, and how the pure
//! validators of `cloister-inspect` get their bytes from a descriptor. Beside it the facility's own
//! scanner, in a process and a cage of its own.

mod scan;

use std::{fs::File, os::unix::fs::FileExt as _};

use cloister_daemon::{
    caged::{Cell, Peak},
    clock::Stopwatch,
};
use cloister_domain::ByteCount;
use cloister_inspect::{Refusal, Source};
use cloister_wire::{
    Problem,
    inspect::{Accepted, Answer, Question, clock_seconds_max, seconds_max},
};

pub use scan::scan;

/// Address space of the process, with room for what the program maps beside what it uses: no artefact
/// takes more than 48 MiB, to which the tests of the validators hold them.
const MEMORY_BYTES: u64 = 768 << 20;

/// The cage for an artefact of `bytes`.
#[must_use]
pub const fn cell(bytes: ByteCount) -> Cell {
    Cell {
        memory_bytes: MEMORY_BYTES,
        seconds: seconds_max(bytes),
        clock_seconds: clock_seconds_max(bytes),
    }
}

/// Judges the artefact in `file`.
#[must_use]
pub fn judge(question: &Question, file: &File, peak: &Peak) -> Answer {
    let since = Stopwatch::start();
    let verdict = look(&question.name, file);
    let microseconds = u64::try_from(since.elapsed().as_micros()).unwrap_or(u64::MAX);
    Answer { verdict, microseconds, peak_bytes: peak.bytes() }
}

fn look(name: &str, file: &File) -> Result<Accepted, Problem> {
    let judged =
        Artefact::of(file).and_then(|mut source| cloister_inspect::inspect(name, &mut source));
    match judged {
        Ok(accepted) => Ok(Accepted { kind: accepted.kind, tensors: accepted.tensors }),
        Err(refusal) => Err(Problem::of(&refusal)),
    }
}

/// The artefact behind a descriptor.
struct Artefact<'a> {
    file: &'a File,
    bytes: u64,
}

impl<'a> Artefact<'a> {
    fn of(file: &'a File) -> Result<Self, Refusal> {
        // The end of the file is asked for by seeking: describing a file is no call of the cage's.
        let bytes = std::io::Seek::seek(&mut &*file, std::io::SeekFrom::End(0));
        bytes.map(|bytes| Self { file, bytes }).map_err(|_gone| Refusal::Unreadable)
    }
}

impl Source for Artefact<'_> {
    fn bytes(&self) -> u64 {
        self.bytes
    }

    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> Result<(), Refusal> {
        // Whoever answers questions meanwhile need not wait for a tick of the clock.
        std::thread::yield_now();
        self.file.read_exact_at(buffer, offset).map_err(|_shorter| Refusal::Unreadable)
    }
}
