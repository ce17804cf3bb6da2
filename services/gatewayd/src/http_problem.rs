//! Refusals over HTTP: the OpenAI error envelope with all four keys, and details beside it.

use axum::{
    body::Body,
    http::{HeaderValue, Response, StatusCode, header},
    response::IntoResponse,
};
use cloister_domain::Class;
use cloister_wire::Problem;
use serde_json::{Value, json};

/// A refusal. Its message never quotes content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HttpProblem {
    pub(crate) status: StatusCode,
    kind: &'static str,
    code: String,
    message: String,
    param: Option<String>,
    retry: bool,
}

impl HttpProblem {
    fn new(status: StatusCode, kind: &'static str, code: &str, message: impl Into<String>) -> Self {
        let retry = matches!(status.as_u16(), 429 | 503);
        Self { status, kind, code: code.to_owned(), message: message.into(), param: None, retry }
    }

    /// A request that is wrong as it stands; sending it again changes nothing.
    pub(crate) fn invalid(code: &str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid_request_error", code, message)
    }

    /// No key, or not a valid one.
    pub(crate) fn unauthorised() -> Self {
        let message = "send a valid API key as `Authorization: Bearer KEY`";
        Self::new(StatusCode::UNAUTHORIZED, "authentication_error", "invalid_api_key", message)
    }

    /// What was asked for is not there, or not for this caller; the two are not told apart.
    pub(crate) fn not_found(code: &str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found_error", code, message)
    }

    /// The body is larger than allowed.
    pub(crate) fn too_large(max: usize) -> Self {
        let message = format!("the body is larger than {max} bytes");
        let status = StatusCode::PAYLOAD_TOO_LARGE;
        Self::new(status, "invalid_request_error", "body_too_large", message)
    }

    /// The caller has as many answers in progress as allowed.
    pub(crate) fn concurrency(max: u32) -> Self {
        let message =
            format!("this key's user has {max} answers in progress; try again when one ends");
        let status = StatusCode::TOO_MANY_REQUESTS;
        Self::new(status, "rate_limit_error", "concurrency_exceeded", message)
    }

    /// As many answers are in progress as this appliance gives at a time.
    pub(crate) fn requests(max: u32) -> Self {
        let message = format!("{max} answers are in progress; try again in a moment");
        let status = StatusCode::TOO_MANY_REQUESTS;
        Self::new(status, "rate_limit_error", "requests_exceeded", message)
    }

    /// The answer, or the request itself, took too long.
    pub(crate) fn out_of_time() -> Self {
        let message = "the answer took longer than allowed; ask for fewer tokens";
        Self::new(StatusCode::GATEWAY_TIMEOUT, "api_error", "answer_timeout", message)
    }

    /// The request's body did not arrive.
    pub(crate) fn cut_body() -> Self {
        let message = "the body did not arrive in time or was cut off";
        let status = StatusCode::REQUEST_TIMEOUT;
        Self::new(status, "invalid_request_error", "body_incomplete", message)
    }

    /// The route exists and is asked in another way.
    pub(crate) fn method() -> Self {
        let message = "this route is not asked with this method";
        let status = StatusCode::METHOD_NOT_ALLOWED;
        Self::new(status, "invalid_request_error", "method_not_allowed", message)
    }

    /// No engine holds the active generation yet.
    pub(crate) fn loading() -> Self {
        let message = "the model is being loaded; try again in a moment";
        let status = StatusCode::SERVICE_UNAVAILABLE;
        Self::new(status, "overloaded_error", "model_loading", message)
    }

    /// Something behind the gateway failed.
    pub(crate) fn internal() -> Self {
        let message = "the appliance could not answer; its journal says why";
        let status = StatusCode::INTERNAL_SERVER_ERROR;
        Self::new(status, "api_error", "internal", message)
    }

    /// Whether the appliance is at fault, and not what was asked or how many ask.
    pub(crate) fn is_fault(&self) -> bool {
        self.status == StatusCode::INTERNAL_SERVER_ERROR || self.code == "model_loading"
    }

    /// Whether prompt and answer together were too long for the model.
    pub(crate) fn is_context_exceeded(&self) -> bool {
        self.code == "context_length_exceeded"
    }

    /// Names the parameter that is wrong; `param` comes from the known names, never from the input.
    pub(crate) fn about(mut self, param: &str) -> Self {
        self.param = Some(param.to_owned());
        self
    }

    /// A problem that another daemon answered with.
    pub(crate) fn of(problem: &Problem) -> Self {
        let code = match problem.code.as_str() {
            "engine.context.exceeded" => "context_length_exceeded",
            other => other,
        };
        match problem.class {
            Class::Refused => Self::invalid(code, problem.message.as_str()),
            Class::Busy => {
                let status = StatusCode::SERVICE_UNAVAILABLE;
                Self::new(status, "overloaded_error", code, problem.message.as_str())
            }
            Class::Fault | Class::Corrupt => {
                tracing::error!(code = problem.code.as_str(), "a daemon could not answer");
                Self::internal()
            }
        }
    }

    /// The envelope.
    pub(crate) fn body(&self, request_id: &str) -> Value {
        json!({ "error": {
            "message": self.message,
            "type": self.kind,
            "param": self.param,
            "code": self.code,
            "details": { "request_id": request_id },
        }})
    }

    /// The whole answer.
    pub(crate) fn respond(&self, request_id: &str) -> Response<Body> {
        let mut response = (self.status, axum::Json(self.body(request_id))).into_response();
        // Official clients send again unless told; a refusal stays a refusal.
        let again = HeaderValue::from_static(if self.retry { "true" } else { "false" });
        let headers = response.headers_mut();
        headers.insert("x-should-retry", again);
        if self.retry {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}
