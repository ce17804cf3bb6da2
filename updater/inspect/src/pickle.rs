//! Python pickles, which have no magic number before protocol 2: their instructions are followed, none
//! is carried out.
//!
//! Source: CPython 3.13, `Lib/pickletools.py`, the table `opcodes`, whose stack effects are repeated
//! here as counts. A text is taken for a pickle only when it is one from its first byte on. A text that
//! only names something (`category`, `pump`: a column of a table) is none: Python looks for a module of
//! that name and does nothing more. What is refused uses what it named, or is whole.

mod opcodes;
#[cfg(test)]
mod tests;

use std::io::{BufRead, Result};

use opcodes::{Argument, Effect, instruction};

/// Most instructions that are followed; a text whose letters are as many instructions without a mistake
/// is no text, and a reader must come to an end.
const INSTRUCTIONS_MAX: u32 = 1 << 22;

/// Whether `file` is a pickle, or several one after another. `whole` says that it ends where the file
/// does.
pub(crate) fn is_one(mut file: impl BufRead, whole: bool) -> Result<bool> {
    let mut framed = file.fill_buf()?.first() == Some(&PROTOCOL);
    let mut machine = Machine::new(file);
    for _instruction in 0..INSTRUCTIONS_MAX {
        match machine.step()? {
            Step::On => {}
            Step::Stop => {
                // What follows an end is ignored by some readers, and the next pickle to others; in a
                // text it is the text.
                let ended = machine.depth > 0;
                let named = machine.reach >= Reach::Named;
                let decided = machine.ran() || (ended && (named || framed));
                if decided || !ended || machine.is_at_end()? {
                    return Ok(decided || ended);
                }
                framed = false;
                machine = Machine::new(machine.file);
            }
            Step::Cut => return Ok(machine.ran() || (framed && !whole)),
            // What ran before the mistake has run.
            Step::Wrong => {
                return Ok(machine.ran() || (framed && machine.reach >= Reach::Named));
            }
        }
    }
    Ok(true)
}

/// Names the protocol, from version 2 on as the first instruction.
const PROTOCOL: u8 = 0x80;

/// What came of an instruction.
enum Step {
    On,
    Stop,
    /// The bytes at hand end inside it.
    Cut,
    /// It is none, or the stack does not hold what it takes.
    Wrong,
}

struct Machine<R> {
    file: R,
    /// Things on the stack above the last mark.
    depth: usize,
    /// Things below each mark.
    marks: Vec<usize>,
    /// Whether something is kept under a number.
    kept: bool,
    reach: Reach,
}

/// How far a pickle reached out of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Reach {
    /// Nothing but its own data.
    Inside,
    /// Something of the program that reads it, which may be anything.
    Asked,
    /// Something of a module, by name.
    Named,
    /// It used what it named or asked for: called it, or changed it.
    Ran,
}

/// Bytes of a line that are looked at; a longer argument counts by how it begins.
const LINE_BYTES_MAX: usize = 1 << 16;
/// Most marks that are followed; a text that begins with more brackets is no text.
const MARKS_MAX: usize = 1 << 16;

impl<R: BufRead> Machine<R> {
    const fn new(file: R) -> Self {
        Self { file, depth: 0, marks: Vec::new(), kept: false, reach: Reach::Inside }
    }

    fn ran(&self) -> bool {
        self.reach == Reach::Ran
    }

    fn step(&mut self) -> Result<Step> {
        let Some(&opcode) = self.file.fill_buf()?.first() else { return Ok(Step::Cut) };
        let Some((argument, effect)) = instruction(opcode) else { return Ok(Step::Wrong) };
        self.file.consume(1);
        match self.argument(argument)? {
            Step::On => {}
            ended @ (Step::Stop | Step::Cut | Step::Wrong) => return Ok(ended),
        }
        // Nothing can be fetched before something was kept.
        let fetches = matches!(opcode, b'g' | b'h' | b'j');
        if fetches && !self.kept {
            return Ok(Step::Wrong);
        }
        let step = self.effect(effect);
        if !matches!(step, Step::On) {
            return Ok(step);
        }
        self.kept |= matches!(opcode, b'p' | b'q' | b'r' | 0x94);
        let calls = matches!(opcode, b'o' | b'R' | b'b' | 0x81 | 0x92);
        // Lists and dictionaries are filled by their methods, and so is whatever else was named.
        let fills = matches!(opcode, b'a' | b'e' | b's' | b'u' | 0x90);
        let uses = self.reach > Reach::Inside && (calls || fills);
        let reach = match opcode {
            _ if uses => Reach::Ran,
            b'i' => Reach::Ran,
            b'c' | 0x82..=0x84 | 0x93 => Reach::Named,
            b'P' | b'Q' => Reach::Asked,
            _ => Reach::Inside,
        };
        self.reach = self.reach.max(reach);
        Ok(step)
    }

