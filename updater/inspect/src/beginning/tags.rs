//! First tags: what is markup, and what Markdown may begin with.

use super::is_letter;
use crate::Foreign;

/// Elements that stand for a page, or that run, load or hide something, and no Markdown begins with.
const PAGE_TAGS: [&str; 26] = [
    "html",
    "head",
    "body",
    "title",
    "base",
    "link",
    "meta",
    "style",
    "script",
    "noscript",
    "template",
    "iframe",
    "frame",
    "frameset",
    "noframes",
    "object",
    "embed",
    "noembed",
    "applet",
    "form",
    "textarea",
    "xmp",
    "plaintext",
    "listing",
    "portal",
    "marquee",
];
/// Elements of HTML that Markdown may begin with.
const INLINE_TAGS: [&str; 73] = [
    "a",
    "abbr",
    "address",
    "article",
    "aside",
    "audio",
    "b",
    "bdi",
    "bdo",
    "big",
    "blockquote",
    "br",
    "button",
    "canvas",
    "caption",
    "center",
    "cite",
    "code",
    "col",
    "colgroup",
    "data",
    "dd",
    "del",
    "details",
    "dfn",
    "dialog",
    "div",
    "dl",
    "dt",
    "em",
    "figcaption",
    "figure",
    "font",
    "footer",
    "h1",
    "h2",
    "h3",
    "h4",
    "h5",
    "h6",
    "header",
    "hr",
    "i",
    "img",
    "input",
    "ins",
    "kbd",
    "label",
    "li",
    "main",
    "mark",
    "nav",
    "ol",
    "p",
    "picture",
    "pre",
    "q",
    "ruby",
    "s",
    "samp",
    "section",
    "small",
    "source",
    "span",
    "strike",
    "strong",
    "sub",
    "summary",
    "sup",
    "table",
    "u",
    "ul",
    "video",
];

/// What the first tag says, if the text begins with one. An element that HTML does not know is markup
/// when it names what it is written in, or ends where the text ends.
pub(super) fn by_tag(begun: &str, tail: &str) -> Option<Foreign> {
    let inside = begun.strip_prefix('<')?;
    // An end without a beginning, which browsers go past; Markdown begins with none.
    if inside.strip_prefix('/').is_some_and(is_letter) {
        return Some(Foreign::Html);
    }
    let length =
        inside.find(|c: char| !(c.is_alphanumeric() || matches!(c, '-' | '_' | '.' | ':')));
    let (name, rest) = inside.split_at_checked(length.unwrap_or(inside.len()))?;
    let behind = rest.chars().next()?;
    if name.is_empty() || !(behind.is_whitespace() || matches!(behind, '>' | '/')) {
        return None;
    }
    let is = |tag: &&str| name.eq_ignore_ascii_case(tag);
    if PAGE_TAGS.iter().any(&is) {
        return Some(Foreign::Html);
    }
    let (attributes, _content) = rest.split_once('>')?;
    if attributes.contains("xmlns") {
        return Some(Foreign::Xml);
    }
    let closed =
        || tail.trim_end().strip_suffix('>').and_then(|end| end.trim_end().strip_suffix(name));
    let encloses = attributes.ends_with('/') || closed().is_some_and(|end| end.ends_with("</"));
    (encloses && !INLINE_TAGS.iter().any(is)).then_some(Foreign::Xml)
}
