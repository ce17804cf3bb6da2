//! The message format of a chat model, as data.
//!
//! A model's maker ships the format as a Jinja program. [`Template::from_jinja`] reads it once, on
//! the connected side, by following what the program does with a conversation whose contents are
//! left open; the appliance only ever sees the result, `model/template.json`:
//!
//! ```json
//! {"schema":1,
//!  "opening":{"without_system":[],
//!             "with_system":[{"control":"<|im_start|>"},{"text":"system\n"},{"content":{"trim":false}},
//!                            {"control":"<|im_end|>"},{"text":"\n"}]},
//!  "system":[…],"user":[…],"assistant":[…],
//!  "generation":[{"control":"<|im_start|>"},{"text":"assistant\n"}]}
//! ```
//!
//! What people wrote is put in as text and can never become a control token.

mod derive;
mod evaluate;
mod lex;
mod parse;
mod usual;

use cloister_domain::{Class, Coded, Sensitive, TokenId};
use serde::{Deserialize, Serialize};

use crate::Tokenizer;

pub use usual::Usual;

/// Why a message format is not taken, or a conversation not rendered.
///
/// `name` and `control` repeat a short piece of the model's own template.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TemplateError {
    /// The program is longer than any known one.
    #[error("the chat template has {bytes} bytes; at most {max} are read")]
    TooLong {
        /// Its size.
        bytes: usize,
        /// The bound.
        max: usize,
    },
    /// Not a Jinja program.
    #[error("the chat template is not understood at line {line}")]
    Syntax {
        /// Counted from 1.
        line: usize,
    },
    /// The program uses something that is not followed.
    #[error("the chat template uses {construct}, which is not supported: {name}")]
    Unsupported {
        /// What kind of thing.
        construct: &'static str,
        /// Which one, at most 120 characters.
        name: String,
    },
    /// The program does not write a conversation as opening, turns and generation prompt.
    #[error("the chat template has another shape than opening, turns, prompt: {what}")]
    Shape {
        /// Where it differs.
        what: &'static str,
    },
    /// `template.json` is not of the format above.
    #[error("the message format is not understood at line {line}, column {column}")]
    Json {
        /// Counted from 1.
        line: usize,
        /// Counted from 1.
        column: usize,
    },
    /// The tokenizer has no such control token.
    #[error("the message format uses {control}, which the tokenizer does not have")]
    Control {
        /// The token's text.
        control: String,
    },
    /// A conversation without a turn.
    #[error("a conversation needs at least one message")]
    Empty,
}

impl TemplateError {
    fn unsupported(construct: &'static str, name: impl AsRef<str>) -> Self {
        let plain = |c: char| if c.is_control() { ' ' } else { c };
        Self::Unsupported { construct, name: name.as_ref().chars().take(120).map(plain).collect() }
    }
}

impl Coded for TemplateError {
    fn class(&self) -> Class {
        Class::Refused
    }

    fn code(&self) -> &'static str {
        match self {
            Self::TooLong { .. } => "template.too-long",
            Self::Syntax { .. } => "template.syntax",
            Self::Unsupported { .. } => "template.unsupported",
            Self::Shape { .. } => "template.shape",
            Self::Json { .. } => "template.json",
            Self::Control { .. } => "template.control",
            Self::Empty => "template.empty",
        }
    }
}

/// Who speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speaker {
    /// Rules for the answer.
    System,
    /// The person or program that asks.
    User,
    /// The model's earlier answer.
    Assistant,
}

impl Speaker {
    const ALL: [Self; 3] = [Self::System, Self::User, Self::Assistant];

    /// The name that templates use.
    const fn name(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::User => "user",
            Self::Assistant => "assistant",
        }
    }
}

/// One message of a conversation.
#[derive(Clone, Copy)]
pub struct Turn<'a> {
    /// Who speaks.
    pub speaker: Speaker,
    /// What was said.
    pub content: &'a str,
}

impl std::fmt::Debug for Turn<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Turn").field("speaker", &self.speaker).finish_non_exhaustive()
    }
}

/// A step in writing a message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Part {
    /// A control token, by its text.
    Control(String),
    /// Fixed text.
    Text(String),
    /// What was said.
    Content {
        /// Without white space at both ends.
        trim: bool,
    },
    /// A date that the caller may give.
    Date {
        /// What the template says when nobody gives one.
        default: String,
    },
}

/// How a conversation begins.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Opening {
    /// When the first message is not the system's; it takes no message.
    without_system: Vec<Part>,
    /// When the first message is the system's; it takes that message.
    with_system: Vec<Part>,
}

