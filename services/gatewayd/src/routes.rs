//! The routes. Each declares what its caller needs; there is no other way to add one.

use std::sync::Arc;

use axum::{
    Router,
    body::{Body, Bytes},
    extract::Request,
    http::{HeaderName, HeaderValue, Method, Response, header},
    response::IntoResponse as _,
    routing::{self, MethodFilter},
};
use cloister_domain::{LabelSet, Principal};

use crate::{
    api, chat,
    http_problem::HttpProblem,
    shared::{BODY_BYTES_MAX, Shared},
};

/// Who asks, once the key was found valid.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    pub(crate) principal: Principal,
    pub(crate) labels: LabelSet,
}

/// A request whose caller is known and whose body was read within its bound.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) shared: Arc<Shared>,
    pub(crate) caller: Caller,
    pub(crate) request_id: String,
    /// The last segment of the path.
    pub(crate) tail: String,
    pub(crate) body: Bytes,
}

type Answered = Result<Response<Body>, HttpProblem>;

/// What a route needs.
struct Routes {
    shared: Arc<Shared>,
    router: Router,
}

impl Routes {
    /// A route that anybody on the machine may ask: it tells whether the process serves.
    fn probe(mut self, path: &str, handler: fn(&Shared) -> Response<Body>) -> Self {
        let shared = Arc::clone(&self.shared);
        self.router =
            self.router.route(path, routing::get(move || async move { handler(&shared) }));
        self
    }

    /// A route that needs a valid API key.
    fn keyed<Work>(mut self, method: MethodFilter, path: &str, handler: fn(Asked) -> Work) -> Self
    where
        Work: Future<Output = Answered> + Send + 'static,
    {
        let shared = Arc::clone(&self.shared);
        let service = move |request: Request| async move { admit(shared, request, handler).await };
        self.router = self.router.route(path, routing::on(method, service));
        self
    }
}

/// Every route of the API.
pub(crate) fn all(shared: Arc<Shared>) -> Router {
    let routes = Routes { shared: Arc::clone(&shared), router: Router::new() };
    routes
        .probe("/livez", api::live)
        .probe("/readyz", api::ready)
        .keyed(MethodFilter::POST, "/v1/chat/completions", chat::completions)
        .keyed(MethodFilter::POST, "/v1/embeddings", api::embeddings)
        .keyed(MethodFilter::GET, "/v1/models", api::models)
        .keyed(MethodFilter::GET, "/v1/models/{id}", api::model)
        .keyed(MethodFilter::GET, "/v1/citations/{id}", api::citation)
        .router
        .fallback(move || async move {
            let problem = HttpProblem::not_found("unknown_route", "there is no such route");
            problem.respond(&shared.request_id())
        })
}

/// Checks the key, bounds the body, and marks the answer with the request's name.
async fn admit<Work>(
    shared: Arc<Shared>,
    request: Request,
    handler: fn(Asked) -> Work,
) -> Response<Body>
where
    Work: Future<Output = Answered> + Send,
{
    let given = request.headers().get("x-request-id").and_then(|value| value.to_str().ok());
    let request_id =
        given.filter(|id| well_formed(id)).map_or_else(|| shared.request_id(), str::to_owned);
    let (path, method) = (request.uri().path().to_owned(), request.method().clone());
    let asked = ask(&shared, request, &request_id).await;
    let answered = match asked {
        Ok(asked) => handler(asked).await,
        Err(problem) => Err(problem),
    };
    let mut response = answered.unwrap_or_else(|problem| problem.respond(&request_id));
    let status = response.status().as_u16();
    // The path may end in an identifier; the log names the route only.
    let route = path.split('/').nth(2).map_or("none", route_name);
    tracing::info!(status, route, post = method == Method::POST, "answered");
    let headers = response.headers_mut();
    if let Ok(value) = HeaderValue::from_str(&request_id) {
        headers.insert(HeaderName::from_static("x-request-id"), value);
    }
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response.into_response()
}

async fn ask(
    shared: &Arc<Shared>,
    request: Request,
    request_id: &str,
) -> Result<Asked, HttpProblem> {
    let value = request.headers().get(header::AUTHORIZATION).map(HeaderValue::as_bytes);
    let key = value
        .and_then(|value| value.strip_prefix(b"Bearer "))
        .and_then(|value| shared.keys.find(value))
        .ok_or_else(HttpProblem::unauthorised)?;
    let tail = request.uri().path().rsplit('/').next().unwrap_or_default().to_owned();
    let body = axum::body::to_bytes(request.into_body(), BODY_BYTES_MAX)
        .await
        .map_err(|_too_long_or_gone| HttpProblem::too_large(BODY_BYTES_MAX))?;
    Ok(Asked {
        shared: Arc::clone(shared),
        caller: Caller { principal: key.principal, labels: key.labels },
        request_id: request_id.to_owned(),
        tail,
        body,
    })
}

/// A caller's own name for a request goes into headers and logs, so it is plain and short.
fn well_formed(id: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    (1..=64).contains(&id.len()) && id.chars().all(plain)
}

fn route_name(segment: &str) -> &'static str {
    match segment {
        "chat" => "chat",
        "embeddings" => "embeddings",
        "models" => "models",
        "citations" => "citations",
        _ => "other",
    }
}
