//! The public-domain prose: unpacked, cleaned to plain paragraphs, and cut into training and held-out text.

use anyhow::{Context, Result, ensure};

/// The Jargon File 4.4.7 as Debian's package dict-jargon 4.4.7-3.1 carries it, `zstd -19`; public domain
/// (text/LICENCE).
const JARGON: &[u8] = include_bytes!("../text/jargon.txt.zst");

/// Every how-manieth entry is held out, until there is enough.
const HELD_OUT_EVERY: usize = 29;

/// How much is held out at least.
const HELD_OUT_BYTES: usize = 32 * 1024;

/// Text for training and text that training never sees.
#[derive(Debug)]
pub struct Prose {
    /// Entries in the order of the source, each ended by a blank line.
    pub training: String,
    /// Entries in the order of the source, each ended by a blank line.
    pub held_out: String,
}

/// Unpacks and cuts the prose.
///
/// # Errors
/// When the built-in text does not unpack: the file in the tree is damaged.
pub fn read() -> Result<Prose> {
    let raw = zstd::decode_all(JARGON).context("text/jargon.txt.zst does not unpack")?;
    let raw = String::from_utf8(raw).context("text/jargon.txt.zst is not UTF-8")?;
    let entries = entries(&raw);
    ensure!(entries.len() > 2000, "text/jargon.txt.zst holds {} entries", entries.len());
    let (mut training, mut held_out) = (String::new(), String::new());
    for (index, entry) in entries.iter().enumerate() {
        let held = index % HELD_OUT_EVERY == HELD_OUT_EVERY - 1 && held_out.len() < HELD_OUT_BYTES;
        let to = if held { &mut held_out } else { &mut training };
        to.push_str(entry);
        to.push_str("\n\n");
    }
    Ok(Prose { training, held_out })
}

/// Single sentences of `text` of 30 to 140 bytes, without signs that would make them odd as passages.
#[must_use]
pub fn sentences(text: &str) -> Vec<Vec<String>> {
    let plain = |s: &str| {
        (30..=140).contains(&s.len())
            && s.starts_with(|c: char| c.is_ascii_uppercase())
            && s.chars().all(|c| c.is_ascii_alphanumeric() || " ,.'-;:()".contains(c))
            && !s.contains("..")
    };
    let mut paragraphs = Vec::new();
    for paragraph in text.lines() {
        let body = paragraph.split_once(": ").map_or(paragraph, |(_, body)| body);
        let found: Vec<String> = body
            .split_inclusive(". ")
            .map(|s| s.trim().to_owned())
            .filter(|s| s.ends_with('.') && plain(s))
            .collect();
        if found.len() >= 2 {
            paragraphs.push(found);
        }
    }
    paragraphs
}

/// An entry is a head line at the margin, lines of pronunciation indented by one, and paragraphs
/// indented by four; it becomes `head: paragraph`, the paragraphs unwrapped.
fn entries(raw: &str) -> Vec<String> {
    let mut out: Vec<String> = Vec::new();
    let mut head = "";
    let mut paragraph = String::new();
    let mut first = true;
    let close = |head: &str, paragraph: &mut String, first: &mut bool, out: &mut Vec<String>| {
        if paragraph.is_empty() {
            return;
        }
        let text = clean(paragraph);
        paragraph.clear();
        if *first {
            out.push(format!("{head}: {text}"));
            *first = false;
        } else if let Some(entry) = out.last_mut() {
            entry.push('\n');
            entry.push_str(&text);
        }
    };
    for line in raw.lines().skip_while(|line| *line != "(TM)") {
        let body = line.trim();
        if body.is_empty() {
            close(head, &mut paragraph, &mut first, &mut out);
        } else if line.starts_with("    ") {
            if !paragraph.is_empty() {
                paragraph.push(' ');
            }
            paragraph.push_str(body);
        } else if !line.starts_with(' ') {
            close(head, &mut paragraph, &mut first, &mut out);
            head = body;
            first = true;
        }
    }
    close(head, &mut paragraph, &mut first, &mut out);
    out
}

/// Plain quotation marks, no cross-reference braces, single spaces.
fn clean(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\u{201c}' | '\u{201d}' => out.push('"'),
            '\u{2018}' | '\u{2019}' => out.push('\''),
            '{' | '}' | '\u{a0}' => {}
            _ => out.push(c),
        }
    }
    out.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prose_is_cut_into_two_texts_that_share_no_entry() {
        let prose = read().unwrap();
        assert!(prose.training.len() > 1_000_000);
        assert!((32 * 1024..64 * 1024).contains(&prose.held_out.len()));
        for entry in prose.held_out.split("\n\n").filter(|e| e.len() > 80) {
            assert!(!prose.training.contains(entry));
        }
        assert!(!prose.training.contains('{') && !prose.training.contains("  "));
    }

    #[test]
    fn sentences_are_whole_and_plain() {
        let found = sentences(&read().unwrap().training);
        assert!(found.len() > 800, "{}", found.len());
        assert!(found.iter().flatten().all(|s| s.ends_with('.') && !s.contains('"')));
    }
}
