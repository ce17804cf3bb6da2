//! How the demo tells what happened.

use std::{io::Write, time::Instant};

use anyhow::Result;
use cloister_domain::ByteCount;

use crate::interrupt::Interrupts;

/// A story in numbered chapters, each with its time. It breaks off at the next word once the process
/// is asked to end.
pub(crate) struct Story<'a> {
    out: &'a mut dyn Write,
    interrupts: &'a Interrupts,
    begun: Instant,
    chapter: Option<Instant>,
    number: u32,
}

impl<'a> Story<'a> {
    pub(crate) fn new(out: &'a mut dyn Write, interrupts: &'a Interrupts) -> Self {
        Self { out, interrupts, begun: Instant::now(), chapter: None, number: 0 }
    }

    /// Who hears that the process is asked to end.
    pub(crate) const fn interrupts(&self) -> &'a Interrupts {
        self.interrupts
    }

    /// Begins a chapter.
    pub(crate) fn chapter(&mut self, title: &str) -> Result<()> {
        self.interrupts.go_on()?;
        self.close()?;
        self.number += 1;
        writeln!(self.out, "\n{}. {title}", self.number)?;
        self.chapter = Some(Instant::now());
        Ok(self.out.flush()?)
    }

    /// Something that happened.
    pub(crate) fn tell(&mut self, what: &str) -> Result<()> {
        self.interrupts.go_on()?;
        writeln!(self.out, "   {what}")?;
        Ok(self.out.flush()?)
    }

    fn close(&mut self) -> Result<()> {
        if let Some(chapter) = self.chapter.take() {
            writeln!(self.out, "   ({:.1} s)", chapter.elapsed().as_secs_f64())?;
        }
        Ok(())
    }

    /// The end.
    pub(crate) fn end(&mut self, words: &str) -> Result<()> {
        self.close()?;
        writeln!(self.out, "\n{words} ({:.0} s in all)", self.begun.elapsed().as_secs_f64())?;
        Ok(())
    }
}

/// A figure of an evaluation as people read it: what it is, and how to write its values. The name
/// ends with the unit of the integers.
pub(crate) fn figure(name: &str) -> (&str, fn(i64) -> String) {
    match name {
        "evaluation-set" => ("evaluation set", |given| yes(given, "given", "none")),
        "finite-logits" => ("logits are finite", |finite| yes(finite, "yes", "no")),
        "completion-tokens" => ("a completion", |tokens| {
            format!("{tokens} token{}", if tokens == 1 { "" } else { "s" })
        }),
        "load-microseconds" => ("loading", |time| format!("{} ms", time / 1000)),
        "heldout-millibits-per-byte" => {
            ("held-out text", |bits| format!("{} bits per byte", thousandths(bits)))
        }
        "golden-passed" => ("golden questions", |passed| format!("{passed} passed")),
        "retrieval-hit3-permille" => ("found among the first three", |share| {
            format!("{}.{} %", share / 10, share.rem_euclid(10))
        }),
        "decode-millitokens-per-s" => {
            ("decoding", |speed| format!("{} tokens per s", (speed + 500) / 1000))
        }
        "peak-memory-bytes" => ("memory at its peak", |bytes| {
            u64::try_from(bytes).map_or_else(|_| "-".to_owned(), |b| ByteCount(b).to_string())
        }),
        other => (other, |value| value.to_string()),
    }
}

fn yes(value: i64, one: &str, zero: &str) -> String {
    if value == 0 { zero } else { one }.to_owned()
}

fn thousandths(value: i64) -> String {
    format!("{}.{:03}", value / 1000, value.rem_euclid(1000))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_written_in_units_that_people_read() {
        let written = |name: &str, value: i64| figure(name).1(value);
        assert_eq!(written("heldout-millibits-per-byte", 2514), "2.514 bits per byte");
        assert_eq!(written("decode-millitokens-per-s", 3_922_537), "3923 tokens per s");
        assert_eq!(written("retrieval-hit3-permille", 995), "99.5 %");
        assert_eq!(written("peak-memory-bytes", 512 << 20), "512.0 MiB");
        assert_eq!(written("finite-logits", 0), "no");
        assert_eq!(figure("of-another-name").1(7), "7");
    }
}
