//! First words and first lines that start, open or load something.

use super::starts;
use crate::Foreign;

/// Beginnings that mean one thing, in small letters of ASCII; the rest of the line does not matter.
pub(super) const WORDS: [(&str, Foreign); 30] = [
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

pub(super) fn by_words(begun: &str) -> Option<Foreign> {
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
