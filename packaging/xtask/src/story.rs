//! How the demo tells what happened.

use std::{io::Write, time::Instant};

use anyhow::Result;

/// A story in numbered chapters, each with its time.
pub(crate) struct Story<'a> {
    out: &'a mut dyn Write,
    begun: Instant,
    chapter: Option<Instant>,
    number: u32,
}

impl<'a> Story<'a> {
    pub(crate) fn new(out: &'a mut dyn Write) -> Self {
        Self { out, begun: Instant::now(), chapter: None, number: 0 }
    }

    /// Begins a chapter.
    pub(crate) fn chapter(&mut self, title: &str) -> Result<()> {
        self.close()?;
        self.number += 1;
        writeln!(self.out, "\n{}. {title}", self.number)?;
        self.chapter = Some(Instant::now());
        Ok(self.out.flush()?)
    }

    /// Something that happened.
    pub(crate) fn tell(&mut self, what: &str) -> Result<()> {
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
