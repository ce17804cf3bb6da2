//! Strict reading of request bodies: every field is supported, refused by name, or reported as
//! ignored; an unknown one is refused. Nothing of the body is quoted.

use cloister_domain::{Sensitive, TokenCount};
use cloister_wire::engine::{Message, Role, Sampling};
use serde_json::{Map, Value};

use crate::{grounding::Grounding, http_problem::HttpProblem};

/// Most turns of a conversation.
const MESSAGES_MAX: usize = 1024;
/// Most stop texts, and the longest of them in bytes (OpenAI allows 4; serving.md 5.1 allows 16).
const STOPS_MAX: usize = 16;
const STOP_BYTES_MAX: usize = 256;
/// Most tokens that may be asked for.
const TOKENS_MAX: u64 = 1 << 20;
/// The smallest nucleus that is not zero in the engine's f32; below it only the likeliest token is
/// left anyway.
const TOP_P_MIN: f64 = 1e-6;
/// Most passages of one answer, and how many unless said.
const HITS_MAX: u64 = 20;
const HITS_DEFAULT: u32 = 4;
/// Most texts of one embedding request, as the engine takes.
const TEXTS_MAX: usize = 256;

/// Whether a value is of the type that a field takes.
type IsRight = fn(&Value) -> bool;

/// Fields that are known, have no effect here, and are named in the reply; with what they must be.
const IGNORED: [(&str, IsRight, &str); 7] = [
    ("user", Value::is_string, "a string"),
    ("metadata", Value::is_object, "an object"),
    ("service_tier", Value::is_string, "a string"),
    ("safety_identifier", Value::is_string, "a string"),
    ("prompt_cache_key", Value::is_string, "a string"),
    ("store", Value::is_boolean, "true or false"),
    // Without tools there are no calls, side by side or not.
    ("parallel_tool_calls", Value::is_boolean, "true or false"),
];

/// Fields that are known and accepted only at the value that asks for nothing.
const NEUTRAL: [(&str, &[&str]); 10] = [
    ("n", &["1"]),
    ("frequency_penalty", &["0", "0.0"]),
    ("presence_penalty", &["0", "0.0"]),
    ("logprobs", &["false"]),
    ("top_logprobs", &["0"]),
    ("logit_bias", &["{}"]),
    ("tools", &["[]"]),
    ("tool_choice", &["\"none\"", "\"auto\""]),
    ("response_format", &["{\"type\":\"text\"}"]),
    ("modalities", &["[\"text\"]"]),
];

/// A chat request that was understood.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ChatRequest {
    pub(crate) model: Sensitive<String>,
    pub(crate) messages: Vec<Message>,
    /// As asked for; `None` leaves the length to the gateway.
    pub(crate) max_tokens: Option<TokenCount>,
    pub(crate) sampling: Sampling,
    pub(crate) stop: Sensitive<Vec<String>>,
    pub(crate) stream: bool,
    pub(crate) include_usage: bool,
    pub(crate) grounding: Option<Grounding>,
    /// Names of fields that had no effect.
    pub(crate) ignored: Vec<&'static str>,
}

/// An embedding request that was understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct EmbeddingRequest {
    pub(crate) model: Sensitive<String>,
    pub(crate) texts: Sensitive<Vec<String>>,
    pub(crate) base64: bool,
    /// Names of fields that had no effect.
    pub(crate) ignored: Vec<&'static str>,
}

fn wrong(field: &str, wanted: &str) -> HttpProblem {
    HttpProblem::invalid("value_out_of_range", format!("`{field}` must be {wanted}")).about(field)
}

/// The fields of a body, taken one by one; what is left at the end is unknown.
struct Fields(Map<String, Value>);

impl From<Map<String, Value>> for Fields {
    /// An explicit null is an absent field, as official clients send it.
    fn from(fields: Map<String, Value>) -> Self {
        Self(fields.into_iter().filter(|(_, value)| !value.is_null()).collect())
    }
}

