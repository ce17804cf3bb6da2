//! Tokens by id: their bytes and what they are for.

use cloister_domain::TokenId;

use crate::LoadError;

/// More ids than any published vocabulary has (the largest known: 262 145).
pub(crate) const TOKENS_MAX: usize = 1 << 20;

/// What a token is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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

/// The tokens of a model.
#[derive(Clone, Debug, Default)]
pub(crate) struct Vocabulary {
    /// Bytes of all tokens, one after another.
    bytes: Vec<u8>,
    /// Where token `i` ends in `bytes`.
    ends: Vec<usize>,
    kinds: Vec<Kind>,
}

impl Vocabulary {
    /// Collects tokens given in any order; ids that are left out become [`Kind::Unused`].
    ///
    /// # Errors
    /// [`LoadError::TooMany`], [`LoadError::Twice`].
    pub(crate) fn new(mut tokens: Vec<(TokenId, Vec<u8>, Kind)>) -> Result<Self, LoadError> {
        tokens.sort_by_key(|(id, _bytes, _kind)| *id);
        let mut vocabulary = Self::default();
        for (id, bytes, kind) in tokens {
            let index = id.0 as usize;
            if index >= TOKENS_MAX {
                return Err(LoadError::TooMany { what: "tokens", count: index, max: TOKENS_MAX });
            }
            if index < vocabulary.ends.len() {
                return Err(LoadError::Twice { id });
            }
            vocabulary.ends.resize(index, vocabulary.bytes.len());
            vocabulary.kinds.resize(index, Kind::Unused);
            vocabulary.bytes.extend_from_slice(&bytes);
            vocabulary.ends.push(vocabulary.bytes.len());
            vocabulary.kinds.push(kind);
        }
        Ok(vocabulary)
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
        &self.bytes[start..*end]
    }

    /// All ids with bytes and kind, in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (TokenId, &[u8], Kind)> {
        (0u32..).zip(&self.kinds).map(|(id, kind)| (TokenId(id), self.bytes(TokenId(id)), *kind))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_are_unused_and_doubles_refused() {
        let token = |id, text: &str| (TokenId(id), text.as_bytes().to_vec(), Kind::Plain);
        let vocabulary = Vocabulary::new(vec![token(3, "d"), token(0, "ab")]).expect("distinct");
        assert_eq!((vocabulary.len(), vocabulary.kind(TokenId(1))), (4, Kind::Unused));
        let texts: Vec<&[u8]> = (0..6).map(|id| vocabulary.bytes(TokenId(id))).collect();
        assert_eq!(texts, [&b"ab"[..], b"", b"", b"d", b"", b""]);
        let twice = Vocabulary::new(vec![token(1, "a"), token(1, "b")]);
        assert_eq!(twice.err(), Some(LoadError::Twice { id: TokenId(1) }));
        let huge = Vocabulary::new(vec![token(u32::MAX, "a")]);
        assert!(matches!(huge, Err(LoadError::TooMany { .. })));
    }
}
