//! The routes. Each declares what its caller needs; there is no other way to add one.

use std::{future::poll_fn, pin::Pin, sync::Arc};

use axum::{
    Router,
    body::{Body, Bytes, HttpBody as _},
    extract::Request,
    http::{HeaderName, HeaderValue, Method, Response, header},
    response::IntoResponse as _,
    routing::{self, MethodFilter},
};
use cloister_domain::{LabelSet, Principal};
use futures_core::Stream as _;

use crate::{
    api, chat,
    http_problem::HttpProblem,
    shared::{BODY_LIMIT, Shared},
};

/// Who asks, once the key was found valid.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    pub(crate) principal: Principal,
    pub(crate) labels: LabelSet,
}

/// A request whose caller is known and whose body was read within its bound. Not printable: the body
/// is people's words.
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
    /// A route that anybody on the machine may ask: it tells whether the appliance serves.
    fn probe<Work>(mut self, path: &str, handler: fn(Arc<Shared>) -> Work) -> Self
    where
        Work: Future<Output = Response<Body>> + Send + 'static,
    {
        let shared = Arc::clone(&self.shared);
        self.router = self.router.route(path, routing::get(move || handler(shared)));
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
pub(crate) fn all(shared: &Arc<Shared>) -> Router {
    let routes = Routes { shared: Arc::clone(shared), router: Router::new() };
    let refuse = |problem: fn() -> HttpProblem| {
        let shared = Arc::clone(shared);
        move || async move { problem().respond(&shared.request_id()) }
    };
    routes
        .probe("/livez", api::live)
        .probe("/readyz", api::ready)
        .keyed(MethodFilter::POST, "/v1/chat/completions", chat::completions)
        .keyed(MethodFilter::POST, "/v1/embeddings", api::embeddings)
        .keyed(MethodFilter::GET, "/v1/models", api::models)
        .keyed(MethodFilter::GET, "/v1/models/{id}", api::model)
        .keyed(MethodFilter::GET, "/v1/citations/{id}", api::citation)
        .router
        .fallback(refuse(|| HttpProblem::not_found("unknown_route", "there is no such route")))
        .method_not_allowed_fallback(refuse(HttpProblem::method))
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
    let body = read_body(request.into_body(), shared.body_bytes_max).await?;
    Ok(Asked {
        shared: Arc::clone(shared),
        caller: Caller { principal: key.principal, labels: key.labels },
        request_id: request_id.to_owned(),
        tail,
        body,
    })
}

/// The whole body, if it arrives in time and is not too large.
async fn read_body(body: Body, max: usize) -> Result<Bytes, HttpProblem> {
    // A declared length is refused before a byte is read.
    if usize::try_from(body.size_hint().lower()).map_or(true, |length| length > max) {
        return Err(HttpProblem::too_large(max));
    }
    let mut stream = body.into_data_stream();
    let mut bytes = Vec::new();
    let read = async {
        while let Some(piece) = poll_fn(|context| Pin::new(&mut stream).poll_next(context)).await {
            let piece = piece.map_err(|_connection| HttpProblem::cut_body())?;
            if bytes.len() + piece.len() > max {
                return Err(HttpProblem::too_large(max));
            }
            bytes.extend_from_slice(&piece);
        }
        Ok(())
    };
    tokio::time::timeout(BODY_LIMIT, read).await.map_err(|_late| HttpProblem::cut_body())??;
    Ok(bytes.into())
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
