//! Texts that something opens, and documents that only speak of them.

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
    for long in [" ".repeat(BEFORE_BYTES_MAX), format!("<!--{}-->", "x".repeat(BEFORE_BYTES_MAX))] {
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
