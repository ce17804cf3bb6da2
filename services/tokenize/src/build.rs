//! Puts a tokenizer together from what either kind of file says.

use cloister_domain::TokenId;

use crate::{
    LoadError, Tokenizer, alphabet,
    bpe::{FixedMap, Merges, key},
    split::Pattern,
    tokenizer::{ByteLevel, Model},
    vocabulary::{Kind, Vocabulary},
    wordpiece::{BertNormalizer, WordPiece},
};

/// More merges than any published file has (Llama 3: 280 147).
const MERGES_MAX: usize = 1 << 21;

/// A token as a file names it: byte alphabet or `##` form when plain, its own text otherwise.
pub(crate) struct Named {
    pub(crate) id: TokenId,
    pub(crate) text: String,
    pub(crate) kind: Kind,
}

/// What the two kinds of byte-level file have in common.
pub(crate) struct ByteLevelParts {
    pub(crate) tokens: Vec<Named>,
    pub(crate) merges: Vec<(String, String)>,
    pub(crate) compose: bool,
    pub(crate) pattern: Pattern,
    pub(crate) ignore_merges: bool,
}

/// What the two kinds of WordPiece file have in common.
pub(crate) struct WordPieceParts {
    pub(crate) tokens: Vec<Named>,
    pub(crate) normalizer: BertNormalizer,
    pub(crate) unknown: String,
    pub(crate) word_characters_max: usize,
}

/// Control and added tokens by text, longest first, then by id.
fn added(tokens: &[Named]) -> Vec<(Box<str>, TokenId)> {
    let mut added: Vec<(Box<str>, TokenId)> = tokens
        .iter()
        .filter(|token| matches!(token.kind, Kind::Added | Kind::Control) && !token.text.is_empty())
        .map(|token| (token.text.as_str().into(), token.id))
        .collect();
    added.sort_by_key(|(text, id)| (usize::MAX - text.len(), *id));
    added
}

/// A byte-level tokenizer without a frame.
///
/// # Errors
/// All of [`LoadError`] that concern tokens and merges.
pub(crate) fn byte_level(parts: ByteLevelParts) -> Result<Tokenizer, LoadError> {
    let added = added(&parts.tokens);
    let spelled = |token: Named| {
        let bytes = match token.kind {
            Kind::Plain => {
                alphabet::bytes(&token.text).ok_or(LoadError::Alphabet { id: token.id })?
            }
            Kind::Added | Kind::Control | Kind::Unused => token.text.into_bytes(),
        };
        Ok((token.id, bytes, token.kind))
    };
    let tokens = parts.tokens.into_iter().map(spelled).collect::<Result<_, LoadError>>()?;
    let vocabulary = Vocabulary::new(tokens)?;
    // A merge may make an added token that prints (some files list words twice), never a control.
    let mut by_bytes: FixedMap<&[u8], TokenId> = FixedMap::default();
    by_bytes.reserve(vocabulary.len());
    by_bytes.extend(
        vocabulary
            .iter()
            .filter(|(_id, bytes, kind)| *kind != Kind::Unused && !bytes.is_empty())
            .map(|(id, bytes, _kind)| (bytes, id)),
    );
    let merges = merges(&vocabulary, &by_bytes, &parts.merges)?;
    let plain = |id: TokenId| vocabulary.kind(id) == Kind::Plain;
    let whole = by_bytes.iter().filter(|(_bytes, id)| plain(**id));
    let whole = whole.map(|(bytes, id)| (Box::from(*bytes), *id));
    let whole = parts.ignore_merges.then(|| whole.collect());
    let model = ByteLevel { compose: parts.compose, pattern: parts.pattern, merges, whole };
    let frame = (Vec::new(), Vec::new());
    Ok(Tokenizer { model: Model::ByteLevel(model), vocabulary, added, frame, end: None })
}

fn merges(
    vocabulary: &Vocabulary,
    by_bytes: &FixedMap<&[u8], TokenId>,
    texts: &[(String, String)],
) -> Result<Merges, LoadError> {
    if texts.len() > MERGES_MAX {
        let count = texts.len();
        return Err(LoadError::TooMany { what: "merges", count, max: MERGES_MAX });
    }
    let plain = |id: &&TokenId| vocabulary.kind(**id) == Kind::Plain;
    let mut bytes = Box::new([TokenId(0); 256]);
    for (byte, token) in (0..=u8::MAX).zip(bytes.iter_mut()) {
        let known = by_bytes.get([byte].as_slice()).filter(plain);
        *token = *known.ok_or(LoadError::Byte { byte })?;
    }
    let mut pairs = FixedMap::default();
    pairs.reserve(texts.len());
    for (index, (left, right)) in texts.iter().enumerate() {
        let wrong = LoadError::Merge { index };
        let mut joined = alphabet::bytes(left).ok_or(wrong.clone())?;
        let middle = joined.len();
        joined.extend(alphabet::bytes(right).ok_or(wrong.clone())?);
        let token = |bytes: &[u8]| by_bytes.get(bytes).copied().ok_or(wrong.clone());
        let (left, right) = joined.split_at(middle);
        let (left, right, made) = (token(left)?, token(right)?, token(&joined)?);
        if vocabulary.kind(made) == Kind::Control {
            return Err(LoadError::ControlMerge { index });
        }
        let rank = u32::try_from(index).expect("at most MERGES_MAX");
        // The first of two equal merges has the lower rank and wins.
        pairs.entry(key(left, right)).or_insert((rank, made));
    }
    Ok(Merges { bytes, pairs })
}

/// A WordPiece tokenizer without a frame.
///
/// # Errors
/// All of [`LoadError`] that concern tokens.
pub(crate) fn word_piece(parts: WordPieceParts) -> Result<Tokenizer, LoadError> {
    let added = added(&parts.tokens);
    let unknown = parts.tokens.iter().find(|token| token.text == parts.unknown);
    let unknown = unknown.ok_or(LoadError::Dangling { part: "unknown token" })?.id;
    let (mut starts, mut continuations) = (FixedMap::default(), FixedMap::default());
    let mut piece_characters_max = 0;
    for token in parts.tokens.iter().filter(|token| token.kind == Kind::Plain) {
        let (map, piece) = match token.text.strip_prefix("##") {
            Some(piece) => (&mut continuations, piece),
            None => (&mut starts, token.text.as_str()),
        };
        piece_characters_max = piece_characters_max.max(piece.chars().count());
        map.insert(piece.into(), token.id);
    }
    // `##` itself begins a word: as a continuation it would be empty.
    continuations.remove("");
    let model = WordPiece {
        normalizer: parts.normalizer,
        starts,
        continuations,
        piece_characters_max,
        word_characters_max: parts.word_characters_max,
        unknown,
    };
    let tokens =
        parts.tokens.into_iter().map(|token| (token.id, token.text.into_bytes(), token.kind));
    let vocabulary = Vocabulary::new(tokens.collect())?;
    let frame = (Vec::new(), Vec::new());
    Ok(Tokenizer { model: Model::WordPiece(model), vocabulary, added, frame, end: None })
}
