//! Puts a tokenizer together from what either kind of file says.

use cloister_domain::TokenId;

use crate::{
    LoadError, Tokenizer, alphabet,
    bpe::{MERGES_MAX, Merges, Pair},
    slots::Index,
    split::Pattern,
    tokenizer::{ByteLevel, Model},
    vocabulary::{Kind, Listed, Vocabulary},
    wordpiece::{BertNormalizer, CONTINUES, WordPiece},
};

/// What the two kinds of byte-level file have in common.
pub(crate) struct ByteLevelParts {
    pub(crate) tokens: Listed,
    pub(crate) compose: bool,
    pub(crate) pattern: Pattern,
    pub(crate) ignore_merges: bool,
}

/// What the two kinds of WordPiece file have in common.
pub(crate) struct WordPieceParts {
    pub(crate) tokens: Listed,
    pub(crate) normalizer: BertNormalizer,
    pub(crate) unknown: String,
    pub(crate) word_characters_max: usize,
}

/// A byte-level tokenizer without a frame; `read` hands over its merges, by rank.
///
/// # Errors
/// All of [`LoadError`] that concern tokens and merges, and what `read` fails with.
pub(crate) fn byte_level(
    parts: ByteLevelParts,
    read: impl FnOnce(&mut MergeList<'_>) -> Result<(), LoadError>,
) -> Result<Tokenizer, LoadError> {
    let added = parts.tokens.added();
    let vocabulary = parts.tokens.into_vocabulary(alphabet::append)?;
    // A merge may make an added token that prints (some files list words twice), never a control.
    let index = Index::of(&vocabulary, |kind| kind != Kind::Unused);
    let mut list = MergeList::new(&vocabulary, &index)?;
    read(&mut list)?;
    let merges = Merges::new(list.bytes, list.pairs)?;
    drop(index);
    let whole = parts.ignore_merges.then(|| Index::of(&vocabulary, |kind| kind == Kind::Plain));
    let model = ByteLevel { compose: parts.compose, pattern: parts.pattern, merges, whole };
    Ok(made(Model::ByteLevel(model), vocabulary, added))
}

/// Merges as a file lists them, checked against its vocabulary.
pub(crate) struct MergeList<'a> {
    vocabulary: &'a Vocabulary,
    index: &'a Index,
    bytes: Box<[TokenId; 256]>,
    pairs: Vec<Pair>,
    joined: Vec<u8>,
}

impl<'a> MergeList<'a> {
    fn new(vocabulary: &'a Vocabulary, index: &'a Index) -> Result<Self, LoadError> {
        let mut bytes = Box::new([TokenId(0); 256]);
        for (byte, token) in (0..=u8::MAX).zip(bytes.iter_mut()) {
            let known = index.get(vocabulary, &[byte]);
            let known = known.filter(|id| vocabulary.kind(*id) == Kind::Plain);
            *token = known.ok_or(LoadError::Byte { byte })?;
        }
        Ok(Self { vocabulary, index, bytes, pairs: Vec::new(), joined: Vec::new() })
    }

    /// How many there are so far.
    pub(crate) fn len(&self) -> usize {
        self.pairs.len()
    }

    /// Adds the merge of two texts in the byte alphabet.
    ///
    /// # Errors
    /// [`LoadError::TooMany`], [`LoadError::Merge`], [`LoadError::ControlMerge`].
    pub(crate) fn push(&mut self, left: &str, right: &str) -> Result<(), LoadError> {
        let index = self.pairs.len();
        if index >= MERGES_MAX {
            let count = index + 1;
            return Err(LoadError::TooMany { what: "merges", count, max: MERGES_MAX });
        }
        let wrong = || LoadError::Merge { index };
        self.joined.clear();
        alphabet::append(left, &mut self.joined).ok_or_else(wrong)?;
        let middle = self.joined.len();
        alphabet::append(right, &mut self.joined).ok_or_else(wrong)?;
        let token = |bytes: &[u8]| match bytes {
            // Half of what is joined in published files, and known without a search.
            [byte] => Ok(self.bytes[usize::from(*byte)]),
            _ => self.index.get(self.vocabulary, bytes).ok_or_else(wrong),
        };
        let (left, right) = self.joined.split_at(middle);
        let (left, right, made) = (token(left)?, token(right)?, token(&self.joined)?);
        if self.vocabulary.kind(made) == Kind::Control {
            return Err(LoadError::ControlMerge { index });
        }
        self.pairs.push(Pair { left, right, made });
        Ok(())
    }
}

/// A WordPiece tokenizer without a frame.
///
/// # Errors
/// All of [`LoadError`] that concern tokens.
pub(crate) fn word_piece(parts: WordPieceParts) -> Result<Tokenizer, LoadError> {
    let added = parts.tokens.added();
    let unknown = parts.tokens.id(&parts.unknown);
    let unknown = unknown.ok_or(LoadError::Dangling { part: "unknown token" })?;
    let spell = |text: &str, bytes: &mut Vec<u8>| {
        bytes.extend_from_slice(text.as_bytes());
        Some(())
    };
    let vocabulary = parts.tokens.into_vocabulary(spell)?;
    let own = |bytes: &[u8]| {
        let text = std::str::from_utf8(bytes).expect("spelled from a text");
        text.strip_prefix(CONTINUES).unwrap_or(text).chars().count()
    };
    let plain = vocabulary.iter().filter(|(_id, _bytes, kind)| *kind == Kind::Plain);
    let piece_characters_max = plain.map(|(_id, bytes, _kind)| own(bytes)).max().unwrap_or(0);
    let model = WordPiece {
        normalizer: parts.normalizer,
        pieces: Index::of(&vocabulary, |kind| kind == Kind::Plain),
        piece_characters_max,
        word_characters_max: parts.word_characters_max,
        unknown,
    };
    Ok(made(Model::WordPiece(model), vocabulary, added))
}

fn made(model: Model, vocabulary: Vocabulary, added: Vec<(Box<str>, TokenId)>) -> Tokenizer {
    let frame = (Vec::new(), Vec::new());
    Tokenizer { model, vocabulary, added, frame, longest: None, end: None }
}
