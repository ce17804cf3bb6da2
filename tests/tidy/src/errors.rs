//! The page of error codes, made from the sources.
//!
//! Each crate's errors implement `Coded`; the code of a variant stands in `fn code`, its text in the
//! `#[error]` attribute. Other codes stand where a problem is made or the journal is told of one, each with
//! its text. All are read here as text, so the page needs no hand.

use std::collections::{BTreeMap, BTreeSet};

use crate::{Source, Tree};

const HEAD: &str = "# Error codes

Every refusal carries one of these codes: in the journal's `code` field, in a record, in `--json`
output and in the API's error envelope. The text is what a person reads; `{…}` stands for what only the moment knows.
`cloister` and `cloister-mint` print one line, the text with the code in brackets at its end. Their exit
status: 0 done, 1 the machine failed or is busy, 2 the command line is wrong, 4 an approval is missing
or cannot count (`cloister`), 5 stored bytes are damaged or a verification failed, 7 refused.
Made from the sources by `cargo run -p cloister-tidy`.

| code | crate | text |
|---|---|---|
";

/// The whole page.
#[must_use]
pub fn error_page(tree: &Tree) -> String {
    let mut rows = BTreeMap::new();
    for source in tree.sources.iter().filter(|source| source.is_production_rust()) {
        let texts = texts_of(source);
        for (code, variants) in codes_of(source) {
            let said: Vec<&str> = variants
                .iter()
                .filter_map(|variant| texts.get(variant).map(String::as_str))
                .filter(|text| !text.is_empty())
                .collect();
            let krate = source.path.split("/src/").next().unwrap_or_default().to_owned();
            rows.entry((code, krate)).or_insert_with(|| said.join(" / "));
        }
    }
    for (at, texts) in told(tree) {
        let row: &mut String = rows.entry(at).or_default();
        for text in
            texts.into_iter().filter(|text| !row.contains(text.as_str())).collect::<Vec<_>>()
        {
            if !row.is_empty() {
                row.push_str(" / ");
            }
            row.push_str(&text);
        }
    }
    let mut page = HEAD.to_owned();
    for ((code, krate), text) in rows {
        page.push_str(&format!("| `{code}` | {krate} | {} |\n", text.replace('|', "\\|")));
    }
    page
}

/// What stands before a code outside the error types: two functions that make a problem, and the journal's
/// field.
const TELLING: [&str; 3] = ["Problem::new(", "refusal(", JOURNAL];
const JOURNAL: &str = "code = ";

/// The codes that no error type has, with where and what they say. What the journal is told counts where
/// nobody else is told anything.
fn told(tree: &Tree) -> BTreeMap<(String, String), Vec<String>> {
    let mut told: BTreeMap<_, Vec<String>> = BTreeMap::new();
    for telling in TELLING {
        let before: BTreeSet<_> = told.keys().cloned().collect();
        for source in tree.sources.iter().filter(|source| source.is_production_rust()) {
            let krate = source.path.split("/src/").next().unwrap_or_default();
            for (code, text) in said_in(source, telling) {
                let at = (code, krate.to_owned());
                if telling == JOURNAL && before.contains(&at) {
                    continue;
                }
                let texts = told.entry(at).or_default();
                if !texts.contains(&text) {
                    texts.push(text);
                }
            }
        }
    }
    told
}

/// The codes behind `telling` in a file, each with its text.
fn said_in(source: &Source, telling: &str) -> Vec<(String, String)> {
    let lines: Vec<&str> = source
        .production_lines()
        .map(|(_, line)| line.trim())
        .filter(|line| !line.starts_with("//"))
        .collect();
    let text = lines.join("\n");
    // The class of a problem comes before its code.
    let class = usize::from(telling.starts_with("Problem"));
    let mut found = Vec::new();
    for (at, _) in text.match_indices(telling) {
        let (before, behind) = text.split_at(at + telling.len());
        let mut arguments = behind.splitn(class + 2, ',').skip(class).map(str::trim_start);
        let code = arguments.next().and_then(|code| literal_or_constant(code, &text));
        if let (Some(code), Some(behind)) = (code, arguments.next()) {
            found.push((code, said(before, behind, telling == JOURNAL)));
        }
    }
    found
}

/// The text `behind` a code: a literal, in the journal behind other fields; or what the name there was
/// bound to shortly before; or words that are known only when they are said.
fn said(before: &str, behind: &str, other_fields: bool) -> String {
    let at_once = ["\"", "format!(", "&format!("].iter().any(|begins| behind.starts_with(begins));
    if at_once || other_fields {
        return plain(behind);
    }
    let name: String = behind.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
    let function = before.rsplit_once("fn ").map_or("", |(_, function)| function);
    let bound = function.split_once(&format!("let {name} ="));
    bound.map_or_else(|| "{…}".to_owned(), |(_, value)| plain(value))
}

