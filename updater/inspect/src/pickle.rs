//! Python pickles, which have no magic number before protocol 2: their instructions are followed, none
//! is carried out.
//!
//! Source: CPython 3.13, `Lib/pickletools.py`, the table `opcodes`, whose stack effects are repeated
//! here as counts. A text is taken for a pickle only when it is one from its first byte on. A text that
//! only names something (`category`, `pump`: a column of a table) is none: Python looks for a module of
//! that name and does nothing more. What is refused uses what it named, or is whole.

use std::io::{BufRead, Result};

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

/// How an instruction's argument is written.
#[derive(Clone, Copy)]
enum Argument {
    None,
    Bytes(u64),
    /// A count of so many bytes, then as many bytes.
    Counted(u32),
    /// An integer on a line, in whatever base.
    Integer,
    /// A fraction on a line.
    Float,
    /// A text in quotes on a line.
    Quoted,
    Line,
    TwoLines,
}

/// What an instruction does to the stack.
#[derive(Clone, Copy)]
enum Effect {
    /// Takes so many and leaves so many.
    Stack(usize, usize),
    /// Takes the topmost thing, or the mark where there is none above it.
    Pop,
    Mark,
    /// Takes everything above the mark and the mark; takes so many below it and leaves so many.
    ToMark(usize, usize),
    Stop,
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

fn instruction(opcode: u8) -> Option<(Argument, Effect)> {
    use Argument::{Bytes, Counted, Float, Integer, Line, None as Nothing, Quoted, TwoLines};
    use Effect::{Mark, Pop, Stack, Stop, ToMark};
    Some(match opcode {
        b'I' | b'L' => (Integer, Stack(0, 1)),
        b'J' => (Bytes(4), Stack(0, 1)),
        b'K' => (Bytes(1), Stack(0, 1)),
        b'M' => (Bytes(2), Stack(0, 1)),
        0x8a => (Counted(1), Stack(0, 1)),
        0x8b => (Counted(4), Stack(0, 1)),
        b'S' => (Quoted, Stack(0, 1)),
        b'T' | b'B' | b'X' => (Counted(4), Stack(0, 1)),
        b'U' | b'C' | 0x8c => (Counted(1), Stack(0, 1)),
        0x8d | 0x8e | 0x96 => (Counted(8), Stack(0, 1)),
        0x97 => (Nothing, Stack(0, 1)),
        0x98 => (Nothing, Stack(1, 1)),
        b'N' | 0x88 | 0x89 | b']' | b')' | b'}' | 0x8f => (Nothing, Stack(0, 1)),
        b'V' => (Line, Stack(0, 1)),
        b'F' => (Float, Stack(0, 1)),
        b'G' => (Bytes(8), Stack(0, 1)),
        b'a' => (Nothing, Stack(2, 1)),
        b'e' | b'u' | 0x90 => (Nothing, ToMark(1, 1)),
        b'l' | b't' | b'd' | 0x91 => (Nothing, ToMark(0, 1)),
        0x85 => (Nothing, Stack(1, 1)),
        0x86 => (Nothing, Stack(2, 1)),
        0x87 => (Nothing, Stack(3, 1)),
        b's' => (Nothing, Stack(3, 1)),
        b'0' => (Nothing, Pop),
        b'2' => (Nothing, Stack(1, 2)),
        b'(' => (Nothing, Mark),
        b'1' => (Nothing, ToMark(0, 0)),
        b'g' => (Integer, Stack(0, 1)),
        b'h' => (Bytes(1), Stack(0, 1)),
        b'j' => (Bytes(4), Stack(0, 1)),
        b'p' => (Integer, Stack(1, 1)),
        b'q' => (Bytes(1), Stack(1, 1)),
        b'r' => (Bytes(4), Stack(1, 1)),
        0x94 => (Nothing, Stack(1, 1)),
        0x82 => (Bytes(1), Stack(0, 1)),
        0x83 => (Bytes(2), Stack(0, 1)),
        0x84 => (Bytes(4), Stack(0, 1)),
        b'c' => (TwoLines, Stack(0, 1)),
        0x93 => (Nothing, Stack(2, 1)),
        b'R' | b'b' => (Nothing, Stack(2, 1)),
        b'i' => (TwoLines, ToMark(0, 1)),
        b'o' => (Nothing, ToMark(0, 1)),
        0x81 => (Nothing, Stack(2, 1)),
        0x92 => (Nothing, Stack(3, 1)),
        0x80 => (Bytes(1), Stack(0, 0)),
        0x95 => (Bytes(8), Stack(0, 0)),
        b'.' => (Nothing, Stop),
        b'P' => (Line, Stack(0, 1)),
        b'Q' => (Nothing, Stack(1, 1)),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(bytes: &[u8]) -> bool {
        // A small buffer, so that arguments lie across its end.
        is_one(std::io::BufReader::with_capacity(7, bytes), true).expect("memory")
    }

    /// What runs `id`.
    const RUNS: &str = "cos\nsystem\n(S'id'\ntR.";

    /// What CPython 3.11 writes; see each line's comment.
    #[test]
    fn pickles_of_every_protocol_are_known() {
        for pickle in [
            // os.system("id"), by hand, protocol 0.
            &b"cos\nsystem\n(S'id'\ntR."[..],
            b"cos\nsystem\n(S'id'\ntR",
            b"cos\nsystem\n(S'id'\ntR and then a mistake",
            b"cos\nsystem\n(S'id'\ntR.\n  and then a text that hides it",
            // Things before it that are thrown away: a mark, and numbers in spellings of Python's.
            b"(0cos\nsystem\n(S'id'\ntR.",
            b"I 1\n0cos\nsystem\n(S'id'\ntR.",
            b"I1_0\n0cos\nsystem\n(S'id'\ntR.",
            b"I+1\n0cos\nsystem\n(S'id'\ntR.",
            b"L0x10L\n0cos\nsystem\n(S'id'\ntR.",
            b"F 1_0.5e3 \n0cos\nsystem\n(S'id'\ntR.",
            // It takes away what it made, so nothing is left for the end.
            b"cos\nsystem\n(S'id'\ntR0.",
            // The same with the instruction INST.
            b"(S'id'\nios\nsystem\n.",
            // pickle.dumps({"a": [1, 2.5, None]}, 0)
            b"(dp0\nVa\np1\n(lp2\nI1\naF2.5\naNas.",
            // pickle.dumps({"a": 1}, 1)
            b"}q\0X\x01\0\0\0aq\x01K\x01s.",
            // pickle.dumps({"a": 1}, 2)
            b"\x80\x02}q\0X\x01\0\0\0aq\x01K\x01s.",
            // pickle.dumps({"a": 1}, 4)
            b"\x80\x04\x95\x0a\0\0\0\0\0\0\0}\x94\x8c\x01a\x94K\x01s.",
            // torch.save before version 1.6: a number, then more pickles.
            b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03.",
        ] {
            assert!(whole(pickle), "{pickle:?}");
        }
    }

    #[test]
    fn a_pickle_longer_than_what_is_at_hand_is_known() {
        let mut long = b"\x80\x02]q\0(".to_vec();
        long.extend(b"K\x07".repeat(40_000));
        let front = long.get(..65_536).expect("longer");
        assert!(is_one(front, false).expect("memory"));
        assert!(whole(["(lp0\n", &"I7\na".repeat(20_000), "."].concat().as_bytes()));
    }

    /// Whatever stands before what runs: it is thrown away, kept, or the pickle before.
    #[test]
    fn a_pickle_behind_anything_of_any_length_is_known() {
        let many = 70_000;
        for before in [
            format!("V{}\n0", "Pumps are checked. ".repeat(5000)),
            format!("S'{}'\n0", "a".repeat(many)),
            format!("I{}\n0", "1".repeat(many)),
            format!("L{}L\n0", "9".repeat(many)),
            format!("F{}\n0", "1".repeat(many)),
            format!("V{}\n0", "a".repeat(2200)).repeat(40),
            format!("V{}\np1\n0g1\n0", "a".repeat(many)),
            format!("UA{}0", "a".repeat(65)).repeat(1000),
            format!("N{}", "2".repeat(many)),
            format!("{}1", "(".repeat(3000)),
            "N.".to_owned(),
            "I1\n.\n ".to_owned(),
            "N.".repeat(many),
        ] {
            let pickle = [before.as_str(), RUNS].concat();
            let start: String = before.chars().take(9).collect();
            assert!(whole(pickle.as_bytes()), "{start}");
        }
        let marks = ["(".repeat(many), "1".repeat(many), RUNS.to_owned()].concat();
        assert!(whole(marks.as_bytes()), "more marks than are followed");
        assert!(whole("N".repeat(5_000_000).as_bytes()), "more instructions than are followed");
        // Without a call: what was named is changed.
        for pickle in
            ["Pfunction\n(tR and so on", "cos\nenviron\nS'PATH'\nS'x'\ns", "csys\npath\nS'x'\na"]
        {
            assert!(whole(pickle.as_bytes()), "{pickle}");
        }
    }

    #[test]
    fn texts_are_not_pickles() {
        for text in [
            &b""[..],
            b"Pumps are checked each week.\n",
            b"I am a text.\nSo I am.\n",
            b"(see below)\n",
            b"Version 1\nNothing else.\n",
            b"Version 1\n.hidden files\n",
            b"[1, 2]\n",
            b"{}\n",
            b"]\n",
            b"None\n",
            b"Kelvin.\n",
            b"cats\nand dogs\n",
            b"-- a list\n1. one\n2. two\n",
        ] {
            assert!(!whole(text), "{text:?}");
        }
        let long = "It was the best of times. ".repeat(10_000);
        assert!(!whole(long.as_bytes()));
    }

    /// Texts whose first letters are instructions.
    #[test]
    fn texts_that_could_begin_a_pickle_are_texts() {
        for text in [
            "I am the pump's manual.\n",
            "I 1\nI 2\n",
            "I\n1\n",
            "(a) first\n(b) second\n",
            "(a)",
            "(i am\nhere)\n",
            "N. Pole\n",
            "N.B. check the pumps.\n",
            "V. Chapter\nI. Section\n",
            "V. Chapter\n\nPumps.\n",
            "Vorwort\n\nDie Pumpen.\n",
            "V1\nV2\nV3\n",
            "U.S. pumps, as of 2020, are checked each week by two persons, and twice a month by one.\n",
            "Chapter 1. It was the best of times, it was the worst of times, it was the age of wisdom, and so on.\n",
            "Couverture. Il était une fois, dans un pays lointain, une pompe qui ne marchait plus du tout, hélas.\n",
            "S'il vous plaît\nRien.\n",
            "'tis\n",
            "La pompe est en marche.\n",
            "Le 3 mai\n",
            "Los sistemas (todos).\n",
            "Für die Pumpe.\n",
            "Pompa\n.\nacqua",
            "Gebrauchsanweisung der Pumpe\n",
            "Кавитация насоса\n",
            "ポンプの説明。\n",
            "1\n2\n3\n",
            "0\n0\n",
            "0.5\n0.25\n",
            "1,2\n3,4\n",
            "2\n1\n",
            "category\npump\nvalve\n",
            "category\r\npump\r\nvalve\r\n",
            "cos\n0.5\n0.25\n",
            "cat\ndog\n",
            "config.json\nmodel.safetensors\n",
            "cats\ndogs\n(and others)\n",
            "import os\n",
            "class Pump:\n    pass\n",
            "def f():\n    return []\n",
            "print('x')\n",
            "Foo\nbar\n",
            "e.g.\n",
            "# Pumps\n",
            "- a\n- b\n",
            "]]\n",
            ")))\n",
            "}\n",
            "NNN\n",
            "NORTH\n",
            "2R",
            "hello\n",
            "good\n",
            "pumps\n",
            "[{\"a\": 1}]\n",
        ] {
            assert!(!whole(text.as_bytes()), "{text:?}");
        }
        let numbers: String = (0..30_000).map(|number| format!("V{number:05}\n")).collect();
        assert!(!whole(numbers.as_bytes()), "a list of part numbers");
        let names = "I1\nI2\nL3\n".repeat(20_000);
        assert!(!whole(names.as_bytes()));
        assert!(!whole("(".repeat(3000).as_bytes()));
        let column = ["category\n", &"valve\nVentil\n".repeat(20_000)].concat();
        assert!(!whole(column.as_bytes()));
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_followed_to_an_end(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..400)) {
            let _either = whole(&bytes);
        }
    }
}