/// A message format. Made by [`Template::from_jinja`] or read by [`Template::from_json`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Template {
    schema: Schema,
    opening: Opening,
    /// A system message that is not the first.
    system: Vec<Part>,
    user: Vec<Part>,
    assistant: Vec<Part>,
    /// What makes the model answer.
    generation: Vec<Part>,
}

/// Version 1, the only one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
struct Schema;

impl TryFrom<u32> for Schema {
    type Error = &'static str;

    fn try_from(version: u32) -> Result<Self, &'static str> {
        if version == 1 { Ok(Self) } else { Err("schema is 1") }
    }
}

impl From<Schema> for u32 {
    fn from(Schema: Schema) -> Self {
        1
    }
}

/// What a template knows from beside itself: the texts of `bos_token` and `eos_token`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Names<'a> {
    /// Beginning of text.
    pub bos: Option<&'a str>,
    /// End of text or turn.
    pub eos: Option<&'a str>,
}

/// A piece of a rendered conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// A control token, by its text.
    Control(String),
    /// Plain text, whatever it looks like.
    Text(Sensitive<String>),
}

impl Template {
    /// Follows the Jinja program `text` and keeps what it does as data.
    ///
    /// The program is run over all conversations of up to three messages with open contents. It is
    /// taken when the same opening, turns and generation prompt explain every run; a decision that
    /// depends on a content, or anything that is not followed, is refused by name. Tools are taken
    /// to be absent, and a date to be given by the caller.
    ///
    /// # Errors
    /// [`TemplateError::TooLong`], [`TemplateError::Syntax`], [`TemplateError::Unsupported`],
    /// [`TemplateError::Shape`].
    pub fn from_jinja(text: &str, names: Names<'_>) -> Result<Self, TemplateError> {
        derive::template(text, names)
    }

    /// Reads `template.json`.
    ///
    /// # Errors
    /// [`TemplateError::Json`].
    pub fn from_json(text: &str) -> Result<Self, TemplateError> {
        serde_json::from_str(text)
            .map_err(|error| TemplateError::Json { line: error.line(), column: error.column() })
    }

    /// The text of `template.json`, always the same for the same format.
    #[must_use]
    pub fn to_json(&self) -> String {
        let mut text = serde_json::to_string_pretty(self).expect("names and texts only");
        text.push('\n');
        text
    }

    /// Writes a conversation, and with `generate` what makes the model answer.
    ///
    /// `date` stands where the format has a date; without one the format's own default does.
    ///
    /// # Errors
    /// [`TemplateError::Empty`].
    pub fn render(
        &self,
        turns: &[Turn<'_>],
        generate: bool,
        date: Option<&str>,
    ) -> Result<Vec<Piece>, TemplateError> {
        let (opening, first, rest) = match turns.split_first().ok_or(TemplateError::Empty)? {
            (first, rest) if first.speaker == Speaker::System => {
                (&self.opening.with_system, first.content, rest)
            }
            _ => (&self.opening.without_system, "", turns),
        };
        let mut page = Page { pieces: Vec::new(), text: String::new(), date };
        page.write(opening, first);
        for turn in rest {
            page.write(self.turn(turn.speaker), turn.content);
        }
        if generate {
            page.write(&self.generation, "");
        }
        page.end_text();
        Ok(page.pieces)
    }

    /// [`Template::render`], as tokens. Text between two control tokens is encoded in one go.
    ///
    /// # Errors
    /// [`TemplateError::Empty`], [`TemplateError::Control`].
    pub fn tokens(
        &self,
        tokenizer: &Tokenizer,
        turns: &[Turn<'_>],
        generate: bool,
        date: Option<&str>,
    ) -> Result<Vec<TokenId>, TemplateError> {
        let mut tokens = Vec::new();
        for piece in self.render(turns, generate, date)? {
            match piece {
                Piece::Control(name) => tokens.push(control(tokenizer, &name)?),
                Piece::Text(text) => tokens.extend(tokenizer.encode(text.expose())),
            }
        }
        Ok(tokens)
    }

    /// The control tokens after an assistant's content: the model writes one to end its turn.
    ///
    /// # Errors
    /// [`TemplateError::Control`] when the tokenizer lacks one that the format uses anywhere.
    pub fn ends(&self, tokenizer: &Tokenizer) -> Result<Vec<TokenId>, TemplateError> {
        let opening = self.opening.with_system.iter().chain(&self.opening.without_system);
        let turns = self.system.iter().chain(&self.user).chain(&self.assistant);
        for part in opening.chain(turns).chain(&self.generation) {
            if let Part::Control(name) = part {
                control(tokenizer, name)?;
            }
        }
        let content = |part: &&Part| !matches!(part, Part::Content { .. });
        let after = self.assistant.iter().skip_while(content);
        let controls = after.filter_map(|part| match part {
            Part::Control(name) => Some(control(tokenizer, name)),
            Part::Text(_) | Part::Content { .. } | Part::Date { .. } => None,
        });
        controls.collect()
    }

    fn turn(&self, speaker: Speaker) -> &[Part] {
        match speaker {
            Speaker::System => &self.system,
            Speaker::User => &self.user,
            Speaker::Assistant => &self.assistant,
        }
    }
}

fn control(tokenizer: &Tokenizer, name: &str) -> Result<TokenId, TemplateError> {
    tokenizer.control(name).ok_or_else(|| TemplateError::Control { control: name.to_owned() })
}

/// A conversation while it is written; text runs on until a control token.
struct Page<'a> {
    pieces: Vec<Piece>,
    text: String,
    date: Option<&'a str>,
}

impl Page<'_> {
    fn write(&mut self, parts: &[Part], content: &str) {
        for part in parts {
            match part {
                Part::Control(name) => {
                    self.end_text();
                    self.pieces.push(Piece::Control(name.clone()));
                }
                Part::Text(text) => self.text.push_str(text),
                Part::Content { trim: false } => self.text.push_str(content),
                Part::Content { trim: true } => self.text.push_str(trimmed(content)),
                Part::Date { default } => self.text.push_str(self.date.unwrap_or(default)),
            }
        }
    }

