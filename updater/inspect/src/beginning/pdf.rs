//! PDF, which need not begin where the file does.

use crate::Foreign;

/// Where readers of PDF look for its mark, and for its end.
const PDF_BYTES: usize = 1024;

/// Readers of PDF begin anywhere in the first kilobyte, so what stands there need not be the first
/// word; a text that only speaks of PDF has no object and no end of one.
pub(super) fn pdf(text: &str, tail: &str) -> Option<Foreign> {
    let mark = text.find("%PDF-").filter(|place| *place < PDF_BYTES)?;
    let object = |line: &str| {
        let mut words = line.split_ascii_whitespace();
        let numbers = [words.next(), words.next()];
        let counted = |word: Option<&str>| {
            word.is_some_and(|word| {
                !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_digit())
            })
        };
        numbers.into_iter().all(counted) && words.next().is_some_and(|word| word.starts_with("obj"))
    };
    let behind = text.get(mark..).unwrap_or_default();
    let ends = tail.contains("startxref") && tail.contains("%%EOF");
    (ends || behind.split(['\n', '\r']).any(object)).then_some(Foreign::Pdf)
}
