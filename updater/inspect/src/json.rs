//! JSON that means one thing to every reader: no key twice, nested within a bound. Fractions are
//! allowed, which models' configurations have; values are looked at and not kept.
//!
//! The reader of what is signed (`cloister_attest::json`) is another: it keeps the tree, knows no
//! fractions and bounds the number of values below that of a large tokenizer. Its module says why
//! there are two.

use std::{
    cell::Cell,
    fmt,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    io::Read,
};

use cloister_formats::{JsonStream, Place};
use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

use crate::Refusal;

/// Nesting that a document may have; tokenizers and configurations have less than ten.
const DEPTH_MAX: u32 = 32;

/// Keys that all objects may have which are open at a time: four times those of the largest vocabulary.
const KEYS_MAX: usize = 1 << 20;

/// Checks that `text` is one JSON value and nothing else.
pub(crate) fn check(text: &[u8]) -> Result<(), Refusal> {
    let mut deserializer = serde_json::Deserializer::from_slice(text);
    judge(|strict| {
        let outcome = strict.deserialize(&mut deserializer).and_then(|()| deserializer.end());
        // The error's own text quotes the document.
        outcome.map_err(|cause| Place { line: cause.line(), column: cause.column() })
    })
}

/// As [`check`], of a text that is read piece by piece, whose strings are as long as the stream allows.
pub(crate) fn check_stream(mut text: JsonStream<impl Read>) -> Result<(), Refusal> {
    judge(|strict| text.read(strict).map_err(|_wrong| text.place()))
}

fn judge(read: impl FnOnce(Strict<'_>) -> Result<(), Place>) -> Result<(), Refusal> {
    let (found, open) = (Cell::new(None), Cell::new(0));
    let strict = Strict { depth: 0, template: false, found: &found, open: &open };
    read(strict).map_err(|Place { line, column }| match found.get() {
        Some(Finding::Key) => Refusal::JsonKey { line, column },
        Some(Finding::Depth) => Refusal::JsonDepth { max: DEPTH_MAX },
        Some(Finding::Keys) => Refusal::JsonKeys { max: KEYS_MAX },
        Some(Finding::Template) => Refusal::Jinja,
        None => Refusal::Json { line, column },
    })
}

#[derive(Clone, Copy)]
enum Finding {
    Key,
    Keys,
    Depth,
    Template,
}

/// What is kept of a key, since an object may have a million. Equal keys are always seen; two others are
/// taken for equal, and a good document refused, once in 10^7 of such objects.
fn digest(key: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    key.hash(&mut hasher);
    hasher.finish()
}

/// Looks at a value at `depth`.
#[derive(Clone, Copy)]
struct Strict<'a> {
    depth: u32,
    /// Whether the value stands where a template would.
    template: bool,
    found: &'a Cell<Option<Finding>>,
    /// Keys of all objects that are open.
    open: &'a Cell<usize>,
}

impl Strict<'_> {
    fn refuse<E: de::Error>(&self, finding: Finding) -> E {
        self.found.set(Some(finding));
        E::custom("refused")
    }

    fn deeper<E: de::Error>(self) -> Result<Self, E> {
        if self.template {
            return Err(self.refuse(Finding::Template));
        }
        if self.depth >= DEPTH_MAX {
            return Err(self.refuse(Finding::Depth));
        }
        Ok(Self { depth: self.depth.saturating_add(1), ..self })
    }
}

