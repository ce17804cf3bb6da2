//! Cutting a document into passages: at headings, then paragraphs, then sentences, then words.

use std::ops::Range;

/// Most words of a passage. MiniLM, the smallest encoder in use, reads 254 word pieces, and English
/// prose has about 1.35 pieces a word.
pub const CHUNK_WORDS_MAX: usize = 180;

/// Most bytes of a passage: 180 words of English are about 1 100; scripts without spaces between
/// words are bounded by this alone.
pub const CHUNK_BYTES_MAX: usize = 2048;

/// Deepest heading of Markdown (CommonMark 0.31, section 4.2).
const HEADING_DEPTH_MAX: usize = 6;

/// A passage of a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// Its bytes in the normalised text.
    pub range: Range<usize>,
    /// The headings that it stands under and that are not inside `range`, outermost first.
    pub headings: Vec<Range<usize>>,
}

/// The passages of a normalised text, in order and disjoint.
///
/// A passage never reaches over a heading, has at most [`CHUNK_WORDS_MAX`] words and
/// [`CHUNK_BYTES_MAX`] bytes, and starts and ends with a character that is not white space. Every
/// such character is in a passage, except headings with nothing under them: they only lead the
/// passages of their subsections. A text of headings alone is cut as if they were prose.
#[must_use]
pub fn chunks(text: &str) -> Vec<Chunk> {
    let mut found = Vec::new();
    let mut path: Vec<(usize, Range<usize>)> = Vec::new();
    for section in sections(text) {
        let start = section.heading.as_ref().map_or(section.body.start, |(_, line)| line.start);
        if let Some((depth, line)) = &section.heading {
            path.retain(|(above, _)| above < depth);
            path.push((*depth, line.clone()));
        }
        if trimmed(text, section.body.clone()).is_empty() {
            continue;
        }
        for range in packed(text, start..section.body.end) {
            let outside = |line: &Range<usize>| line.start < range.start;
            let headings = path.iter().map(|(_, line)| line.clone()).filter(outside).collect();
            found.push(Chunk { range, headings });
        }
    }
    if found.is_empty() {
        let whole = packed(text, 0..text.len()).into_iter();
        found = whole.map(|range| Chunk { range, headings: Vec::new() }).collect();
    }
    found
}

/// A heading and what stands under it, up to the next heading of any depth.
struct Section {
    /// Depth from 1, and the line.
    heading: Option<(usize, Range<usize>)>,
    body: Range<usize>,
}

fn sections(text: &str) -> Vec<Section> {
    let mut all = vec![Section { heading: None, body: 0..0 }];
    let mut fence: Option<&str> = None;
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        let range = at..at + line.len();
        at = range.end;
        let bare = line.trim();
        let marker = ["```", "~~~"].into_iter().find(|marker| bare.starts_with(marker));
        match (fence, marker) {
            (None, Some(marker)) => fence = Some(marker),
            (Some(open), Some(marker)) if open == marker => fence = None,
            _ => {}
        }
        let heading = if fence.is_none() { heading_depth(line) } else { None };
        if let Some(depth) = heading {
            let line = trimmed(text, range.clone());
            all.push(Section { heading: Some((depth, line)), body: range.end..range.end });
        } else if let Some(section) = all.last_mut() {
            section.body.end = range.end;
        }
    }
    all
}

/// The depth of an ATX heading (CommonMark 0.31, section 4.2) that has words.
fn heading_depth(line: &str) -> Option<usize> {
    let after = line.trim_start_matches('#');
    let depth = line.len() - after.len();
    let words = after.trim().trim_matches('#');
    ((1..=HEADING_DEPTH_MAX).contains(&depth)
        && after.starts_with([' ', '\t'])
        && words.chars().any(char::is_alphanumeric))
    .then_some(depth)
}

/// `range` without the white space at its ends; empty at its end if there is nothing else.
fn trimmed(text: &str, range: Range<usize>) -> Range<usize> {
    let part = text.get(range.clone()).expect("ranges are made at characters");
    let kept = part.trim_start();
    let start = range.end - kept.len();
    start..start + kept.trim_end().len()
}

fn fits(text: &str, range: &Range<usize>) -> bool {
    let part = text.get(range.clone()).expect("ranges are made at characters");
    part.len() <= CHUNK_BYTES_MAX && part.split_whitespace().nth(CHUNK_WORDS_MAX).is_none()
}

/// Cuts `range` into pieces that fit and joins neighbours while they fit together.
fn packed(text: &str, range: Range<usize>) -> Vec<Range<usize>> {
    let mut joined: Vec<Range<usize>> = Vec::new();
    for piece in pieces(text, range, Cut::Paragraph) {
        match joined.last_mut() {
            Some(last) if fits(text, &(last.start..piece.end)) => last.end = piece.end,
            _ => joined.push(piece),
        }
    }
    joined
}