impl Fields {
    fn of(body: &[u8]) -> Result<Self, HttpProblem> {
        match serde_json::from_slice(body) {
            Ok(Value::Object(fields)) => Ok(Self::from(fields)),
            Ok(_) => Err(HttpProblem::invalid("invalid_json", "the body must be a JSON object")),
            Err(error) => {
                // serde_json's text quotes the body; the place does not.
                let place = format!("line {}, column {}", error.line(), error.column());
                Err(HttpProblem::invalid("invalid_json", format!("the body is not JSON ({place})")))
            }
        }
    }

    fn take(&mut self, name: &str) -> Option<Value> {
        self.0.shift_remove(name)
    }

    fn text(&mut self, name: &str) -> Result<Option<String>, HttpProblem> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(wrong(name, "a string")),
        }
    }

    fn flag(&mut self, name: &str) -> Result<bool, HttpProblem> {
        match self.take(name) {
            None => Ok(false),
            Some(Value::Bool(flag)) => Ok(flag),
            Some(_) => Err(wrong(name, "true or false")),
        }
    }

    fn number(&mut self, name: &str, low: f64, high: f64) -> Result<Option<f32>, HttpProblem> {
        let Some(value) = self.take(name) else { return Ok(None) };
        let number = value.as_f64().filter(|number| (low..=high).contains(number));
        #[expect(
            clippy::cast_possible_truncation,
            reason = "a probability or temperature; f32 is what the engine takes"
        )]
        number
            .map(|number| Some(number as f32))
            .ok_or_else(|| wrong(name, &format!("a number from {low} to {high}")))
    }

    fn whole(&mut self, name: &str, low: u64, high: u64) -> Result<Option<u64>, HttpProblem> {
        let Some(value) = self.take(name) else { return Ok(None) };
        let number = value.as_u64().filter(|number| (low..=high).contains(number));
        number.map(Some).ok_or_else(|| wrong(name, &format!("a whole number from {low} to {high}")))
    }

    /// Accounts for known fields without effect, then refuses what is left.
    fn finish(mut self) -> Result<Vec<&'static str>, HttpProblem> {
        let mut ignored = Vec::new();
        for (name, is_right, wanted) in IGNORED {
            match self.0.shift_remove(name) {
                None => {}
                Some(value) if is_right(&value) => ignored.push(name),
                Some(_) => return Err(wrong(name, wanted)),
            }
        }
        for (name, neutral) in NEUTRAL {
            if let Some(value) = self.0.shift_remove(name)
                && !neutral.contains(&value.to_string().as_str())
            {
                let message = format!("`{name}` is not supported at this value; leave it out");
                return Err(HttpProblem::invalid("unsupported_parameter", message).about(name));
            }
        }
        match self.0.len() {
            0 => Ok(ignored),
            // The name came from the caller, so it is counted and not quoted.
            count => {
                let fields = if count == 1 {
                    "1 field that is"
                } else {
                    &format!("{count} fields that are")
                };
                let message =
                    format!("the body has {fields} not known; docs/reference/api.md lists all");
                Err(HttpProblem::invalid("unknown_parameter", message))
            }
        }
    }
}

