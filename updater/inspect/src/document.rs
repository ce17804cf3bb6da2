//! Documents: text, JSON, tokenizers and message formats.

use std::io::BufReader;

use cloister_formats::JsonStream;
use cloister_tokenize::{Tokenizer, template::Template};

use crate::{
    Foreign, Kind, Refusal, Source, beginning, json, pickle, read,
    stream::{self, Artefact},
    text::Judge,
};

/// Largest tokenizer, in bytes; the largest known ones have 35 MB.
const TOKENIZER_BYTES_MAX: u64 = 40 << 20;
/// Longest string of a tokenizer, as it is written; the longest of a known one has 320 kB.
const STRING_BYTES_MAX: usize = 1 << 20;
/// Largest message format, in bytes; real ones have some kB.
const TEMPLATE_BYTES_MAX: u64 = 1 << 20;
/// Largest JSON document, in bytes; evaluation sets have some MB.
const JSON_BYTES_MAX: u64 = 16 << 20;
/// Largest text, in bytes; it passes through a buffer.
const TEXT_BYTES_MAX: u64 = 1 << 30;
/// Bytes of a text that are in memory at a time.
const BUFFER_BYTES: u64 = 1 << 20;

/// Bytes at the end of a document that are looked at before it is read.
const END_BYTES: u64 = 1 << 10;

/// Judges a document of `kind` that begins with `front`.
pub(crate) fn check(kind: Kind, front: Vec<u8>, source: &mut dyn Source) -> Result<(), Refusal> {
    let bytes_max = match kind {
        // Weights are told by their content; a document that promises to be some is caught by name.
        Kind::Gguf | Kind::Safetensors => return Err(Refusal::Unknown),
        Kind::Tokenizer => TOKENIZER_BYTES_MAX,
        Kind::Template => TEMPLATE_BYTES_MAX,
        Kind::Json | Kind::JsonLines => JSON_BYTES_MAX,
        Kind::Text => TEXT_BYTES_MAX,
    };
    let bytes = source.bytes();
    if bytes > bytes_max {
        return Err(Refusal::TooLarge { bytes, bytes_max });
    }
    let end = bytes.min(END_BYTES);
    beginning::is_document(&front, &read(source, bytes.saturating_sub(end), end)?)?;
    let goes_on = u64::try_from(front.len()).is_ok_and(|length| length < bytes);
    drop(front);
    if goes_on {
        no_pickle(source)?;
    }
    match kind {
        Kind::Gguf | Kind::Safetensors => Err(Refusal::Unknown),
        Kind::Tokenizer => tokenizer(source),
        Kind::Template => {
            let text = whole(source)?;
            json::check(text.as_bytes())?;
            Template::from_json(&text).map(drop).map_err(Refusal::Template)
        }
        Kind::Json => json::check(whole(source)?.as_bytes()),
        Kind::JsonLines => {
            let text = whole(source)?;
            text.lines()
                .filter(|line| !line.is_empty())
                .try_for_each(|line| json::check(line.as_bytes()))
        }
        Kind::Text => plain(source),
    }
}

/// Refuses a document that is a pickle, however far from its beginning it does what it does.
fn no_pickle(source: &mut dyn Source) -> Result<(), Refusal> {
    let artefact = Artefact::of(source);
    let file = BufReader::with_capacity(stream::BUFFER_BYTES, artefact.open());
    let found = artefact.read(pickle::is_one(file, true), |_io| Refusal::Unreadable)?;
    if found { Err(Refusal::Foreign(Foreign::Pickle)) } else { Ok(()) }
}

/// A tokenizer, which passes by as strict JSON first, and then as the tokenizer reads it.
fn tokenizer(source: &mut dyn Source) -> Result<(), Refusal> {
    let artefact = Artefact::of(source);
    let strict = json::check_stream(JsonStream::new(artefact.open(), STRING_BYTES_MAX));
    artefact.read(strict, |refusal| refusal)?;
    let tokenizer = Tokenizer::from_json_stream(|| artefact.open());
    artefact.read(tokenizer, Refusal::Tokenizer).map(drop)
}

/// A document, as text.
fn whole(source: &mut dyn Source) -> Result<String, Refusal> {
    let bytes = source.bytes();
    let bytes = read(source, 0, bytes)?;
    // The error would keep all the bytes, and its text quotes none; the place is enough.
    String::from_utf8(bytes).map_err(|broken| Refusal::Text {
        at: u64::try_from(broken.utf8_error().valid_up_to()).unwrap_or(u64::MAX),
    })
}

/// A text, which passes through a buffer: UTF-8 without characters that hide, move or steer (see
/// [`crate::text`]).
fn plain(source: &mut dyn Source) -> Result<(), Refusal> {
    let bytes = source.bytes();
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
        assert!(plain(&mut long.as_bytes()).is_ok());
        let mut broken = long.into_bytes();
        broken.pop();
        let refused = plain(&mut broken.as_slice());
        assert!(matches!(refused, Err(Refusal::Text { at: 1_199_997 })), "{refused:?}");
        for (bytes, at) in [
            (&b"ab\0c"[..], 2),
            (b"ab\xffc", 2),
            (b"\x1b[31m", 0),
            (b"a\x7f", 1),
            ("ä\u{9b}31m".as_bytes(), 2),
            ("\u{85}".as_bytes(), 0),
        ] {
            let refused = plain(&mut &bytes[..]);
            assert!(
                matches!(refused, Err(Refusal::Text { at: found }) if found == at),
                "{bytes:?}"
            );
        }
        assert!(plain(&mut b"a\tb\r\n\x0c".as_slice()).is_ok());
        assert!(plain(&mut b"ab\r".as_slice()).is_err());
        assert!(plain(&mut b"".as_slice()).is_ok());
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
                let found = plain(&mut text.as_bytes()).is_ok();
                assert_eq!(found, good, "{before:?} {behind:?} {inside}");
            }
        }
    }
}