    fn effect(&mut self, effect: Effect) -> Step {
        match effect {
            Effect::Stop => return Step::Stop,
            Effect::Mark => {
                if self.marks.len() >= MARKS_MAX {
                    // What cannot be followed any further is taken for the worst.
                    self.reach = Reach::Ran;
                    return Step::Wrong;
                }
                self.marks.push(self.depth);
                self.depth = 0;
            }
            Effect::Stack(takes, leaves) => {
                let Some(left) = self.depth.checked_sub(takes) else { return Step::Wrong };
                self.depth = left.saturating_add(leaves);
            }
            Effect::Pop => match self.depth.checked_sub(1) {
                Some(left) => self.depth = left,
                None => return self.effect(Effect::ToMark(0, 0)),
            },
            Effect::ToMark(takes, leaves) => {
                let Some(below) = self.marks.pop() else { return Step::Wrong };
                let Some(left) = below.checked_sub(takes) else { return Step::Wrong };
                self.depth = left.saturating_add(leaves);
            }
        }
        Step::On
    }

    fn argument(&mut self, argument: Argument) -> Result<Step> {
        match argument {
            Argument::None => Ok(Step::On),
            Argument::Bytes(count) => self.skip(count),
            Argument::Counted(width) => {
                let mut count = 0u64;
                for place in 0..width {
                    let Some(&byte) = self.file.fill_buf()?.first() else { return Ok(Step::Cut) };
                    self.file.consume(1);
                    count |= u64::from(byte).wrapping_shl(8u32.wrapping_mul(place));
                }
                self.skip(count)
            }
            Argument::Line => self.line(|_any, _whole| true),
            Argument::TwoLines => {
                let name = |line: &[u8], whole| whole && is_name(line);
                match self.line(name)? {
                    Step::On => self.line(name),
                    ended @ (Step::Stop | Step::Cut | Step::Wrong) => Ok(ended),
                }
            }
            // Whatever Python's `int` reads: blanks around, a sign, a base, lines between digits.
            Argument::Integer => self.line(|line, _whole| {
                let digits = unsigned(line);
                digits.first().is_some_and(u8::is_ascii_digit)
                    && digits.iter().all(|c| c.is_ascii_alphanumeric() || *c == b'_')
            }),
            Argument::Float => self.line(|line, _whole| {
                let number = unsigned(line);
                let word = [b"inf", b"nan"].iter().any(|word| {
                    number.get(..3).is_some_and(|start| start.eq_ignore_ascii_case(*word))
                });
                let plain = |c: &u8| c.is_ascii_alphanumeric() || b"._+-".contains(c);
                (word || matches!(number, [b'0'..=b'9' | b'.', ..])) && number.iter().all(plain)
            }),
            Argument::Quoted => self.line(|line, whole| match line.trim_ascii() {
                [first @ (b'\'' | b'"'), .., last] => first == last || !whole,
                _ => false,
            }),
        }
    }

    /// Goes past so many bytes.
    fn skip(&mut self, count: u64) -> Result<Step> {
        let mut left = count;
        while left > 0 {
            let at_hand = self.file.fill_buf()?.len();
            if at_hand == 0 {
                return Ok(Step::Cut);
            }
            let taken = usize::try_from(left).unwrap_or(usize::MAX).min(at_hand);
            self.file.consume(taken);
            left = left.saturating_sub(u64::try_from(taken).unwrap_or(u64::MAX));
        }
        Ok(Step::On)
    }

    /// Goes past a line; `good` is told its beginning, and whether that is all of it.
    fn line(&mut self, good: impl Fn(&[u8], bool) -> bool) -> Result<Step> {
        let mut line = Vec::new();
        let mut whole = true;
        loop {
            let at_hand = self.file.fill_buf()?;
            if at_hand.is_empty() {
                return Ok(Step::Cut);
            }
            let end = at_hand.iter().position(|byte| *byte == b'\n');
            let piece = at_hand.get(..end.unwrap_or(at_hand.len())).unwrap_or_default();
            let room = LINE_BYTES_MAX.saturating_sub(line.len());
            whole &= piece.len() <= room;
            line.extend(piece.iter().take(room));
            let taken = piece.len().saturating_add(usize::from(end.is_some()));
            self.file.consume(taken);
            if end.is_some() {
                let good = good(line.strip_suffix(b"\r").unwrap_or(&line), whole);
                return Ok(if good { Step::On } else { Step::Wrong });
            }
        }
    }

    /// Goes past white space; whether nothing follows.
    fn is_at_end(&mut self) -> Result<bool> {
        loop {
            let at_hand = self.file.fill_buf()?;
            if at_hand.is_empty() {
                return Ok(true);
            }
            let blank = at_hand.iter().take_while(|byte| byte.is_ascii_whitespace()).count();
            let more = blank < at_hand.len();
            self.file.consume(blank);
            if more {
                return Ok(false);
            }
        }
    }
}

/// A number without the blanks around it and its sign.
fn unsigned(line: &[u8]) -> &[u8] {
    let line = line.trim_ascii();
    line.strip_prefix(b"-").or_else(|| line.strip_prefix(b"+")).unwrap_or(line)
}

/// A module or a name in it.
fn is_name(line: &[u8]) -> bool {
    let plain =
        |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.') || *byte >= 0x80;
    !line.is_empty() && line.iter().all(plain)
}