impl ChatRequest {
    /// Reads a body of `POST /v1/chat/completions`.
    pub(crate) fn parse(body: &[u8], fresh_seed: u64) -> Result<Self, HttpProblem> {
        let mut fields = Fields::of(body)?;
        let model = fields.text("model")?.ok_or_else(|| wrong("model", "given"))?;
        let (messages, are_named) = messages(fields.take("messages"))?;
        let old = fields.whole("max_tokens", 1, TOKENS_MAX)?;
        let max = fields.whole("max_completion_tokens", 1, TOKENS_MAX)?.or(old);
        let max_tokens = max.and_then(|max| u32::try_from(max).ok()).map(TokenCount);
        let sampling = Sampling {
            temperature: fields.number("temperature", 0.0, 2.0)?.unwrap_or(0.0),
            top_p: fields.number("top_p", TOP_P_MIN, 1.0)?.unwrap_or(1.0),
            top_k: fields
                .whole("top_k", 0, u64::from(u32::MAX))?
                .and_then(|top_k| u32::try_from(top_k).ok())
                .unwrap_or(0),
            seed: fields.whole("seed", 0, u64::MAX)?.unwrap_or(fresh_seed),
        };
        let stop = stops(fields.take("stop"))?;
        let stream = fields.flag("stream")?;
        let options = stream_options(fields.take("stream_options"))?;
        let grounding = extension(fields.take("cloister"))?;
        let mut ignored = fields.finish()?;
        ignored.extend(are_named.then_some("messages.name"));
        ignored.extend(options.as_ref().and_then(|options| options.ignored(stream)));
        Ok(Self {
            model: Sensitive::new(model),
            messages,
            max_tokens,
            sampling,
            stop: Sensitive::new(stop),
            stream,
            include_usage: stream && options.is_some_and(|options| options.include_usage),
            grounding,
            ignored,
        })
    }
}

/// The turns, and whether any of them had a name.
fn messages(value: Option<Value>) -> Result<(Vec<Message>, bool), HttpProblem> {
    let wanted = "a list of 1 to 1024 messages, each with `role` and `content`";
    let Some(Value::Array(list)) = value else { return Err(wrong("messages", wanted)) };
    if !(1..=MESSAGES_MAX).contains(&list.len()) {
        return Err(wrong("messages", wanted));
    }
    let mut are_named = false;
    let mut messages = Vec::with_capacity(list.len());
    for value in list {
        let (message, is_named) = message(value)?;
        are_named |= is_named;
        messages.push(message);
    }
    Ok((messages, are_named))
}

/// A turn, and whether it had a name.
fn message(value: Value) -> Result<(Message, bool), HttpProblem> {
    let wanted = "a list of messages with a `role` of system, user or assistant and text `content`";
    let Value::Object(mut fields) = value else { return Err(wrong("messages", wanted)) };
    let role = match fields.shift_remove("role").as_ref().and_then(Value::as_str) {
        Some("system" | "developer") => Role::System,
        Some("user") => Role::User,
        Some("assistant") => Role::Assistant,
        _ => return Err(wrong("messages", wanted)),
    };
    let content = match fields.shift_remove("content") {
        Some(Value::String(text)) => text,
        Some(Value::Array(parts)) => text_parts(parts)?,
        _ => return Err(wrong("messages", wanted)),
    };
    let is_named = match fields.shift_remove("name") {
        None | Some(Value::Null) => false,
        Some(Value::String(_)) => true,
        Some(_) => return Err(wrong("messages.name", "a string")),
    };
    // What official clients send back of an assistant's own answer, at its empty value.
    let empty =
        |value: &Value| matches!(value, Value::Null) || value.as_array().is_some_and(Vec::is_empty);
    let known = |name: &str| {
        matches!(name, "refusal" | "annotations" | "audio" | "function_call" | "tool_calls")
    };
    if !fields.iter().all(|(name, value)| known(name) && empty(value)) {
        let message = "a message holds a field that is not supported; send `role` and `content`";
        return Err(HttpProblem::invalid("unsupported_parameter", message).about("messages"));
    }
    Ok((Message { role, content: Sensitive::new(content) }, is_named))
}

fn text_parts(parts: Vec<Value>) -> Result<String, HttpProblem> {
    Ok(parts.into_iter().map(text_part).collect::<Result<Vec<String>, _>>()?.join("\n"))
}

