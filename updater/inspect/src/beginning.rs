//! Texts that are no documents: what their first words say to a program that opens them.
//!
//! A file is such a text when it *begins* so, behind a byte order mark, white space and comments of
//! markup; a document that speaks of HTML, quotes a script, or begins as Markdown may (with a comment,
//! a picture, `<details>`, an address in angle brackets) is none. Sources: WHATWG MIME Sniffing 7.1,
//! the tags that GitHub's Markdown leaves out (GFM 6.11), file(1) `Magdir/{sgml,printer,pdf,rtf,msdos,
//! windows,uuencode}`, PDF 1.7 annex H.3 (notes 13 and 18).

use crate::{Foreign, Refusal};

/// White space and comments before the first word; a licence in a comment has some 12 kB.
const BEFORE_BYTES_MAX: usize = 32 << 10;
/// Where readers of PDF look for its mark, and for its end.
const PDF_BYTES: usize = 1024;

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
/// Beginnings that mean one thing, in small letters of ASCII; the rest of the line does not matter.
const WORDS: [(&str, Foreign); 30] = [
    ("#!", Foreign::Script),
    ("<%", Foreign::Script),
    ("#requires -", Foreign::Script),
    ("[cmdletbinding(", Foreign::Script),
    ("$erroractionpreference", Foreign::Script),
    ("set-executionpolicy ", Foreign::Script),
    ("set-strictmode ", Foreign::Script),
    ("invoke-expression ", Foreign::Script),
    ("on error resume next", Foreign::Script),
    ("from __future__ import ", Foreign::Script),
    ("javascript:", Foreign::Script),
    ("vbscript:", Foreign::Script),
    ("windows registry editor version ", Foreign::Script),
    ("data:text/html", Foreign::Html),
    ("data:image/svg", Foreign::Xml),
    ("mime-version:", Foreign::Html),
    ("<!doctype html", Foreign::Html),
    ("<!doctype", Foreign::Xml),
    ("<!entity", Foreign::Xml),
    ("<!element", Foreign::Xml),
    ("<!attlist", Foreign::Xml),
    ("<![cdata[", Foreign::Xml),
    ("<?xml", Foreign::Xml),
    ("<?", Foreign::Script),
    ("<svg", Foreign::Xml),
    ("{\\rt", Foreign::Rtf),
    ("{\\urtf", Foreign::Rtf),
    ("%pdf-", Foreign::Pdf),
    ("%fdf-", Foreign::Pdf),
    ("# this is a shell archive", Foreign::Archive),
];
/// First lines that mean one thing, whole and in small letters.
const LINES: [(&str, Foreign); 11] = [
    ("echo off", Foreign::Script),
    ("setlocal", Foreign::Script),
    ("option explicit", Foreign::Script),
    ("\"use strict\";", Foreign::Script),
    ("'use strict';", Foreign::Script),
    ("<#", Foreign::Script),
    ("regedit4", Foreign::Script),
    ("%!", Foreign::PostScript),
    ("%!postscript", Foreign::PostScript),
    ("%!fonttype1", Foreign::PostScript),
    ("(this file must be converted with binhex 4.0)", Foreign::Archive),
];
/// Sections of settings that start, open or load something.
const SECTIONS: [&str; 3] = ["[autorun]", "[desktop entry]", "[internetshortcut]"];
/// Commands of DOS and Windows that `@` keeps silent about.
const SILENT: [&str; 22] = [
    "call",
    "cd",
    "chcp",
    "cls",
    "cmd",
    "color",
    "copy",
    "del",
    "echo",
    "for",
    "goto",
    "if",
    "mode",
    "net",
    "powershell",
    "pushd",
    "reg",
    "rem",
    "set",
    "setlocal",
    "start",
    "title",
];

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

