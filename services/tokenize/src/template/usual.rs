//! The format for a model whose maker ships none.

use super::{Opening, Part, Schema, Template};
use crate::Tokenizer;

/// A format that was chosen, and its name in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Usual {
    /// The format.
    pub template: Template,
    /// `ChatML`, `Llama 3` or `plain text`.
    pub name: &'static str,
}

impl Template {
    /// What fits `tokenizer`, for a model that brings no format of its own: ChatML or the headers of
    /// Llama 3 where it has their control tokens; else the contents one after another, which is what
    /// a model that was never taught to chat continues.
    ///
    /// A token that the tokenizer puts before every text (beginning of text) opens the conversation.
    #[must_use]
    pub fn usual(tokenizer: &Tokenizer) -> Usual {
        let has = |names: &[&str]| names.iter().all(|name| tokenizer.control(name).is_some());
        let opening = tokenizer.frame().0.iter().filter_map(|id| tokenizer.control_name(*id));
        let opening: Vec<Part> = opening.map(|name| Part::Control(name.to_owned())).collect();
        if has(&["<|im_start|>", "<|im_end|>"]) {
            return Usual { template: chat_ml(opening), name: "ChatML" };
        }
        if has(&["<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]) {
            return Usual { template: llama3(opening), name: "Llama 3" };
        }
        Usual { template: plain(opening), name: "plain text" }
    }
}

fn control(name: &str) -> Part {
    Part::Control(name.to_owned())
}

fn text(text: &str) -> Part {
    Part::Text(text.to_owned())
}

fn chat_ml(opening: Vec<Part>) -> Template {
    let turn = |role: &str| {
        vec![
            control("<|im_start|>"),
            text(&format!("{role}\n")),
            Part::Content { trim: false },
            control("<|im_end|>"),
            text("\n"),
        ]
    };
    assembled(opening, turn, vec![control("<|im_start|>"), text("assistant\n")])
}

fn llama3(opening: Vec<Part>) -> Template {
    let header = |role: &str| {
        vec![control("<|start_header_id|>"), text(role), control("<|end_header_id|>"), text("\n\n")]
    };
    let turn = |role: &str| {
        let mut parts = header(role);
        parts.extend([Part::Content { trim: true }, control("<|eot_id|>")]);
        parts
    };
    assembled(opening, turn, header("assistant"))
}

fn plain(opening: Vec<Part>) -> Template {
    let turn = |role: &str| {
        let mut parts = vec![Part::Content { trim: false }];
        // What the model says goes on from the question; anything else begins a line.
        if role != "user" {
            parts.push(text("\n"));
        }
        parts
    };
    assembled(opening, turn, Vec::new())
}

fn assembled(
    opening: Vec<Part>,
    turn: impl Fn(&str) -> Vec<Part>,
    generation: Vec<Part>,
) -> Template {
    let system = turn("system");
    Template {
        schema: Schema,
        opening: Opening {
            with_system: [opening.clone(), system.clone()].concat(),
            without_system: opening,
        },
        system,
        user: turn("user"),
        assistant: turn("assistant"),
        generation,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::template::{Names, Speaker, Turn};

    /// A byte-level tokenizer with these control tokens; `first` stands before every text.
    fn tokenizer(controls: &[&str], first: Option<&str>) -> Tokenizer {
        // The characters of the 256 bytes, in the order of GPT-2's table.
        let printable = ('!'..='~').chain('¡'..='¬').chain('®'..='ÿ');
        let others = (256..).map_while(char::from_u32).take(68);
        let vocabulary: serde_json::Map<String, serde_json::Value> = printable
            .chain(others)
            .enumerate()
            .map(|(id, character)| (character.to_string(), json!(id)))
            .collect();
        let added: Vec<_> = controls
            .iter()
            .enumerate()
            .map(|(at, name)| {
                json!({"id": at + 256, "content": name, "single_word": false, "lstrip": false,
                       "rstrip": false, "normalized": false, "special": true})
            })
            .collect();
        let processor = first.map(|name| {
            let id = controls.iter().position(|known| *known == name).expect("known") + 256;
            json!({"type": "TemplateProcessing",
                   "single": [{"SpecialToken": {"id": name, "type_id": 0}},
                              {"Sequence": {"id": "A", "type_id": 0}}],
                   "pair": [{"Sequence": {"id": "A", "type_id": 0}},
                            {"Sequence": {"id": "B", "type_id": 0}}],
                   "special_tokens": {name: {"id": name, "ids": [id], "tokens": [name]}}})
        });
        let file = json!({
            "version": "1.0", "truncation": null, "padding": null, "added_tokens": added,
            "normalizer": null,
            "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false,
                              "trim_offsets": true, "use_regex": true},
            "post_processor": processor,
            "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true,
                        "use_regex": true},
            "model": {"type": "BPE", "dropout": null, "unk_token": null,
                      "continuing_subword_prefix": null, "end_of_word_suffix": null,
                      "fuse_unk": false, "byte_fallback": false, "vocab": vocabulary,
                      "merges": []},
        });
        Tokenizer::from_json(&file.to_string()).expect("a tokenizer")
    }

    fn of_jinja(text: &str, bos: Option<&str>) -> Template {
        Template::from_jinja(text, Names { bos, eos: None }).expect("a known shape")
    }

    #[test]
    fn known_control_tokens_choose_the_format_that_their_makers_ship() {
        let chat = Template::usual(&tokenizer(&["<|im_start|>", "<|im_end|>"], None));
        let text = "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\\n' + m['content'] + \
            '<|im_end|>\\n' }}{% endfor %}{% if add_generation_prompt %}\
            {{ '<|im_start|>assistant\\n' }}{% endif %}";
        assert_eq!((chat.name, chat.template), ("ChatML", of_jinja(text, None)));

        let names = ["<|b|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"];
        let llama = Template::usual(&tokenizer(&names, Some("<|b|>")));
        let text = "{{ bos_token }}{% for m in messages %}{{ '<|start_header_id|>' + m['role'] + \
            '<|end_header_id|>\\n\\n' + m['content'] | trim + '<|eot_id|>' }}{% endfor %}\
            {% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}\
            {% endif %}";
        assert_eq!((llama.name, llama.template), ("Llama 3", of_jinja(text, Some("<|b|>"))));
    }

    #[test]
    fn a_model_that_was_not_taught_to_chat_continues_what_was_said() {
        let tokenizer = tokenizer(&["<s>"], Some("<s>"));
        let usual = Template::usual(&tokenizer);
        assert_eq!(usual.name, "plain text");
        let turns = [
            Turn { speaker: Speaker::System, content: "a" },
            Turn { speaker: Speaker::User, content: "b" },
        ];
        let tokens = usual.template.tokens(&tokenizer, &turns[1..], true, None).expect("turns");
        let ids: Vec<u32> = tokens.iter().map(|id| id.0).collect();
        assert_eq!(ids, [256, u32::from(b'b' - b'!')]);
        let pieces = usual.template.render(&turns, true, None).expect("turns");
        assert_eq!(pieces.len(), 2, "{pieces:?}");
    }
}