fn text_part(part: Value) -> Result<String, HttpProblem> {
    let refused = |code: &str, message: &str| HttpProblem::invalid(code, message).about("messages");
    let only = "only text parts are supported in `content`";
    let Value::Object(fields) = part else { return Err(refused("unsupported_parameter", only)) };
    let mut fields = Fields::from(fields);
    match (fields.take("type").as_ref().and_then(Value::as_str), fields.take("text")) {
        (Some("text"), Some(Value::String(_))) if !fields.0.is_empty() => {
            let message =
                "a text part in `content` holds a field that is not known; send `type` and `text`";
            Err(refused("unknown_parameter", message))
        }
        (Some("text"), Some(Value::String(text))) => Ok(text),
        _ => Err(refused("unsupported_parameter", only)),
    }
}

fn stops(value: Option<Value>) -> Result<Vec<String>, HttpProblem> {
    let wanted = "a string or a list of at most 16 strings of 1 to 256 bytes";
    let list = match value {
        None => Vec::new(),
        Some(Value::String(text)) => vec![Value::String(text)],
        Some(Value::Array(list)) => list,
        Some(_) => return Err(wrong("stop", wanted)),
    };
    if list.len() > STOPS_MAX {
        return Err(wrong("stop", wanted));
    }
    let good = |text: &str| (1..=STOP_BYTES_MAX).contains(&text.len());
    list.into_iter()
        .map(|value| match value {
            Value::String(text) if good(&text) => Ok(text),
            _ => Err(wrong("stop", wanted)),
        })
        .collect()
}

/// How a stream is to be; without a stream it says nothing.
struct StreamOptions {
    include_usage: bool,
    include_obfuscation: bool,
}

impl StreamOptions {
    fn ignored(&self, stream: bool) -> Option<&'static str> {
        if !stream {
            Some("stream_options")
        } else {
            // A stream is not padded, so asking for no padding asks for what is done anyway.
            self.include_obfuscation.then_some("stream_options.include_obfuscation")
        }
    }
}

fn stream_options(value: Option<Value>) -> Result<Option<StreamOptions>, HttpProblem> {
    let wanted = "an object with `include_usage`, true or false";
    let Some(value) = value else { return Ok(None) };
    let Value::Object(fields) = value else { return Err(wrong("stream_options", wanted)) };
    let mut fields = Fields::from(fields);
    let mut flag = |name: &str| {
        let taken = fields.flag(name);
        taken.map_err(|_wrong| wrong(&format!("stream_options.{name}"), "true or false"))
    };
    let options = StreamOptions {
        include_usage: flag("include_usage")?,
        include_obfuscation: flag("include_obfuscation")?,
    };
    if fields.0.is_empty() { Ok(Some(options)) } else { Err(wrong("stream_options", wanted)) }
}

fn extension(value: Option<Value>) -> Result<Option<Grounding>, HttpProblem> {
    let wanted =
        "an object with `collections` (a list of names) and, if need be, `hits_max` (1 to 20)";
    let Some(value) = value else { return Ok(None) };
    let Value::Object(fields) = value else { return Err(wrong("cloister", wanted)) };
    let mut fields = Fields(fields);
    let collections = match fields.take("collections") {
        Some(Value::Array(names)) => names
            .into_iter()
            .map(|name| match name {
                Value::String(name) if name.len() <= 64 => Ok(name),
                _ => Err(wrong("cloister", wanted)),
            })
            .collect::<Result<Vec<String>, _>>()?,
        _ => return Err(wrong("cloister", wanted)),
    };
    let hits_max = fields.whole("hits_max", 1, HITS_MAX)?;
    if !fields.0.is_empty() {
        return Err(wrong("cloister", wanted));
    }
    let hits_max = hits_max.and_then(|hits| u32::try_from(hits).ok()).unwrap_or(HITS_DEFAULT);
    Ok(Some(Grounding { collections, hits_max }))
}