impl<'de> DeserializeSeed<'de> for Strict<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    // No reader makes a program of `null`, a truth value or a number, whatever the key.
    fn visit_bool<E: de::Error>(self, _value: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E: de::Error>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E: de::Error>(self, _value: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E: de::Error>(self, _value: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E: de::Error>(self, _value: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E: de::Error>(self, _value: &str) -> Result<(), E> {
        if self.template { Err(self.refuse(Finding::Template)) } else { Ok(()) }
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        let inner = self.deeper()?;
        while items.next_element_seed(inner)?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<(), A::Error> {
        let inner = self.deeper()?;
        let mut keys = Vec::new();
        while let Some(key) = entries.next_key_seed(Key)? {
            let open = self.open.get().saturating_add(1);
            if open > KEYS_MAX {
                return Err(self.refuse(Finding::Keys));
            }
            self.open.set(open);
            keys.push(key.digest);
            entries.next_value_seed(Self { template: key.template, ..inner })?;
        }
        self.open.set(self.open.get().saturating_sub(keys.len()));
        keys.sort_unstable();
        let twice = keys.iter().zip(keys.iter().skip(1)).any(|(one, next)| one == next);
        if twice { Err(self.refuse(Finding::Key)) } else { Ok(()) }
    }
}

/// What is to be known of a key.
struct Known {
    digest: u64,
    /// Whether some reader may take its value for a template.
    template: bool,
}

/// Looks at a key and keeps nothing of it.
struct Key;

impl<'de> DeserializeSeed<'de> for Key {
    type Value = Known;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Known, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Key {
    type Value = Known;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E: de::Error>(self, key: &str) -> Result<Known, E> {
        Ok(Known { digest: digest(key), template: names_template(key) })
    }
}

/// Whether `key` names a chat template, in whatever spelling: engines and tools know `chat_template`,
/// `chat_templates`, `tokenizer.chat_template.NAME`, `additional_chat_templates`, `prompt_template`.
/// A key that a person reads so, or a program that normalises it (NFKC), names one too.
pub(crate) fn names_template(key: &str) -> bool {
    // A vocabulary has half a million keys, of which hardly one has such a word in it.
    let has = |word: &[u8]| {
        let first =
            |window: &[u8]| window.first().map(u8::to_ascii_lowercase) == word.first().copied();
        let mut windows = key.as_bytes().windows(word.len());
        windows.any(|window| first(window) && window.eq_ignore_ascii_case(word))
    };
    let ascii = || key.chars().filter(char::is_ascii);
    has(b"jinja")
        || (has(b"template") && show(ascii(), &TEMPLATES))
        || (!key.is_ascii() && show(key.chars(), &NAMES))
}

/// What a key is without marks and in small letters that names a template.
const TEMPLATES: [&[u8]; 2] = [b"chattemplate", b"prompttemplate"];
/// The same, and the language.
const NAMES: [&[u8]; 3] = [b"chattemplate", b"prompttemplate", b"jinja"];

/// Whether the letters among `key` show as one of `names`: other letters may stand for up to half of its
/// own (`с` of Cyrillic, `é`), and what is not seen may stand between them.
fn show(key: impl Iterator<Item = char>, names: &[&[u8]]) -> bool {
    let mut last = Last::default();
    key.filter_map(shown).any(|letter| {
        last.push(letter);
        names.iter().any(|name| last.shows(name))
    })
}

/// The last letters of a key, as many as the longest name has and more: a key may have millions.
#[derive(Default)]
struct Last {
    letters: [Option<Shown>; 16],
    /// How many letters there were.
    count: usize,
}

impl Last {
    fn push(&mut self, letter: Shown) {
        if let Some(place) = self.letters.get_mut(self.count & 15) {
            *place = Some(letter);
        }
        self.count = self.count.wrapping_add(1);
    }

    /// Whether they end with what shows as `name`.
    fn shows(&self, name: &[u8]) -> bool {
        let mut own = 0usize;
        for (back, letter) in (1usize..).zip(name.iter().rev()) {
            let place = self.count.wrapping_sub(back) & 15;
            match self.letters.get(place).copied().flatten() {
                Some(Shown::As(shown)) if shown == *letter => own = own.saturating_add(1),
                Some(Shown::Other) => {}
                Some(Shown::As(_)) | None => return false,
            }
        }
        own.saturating_mul(2) >= name.len()
    }
}

/// What a character of a key is read as.
#[derive(Clone, Copy)]
enum Shown {
    /// A small letter of ASCII or a digit.
    As(u8),
    /// A letter, which may look like any.
    Other,
}

/// `None` for what is no letter. Letters in full width, in circles and of mathematics are those that
/// NFKC makes of them (`UnicodeData.txt`: U+FF21, U+24B6, U+1D400 and what follows).
fn shown(c: char) -> Option<Shown> {
    let letter = |first: u32| {
        let place = u32::from(c).saturating_sub(first).checked_rem(26).unwrap_or(0);
        u8::try_from(place).ok().and_then(|place| b'a'.checked_add(place))
    };
    match c {
        _ if c.is_ascii() => {
            let letter = u8::try_from(c).ok().filter(u8::is_ascii_alphanumeric);
            letter.map(|letter| Shown::As(letter.to_ascii_lowercase()))
        }
        '\u{FF21}'..='\u{FF3A}' => letter(0xFF21).map(Shown::As),
        '\u{FF41}'..='\u{FF5A}' => letter(0xFF41).map(Shown::As),
        '\u{24B6}'..='\u{24E9}' => letter(0x24B6).map(Shown::As),
        '\u{1D400}'..='\u{1D6A3}' => letter(0x1D400).map(Shown::As),
        _ => c.is_alphabetic().then_some(Shown::Other),
    }
}

#[cfg(test)]
mod tests {
    use cloister_domain::Coded as _;

    use super::*;

    #[test]
    fn one_value_that_means_one_thing_passes() {
        for text in [r#"{"a": [1, -2.5e3, null, true, "x"], "b": {"a": {}}}"#, "0", "\"x\""] {
            assert!(check(text.as_bytes()).is_ok(), "{text}");
        }
        for harmless in ["null", "true", "0", "-1.5"] {
            assert!(check(format!("{{\"chat_template\": {harmless}}}").as_bytes()).is_ok());
        }
        for key in [
            "описание_модели",
            "模板模板模板模板模板模板",
            "chatсообщения",
            "Größe",
            "témplate",
            "Ġchat",
        ] {
            assert!(check(format!("{{\"{key}\": \"x\"}}").as_bytes()).is_ok(), "{key}");
        }
        assert!(
            check(br#"{"chat": "template", "template": "x", "chat_temperature": "1"}"#).is_ok()
        );
    }

    #[test]
    fn open_objects_together_have_a_bound() {
        let object = |from: usize, to: usize| {
            let keys: Vec<String> = (from..to).map(|key| format!("\"{key:x}\":0")).collect();
            format!("{{{}}}", keys.join(","))
        };
        let half = object(0, KEYS_MAX / 2);
        let behind = format!("[{half},{half},{half}]");
        assert!(check(behind.as_bytes()).is_ok());
        let within = object(0, KEYS_MAX / 2).replacen(":0", &format!(":{half}"), 1);
        let refused = check(within.as_bytes());
        assert!(refused.is_ok(), "the first key is still the only one that is open");
        let last = half.len().saturating_sub(2);
        let (front, back) = half.split_at(last);
        let nested = [front, &object(0, KEYS_MAX / 2 + 1), back.trim_start_matches('0')].concat();
        assert_eq!(check(nested.as_bytes()).expect_err("refused").code(), "inspect.json.keys");
        let refused = check_stream(JsonStream::new(nested.as_bytes(), 99)).expect_err("refused");
        assert_eq!(refused.code(), "inspect.json.keys");
    }

    #[test]
    fn what_two_readers_could_read_in_two_ways_is_refused() {
        let deep = "[".repeat(33) + &"]".repeat(33);
        let absurd = "[".repeat(1_000_000);
        for (text, code) in [
            (r#"{"a": 1, "a": 2}"#, "inspect.json.key"),
            (r#"{"a": {"b": 1, "\u0062": 2}}"#, "inspect.json.key"),
            (deep.as_str(), "inspect.json.depth"),
            (absurd.as_str(), "inspect.json.depth"),
            ("", "inspect.json"),
            ("{} {}", "inspect.json"),
            (r#"{"a": 1,}"#, "inspect.json"),
            (r#"{"a": NaN}"#, "inspect.json"),
            (r#"{"a": 1e999}"#, "inspect.json"),
            ("{\"a\": \"\n\"}", "inspect.json"),
            (r#"{"chat_template": "{{ x }}"}"#, "inspect.template.program"),
            (r#"{"x": {"chat_template": [{"name": "default"}]}}"#, "inspect.template.program"),
            (r#"{"Chat_Template": "{{ x }}"}"#, "inspect.template.program"),
            (r#"{"chat_templates": {"default": "{{ x }}"}}"#, "inspect.template.program"),
            (r#"{"additional_chat_templates": ["{{ x }}"]}"#, "inspect.template.program"),
            (r#"{"tokenizer.chat_template.tool_use": "x"}"#, "inspect.template.program"),
            (r#"{"chat-template": "x"}"#, "inspect.template.program"),
            (r#"{"chatTemplate": "x"}"#, "inspect.template.program"),
            (r#"{"chat\u005ftemplate": "x"}"#, "inspect.template.program"),
            (r#"{"default_prompt_template": "x"}"#, "inspect.template.program"),
            (r#"{"ｃhat_template": "x"}"#, "inspect.template.program"),
            (r#"{"ＣＨＡＴ＿ＴＥＭＰＬＡＴＥ": "x"}"#, "inspect.template.program"),
            (r#"{"𝐜𝐡𝐚𝐭_𝗍𝖾𝗆𝗉𝗅𝖺𝗍𝖾": "x"}"#, "inspect.template.program"),
            (r#"{"ⓒⓗⓐⓣⓣⓔⓜⓟⓛⓐⓣⓔ": "x"}"#, "inspect.template.program"),
            (r#"{"сhаt_tеmрlаtе": "x"}"#, "inspect.template.program"),
            (r#"{"chat_tem\u00adplate": "x"}"#, "inspect.template.program"),
            (r#"{"prompt_témplate": ["x"]}"#, "inspect.template.program"),
            (r#"{"prompt_\u200btem\u200bplate": {"x": 1}}"#, "inspect.template.program"),
            (r#"{"ｊinja": "x"}"#, "inspect.template.program"),
        ] {
            let start: String = text.chars().take(30).collect();
            assert_eq!(check(text.as_bytes()).expect_err("refused").code(), code, "{start}");
        }
        assert_eq!(check(b"{\"\xff\": 1}").expect_err("refused").code(), "inspect.json");
        let quoting = check(b"\"patient Jane Doe\" x").expect_err("refused").to_string();
        assert!(!quoting.contains("Jane"), "{quoting}");
    }
}
