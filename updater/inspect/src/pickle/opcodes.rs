//! The instructions of pickles: what argument each has, and what it does to the stack.

/// How an instruction's argument is written.
#[derive(Clone, Copy)]
pub(super) enum Argument {
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
pub(super) enum Effect {
    /// Takes so many and leaves so many.
    Stack(usize, usize),
    /// Takes the topmost thing, or the mark where there is none above it.
    Pop,
    Mark,
    /// Takes everything above the mark and the mark; takes so many below it and leaves so many.
    ToMark(usize, usize),
    Stop,
}

pub(super) fn instruction(opcode: u8) -> Option<(Argument, Effect)> {
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
