//! Documents: text, JSON, tokenizers and message formats.

use cloister_tokenize::{Tokenizer, template::Template};

use crate::{Kind, Refusal, Source, json, read, text::Judge};

/// Largest tokenizer, in bytes; the largest known ones have 35 MB.
const TOKENIZER_BYTES_MAX: u64 = 48 << 20;
/// Largest message format, in bytes; real ones have some kB.
const TEMPLATE_BYTES_MAX: u64 = 1 << 20;
/// Largest JSON document, in bytes; evaluation sets have some MB.
const JSON_BYTES_MAX: u64 = 16 << 20;
/// Largest text, in bytes; it passes through a buffer.
const TEXT_BYTES_MAX: u64 = 1 << 30;
/// Bytes of a text that are in memory at a time.
const BUFFER_BYTES: u64 = 1 << 20;

/// Judges a document of `kind`.
pub(crate) fn check(kind: Kind, source: &mut dyn Source) -> Result<(), Refusal> {
    match kind {
        // Weights are told by their content; a document that promises to be some is caught by name.
        Kind::Gguf | Kind::Safetensors => Err(Refusal::Unknown),
        Kind::Tokenizer => {
            let text = whole(source, TOKENIZER_BYTES_MAX)?;
            json::check(text.as_bytes())?;
            Tokenizer::from_json(&text).map(drop).map_err(Refusal::Tokenizer)
        }
        Kind::Template => {
            let text = whole(source, TEMPLATE_BYTES_MAX)?;
            json::check(text.as_bytes())?;
            Template::from_json(&text).map(drop).map_err(Refusal::Template)
        }
        Kind::Json => json::check(whole(source, JSON_BYTES_MAX)?.as_bytes()),
        Kind::JsonLines => {
            let text = whole(source, JSON_BYTES_MAX)?;
            text.lines()
                .filter(|line| !line.is_empty())
                .try_for_each(|line| json::check(line.as_bytes()))
        }
        Kind::Text => plain(source, TEXT_BYTES_MAX),
    }
}

/// A document of at most `bytes_max`, as text.
fn whole(source: &mut dyn Source, bytes_max: u64) -> Result<String, Refusal> {
    let bytes = source.bytes();
    if bytes > bytes_max {
        return Err(Refusal::TooLarge { bytes, bytes_max });
    }
    // The error would keep all the bytes, and its text quotes none; the place is enough.
    String::from_utf8(read(source, 0, bytes)?).map_err(|broken| Refusal::Text {
        at: u64::try_from(broken.utf8_error().valid_up_to()).unwrap_or(u64::MAX),
    })
}

/// A text of any length up to `bytes_max`: UTF-8 without characters that hide, move or steer (see
/// [`crate::text`]).
fn plain(source: &mut dyn Source, bytes_max: u64) -> Result<(), Refusal> {
    let bytes = source.bytes();
    if bytes > bytes_max {
        return Err(Refusal::TooLarge { bytes, bytes_max });
    }
    let mut judge = Judge::new();
    let mut at = 0u64;
    while at < bytes {
        let length = bytes.saturating_sub(at).min(BUFFER_BYTES);
        let piece = read(source, at, length)?;
        let last = at.saturating_add(length) == bytes;
        let taken = match std::str::from_utf8(&piece) {
            Ok(text) => checked(text, at, &mut judge)?,
            Err(broken) => {
                let (good, _rest) =
                    piece.split_at_checked(broken.valid_up_to()).unwrap_or_default();
                // Without an error length the piece ends inside a character, and the next begins there.
                let cut = broken.error_len().is_none() && !last && !good.is_empty();
                let good = std::str::from_utf8(good).unwrap_or_default();
                let taken = checked(good, at, &mut judge)?;
                if !cut {
                    return Err(Refusal::Text { at: at.saturating_add(taken) });
                }
                taken
            }
        };
        at = at.saturating_add(taken);
    }
    if judge.ends() { Ok(()) } else { Err(Refusal::Text { at }) }
}

/// The length of `text`, which stands at `at`, if `judge` takes all of it.
fn checked(text: &str, at: u64, judge: &mut Judge) -> Result<u64, Refusal> {
    let length = |bytes: usize| u64::try_from(bytes).unwrap_or(u64::MAX);
    match text.char_indices().find(|(_place, c)| !judge.takes(*c)) {
        Some((place, _c)) => Err(Refusal::Text { at: at.saturating_add(length(place)) }),
        None => Ok(length(text.len())),
    }
}

/// Control characters of ASCII that no text has; tabulators, line and page breaks it has.
pub(crate) const fn is_control(byte: u8) -> bool {
    byte.is_ascii_control() && !matches!(byte, b'\t' | b'\n' | b'\r' | 0x0c)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn characters_across_buffers_are_whole_and_broken_ones_are_found() {
        // Three bytes each, so that the buffer's end lies inside one.
        let long = "€".repeat(400_000);
        assert!(plain(&mut long.as_bytes(), TEXT_BYTES_MAX).is_ok());
        let mut broken = long.into_bytes();
        broken.pop();
        let refused = plain(&mut broken.as_slice(), TEXT_BYTES_MAX);
        assert!(matches!(refused, Err(Refusal::Text { at: 1_199_997 })), "{refused:?}");
        for (bytes, at) in [
            (&b"ab\0c"[..], 2),
            (b"ab\xffc", 2),
            (b"\x1b[31m", 0),
            (b"a\x7f", 1),
            ("ä\u{9b}31m".as_bytes(), 2),
            ("\u{85}".as_bytes(), 0),
        ] {
            let refused = plain(&mut &bytes[..], TEXT_BYTES_MAX);
            assert!(
                matches!(refused, Err(Refusal::Text { at: found }) if found == at),
                "{bytes:?}"
            );
        }
        assert!(plain(&mut b"a\tb\r\n\x0c".as_slice(), TEXT_BYTES_MAX).is_ok());
        assert!(plain(&mut b"ab\r".as_slice(), TEXT_BYTES_MAX).is_err());
        assert!(plain(&mut b"".as_slice(), TEXT_BYTES_MAX).is_ok());
        assert!(matches!(plain(&mut b"abc".as_slice(), 2), Err(Refusal::TooLarge { .. })));
    }

    #[test]
    fn what_a_character_depends_on_may_lie_in_the_buffer_before() {
        let buffer = usize::try_from(BUFFER_BYTES).expect("a MiB");
        for (before, behind, good) in [
            ("\r", "\n", true),
            ("\r", "x", false),
            ("می", "\u{200C}خواهم", true),
            ("می\u{200C}", "خواهم", true),
            ("a", "\u{200C}b", false),
            ("a\u{AD}", "b", true),
            ("a\u{AD}", " b", false),
            ("🏴\u{E0067}\u{E0062}", "\u{E0065}\u{E006E}\u{E0067}\u{E007F}", true),
            ("🏴\u{E0067}\u{E0062}", "\u{E0065}\u{E007F}", false),
            ("", "\u{FEFF}", false),
            ("", "\u{202E}", false),
        ] {
            // The buffer ends between the two, or inside the first character of the second.
            for inside in [0, 1] {
                let filler = buffer - before.len() - inside;
                let text = ["x".repeat(filler).as_str(), before, behind].concat();
                let found = plain(&mut text.as_bytes(), TEXT_BYTES_MAX).is_ok();
                assert_eq!(found, good, "{before:?} {behind:?} {inside}");
            }
        }
    }
}
