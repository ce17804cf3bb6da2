//! The tokenizer itself: one type for all kinds of files.

use cloister_domain::TokenId;
use unicode_normalization::{IsNormalized, UnicodeNormalization, is_nfc_quick};

use crate::{
    Decoder,
    bpe::Merges,
    slots::Index,
    split::Pattern,
    vocabulary::{Kind, Vocabulary},
    wordpiece::WordPiece,
};

/// Byte-level byte-pair encoding.
#[derive(Clone, Debug)]
pub(crate) struct ByteLevel {
    /// Compose to NFC first.
    pub(crate) compose: bool,
    pub(crate) pattern: Pattern,
    pub(crate) merges: Merges,
    /// Take a piece that is a token as it is, without merging (`ignore_merges`).
    pub(crate) whole: Option<Index>,
}

/// How text becomes tokens.
#[derive(Clone, Debug)]
pub(crate) enum Model {
    ByteLevel(ByteLevel),
    WordPiece(WordPiece),
}

/// Text ↔ tokens for one model. Same text, same tokens, on every machine.
#[derive(Clone)]
pub struct Tokenizer {
    pub(crate) model: Model,
    pub(crate) vocabulary: Vocabulary,
    /// Control and added tokens by their text, longest first.
    pub(crate) added: Vec<(Box<str>, TokenId)>,
    /// What the model expects before and after a text that stands alone.
    pub(crate) frame: (Vec<TokenId>, Vec<TokenId>),
    /// Most tokens of a text that stands alone, if the file says so.
    pub(crate) longest: Option<usize>,
    /// The end of a text, if the file names it.
    pub(crate) end: Option<TokenId>,
}

impl std::fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tokenizer").field("tokens", &self.vocabulary.len()).finish_non_exhaustive()
    }
}

impl Tokenizer {
    /// One more than the largest id.
    #[must_use]
    pub fn vocabulary_size(&self) -> usize {
        self.vocabulary.len()
    }

    /// The tokens of plain text.
    ///
    /// Nothing in `text` becomes a control or added token: `<|im_end|>` is ten ordinary characters.
    /// Nothing is put before or after it; see [`Tokenizer::encode_framed`].
    #[must_use]
    pub fn encode(&self, text: &str) -> Vec<TokenId> {
        let mut tokens = Vec::with_capacity(text.len() / 3);
        self.append(text, &mut tokens);
        tokens
    }

    /// [`Tokenizer::encode`], between the tokens that the model expects around a text that stands
    /// alone (such as `[CLS]` and `[SEP]`, or a beginning-of-text token), and cut after
    /// [`Tokenizer::longest`].
    #[must_use]
    pub fn encode_framed(&self, text: &str) -> Vec<TokenId> {
        let (before, after) = &self.frame;
        let mut tokens = before.clone();
        self.append(text, &mut tokens);
        tokens.truncate(self.longest.unwrap_or(usize::MAX).saturating_sub(after.len()));
        tokens.extend_from_slice(after);
        tokens
    }

    /// The tokens that [`Tokenizer::encode_framed`] puts before and after a text.
    #[must_use]
    pub fn frame(&self) -> (&[TokenId], &[TokenId]) {
        (&self.frame.0, &self.frame.1)
    }

    /// Most tokens of a text that stands alone, its frame counted, if the file says so (`truncation`).
    /// Whoever cuts longer texts into pieces keeps each within it.
    #[must_use]
    pub fn longest(&self) -> Option<usize> {
        self.longest
    }

    /// The tokens of text in which the texts of control and added tokens mean these tokens.
    ///
    /// Dangerous: whoever writes such text steers the model. For texts of the model's maker, and for
    /// comparison with other programs. At each place the longest name wins.
    #[must_use]
    pub fn danger_encode_controls(&self, text: &str) -> Vec<TokenId> {
        let mut tokens = Vec::with_capacity(text.len() / 3);
        let mut rest = text;
        let mut at = 0;
        while let Some(c) = rest.get(at..).and_then(|tail| tail.chars().next()) {
            let (plain, tail) = rest.split_at(at);
            let named = self.added.iter().find(|(name, _id)| tail.starts_with(name.as_ref()));
            if let Some((name, id)) = named {
                self.append(plain, &mut tokens);
                tokens.push(*id);
                rest = tail.split_at(name.len()).1;
                at = 0;
            } else {
                at += c.len_utf8();
            }
        }
        self.append(rest, &mut tokens);
        tokens
    }

    /// The control or added token with this text, such as `<|im_end|>`.
    #[must_use]
    pub fn control(&self, name: &str) -> Option<TokenId> {
        self.added.iter().find(|(known, _id)| known.as_ref() == name).map(|(_name, id)| *id)
    }

    /// The text of a control or added token; the inverse of [`Tokenizer::control`].
    #[must_use]
    pub fn control_name(&self, token: TokenId) -> Option<&str> {
        self.added.iter().find(|(_name, id)| *id == token).map(|(name, _id)| name.as_ref())
    }

    /// Whether `token` steers the model and does not print.
    #[must_use]
    pub fn is_control(&self, token: TokenId) -> bool {
        self.vocabulary.kind(token) == Kind::Control
    }

    /// The token that ends a text, if the file names one (GGUF does; `tokenizer.json` does not).
    #[must_use]
    pub fn end(&self) -> Option<TokenId> {
        self.end
    }

    /// The text of `tokens`; control tokens print nothing, broken characters print U+FFFD.
    #[must_use]
    pub fn decode(&self, tokens: &[TokenId]) -> String {
        let mut decoder = Decoder::new();
        let mut text: String = tokens.iter().map(|token| decoder.push(self, *token)).collect();
        text.push_str(&decoder.finish());
        text
    }

    fn append(&self, text: &str, tokens: &mut Vec<TokenId>) {
        match &self.model {
            Model::ByteLevel(model) => model.encode(text, &self.vocabulary, tokens),
            Model::WordPiece(model) => model.encode(text, &self.vocabulary, tokens),
        }
    }

    /// What `token` prints; `first` when nothing was printed before.
    pub(crate) fn printed(&self, token: TokenId, first: bool) -> Vec<u8> {
        let bytes = self.vocabulary.bytes(token);
        match (self.vocabulary.kind(token), &self.model) {
            (Kind::Control | Kind::Unused, _) => Vec::new(),
            (Kind::Plain | Kind::Added, Model::ByteLevel(_)) => bytes.to_vec(),
            (Kind::Plain | Kind::Added, Model::WordPiece(_)) => {
                bytes.strip_prefix(b"##").filter(|_continues| !first).map_or_else(
                    || [if first { &b""[..] } else { b" " }, bytes].concat(),
                    <[u8]>::to_vec,
                )
            }
        }
    }
}

impl ByteLevel {
    fn encode(&self, text: &str, vocabulary: &Vocabulary, tokens: &mut Vec<TokenId>) {
        if self.compose && is_nfc_quick(text.chars()) != IsNormalized::Yes {
            let composed: String = text.nfc().collect();
            return self.encode_pieces(&composed, vocabulary, tokens);
        }
        self.encode_pieces(text, vocabulary, tokens);
    }

    fn encode_pieces(&self, text: &str, vocabulary: &Vocabulary, tokens: &mut Vec<TokenId>) {
        for piece in self.pattern.pieces(text) {
            let whole =
                self.whole.as_ref().and_then(|whole| whole.get(vocabulary, piece.as_bytes()));
            match whole {
                Some(token) => tokens.push(token),
                None => self.merges.merge(piece.as_bytes(), tokens),
            }
        }
    }
}