impl EmbeddingRequest {
    /// Reads a body of `POST /v1/embeddings`.
    pub(crate) fn parse(body: &[u8]) -> Result<Self, HttpProblem> {
        let mut fields = Fields::of(body)?;
        let model = fields.text("model")?.ok_or_else(|| wrong("model", "given"))?;
        let wanted = "a string or a list of 1 to 256 strings";
        let texts = match fields.take("input") {
            Some(Value::String(text)) => vec![text],
            Some(Value::Array(list)) => list
                .into_iter()
                .map(|value| match value {
                    Value::String(text) => Ok(text),
                    _ => Err(wrong("input", wanted)),
                })
                .collect::<Result<Vec<String>, _>>()?,
            _ => return Err(wrong("input", wanted)),
        };
        if !(1..=TEXTS_MAX).contains(&texts.len()) || texts.iter().any(String::is_empty) {
            return Err(wrong("input", wanted));
        }
        let base64 = match fields.text("encoding_format")?.as_deref() {
            None | Some("float") => false,
            Some("base64") => true,
            Some(_) => return Err(wrong("encoding_format", "float or base64")),
        };
        if fields.take("dimensions").is_some() {
            let message = "`dimensions` is not supported; vectors have the model's width";
            return Err(HttpProblem::invalid("unsupported_parameter", message).about("dimensions"));
        }
        let ignored = fields.finish()?;
        let (model, texts) = (Sensitive::new(model), Sensitive::new(texts));
        Ok(Self { model, texts, base64, ignored })
    }
}

#[cfg(test)]
mod tests {
    use axum::http::StatusCode;
    use serde_json::json;

    use super::*;

    fn parse(extra: Value) -> Result<ChatRequest, HttpProblem> {
        let mut body = json!({"model": "default", "messages": [{"role": "user", "content": "canary-question"}]});
        let fields = body.as_object_mut().expect("an object");
        if let Value::Object(extra) = extra {
            fields.extend(extra);
        }
        ChatRequest::parse(body.to_string().as_bytes(), 7)
    }

    #[test]
    fn defaults_are_greedy_and_ungrounded() {
        let request = parse(json!({})).expect("the smallest request");
        assert_eq!(request.sampling, Sampling { temperature: 0.0, top_p: 1.0, top_k: 0, seed: 7 });
        assert_eq!((request.max_tokens, request.grounding, request.stream), (None, None, false));
    }

    #[test]
    fn what_is_asked_for_is_honoured() {
        let request = parse(json!({
            "max_tokens": 5, "max_completion_tokens": 9, "temperature": 1, "stop": "x", "stream": true, "user": "u",
            "stream_options": {"include_usage": true}, "cloister": {"collections": ["handbook"]}, "n": 1,
        }))
        .expect("all supported");
        assert_eq!(request.max_tokens, Some(TokenCount(9)));
        assert!(request.stream && request.include_usage);
        assert_eq!(request.stop.expose(), &["x"]);
        assert_eq!(request.ignored, ["user"]);
        let grounding = Grounding { collections: vec!["handbook".to_owned()], hits_max: 4 };
        assert_eq!(request.grounding, Some(grounding));
    }

