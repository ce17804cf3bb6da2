//! Jinja's outer layer: text, `{{ … }}`, `{% … %}` and `{# … #}`, and the words inside a tag.
//!
//! With the switches that `transformers` sets: `trim_blocks`, `lstrip_blocks`, and one line break
//! at the end dropped (Jinja 3.1, `lexer.py`).

use super::TemplateError;

/// A stretch of the program.
#[derive(Debug)]
pub(super) enum Segment {
    /// Written as it is.
    Text(String),
    /// `{{ … }}`.
    Output(Vec<Word>, usize),
    /// `{% … %}`.
    Statement(Vec<Word>, usize),
}

/// A word of an expression or statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Word {
    /// A name or keyword.
    Name(String),
    /// A string, its escapes resolved.
    Text(String),
    /// A whole number.
    Number(i64),
    /// An operator or bracket.
    Sign(&'static str),
}

/// Longest first, so that `==` is not two `=`.
const SIGNS: [&str; 24] = [
    "==", "!=", "<=", ">=", "//", "**", "(", ")", "[", "]", "{", "}", ".", ",", ":", "|", "+", "-",
    "*", "/", "%", "~", "=", "<",
];

/// What closes a tag, and whether it is a comment.
const TAGS: [(&str, &str); 3] = [("{{", "}}"), ("{%", "%}"), ("{#", "#}")];

/// Cuts a program into segments.
pub(super) fn segments(program: &str) -> Result<Vec<Segment>, TemplateError> {
    let program = program.replace("\r\n", "\n");
    let program = program.strip_suffix('\n').unwrap_or(&program);
    let mut segments = Vec::new();
    let mut rest = program;
    let mut strip_next = false;
    let mut trim_newline = false;
    let mut line = 1;
    loop {
        let tag = first_tag(rest);
        let (before, tail) = rest.split_at(tag.map_or(rest.len(), |(at, _tag)| at));
        let mut text = before;
        if strip_next {
            text = text.trim_start();
        } else if trim_newline {
            text = text.strip_prefix('\n').unwrap_or(text);
        }
        let Some((_at, &(open, close))) = tag else {
            segments.push(Segment::Text(text.to_owned()));
            return Ok(segments);
        };
        line += lines(before);
        let inside = tail.split_at(open.len()).1;
        let (body, after) = body(inside, close).ok_or(TemplateError::Syntax { line })?;
        let strip_before = body.starts_with('-');
        if strip_before {
            text = text.trim_end();
        } else if open != "{{" {
            text = without_indent(text, before, before.len() + tail.len() == program.len());
        }
        strip_next = body.ends_with('-') && body.len() > 1;
        trim_newline = open != "{{";
        segments.push(Segment::Text(text.to_owned()));
        let body = body.strip_prefix('-').unwrap_or(body);
        let body = body.strip_suffix('-').unwrap_or(body);
        if body.starts_with('+') || body.ends_with('+') {
            return Err(TemplateError::unsupported("a white space switch", "+"));
        }
        match open {
            "{{" => segments.push(Segment::Output(words(body, line)?, line)),
            "{%" => segments.push(Segment::Statement(words(body, line)?, line)),
            _comment => {}
        }
        line += lines(tail.split_at(tail.len() - after.len()).0);
        rest = after;
    }
}

/// Where the first tag begins, and which kind it is; one look at each character, however many tags follow.
fn first_tag(text: &str) -> Option<(usize, &'static (&'static str, &'static str))> {
    text.match_indices('{').find_map(|(at, _brace)| {
        let tail = text.split_at(at).1;
        Some((at, TAGS.iter().find(|(open, _close)| tail.starts_with(open))?))
    })
}

/// How many lines end in `text`.
fn lines(text: &str) -> usize {
    text.bytes().filter(|byte| *byte == b'\n').count()
}

/// `lstrip_blocks`: a tag that begins its line takes the blanks before it along.
fn without_indent<'a>(text: &'a str, before: &str, at_start: bool) -> &'a str {
    let indent = before.rsplit('\n').next().unwrap_or(before);
    let begins_line = at_start || indent.len() < before.len();
    let blank = |c| matches!(c, ' ' | '\t');
    if begins_line && indent.chars().all(blank) { text.trim_end_matches(blank) } else { text }
}

/// What stands before `close`, which does not count inside a string, and what comes after it.
fn body<'a>(inside: &'a str, close: &str) -> Option<(&'a str, &'a str)> {
    if close == "#}" {
        let at = inside.find(close)?;
        return Some((inside.split_at(at).0, inside.split_at(at + close.len()).1));
    }
    let mut quote = None;
    let mut escaped = false;
    for (at, c) in inside.char_indices() {
        match quote {
            Some(_) if escaped => escaped = false,
            Some(_) if c == '\\' => escaped = true,
            Some(open) if c == open => quote = None,
            Some(_) => {}
            None if matches!(c, '\'' | '"') => quote = Some(c),
            None if inside.split_at(at).1.starts_with(close) => {
                return Some((inside.split_at(at).0, inside.split_at(at + close.len()).1));
            }
            None => {}
        }
    }
    None
}

/// The words of a tag.
fn words(body: &str, line: usize) -> Result<Vec<Word>, TemplateError> {
    let mut words = Vec::new();
    let mut rest = body.trim_start();
    while let Some(first) = rest.chars().next() {
        let length = if matches!(first, '\'' | '"') {
            let (text, length) = string(rest, first).ok_or(TemplateError::Syntax { line })?;
            words.push(Word::Text(text));
            length
        } else if first.is_ascii_digit() {
            let length = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
            let number = rest.split_at(length).0.parse();
            words.push(Word::Number(number.map_err(|_long| TemplateError::Syntax { line })?));
            length
        } else if first.is_alphabetic() || first == '_' {
            let part = |c: char| c.is_alphanumeric() || c == '_';
            let length = rest.find(|c| !part(c)).unwrap_or(rest.len());
            words.push(Word::Name(rest.split_at(length).0.to_owned()));
            length
        } else {
            let sign = SIGNS.iter().chain(&[">"]).find(|sign| rest.starts_with(**sign));
            let sign = sign.ok_or(TemplateError::Syntax { line })?;
            words.push(Word::Sign(sign));
            sign.len()
        };
        rest = rest.split_at(length).1.trim_start();
    }
    Ok(words)
}

/// A string at the beginning of `text`, and its length there with quotes.
fn string(text: &str, quote: char) -> Option<(String, usize)> {
    let mut value = String::new();
    let mut characters = text.char_indices().skip(1);
    while let Some((at, c)) = characters.next() {
        if c == quote {
            return Some((value, at + 1));
        }
        if c != '\\' {
            value.push(c);
            continue;
        }
        match characters.next()?.1 {
            'n' => value.push('\n'),
            't' => value.push('\t'),
            'r' => value.push('\r'),
            same @ ('\\' | '\'' | '"') => value.push(same),
            other => value.extend(['\\', other]),
        }
    }
    None
}