fn by_words(begun: &str) -> Option<Foreign> {
    let line = begun.lines().next().unwrap_or_default().trim_end();
    let word = WORDS.iter().find(|(word, _foreign)| starts(begun, word));
    let whole = || LINES.iter().find(|(whole, _foreign)| line.eq_ignore_ascii_case(whole));
    if let Some((_found, foreign)) = word.or_else(whole) {
        return Some(*foreign);
    }
    if begun.starts_with("%!PS") || begun.starts_with("%!Adobe") {
        return Some(Foreign::PostScript);
    }
    let silent = begun.strip_prefix('@').map(|command| {
        command.split(|c: char| !c.is_ascii_alphanumeric()).next().unwrap_or_default()
    });
    // An entry of a bibliography is followed by a brace, an address by a dot.
    let spaced = silent.and_then(|command| begun.get(command.len().saturating_add(1)..));
    let spaced =
        spaced.is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\r', '\n']));
    let known =
        silent.is_some_and(|command| SILENT.iter().any(|one| command.eq_ignore_ascii_case(one)));
    if spaced && known {
        return Some(Foreign::Script);
    }
    if is_settings(begun) {
        return Some(Foreign::Script);
    }
    is_uuencoded(begun).then_some(Foreign::Archive)
}

/// Whether the text is settings, of which some section is one that a desktop runs or opens: readers look
/// for it behind other sections.
fn is_settings(begun: &str) -> bool {
    let section = |line: &str| line.starts_with('[') && line.ends_with(']');
    let setting = |line: &str| {
        let name = line.split_once('=').map_or("", |(name, _value)| name.trim_end());
        let plain = |c: char| c.is_ascii_alphanumeric() || " _.-[]".contains(c);
        !name.is_empty() && name.chars().all(plain)
    };
    let mut lines = begun.lines().map(str::trim).take_while(|line| {
        line.is_empty() || line.starts_with(';') || section(line) || setting(line)
    });
    lines.any(|line| SECTIONS.iter().any(|name| line.eq_ignore_ascii_case(name)))
}

/// `begin MODE NAME`, and a line of 45 bytes, which begins with an M (uuencode(5)).
fn is_uuencoded(begun: &str) -> bool {
    let mut lines = begun.lines();
    let mut words = lines.next().unwrap_or_default().split(' ');
    let begins = words.next().is_some_and(|word| matches!(word, "begin" | "begin-base64"));
    let mode = words.next().unwrap_or_default();
    let octal = matches!(mode.len(), 3 | 4) && mode.bytes().all(|byte| matches!(byte, b'0'..=b'7'));
    begins && octal && lines.next().is_some_and(|line| !line.contains(' ') || line.starts_with('M'))
}

