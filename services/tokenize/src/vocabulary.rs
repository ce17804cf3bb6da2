//! Tokens by id: their bytes and what they are for.

use cloister_domain::TokenId;

use crate::{LoadError, slots::Slots};

/// More ids than any published vocabulary has (the largest known: 262 145).
pub(crate) const TOKENS_MAX: usize = 1 << 19;
/// More bytes than the texts of all tokens have (the largest known: 3 MB).
const BYTES_MAX: usize = 8 << 20;
/// More added and control tokens than any published file has (the largest known: 32 768).
const ADDED_MAX: usize = 1 << 16;

/// What a token is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// An id without a token.
    Unused,
    /// Part of plain text.
    Plain,
    /// A whole text that the file adds to the vocabulary, such as `<tool_call>`; it prints.
    Added,
    /// Steers the model, such as the end of a turn; it does not print.
    Control,
}

/// Tokens as a file lists them, in any order: byte alphabet or `##` form when plain, their own text
/// otherwise.
#[derive(Debug, Default)]
pub(crate) struct Listed {
    texts: String,
    lines: Vec<Line>,
    added: usize,
}

#[derive(Clone, Copy, Debug)]
struct Line {
    id: u32,
    start: u32,
    length: u32,
    kind: Kind,
}

impl Listed {
    /// Lists a token.
    ///
    /// # Errors
    /// [`LoadError::TooMany`].
    pub(crate) fn push(&mut self, id: u32, text: &str, kind: Kind) -> Result<(), LoadError> {
        let start = self.texts.len();
        self.write(text)?;
        self.close(start, id, kind)
    }

    /// Where the next text begins.
    pub(crate) fn start(&self) -> usize {
        self.texts.len()
    }

    /// Writes a text down, whose id is not known yet.
    ///
    /// # Errors
    /// [`LoadError::TooMany`].
    pub(crate) fn write(&mut self, text: &str) -> Result<(), LoadError> {
        let count = self.texts.len() + text.len();
        if count > BYTES_MAX {
            return Err(LoadError::TooMany { what: "bytes of tokens", count, max: BYTES_MAX });
        }
        self.texts.push_str(text);
        Ok(())
    }

    /// Makes a token of the text from `start` on.
    ///
    /// # Errors
    /// [`LoadError::TooMany`].
    pub(crate) fn close(&mut self, start: usize, id: u32, kind: Kind) -> Result<(), LoadError> {
        let count = self.lines.len().max(id as usize);
        if count >= TOKENS_MAX {
            return Err(LoadError::TooMany { what: "tokens", count, max: TOKENS_MAX });
        }
        self.added += usize::from(kind > Kind::Plain);
        if self.added > ADDED_MAX {
            let (count, max) = (self.added, ADDED_MAX);
            return Err(LoadError::TooMany { what: "added tokens", count, max });
        }
        let within = |bytes: usize| u32::try_from(bytes).expect("at most BYTES_MAX");
        let (start, length) = (within(start), within(self.texts.len() - start));
        self.lines.push(Line { id, start, length, kind });
        Ok(())
    }

    /// The text of a line.
    fn text(&self, line: Line) -> &str {
        let rest = self.texts.split_at(line.start as usize).1;
        rest.split_at(line.length as usize).0
    }

    /// Lets added tokens stand for those of the model with the same id, which must have the same text.
    ///
    /// # Errors
    /// [`LoadError::Twice`].
    pub(crate) fn unite(&mut self) -> Result<(), LoadError> {
        self.lines.sort_unstable_by_key(|line| (line.id, line.kind));
        let mut united: Vec<Line> = Vec::with_capacity(self.lines.len());
        for line in &self.lines {
            match united.last_mut() {
                Some(plain) if plain.id == line.id => {
                    let overrides = plain.kind == Kind::Plain && line.kind > Kind::Plain;
                    if !overrides || self.text(*plain) != self.text(*line) {
                        return Err(LoadError::Twice { id: TokenId(line.id) });
                    }
                    *plain = *line;
                }
                _ => united.push(*line),
            }
        }
        self.lines = united;
        Ok(())
    }

    /// Refuses a text with two ids: readers differ in which one they take.
    ///
    /// # Errors
    /// [`LoadError::Twice`].
    pub(crate) fn distinct(&self) -> Result<(), LoadError> {
        let mut known = Slots::with_room(self.lines.len());
        for (number, line) in (0u32..).zip(&self.lines) {
            if !known.add(number, |other| self.text(self.lines[other as usize])) {
                return Err(LoadError::Twice { id: TokenId(line.id) });
            }
        }
        Ok(())
    }

    /// The texts of control and added tokens, longest first, then by id.
    pub(crate) fn added(&self) -> Vec<(Box<str>, TokenId)> {
        let lines = self.lines.iter().filter(|line| line.kind > Kind::Plain && line.length > 0);
        let mut added: Vec<(Box<str>, TokenId)> =
            lines.map(|line| (self.text(*line).into(), TokenId(line.id))).collect();
        added.sort_by_key(|(text, id)| (usize::MAX - text.len(), *id));
        added
    }

    /// The id of the first token with this text.
    pub(crate) fn id(&self, text: &str) -> Option<TokenId> {
        self.lines.iter().find(|line| self.text(**line) == text).map(|line| TokenId(line.id))
    }