/// Where a text may be cut, best first.
#[derive(Clone, Copy)]
enum Cut {
    Paragraph,
    Sentence,
    Word,
    Character,
}

fn pieces(text: &str, range: Range<usize>, cut: Cut) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    for part in parts(text, range, cut) {
        let part = trimmed(text, part);
        if part.is_empty() {
            continue;
        }
        let finer = match cut {
            _ if fits(text, &part) => None,
            Cut::Paragraph => Some(Cut::Sentence),
            Cut::Sentence => Some(Cut::Word),
            Cut::Word => Some(Cut::Character),
            Cut::Character => None,
        };
        match finer {
            Some(finer) => found.extend(pieces(text, part, finer)),
            None => found.push(part),
        }
    }
    found
}

/// The parts of `range` between the places where `cut` may be made; together they are `range`.
fn parts(text: &str, range: Range<usize>, cut: Cut) -> Vec<Range<usize>> {
    let part = text.get(range.clone()).expect("ranges are made at characters");
    let mut found = Vec::new();
    let mut start = range.start;
    let mut before = ['\0'; 2];
    for (offset, character) in part.char_indices() {
        let at = range.start + offset;
        let here = match cut {
            // An empty line; lines of white space alone count, since the first break ends the part
            // and what is left is trimmed.
            Cut::Paragraph => before == ['\n', '\n'],
            Cut::Sentence => {
                before[1] == '\n'
                    || (before[1].is_whitespace() && matches!(before[0], '.' | '!' | '?' | ';'))
                    || matches!(before[1], '\u{3002}' | '\u{ff01}' | '\u{ff1f}')
            }
            Cut::Word => before[1].is_whitespace(),
            Cut::Character => at + character.len_utf8() > start + CHUNK_BYTES_MAX,
        };
        if here && at > start {
            found.push(start..at);
            start = at;
        }
        before = [before[1], character];
    }
    found.push(start..range.end);
    found
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn texts<'a>(text: &'a str, found: &[Chunk]) -> Vec<&'a str> {
        found.iter().map(|chunk| text.get(chunk.range.clone()).expect("at characters")).collect()
    }

    #[test]
    fn headings_part_passages_and_lead_them() {
        let text = "# Pump\n\n## Start\n\nOpen V-1.\n\n## Stop\nClose V-1.\n";
        let found = chunks(text);
        assert_eq!(texts(text, &found), ["## Start\n\nOpen V-1.", "## Stop\nClose V-1."]);
        let above: Vec<&str> =
            found[1].headings.iter().map(|line| text.get(line.clone()).expect("a line")).collect();
        assert_eq!(above, ["# Pump"]);
    }

    #[test]
    fn a_hash_in_code_is_no_heading() {
        let text = "Run\n```\n# not a heading\nx\n```\nthen stop.";
        assert_eq!(chunks(text).len(), 1);
    }

    #[test]
    fn long_prose_is_cut_at_sentences() {
        let text = "This sentence has just six words. ".repeat(100);
        let found = chunks(&text);
        assert!(found.len() >= 4);
        for passage in texts(&text, &found) {
            assert!(passage.ends_with('.'));
        }
    }

    #[test]
    fn a_text_of_headings_alone_is_kept() {
        let text = "# One\n# Two\n";
        assert_eq!(texts(text, &chunks(text)), ["# One\n# Two"]);
        assert!(chunks(" \n\t\n").is_empty());
    }

    proptest! {
        #[test]
        fn passages_are_bounded_ordered_and_complete(
            text in prop_oneof![
                any::<String>(),
                "(([a-z]{1,9}[ .\n]{1,2}){1,40}(# [A-Z]{3}\n)?){0,30}",
                "[\u{4e00}-\u{4eff}]{0,3000}",
            ]
        ) {
            let text = crate::normalise(&text);
            let found = chunks(&text);
            let mut end = 0;
            for chunk in &found {
                prop_assert!(chunk.range.start >= end);
                prop_assert!(!chunk.range.is_empty());
                prop_assert!(fits(&text, &chunk.range));
                end = chunk.range.end;
            }
            let covered: usize = texts(&text, &found)
                .iter()
                .map(|part| part.chars().filter(|c| !c.is_whitespace()).count())
                .sum();
            let headings: usize = text
                .lines()
                .filter(|line| heading_depth(line).is_some())
                .map(|line| line.chars().filter(|c| !c.is_whitespace()).count())
                .sum();
            let all = text.chars().filter(|c| !c.is_whitespace()).count();
            prop_assert!(covered <= all && covered + headings >= all);
        }
    }
}
