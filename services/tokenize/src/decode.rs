//! Tokens → text, also while they arrive one by one.

use cloister_domain::TokenId;

use crate::Tokenizer;

/// Turns tokens into text as they come; gives out whole characters only.
///
/// A character's bytes may come in several tokens; they are held until it is whole. Bytes that can
/// never become a character give U+FFFD, one for each maximal part (Unicode 16, section 3.9.6).
#[derive(Clone, Default)]
pub struct Decoder {
    /// At most three bytes: the beginning of a character.
    held: Vec<u8>,
    has_printed: bool,
}

impl std::fmt::Debug for Decoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Decoder")
    }
}

impl Decoder {
    /// A decoder before the first token.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The text that `token` completes; empty inside a character and for a control token.
    ///
    /// `tokenizer` is the same at each call.
    pub fn push(&mut self, tokenizer: &Tokenizer, token: TokenId) -> String {
        let bytes = tokenizer.printed(token, !self.has_printed);
        self.has_printed |= !bytes.is_empty();
        self.held.extend_from_slice(&bytes);
        self.take(false)
    }

    /// The rest: U+FFFD when the last character is not whole.
    #[must_use]
    pub fn finish(mut self) -> String {
        self.take(true)
    }

    /// Moves what is whole out of `held`; all of it at the `end`.
    fn take(&mut self, end: bool) -> String {
        let mut text = String::with_capacity(self.held.len());
        let mut rest = self.held.as_slice();
        while !rest.is_empty() {
            let valid = match std::str::from_utf8(rest) {
                Ok(valid) => {
                    text.push_str(valid);
                    rest = &[];
                    break;
                }
                Err(error) => error,
            };
            let (good, bad) = rest.split_at(valid.valid_up_to());
            text.push_str(std::str::from_utf8(good).expect("valid up to here"));
            rest = match valid.error_len() {
                Some(length) => &bad[length..],
                None if end => &[],
                None => {
                    rest = bad;
                    break;
                }
            };
            text.push(char::REPLACEMENT_CHARACTER);
        }
        self.held = rest.to_vec();
        text
    }
}