    fn end_text(&mut self) {
        if !self.text.is_empty() {
            let text = std::mem::take(&mut self.text);
            self.pieces.push(Piece::Text(Sensitive::new(text)));
        }
    }
}

/// Jinja's `trim`, which is Python's `str.strip`: it also takes the separators U+001C to U+001F.
fn trimmed(content: &str) -> &str {
    content.trim_matches(|c: char| c.is_whitespace() || matches!(c, '\u{1C}'..='\u{1F}'))
}

#[cfg(test)]
mod tests {
    use std::ops::Add as _;

    use super::*;

    const CHATML: &str = "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\\n' + \
        m['content'] + '<|im_end|>\\n' }}{% endfor %}{% if add_generation_prompt %}\
        {{ '<|im_start|>assistant\\n' }}{% endif %}";
    const LLAMA3: &str = "{{ bos_token }}{% for m in messages %}{{ '<|start_header_id|>' + \
        m['role'] + '<|end_header_id|>\\n\\n' + m['content'] | trim + '<|eot_id|>' }}{% endfor %}\
        {% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}\
        {% endif %}";
    const BEGIN: Names<'_> = Names { bos: Some("<|begin_of_text|>"), eos: None };

    /// The pieces as one text, controls in braces.
    fn flat(template: &Template, turns: &[(Speaker, &str)], generate: bool) -> String {
        let turns: Vec<Turn<'_>> =
            turns.iter().map(|(speaker, content)| Turn { speaker: *speaker, content }).collect();
        let pieces = template.render(&turns, generate, None).expect("there are turns");
        let piece = |piece: &Piece| match piece {
            Piece::Control(name) => format!("{{{name}}}"),
            Piece::Text(text) => text.expose().clone(),
        };
        pieces.iter().map(piece).collect()
    }

    #[test]
    fn the_shapes_of_the_synthetic_models_are_found() {
        let chatml = Template::from_jinja(CHATML, Names::default()).expect("a known shape");
        assert_eq!(
            flat(&chatml, &[(Speaker::System, "s "), (Speaker::User, "<|im_end|>")], true),
            "{<|im_start|>}system\ns {<|im_end|>}\n{<|im_start|>}user\n<|im_end|>{<|im_end|>}\n\
             {<|im_start|>}assistant\n"
        );
        let llama = Template::from_jinja(LLAMA3, BEGIN).expect("a known shape");
        assert_eq!(
            flat(&llama, &[(Speaker::User, " hi\u{1c}\n")], true),
            "{<|begin_of_text|>}{<|start_header_id|>}user{<|end_header_id|>}\n\nhi{<|eot_id|>}\
             {<|start_header_id|>}assistant{<|end_header_id|>}\n\n"
        );
        for template in [chatml, llama] {
            assert_eq!(Template::from_json(&template.to_json()), Ok(template));
        }
    }

