//! Texts that are no documents: what their first words say to a program that opens them.
//!
//! A file is such a text when it *begins* so, behind a byte order mark, white space and comments of
//! markup; a document that speaks of HTML, quotes a script, or begins as Markdown may (with a comment,
//! a picture, `<details>`, an address in angle brackets) is none. Sources: WHATWG MIME Sniffing 7.1,
//! the tags that GitHub's Markdown leaves out (GFM 6.11), file(1) `Magdir/{sgml,printer,pdf,rtf,msdos,
//! windows,uuencode}`, PDF 1.7 annex H.3 (notes 13 and 18).

mod pdf;
mod tags;
#[cfg(test)]
mod tests;
mod words;

use crate::Refusal;
use pdf::pdf;
use tags::by_tag;
use words::{WORDS, by_words};

/// White space and comments before the first word; a licence in a comment has some 12 kB.
const BEFORE_BYTES_MAX: usize = 32 << 10;

/// Refuses a text that begins with `front` and ends with `tail` if it is no document.
pub(crate) fn is_document(front: &[u8], tail: &[u8]) -> Result<(), Refusal> {
    let (shown, tail) = (String::from_utf8_lossy(front), String::from_utf8_lossy(tail));
    // Browsers end comments where readers of XML do not, and the other way round.
    for behind in [behind_html as fn(&str) -> Option<&str>, behind_xml] {
        let Some(begun) = first_word(&shown, behind) else { continue };
        if shown.len().saturating_sub(begun.len()) > BEFORE_BYTES_MAX {
            return Err(Refusal::Unknown);
        }
        let foreign = by_words(begun).or_else(|| by_tag(begun, &tail));
        if let Some(foreign) = foreign.or_else(|| pdf(&shown, &tail)) {
            return Err(Refusal::Foreign(foreign));
        }
    }
    Ok(())
}

/// The text from its first word on; `None` for one that is blank and ends. `behind` goes past a comment
/// at the beginning, if there is one.
fn first_word(text: &str, behind: impl Fn(&str) -> Option<&str>) -> Option<&str> {
    let mut rest = text;
    loop {
        rest = rest.trim_start_matches(|c: char| {
            c.is_whitespace() || matches!(c, '\u{FEFF}' | '\u{200B}'..='\u{200F}')
        });
        match behind(rest) {
            Some(more) => rest = more,
            None if rest.starts_with("<!--") => return Some(""),
            None => return (text.len() > BEFORE_BYTES_MAX || !rest.is_empty()).then_some(rest),
        }
    }
}

/// Goes past a comment as readers of XML do (XML 1.0, 2.5).
fn behind_xml(rest: &str) -> Option<&str> {
    Some(rest.strip_prefix("<!--")?.split_once("-->")?.1)
}

/// Goes past a comment as browsers do (HTML, 13.2.5.42 to 52): `<!-->` and `<!--->` are whole, `--!>`
/// ends one too, and so is a comment whatever begins with `<!` or `</` and names nothing.
fn behind_html(rest: &str) -> Option<&str> {
    if let Some(comment) = rest.strip_prefix("<!--") {
        let at_once = comment.strip_prefix('>').or_else(|| comment.strip_prefix("->"));
        return at_once.or_else(|| {
            let ends = comment.match_indices('>').find_map(|(end, _mark)| {
                let (inside, behind) = comment.split_at_checked(end)?;
                (inside.ends_with("--") || inside.ends_with("--!")).then_some(behind)
            });
            ends?.strip_prefix('>')
        });
    }
    let nothing = match rest.strip_prefix("</") {
        Some(inside) => !is_letter(inside),
        None => rest.starts_with("<!") && !WORDS.iter().any(|(word, _foreign)| starts(rest, word)),
    };
    nothing.then(|| rest.split_once('>')).flatten().map(|(_inside, behind)| behind)
}

/// Whether `text` starts with `word`, in whatever letters of ASCII.
fn starts(text: &str, word: &str) -> bool {
    let start = text.as_bytes().get(..word.len());
    start.is_some_and(|start| start.eq_ignore_ascii_case(word.as_bytes()))
}

fn is_letter(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic())
}
