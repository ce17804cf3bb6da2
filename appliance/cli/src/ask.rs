//! `ask`: one grounded question through the gateway, answered with its sources.

use std::{
    io::Write,
    path::{Path, PathBuf},
};

use cloister_config::Config;
use cloister_wire::gateway::{Answer, Request};
use serde_json::{Value, json};

use crate::{Failure, http, keys, read, say};

pub(crate) fn ask(
    config: &Config,
    question: &str,
    key: Option<&Path>,
    collections: &[String],
    json: bool,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let key = key
        .map(Path::to_owned)
        .or_else(|| std::env::var_os("CLOISTER_KEY_FILE").map(PathBuf::from))
        .ok_or_else(|| {
            Failure::usage(
                "name a file with an API key: --key FILE; `cloister key create` makes one",
            )
        })?;
    let bytes = read(&key, 4096, "the API key; give its file with --key")?;
    let key =
        String::from_utf8(bytes).map_err(|_content| Failure::usage("the key file is not text"))?;
    let Answer::Address(address) = keys::ask(config, &Request::Address)? else {
        return Err(Failure::conversation("gatewayd"));
    };
    let body = json!({
        "model": "default",
        "messages": [{ "role": "user", "content": question }],
        "temperature": 0,
        "cloister": { "collections": collections },
    });
    let (status, body) =
        http::post(&address, "/v1/chat/completions", key.trim(), body.to_string().as_bytes())?;
    let reply: Value =
        serde_json::from_slice(&body).map_err(|_content| Failure::conversation("gatewayd"))?;
    if status != 200 {
        return Err(refused(&reply));
    }
    if json {
        return crate::print_json(&reply, out);
    }
    let text = |pointer: &str| reply.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    say!(out, "{}", text("/choices/0/message/content"));
    let citations = reply.pointer("/cloister/citations").and_then(Value::as_array);
    for (index, citation) in citations.into_iter().flatten().enumerate() {
        let field = |name: &str| citation.get(name).and_then(Value::as_str).unwrap_or_default();
        say!(out, "[{}] {} ({})  {}", index + 1, field("name"), field("label"), field("id"));
    }
    Ok(())
}

/// The gateway's refusal, by its code and message.
fn refused(reply: &Value) -> Failure {
    let field = |name: &str| {
        reply.pointer(&format!("/error/{name}")).and_then(Value::as_str).unwrap_or("unknown")
    };
    let class = cloister_domain::Class::Refused;
    Failure::from(cloister_wire::Problem::new(class, field("code"), field("message")))
}