/// What the first tag says, if the text begins with one. An element that HTML does not know is markup
/// when it names what it is written in, or ends where the text ends.
fn by_tag(begun: &str, tail: &str) -> Option<Foreign> {
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

/// Readers of PDF begin anywhere in the first kilobyte, so what stands there need not be the first
/// word; a text that only speaks of PDF has no object and no end of one.
fn pdf(text: &str, tail: &str) -> Option<Foreign> {
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

#[cfg(test)]
mod tests {
    use cloister_domain::Coded as _;

    use super::*;

    fn code(text: &str) -> &'static str {
        match is_document(text.as_bytes(), text.as_bytes()) {
            Ok(()) => "text",
            Err(refusal) => refusal.code(),
        }
    }

    const OPENED: &[(&str, &str)] = &[
        ("%PDF-1.4\n%âãÏÓ\n1 0 obj", "inspect.pdf"),
        ("%FDF-1.2\n", "inspect.pdf"),
        ("A note.\n%PDF-1.7\n1 0 obj\n<< >>\nendobj", "inspect.pdf"),
        ("A note. %PDF-1.7 … startxref\n9\n%%EOF\n", "inspect.pdf"),
        ("{\\rtf1\\ansi Pumps}", "inspect.rtf"),
        ("{\\RTF1 x}", "inspect.rtf"),
        ("{\\rt0x", "inspect.rtf"),
        ("%!PS-Adobe-3.0\n", "inspect.postscript"),
        ("%!\n/Helvetica findfont", "inspect.postscript"),
        ("%!PS\n", "inspect.postscript"),
        ("<!DOCTYPE html><p>", "inspect.html"),
        ("<!doctype HTML PUBLIC \"-//W3C//DTD\">", "inspect.html"),
        ("<html lang=en>", "inspect.html"),
        ("<HTML>", "inspect.html"),
        ("<body onload=x()>", "inspect.html"),
        ("<script>alert(1)</script>", "inspect.html"),
        ("<ScRiPt src=x>", "inspect.html"),
        ("<style>x</style>", "inspect.html"),
        ("<iframe src=x>", "inspect.html"),
        ("<meta http-equiv=refresh>", "inspect.html"),
        ("<!-- note --><script>x</script>", "inspect.html"),
        ("<!-- a -->\n\n<!-- b -->\n<html>", "inspect.html"),
        ("<!--><script>x</script>-->", "inspect.html"),
        ("<!---><script>x</script>-->", "inspect.html"),
        ("<!-- a --!><script>x</script>-->", "inspect.html"),
        ("<!----!><script>x</script>-->", "inspect.html"),
        ("<!-- a -- b --!><!--><html>", "inspect.html"),
        ("<!><script>x</script>", "inspect.html"),
        ("<!x y><script>x</script>", "inspect.html"),
        ("<!-x-><script>x</script>", "inspect.html"),
        ("</><script>x</script>", "inspect.html"),
        ("</ x><script>x</script>", "inspect.html"),
        ("</br><html>", "inspect.html"),
        ("</p title='>'><html>", "inspect.html"),
        ("<!--> --><svg xmlns='x'/>", "inspect.xml"),
        ("<!-- --!> --><note/>", "inspect.xml"),
        ("MIME-Version: 1.0\nContent-Type: multipart/related", "inspect.html"),
        ("<svg xmlns=\"http://www.w3.org/2000/svg\"/>", "inspect.xml"),
        ("<SVG onload=x>", "inspect.xml"),
        ("<?xml version=\"1.0\"?><note/>", "inspect.xml"),
        ("<?XML version='1.0'?>", "inspect.xml"),
        ("<!DOCTYPE note SYSTEM \"x\">", "inspect.xml"),
        ("<!ENTITY x \"y\">", "inspect.xml"),
        ("<a:b xmlns:a=\"urn:x\">", "inspect.xml"),
        ("<feed xmlns=\"http://www.w3.org/2005/Atom\">", "inspect.xml"),
        ("<note><to>x</to></note>\n", "inspect.xml"),
        ("<Configuration/>", "inspect.xml"),
        ("<?php system($_GET['x']);", "inspect.script"),
        ("<?= 1 ?>", "inspect.script"),
        ("<%@ page import=\"java.io\" %>", "inspect.script"),
        ("@echo off\r\ndel x", "inspect.script"),
        ("@ECHO OFF", "inspect.script"),
        ("@if exist x del x", "inspect.script"),
        ("echo off\r\n", "inspect.script"),
        ("#Requires -Version 5", "inspect.script"),
        ("[CmdletBinding()]\nparam()", "inspect.script"),
        ("\"use strict\";\nrequire('fs')", "inspect.script"),
        ("from __future__ import annotations", "inspect.script"),
        ("Option Explicit\r\nDim x", "inspect.script"),
        ("javascript:alert(1)", "inspect.script"),
        ("Windows Registry Editor Version 5.00\r\n", "inspect.script"),
        ("[Desktop Entry]\nExec=x", "inspect.script"),
        ("[autorun]\nopen=x", "inspect.script"),
        (
            "[{000214A0-0000-0000-C000-000000000046}]\r\nProp3=19,9\r\n[InternetShortcut]\r\nURL=x\r\n",
            "inspect.script",
        ),
        ("[x]\n; note\n\n[ InternetShortcut ]\n [AutoRun] \nopen=x", "inspect.script"),
        ("Name[de]=x\n[Desktop Entry]\nExec=x", "inspect.script"),
        ("begin 644 x.exe\nM35J0``,````$````__\\``+@`````````\n", "inspect.archive"),
        ("# This is a shell archive.\n", "inspect.archive"),
    ];

    #[test]
    fn what_a_program_would_open_is_known_by_its_beginning() {
        for (text, expected) in OPENED {
            for before in [
                "",
                "\u{FEFF}",
                "\n",
                "\r\n\r\n",
                " \t",
                "\u{FEFF}\n ",
                "\x0c",
                "\u{A0}",
                "\u{200B}",
                "\n\u{FEFF}",
            ] {
                let text = [before, text].concat();
                assert_eq!(code(&text), *expected, "{text:?}");
            }
        }
        for before in ["\n", " ", "\u{FEFF} ", "\r\n", "\t\u{FEFF}", "<!-- x -->\n"] {
            assert_eq!(code(&[before, "#!/bin/sh\nid"].concat()), "inspect.script", "{before:?}");
        }
    }

    #[test]
    fn a_beginning_that_is_far_away_is_not_looked_for() {
        for long in
            [" ".repeat(BEFORE_BYTES_MAX), format!("<!--{}-->", "x".repeat(BEFORE_BYTES_MAX))]
        {
            assert_eq!(code(&[&long, "  <html>"].concat()), "inspect.unknown");
        }
        assert_eq!(code(&["<!-- ", &"x".repeat(BEFORE_BYTES_MAX)].concat()), "inspect.unknown");
        assert_eq!(code(&"\n".repeat(BEFORE_BYTES_MAX + 1)), "inspect.unknown");
        assert_eq!(code(&[" ".repeat(1000).as_str(), "Pumps"].concat()), "text");
        assert_eq!(code("<!-- Apache 2.0 -->\n# Pumps\n"), "text");
    }

    const TAKEN: &[&str] = &[
        "",
        "\n\n",
        "\u{FEFF}",
        "Pumps",
        "# HTML\n\n`<html>` begins a page.\n\n```html\n<script>x</script>\n```\n",
        "<details>\n<summary>More</summary>\n\ntext\n</details>\n",
        "<p align=\"center\">\n<img src=\"x\">\n</p>\n",
        "<div align=center>\n\n# Pumps\n\n</div>\n",
        "<h1>Pumps</h1>\n",
        "<b>Note</b>: x",
        "<br>\ntext",
        "<br/>\ntext",
        "<!-- toc -->\n- [Pumps](#pumps)\n",
        "<!-- toc -->\n<img src=x />\n",
        "<!-->\n# Pumps\n",
        "<!--- Copyright: a > b --->\n# Pumps\n",
        "<!-- a --!>\n# Pumps -->\n",
        "<!> Pumps\n",
        "<! Pumps",
        "</3",
        "</3 and > Pumps\n",
        "[1]\n[2]\nPumps\n",
        "[pump]\nname = \"x\"\n\n[autorunner]\n",
        "# Settings\n\n[autorun]\nopen=x\n",
        "[note]\nThe section is called\n[autorun]\n",
        "a = b\n",
        "<a name=\"top\"></a>\n# Pumps",
        "<https://example.org/html>\n",
        "<admin@example.org> writes",
        "<name> <surname>: the form",
        "<unknown> is a token\n",
        "<|im_start|> begins a turn",
        "< 5 bar",
        "<- see",
        "<3",
        "%PDF is a format",
        "A PDF begins with `%PDF-1.7`, as here.\n",
        "% of total\n12",
        "%!TEX root = main.tex\n",
        "% !TeX program = xelatex\n",
        "%%% Local\n",
        "%! note",
        "@article{pump,\n title={x}}\n",
        "@media print",
        "@echo.example.org wrote",
        "@user",
        "@if-only",
        "@settings",
        "#1 Pumps",
        "#!",
        "# Requires -x",
        "# Pumps\n#!/bin/sh\n",
        "echo off the wall\n",
        "Echo off, he said.",
        "[Desktop Entry](x.md)\n",
        "[autorun] is a section",
        "{\\it x}",
        "{\\bf x}",
        "{ \"a\": 1 }",
        "{{ x }}",
        "begin 1 day earlier\nMonday",
        "begin at once",
        "from the future import",
        "Option explicitly given",
        "\"use strict\" is a word of JavaScript",
        "data: text",
        "javascript is a language",
        "MIME types\n",
        "REGEDIT4 is a mark",
        "The `<?php` mark",
        "php",
        "setlocal is a command",
        "% PDF-1.4",
    ];

    #[test]
    fn documents_that_speak_of_all_this_are_documents() {
        for text in TAKEN.iter().copied() {
            let expected = if text == "#!" { "inspect.script" } else { "text" };
            assert_eq!(code(text), expected, "{text:?}");
        }
    }
}