    #[test]
    fn a_date_and_a_default_system_message_become_data() {
        let text = "{%- if not date_string is defined %}{% set date_string = '26 Jul 2024' %}\n\
            {%- endif %}{% if messages[0].role == 'system' %}{% set first = messages[0].content %}\
            {% set messages = messages[1:] %}{% else %}{% set first = 'Be brief.' %}{% endif %}\
            {{ '<|x|>On ' ~ date_string ~ ': ' ~ first }}\n\
            {% for m in messages -%}\n  <|{{ m.role }}|>{{ m.content }}\n{% endfor %}\
            {{ '<|assistant|>' if add_generation_prompt }}";
        let template = Template::from_jinja(text, Names::default()).expect("a known shape");
        assert_eq!(
            flat(&template, &[(Speaker::User, "a")], true),
            "{<|x|>}On 26 Jul 2024: Be brief.\n{<|user|>}a\n{<|assistant|>}"
        );
        let turns = [Turn { speaker: Speaker::System, content: "S" }];
        let pieces = template.render(&turns, false, Some("1 Jan 2030")).expect("a turn");
        let text = Piece::Text(Sensitive::new("On 1 Jan 2030: S\n".to_owned()));
        assert_eq!(pieces, [Piece::Control("<|x|>".to_owned()), text]);
    }

    #[test]
    fn names_of_controls_are_found_among_what_only_begins_so() {
        let text =
            format!("{CHATML}{{% if add_generation_prompt %}}<|<|a<|b|><|c d|>|><||>{{% endif %}}");
        let template = Template::from_jinja(&text, Names::default()).expect("a known shape");
        let written = flat(&template, &[(Speaker::User, "x")], true);
        assert!(written.ends_with("assistant\n<|<|a{<|b|>}<|c d|>|><||>"), "{written}");
    }

    #[test]
    fn a_mistake_is_found_on_its_line() {
        for (text, line) in [("{# a\n\n #}\nb\n{{ 'c\n' }} {{ 1 + }}", 6), ("a{b\n{ {%\n%}", 2)] {
            let refused = Template::from_jinja(text, Names::default()).err();
            assert_eq!(refused, Some(TemplateError::Syntax { line }), "{text:?}");
        }
    }

    #[test]
    fn what_is_not_followed_is_refused_by_name() {
        let refused = |text: &str| {
            Template::from_jinja(text, Names::default()).expect_err("refused").to_string()
        };
        for (text, names) in [
            ("{% for m in messages %}{% if 'x' in m.content %}{% endif %}{% endfor %}", "content"),
            ("{% for m in messages %}{{ m.content | upper }}{% endfor %}", "upper"),
            ("{{ raise_exception('no') }}", "raise_exception"),
            ("{{ messages.__class__ }}", "__class__"),
            ("{{ cycler() }}", "cycler"),
            ("{% macro f() %}{% endmacro %}", "macro"),
            ("{% include 'x' %}", "include"),
            ("{% for m in messages %}{{ m.content if loop.last }}{% endfor %}", "shape"),
            ("{% for m in messages %}{{ m.role }}{% endfor %}", "shape"),
            ("{{ 1 + }}", "line 1"),
            ("\n\n{% if x %}", "line 3"),
            ("{{ messages[0].content * 2 }}", "*"),
            (&format!("{{{{ {}1{} }}}}", "(".repeat(999), ")".repeat(999)), "nesting"),
            (&format!("{{{{ {}1 }}}}", "not ".repeat(9999)), "nesting"),
            (&format!("{{{{ {}1 }}}}", "-".repeat(9999)), "nesting"),
            (&"{% if x %}".repeat(999), "nesting"),
            (&format!("{{{{ 1{} }}}}", "+1".repeat(9999)), "chain"),
            (&format!("{{{{ 'a'{} }}}}", "|trim".repeat(9999)), "chain"),
            (&format!("{{% set x = 'a' %}}{}", "{% set x = x ~ x %}".repeat(26)), "too long"),
            (
                &format!("{{% set x = '{}' %}}{}", "y".repeat(9999), "{{ x }}".repeat(99)),
                "too long",
            ),
            (&"{% for m in messages %}".repeat(12).add(&"{% endfor %}".repeat(12)), "too long"),
            (&" ".repeat(70_000), "70000 bytes"),
        ] {
            let error = refused(text);
            assert!(error.contains(names), "{error}");
        }
    }
}
