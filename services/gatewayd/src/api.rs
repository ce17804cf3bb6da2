//! Probes, models, embeddings and citations.

use std::sync::Arc;

use axum::{
    body::Body,
    http::{Response, StatusCode},
    response::IntoResponse as _,
};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use cloister_domain::Sensitive;
use cloister_wire::{
    corpus::{self, Answer},
    engine::{Event, Request},
};
use serde_json::{Value, json};

use crate::{
    engine::{self, EndsWithCaller, Hold},
    grounding::ask_corpus,
    http_problem::HttpProblem,
    request::EmbeddingRequest,
    routes::Asked,
    shared::Shared,
    trial::Part,
};

/// The name under which whatever is active can always be asked.
pub(crate) const DEFAULT_MODEL: &str = "default";

type Answered = Result<Response<Body>, HttpProblem>;

/// Runs work that waits for sockets away from the event loop.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, HttpProblem> + Send + 'static,
) -> Result<T, HttpProblem> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|_ended| Err(HttpProblem::internal()))
}

/// The process serves.
pub(crate) async fn live(_shared: Arc<Shared>) -> Response<Body> {
    (StatusCode::OK, "ok\n").into_response()
}

/// A generation is active, and an engine that holds it answers.
pub(crate) async fn ready(shared: Arc<Shared>) -> Response<Body> {
    let held = blocking(move || {
        let generation = engine::active(&shared);
        Ok(generation.and_then(|generation| engine::status(&shared, generation)).is_some())
    });
    match held.await {
        Ok(true) => (StatusCode::OK, "ready\n").into_response(),
        _ => (StatusCode::SERVICE_UNAVAILABLE, "no engine holds the active generation\n")
            .into_response(),
    }
}

/// Name of the model that answers the caller, if an engine holds it.
fn model_name(shared: &Shared, part: Option<&Part>) -> Option<String> {
    let serving = engine::serving(shared, part);
    serving.into_iter().find_map(|generation| engine::status(shared, generation)?.model)
}

/// Refuses a model name that is neither `default` nor that of the model that answers the caller.
pub(crate) fn known_model(
    shared: &Shared,
    part: Option<&Part>,
    name: &Sensitive<String>,
) -> Result<(), HttpProblem> {
    let name = name.expose();
    if name == DEFAULT_MODEL || model_name(shared, part).as_deref() == Some(name) {
        return Ok(());
    }
    let message = "no such model; `GET /v1/models` lists what is active";
    Err(HttpProblem::not_found("model_not_found", message).about("model"))
}

fn model_entry(id: &str, shared: &Shared, part: Option<&Part>) -> Value {
    let generation = engine::serving(shared, part).into_iter().next();
    json!({
        "id": id,
        "object": "model",
        "created": 0,
        "owned_by": "cloister",
        "cloister": { "generation": generation },
    })
}

/// What can be asked.
pub(crate) async fn models(asked: Asked) -> Answered {
    let shared = asked.shared;
    blocking(move || {
        let part = Part::of(&shared.trials, &asked.caller.principal);
        let name = model_name(&shared, part.as_ref());
        let names = std::iter::once(DEFAULT_MODEL.to_owned()).chain(name);
        let data: Vec<Value> =
            names.map(|name| model_entry(&name, &shared, part.as_ref())).collect();
        Ok(axum::Json(json!({ "object": "list", "data": data })).into_response())
    })
    .await
}

/// One of them.
pub(crate) async fn model(asked: Asked) -> Answered {
    let (shared, name) = (asked.shared, Sensitive::new(asked.tail));
    blocking(move || {
        let part = Part::of(&shared.trials, &asked.caller.principal);
        known_model(&shared, part.as_ref(), &name)?;
        Ok(axum::Json(model_entry(name.expose(), &shared, part.as_ref())).into_response())
    })
    .await
}

/// `POST /v1/embeddings`.
pub(crate) async fn embeddings(asked: Asked) -> Answered {
    let request = EmbeddingRequest::parse(&asked.body)?;
    let shared = Arc::clone(&asked.shared);
    let ticket = shared.enter(&asked.caller.principal)?;
    let hold = Arc::new(Hold::default());
    let _cancels = EndsWithCaller(Arc::clone(&hold));
    blocking(move || {
        let _place = ticket;
        let part = Part::of(&shared.trials, &asked.caller.principal);
        let part = part.as_ref();
        known_model(&shared, part, &request.model)?;
        let (generation, event) = engine::with_serving(&shared, &hold, part, |generation| {
            let embed = Request::Embed { generation, texts: request.texts.clone() };
            let begun = engine::begin(&shared, &hold, &embed)?;
            Ok(begun.map(|begun| (generation, begun.first)))
        })?;
        let Event::Embeddings { vectors, tokens } = event else {
            return Err(HttpProblem::internal());
        };
        let data: Vec<Value> = vectors
            .iter()
            .enumerate()
            .map(|(index, vector)| {
                let embedding = if request.base64 { packed(vector) } else { json!(vector) };
                json!({ "object": "embedding", "index": index, "embedding": embedding })
            })
            .collect();
        let usage = json!({ "prompt_tokens": tokens.0, "total_tokens": tokens.0 });
        let ours = json!({
            "generation": generation,
            "configuration": shared.configuration,
            "ignored": request.ignored,
        });
        let body = json!({
            "object": "list",
            "data": data,
            "model": DEFAULT_MODEL,
            "usage": usage,
            "cloister": ours,
        });
        Ok(axum::Json(body).into_response())
    })
    .await
}

/// Little-endian f32 words as base64, as official clients unpack them.
fn packed(vector: &[f32]) -> Value {
    let bytes: Vec<u8> = vector.iter().flat_map(|value| value.to_le_bytes()).collect();
    Value::String(BASE64_STANDARD.encode(bytes))
}

/// `GET /v1/citations/{id}`: access is decided again, now.
pub(crate) async fn citation(asked: Asked) -> Answered {
    let absent = || {
        let message = "there is no such citation, or it is not for this key";
        HttpProblem::not_found("citation_not_found", message)
    };
    let (shared, labels) = (asked.shared, asked.caller.labels);
    // A colon may come percent-encoded.
    let id = asked.tail.replace("%3A", ":").replace("%3a", ":");
    blocking(move || {
        let citation = id.parse().map_err(|_text| absent())?;
        let part = Part::of(&shared.trials, &asked.caller.principal);
        let serving = engine::serving(&shared, part.as_ref());
        if serving.is_empty() {
            return Err(HttpProblem::loading());
        }
        // A canary's answer cites its release, and the answers of before cite the active one.
        let mut found = Err(absent());
        for generation in serving {
            let open = corpus::Request::Open { citation, generation, labels: labels.clone() };
            found = match ask_corpus(&shared, &open) {
                Ok(Answer::Passage(hit)) => Ok(hit),
                Ok(_) => return Err(HttpProblem::internal()),
                Err(problem) if problem.status.is_client_error() => Err(absent()),
                Err(problem) => return Err(problem),
            };
            if found.is_ok() {
                break;
            }
        }
        let hit = found?;
        let body = json!({
            "object": "cloister.citation",
            "id": hit.citation,
            "document": hit.citation.document,
            "chunk": hit.chunk,
            "range": [hit.citation.start, hit.citation.end],
            "label": hit.label,
            "collection": hit.collection,
            "name": hit.name.expose(),
            "text": hit.text.expose(),
        });
        Ok(axum::Json(body).into_response())
    })
    .await
}