    #[test]
    fn out_of_range_unsupported_and_unknown_are_refused_without_quoting() {
        for extra in [
            json!({"temperature": 2.5}),
            json!({"temperature": "canary-hot"}),
            json!({"top_p": 0}),
            json!({"top_k": -1}),
            json!({"max_tokens": 0}),
            json!({"max_tokens": 1e99}),
            json!({"seed": -3}),
            json!({"stop": [""]}),
            json!({"stop": vec!["a"; 17]}),
            json!({"n": 2}),
            json!({"tools": [{"type": "canary-tool"}]}),
            json!({"response_format": {"type": "json_object"}}),
            json!({"canary-field": 1}),
            json!({"cloister": {"canary": 1}}),
            json!({"cloister": {"collections": "x"}}),
            json!({"messages": []}),
            json!({"messages": [{"role": "canary", "content": "x"}]}),
            json!({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": "canary"}]}]}),
            json!({"messages": [{"role": "user", "content": "x", "canary": "y"}]}),
            json!({"stream": "yes"}),
            json!({"stream_options": {"canary": true}}),
            json!({"stream": true, "stream_options": {"include_usage": "canary"}}),
            json!({"stream_options": {"include_usage": 1}}),
            json!({"stream": true, "stream_options": {"include_obfuscation": "canary"}}),
            json!({"messages": [{"role": "user", "content": "x", "name": ["canary"]}]}),
            json!({"user": 3}),
            json!({"metadata": "canary"}),
            json!({"parallel_tool_calls": "canary"}),
            json!({"model": 3}),
        ] {
            let problem = parse(extra.clone()).expect_err("must be refused");
            assert_eq!(problem.status, StatusCode::BAD_REQUEST, "{extra}");
            assert!(!problem.body("r").to_string().contains("canary"), "{extra}");
        }
        let broken = ChatRequest::parse(b"{\"model\": canary", 0).expect_err("not JSON");
        assert!(!broken.body("r").to_string().contains("canary"));
    }

    #[test]
    fn what_has_no_effect_is_named_once() {
        let ignored = |extra: Value| parse(extra).expect("accepted").ignored;
        let turn = |name: Value| json!({"role": "user", "content": "x", "name": name});
        let turns = |name: Value| json!({"messages": [turn(name.clone()), turn(name)]});
        assert_eq!(ignored(turns(json!("ada"))), ["messages.name"]);
        assert_eq!(ignored(turns(Value::Null)), [""; 0]);
        for options in [json!({}), json!({"include_usage": true, "include_obfuscation": true})] {
            assert_eq!(ignored(json!({"stream_options": options})), ["stream_options"]);
        }
        let streamed = |options: Value| ignored(json!({"stream": true, "stream_options": options}));
        let padded = json!({"include_usage": null, "include_obfuscation": true});
        assert_eq!(streamed(padded), ["stream_options.include_obfuscation"]);
        assert_eq!(streamed(json!({"include_obfuscation": false})), [""; 0]);
        assert_eq!(ignored(json!({"parallel_tool_calls": true})), ["parallel_tool_calls"]);
        let unstreamed = parse(json!({"stream_options": {"include_usage": true}}));
        assert!(!unstreamed.expect("accepted").include_usage);
    }

    #[test]
    fn fields_that_are_not_known_are_counted_in_a_body_and_refused_in_a_text_part() {
        let said = |extra: Value| {
            let body = parse(extra).expect_err("must be refused").body("r");
            (body["error"]["code"].clone(), body["error"]["message"].clone())
        };
        let (one, two) = (json!({"canary": 1}), json!({"canary": 1, "other": 2}));
        for (extra, counted) in [(one, "1 field that is"), (two, "2 fields that are")] {
            let message =
                format!("the body has {counted} not known; docs/reference/api.md lists all");
            assert_eq!(said(extra), (json!("unknown_parameter"), json!(message)));
        }
        let parts = |more: Value| {
            let part = json!({"type": "text", "text": "a", "canary": more});
            json!({"messages": [{"role": "user", "content": [part]}]})
        };
        let (code, message) = said(parts(json!(1)));
        assert_eq!(code, "unknown_parameter");
        assert!(!message.to_string().contains("canary"), "{message}");
        assert!(parse(parts(Value::Null)).is_ok());
    }

    #[test]
    fn embeddings_take_one_text_or_several() {
        let parse = |body: Value| EmbeddingRequest::parse(body.to_string().as_bytes());
        let one =
            parse(json!({"model": "m", "input": "a", "encoding_format": "base64"})).expect("good");
        assert!(one.base64 && one.texts.expose().len() == 1);
        for bad in [
            json!({"model": "m", "input": []}),
            json!({"model": "m", "input": [1]}),
            json!({"input": "a"}),
            json!({"model": "m", "input": [""]}),
            json!({"model": "m", "input": "a", "dimensions": 8}),
        ] {
            assert!(parse(bad).is_err());
        }
    }
}
