//! Python pickles, which have no magic number before protocol 2: their instructions are followed, none
//! is carried out.
//!
//! Source: CPython 3.13, `Lib/pickletools.py`, the table `opcodes`, whose stack effects are repeated
//! here as counts. A text is taken for a pickle only when it is one from its first byte on.

/// Instructions after which a longer file is a pickle without being followed to its end.
const ENOUGH: u32 = 64;

/// Whether a file that begins with `front` is a pickle.
pub(crate) fn is_one(front: &[u8], bytes: u64) -> bool {
    let whole = u64::try_from(front.len()).is_ok_and(|length| length == bytes);
    let mut machine = Machine { rest: front, ..Machine::default() };
    let mut count = 0u32;
    loop {
        match machine.step() {
            Step::On => count = count.saturating_add(1),
            Step::Stop => {
                let alone = machine.rest.iter().all(u8::is_ascii_whitespace);
                // What follows an end is ignored by Python; in a text it is the text.
                let ends = machine.calls || machine.framed || alone;
                return machine.ran || (machine.depth > 0 && ends);
            }
            Step::Cut => return machine.ran || (!whole && (machine.framed || count >= ENOUGH)),
            // What ran before the mistake has run.
            Step::Wrong => return machine.ran || (machine.framed && machine.calls),
        }
    }
}

/// What came of an instruction.
enum Step {
    On,
    Stop,
    /// The bytes at hand end inside it.
    Cut,
    /// It is none, or the stack does not hold what it takes.
    Wrong,
}

#[derive(Default)]
struct Machine<'a> {
    rest: &'a [u8],
    /// Things on the stack above the last mark.
    depth: usize,
    /// Things below each mark.
    marks: Vec<usize>,
    /// Whether a protocol was named.
    framed: bool,
    /// Whether an instruction names or runs something.
    calls: bool,
    /// Whether an instruction ran something.
    ran: bool,
}

/// How an instruction's argument is written.
#[derive(Clone, Copy)]
enum Argument {
    None,
    Bytes(usize),
    /// A count of so many bytes, then as many bytes.
    Counted(usize),
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

/// Longest line of an argument; a text with a longer one is no pickle of protocol 0.
const LINE_BYTES_MAX: usize = 1 << 16;
/// Most marks that are followed.
const MARKS_MAX: usize = 1 << 16;

impl Machine<'_> {
    fn step(&mut self) -> Step {
        let Some((&opcode, rest)) = self.rest.split_first() else { return Step::Cut };
        let Some((argument, effect)) = instruction(opcode) else { return Step::Wrong };
        self.rest = rest;
        match self.argument(argument) {
            Step::On => {}
            ended @ (Step::Stop | Step::Cut | Step::Wrong) => return ended,
        }
        self.framed |= opcode == 0x80;
        let step = self.effect(effect);
        let runs = matches!(opcode, b'i' | b'o' | b'R' | b'b' | 0x81 | 0x92);
        self.ran |= runs && matches!(step, Step::On);
        self.calls |= runs || matches!(opcode, b'c' | b'P' | b'Q' | 0x82..=0x84 | 0x93);
        step
    }

    fn effect(&mut self, effect: Effect) -> Step {
        match effect {
            Effect::Stop => return Step::Stop,
            Effect::Mark => {
                if self.marks.len() >= MARKS_MAX {
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

    fn argument(&mut self, argument: Argument) -> Step {
        match argument {
            Argument::None => Step::On,
            Argument::Bytes(count) => self.skip(count),
            Argument::Counted(width) => {
                let Some((count, rest)) = self.rest.split_at_checked(width) else {
                    return Step::Cut;
                };
                self.rest = rest;
                let little = count.iter().rev().try_fold(0usize, |sum, byte| {
                    sum.checked_mul(256)?.checked_add(usize::from(*byte))
                });
                little.map_or(Step::Wrong, |count| self.skip(count))
            }
            Argument::Line => self.line(|_any| true),
            Argument::TwoLines => match self.line(is_name) {
                Step::On => self.line(is_name),
                ended @ (Step::Stop | Step::Cut | Step::Wrong) => ended,
            },
            // Whatever Python's `int` might read: blanks around, a sign, a base, lines between digits.
            Argument::Integer => self.line(|line| {
                let digits = unsigned(line);
                !digits.is_empty() && digits.iter().all(|c| c.is_ascii_alphanumeric() || *c == b'_')
            }),
            Argument::Float => self.line(|line| {
                let plain = |c: &u8| c.is_ascii_alphanumeric() || b"._+-".contains(c);
                !unsigned(line).is_empty() && unsigned(line).iter().all(plain)
            }),
            Argument::Quoted => {
                self.line(|line| matches!(line.trim_ascii(), [b'\'', .., b'\''] | [b'"', .., b'"']))
            }
        }
    }

    fn skip(&mut self, count: usize) -> Step {
        match self.rest.split_at_checked(count) {
            Some((_argument, rest)) => {
                self.rest = rest;
                Step::On
            }
            None => Step::Cut,
        }
    }

    fn line(&mut self, good: impl Fn(&[u8]) -> bool) -> Step {
        let end = self.rest.iter().take(LINE_BYTES_MAX).position(|byte| *byte == b'\n');
        let Some(end) = end else { return Step::Cut };
        let Some((line, rest)) = self.rest.split_at_checked(end) else { return Step::Cut };
        let good = good(line.strip_suffix(b"\r").unwrap_or(line));
        self.rest = rest.get(1..).unwrap_or_default();
        if good { Step::On } else { Step::Wrong }
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
        is_one(bytes, bytes.len() as u64)
    }

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
        assert!(is_one(front, 1 << 20));
        let old =
            b"(lp0\n".iter().chain(b"I7\na".repeat(20_000).iter()).copied().collect::<Vec<u8>>();
        assert!(is_one(old.get(..65_536).expect("longer"), 1 << 20));
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
        assert!(!is_one(&long.as_bytes()[..65_536], 1 << 20));
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_followed_to_an_end(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..400)) {
            let _either = whole(&bytes);
        }
    }
}