    /// The vocabulary. `spell` appends the bytes of a plain token, or says that it cannot be one; the
    /// others stand for their texts. Ids that are left out become [`Kind::Unused`].
    ///
    /// # Errors
    /// [`LoadError::Twice`], [`LoadError::Alphabet`].
    pub(crate) fn into_vocabulary(
        mut self,
        spell: impl Fn(&str, &mut Vec<u8>) -> Option<()>,
    ) -> Result<Vocabulary, LoadError> {
        self.lines.sort_unstable_by_key(|line| line.id);
        let mut vocabulary = Vocabulary::default();
        for line in &self.lines {
            let (id, index) = (TokenId(line.id), line.id as usize);
            if index < vocabulary.ends.len() {
                return Err(LoadError::Twice { id });
            }
            vocabulary.ends.resize(index, vocabulary.end());
            vocabulary.kinds.resize(index, Kind::Unused);
            let text = self.text(*line);
            if line.kind == Kind::Plain {
                spell(text, &mut vocabulary.bytes).ok_or(LoadError::Alphabet { id })?;
            } else {
                vocabulary.bytes.extend_from_slice(text.as_bytes());
            }
            vocabulary.ends.push(vocabulary.end());
            vocabulary.kinds.push(line.kind);
        }
        Ok(vocabulary)
    }
}

/// The tokens of a model.
#[derive(Clone, Debug, Default)]
pub(crate) struct Vocabulary {
    /// Bytes of all tokens, one after another.
    bytes: Vec<u8>,
    /// Where token `i` ends in `bytes`.
    ends: Vec<u32>,
    kinds: Vec<Kind>,
}

impl Vocabulary {
    /// Where the next token begins.
    fn end(&self) -> u32 {
        u32::try_from(self.bytes.len()).expect("at most BYTES_MAX, and no token grows")
    }

    /// How many ids there are.
    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    /// What a token is for; an id beyond the end is unused.
    pub(crate) fn kind(&self, id: TokenId) -> Kind {
        self.kinds.get(id.0 as usize).copied().unwrap_or(Kind::Unused)
    }

    /// The bytes of a token; none for an id without one.
    pub(crate) fn bytes(&self, id: TokenId) -> &[u8] {
        let index = id.0 as usize;
        let Some(end) = self.ends.get(index) else { return &[] };
        let start = index.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.bytes[start as usize..*end as usize]
    }

    /// All ids with bytes and kind, in order.
    pub(crate) fn iter(&self) -> impl DoubleEndedIterator<Item = (TokenId, &[u8], Kind)> {
        let kinds = self.kinds.iter().enumerate();
        kinds.map(|(id, kind)| {
            let id = TokenId(u32::try_from(id).expect("fewer than 2^32 tokens"));
            (id, self.bytes(id), *kind)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spell(text: &str, bytes: &mut Vec<u8>) -> Option<()> {
        bytes.extend_from_slice(text.as_bytes());
        Some(())
    }

    fn listed(tokens: &[(u32, &str, Kind)]) -> Listed {
        let mut listed = Listed::default();
        for (id, text, kind) in tokens {
            listed.push(*id, text, *kind).expect("few");
        }
        listed
    }

    #[test]
    fn gaps_are_unused_and_doubles_refused() {
        let tokens = [(3, "d", Kind::Plain), (0, "ab", Kind::Plain)];
        let vocabulary = listed(&tokens).into_vocabulary(spell).expect("distinct");
        assert_eq!((vocabulary.len(), vocabulary.kind(TokenId(1))), (4, Kind::Unused));
        let texts: Vec<&[u8]> = (0..6).map(|id| vocabulary.bytes(TokenId(id))).collect();
        assert_eq!(texts, [&b"ab"[..], b"", b"", b"d", b"", b""]);
        let twice = listed(&[(1, "a", Kind::Plain), (1, "b", Kind::Plain)]).into_vocabulary(spell);
        assert_eq!(twice.err(), Some(LoadError::Twice { id: TokenId(1) }));
    }

    #[test]
    fn there_are_bounds() {
        let mut listed = Listed::default();
        let too_many = |outcome| matches!(outcome, Err(LoadError::TooMany { .. }));
        assert!(too_many(listed.push(u32::MAX, "", Kind::Plain)));
        let half = "x".repeat(BYTES_MAX / 2);
        assert!(listed.push(0, &half, Kind::Plain).is_ok());
        assert!(listed.push(1, &half, Kind::Plain).is_ok());
        assert!(too_many(listed.push(2, "x", Kind::Plain)));
        let mut listed = Listed::default();
        let most = u32::try_from(ADDED_MAX).expect("small");
        assert!((0..most).all(|id| listed.push(id, "", Kind::Control).is_ok()));
        assert!(too_many(listed.push(most, "", Kind::Control)));
        let mut listed = Listed::default();
        let most = u32::try_from(TOKENS_MAX).expect("small");
        assert!((0..most).all(|id| listed.push(id, "", Kind::Plain).is_ok()));
        assert!(too_many(listed.push(1, "", Kind::Plain)));
    }

    #[test]
    fn an_added_token_is_the_one_of_the_model_or_a_new_one() {
        let plain = (1, "a", Kind::Plain);
        for (added, good) in [
            ((1, "a", Kind::Control), true),
            ((2, "b", Kind::Added), true),
            ((1, "b", Kind::Control), false),
            ((2, "a", Kind::Control), false),
        ] {
            for tokens in [[plain, added], [added, plain]] {
                let mut listed = listed(&tokens);
                let united = listed.unite().and_then(|()| listed.distinct());
                assert_eq!(united.is_ok(), good, "{tokens:?}");
                assert!(!good || listed.id(added.1) == Some(TokenId(added.0)));
            }
        }
        let mut listed = listed(&[(1, "a", Kind::Control), (1, "a", Kind::Control)]);
        assert_eq!(listed.unite(), Err(LoadError::Twice { id: TokenId(1) }));
    }
}