/// The code that an argument is: a literal, or a constant of the same file.
fn literal_or_constant(argument: &str, text: &str) -> Option<String> {
    let literal = |text: &str| Some(text.strip_prefix('"')?.split_once('"')?.0.to_owned());
    let code = literal(argument).or_else(|| {
        let defined = format!("const {argument}: &str = ");
        text.split_once(&defined).and_then(|(_, value)| literal(value))
    })?;
    (is_code(&code) && code.contains('.')).then_some(code)
}

/// An error type and its variant; the variant is empty for a type that is a struct.
type Variant = (String, String);

/// The text of each variant: the `#[error("…")]` above it.
fn texts_of(source: &Source) -> BTreeMap<Variant, String> {
    let mut texts = BTreeMap::new();
    let mut kind = String::new();
    let mut waiting: Option<String> = None;
    let mut open = String::new();
    for (_, line) in source.production_lines() {
        let line = line.trim();
        if line.starts_with("#[error(") || !open.is_empty() {
            open.push_str(line);
            if line.ends_with(")]") {
                waiting = Some(plain(&open));
                open.clear();
            }
        } else if let Some(name) = declared(line, "enum ") {
            kind = name;
        } else if let Some(name) = declared(line, "struct ") {
            if let Some(text) = waiting.take() {
                texts.insert((name, String::new()), text);
            }
        } else if let Some(variant) = variant_name(line)
            && let Some(text) = waiting.take()
        {
            texts.insert((kind.clone(), variant), text);
        }
    }
    texts
}

/// The first literal of an attribute, without its escapes.
fn plain(attribute: &str) -> String {
    let literal = attribute.split_once('"').map_or("", |(_, rest)| rest);
    let mut text = String::new();
    let mut letters = literal.chars();
    let mut inside = false;
    while let Some(letter) = letters.next() {
        match letter {
            '\\' => text.extend(letters.next().filter(|next| !next.is_whitespace())),
            '"' => break,
            '{' => inside = true,
            '}' => {
                inside = false;
                text.push_str("{…}");
            }
            _ if inside => {}
            letter => text.push(letter),
        }
    }
    text
}

fn variant_name(line: &str) -> Option<String> {
    let name: String = line.chars().take_while(|letter| letter.is_alphanumeric()).collect();
    let first = name.chars().next()?;
    let rest = line.get(name.len()..)?.trim_start();
    let opens = rest.is_empty() || rest.starts_with(['(', '{', ',']);
    (first.is_uppercase() && opens).then_some(name)
}

/// The name that a line declares after `word`, with or without a visibility.
fn declared(line: &str, word: &str) -> Option<String> {
    let (before, rest) = line.split_once(word)?;
    let plain = before.is_empty() || (before.starts_with("pub") && before.ends_with(' '));
    let name: String = rest.chars().take_while(|letter| letter.is_alphanumeric()).collect();
    (plain && !name.is_empty()).then_some(name)
}

/// The codes in each `fn code` of an error type, with the variants that have them. An arm without a code
/// of its own hands on its cause's.
fn codes_of(source: &Source) -> Vec<(String, Vec<Variant>)> {
    let mut codes = Vec::new();
    let mut kind = String::new();
    let mut inside = false;
    let mut variants: Vec<Variant> = Vec::new();
    for (_, line) in source.production_lines() {
        if let Some(head) = line.strip_prefix("impl") {
            let name = head.split_once(" for ").map_or(head, |(_, name)| name).trim_start();
            kind = name.chars().take_while(|letter| letter.is_alphanumeric()).collect();
        }
        let takes_self = line.contains("self) -> ") && line.contains("&'static str");
        if takes_self && (line.contains("fn code(") || line.contains("fn codes(")) {
            inside = true;
            variants.clear();
        } else if inside && line == "    }" {
            inside = false;
        }
        if !inside {
            continue;
        }
        let named = line.split("Self::").skip(1).map(|rest| {
            rest.chars().take_while(|letter| letter.is_alphanumeric()).collect::<String>()
        });
        let named = named.filter(|name| name.chars().next().is_some_and(char::is_uppercase));
        variants.extend(named.map(|name| (kind.clone(), name)));
        let here: Vec<&str> =
            line.split('"').skip(1).step_by(2).filter(|text| is_code(text)).collect();
        for code in &here {
            let whole = vec![(kind.clone(), String::new())];
            let of = if variants.is_empty() { whole } else { variants.clone() };
            codes.push(((*code).to_owned(), of));
        }
        let arm_ends = line.contains("=>") && line.ends_with(',');
        if arm_ends || !here.is_empty() {
            variants.clear();
        }
    }
    codes
}

fn is_code(text: &str) -> bool {
    let plain =
        |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '.' | '-' | '_');
    !text.is_empty() && text.chars().all(plain)
}
