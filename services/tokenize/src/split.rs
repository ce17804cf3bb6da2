//! Cuts text into the pieces inside which byte pairs are merged.
//!
//! Each known pattern is a scanner written by hand: one pass, no backtracking, so no text makes it
//! slow. The patterns are those of the published files, read as Oniguruma reads them.

use crate::unicode::{is_letter, is_number};

/// A known pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pattern {
    /// GPT-2, and `ByteLevel` with `use_regex`.
    Gpt2,
    /// Llama 3: numbers in groups of three.
    Llama3,
    /// Qwen 2: each digit alone.
    Qwen2,
}

const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";
const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

impl Pattern {
    /// The pattern with exactly this regular expression.
    pub(crate) fn of_regex(regex: &str) -> Option<Self> {
        match regex {
            GPT2 => Some(Self::Gpt2),
            LLAMA3 => Some(Self::Llama3),
            QWEN2 => Some(Self::Qwen2),
            _ => None,
        }
    }

    /// Length in bytes of the first piece of `text`, which is not empty; the pieces cover the text.
    fn first(self, text: &str) -> usize {
        let piece = match self {
            Self::Gpt2 => gpt2_piece(text),
            Self::Llama3 => piece(text, 3),
            Self::Qwen2 => piece(text, 1),
        };
        piece.unwrap_or_else(|| white(text))
    }

    /// The pieces of `text`, in order; together they are `text`.
    pub(crate) fn pieces(self, text: &str) -> Pieces<'_> {
        Pieces { pattern: self, rest: text }
    }
}

/// See [`Pattern::pieces`].
#[derive(Debug)]
pub(crate) struct Pieces<'a> {
    pattern: Pattern,
    rest: &'a str,
}

impl<'a> Iterator for Pieces<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        if self.rest.is_empty() {
            return None;
        }
        let (piece, rest) = self.rest.split_at(self.pattern.first(self.rest));
        self.rest = rest;
        Some(piece)
    }
}

/// Length of the longest prefix of `text` whose characters are all `wanted`.
fn run(text: &str, wanted: impl Fn(char) -> bool) -> usize {
    text.find(|c| !wanted(c)).unwrap_or(text.len())
}

/// What is neither white space nor letter nor number: `[^\s\p{L}\p{N}]`.
fn is_other(c: char) -> bool {
    !c.is_whitespace() && !is_letter(c) && !is_number(c)
}

fn is_newline(c: char) -> bool {
    matches!(c, '\r' | '\n')
}

/// What follows the first character, if that is `head`.
fn after(text: &str, head: char) -> Option<&str> {
    text.strip_prefix(head)
}

/// `'s|'t|'re|'ve|'m|'ll|'d`, in lower case or (`fold`) in any.
///
/// Folding also takes the long s, U+017F, the only other character that folds to one of these.
fn contraction(text: &str, fold: bool) -> Option<usize> {
    let mut rest = after(text, '\'')?.chars();
    let mut next = || {
        rest.next().map(|c| match c {
            'ſ' if fold => ('s', c.len_utf8()),
            _ if fold => (c.to_ascii_lowercase(), c.len_utf8()),
            _ => (c, c.len_utf8()),
        })
    };
    match next()? {
        ('s' | 't' | 'm' | 'd', bytes) => Some(1 + bytes),
        ('r' | 'v', _) => (next()?.0 == 'e').then_some(3),
        ('l', _) => (next()?.0 == 'l').then_some(3),
        _ => None,
    }
}

/// The alternatives of GPT-2 before white space.
fn gpt2_piece(text: &str) -> Option<usize> {
    if let Some(length) = contraction(text, false) {
        return Some(length);
    }
    let (space, body) = after(text, ' ').map_or((0, text), |body| (1, body));
    let class = match body.chars().next()? {
        c if is_letter(c) => is_letter,
        c if is_number(c) => is_number,
        c if is_other(c) => is_other,
        _white => return None,
    };
    Some(space + run(body, class))
}

/// The alternatives of Llama 3 and Qwen 2 before white space, numbers in groups of `digits_max`.
fn piece(text: &str, digits_max: usize) -> Option<usize> {
    if let Some(length) = contraction(text, true) {
        return Some(length);
    }
    let mut characters = text.chars();
    let first = characters.next()?;
    if is_letter(first) {
        return Some(run(text, is_letter));
    }
    if is_number(first) {
        let group = text.chars().take(digits_max).take_while(|c| is_number(*c));
        return Some(group.map(char::len_utf8).sum());
    }
    let rest = characters.as_str();
    let second = characters.next();
    if !is_newline(first) && second.is_some_and(is_letter) {
        return Some(first.len_utf8() + run(rest, is_letter));
    }
    let (space, body) = if first == ' ' { (1, rest) } else { (0, text) };
    let others = run(body, is_other);
    if others > 0 {
        let (_others, tail) = body.split_at(others);
        return Some(space + others + run(tail, is_newline));
    }
    let (spaces, _rest) = text.split_at(run(text, char::is_whitespace));
    // `\s*[\r\n]+` ends at the last line break of the white space.
    spaces.rfind(is_newline).map(|at| at + 1)
}

/// `\s+(?!\S)|\s+`: white space up to the end, else all but the last one when there are several.
fn white(text: &str) -> usize {
    let length = run(text, char::is_whitespace);
    let (spaces, rest) = text.split_at(length);
    let last = spaces.chars().next_back().map_or(0, char::len_utf8);
    if rest.is_empty() || length == last { length } else { length - last }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(pattern: Pattern, pieces: &[&str]) {
        let text = pieces.concat();
        assert_eq!(pattern.pieces(&text).collect::<Vec<_>>(), pieces, "{pattern:?}");
    }

    // Expected pieces come from `tokenizers` 0.23.3, `Split(Regex(…), "isolated")`.
    #[test]
    fn pieces_are_those_of_the_regular_expressions() {
        check(
            Pattern::Gpt2,
            &["I", "'m", " 100", " %", "  ", " sure", "'", "S", "\n\n", " ok", " \n"],
        );
        check(Pattern::Gpt2, &["'re", "'", "LL", " ٣½", "x", "  \u{a0} ", "\u{3000}", "y"]);
        check(Pattern::Llama3, &["I", "'M", " ", "123", "45", "%\n\n", "  \n", "\t", "\ttab"]);
        check(Pattern::Llama3, &["'re", "\u{a0}aé", "  ", "\tx", " \r\n", "¾½٣", "1", " '"]);
        check(Pattern::Qwen2, &["a", " ", "1", "2", "'ſ", " ...\r\n\n", " \n", " ", " x"]);
        check(
            Pattern::Qwen2,
            &["'vE", "''", "llx", " 中文", "。\u{301}\u{301}", "b", "\u{2028} ", "\u{2028}c", "  "],
        );
    }

    #[test]
    fn a_million_spaces_take_one_pass() {
        let text = format!("{}x", " ".repeat(1_000_000));
        for pattern in [Pattern::Gpt2, Pattern::Llama3, Pattern::Qwen2] {
            assert_eq!(pattern.pieces(&text).count(), 2);
        }
    }

    #[test]
    fn only_exact_expressions_are_known() {
        assert_eq!(Pattern::of_regex(LLAMA3), Some(Pattern::Llama3));
        assert_eq!(Pattern::of_regex(r"\s+"), None);
    }
}
