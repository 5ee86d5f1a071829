//! Errors as clients see them.

use std::any::Any;
use std::time::Duration;

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use loci_index::IndexError;
use loci_models::ModelError;

use crate::engine::EngineError;
use crate::generate::GenerateError;
use crate::lanes::LaneError;
use crate::lookup::LookupError;
use crate::wire::{ErrorBody, ErrorDetail};

/// An error answer.
#[derive(Debug)]
pub(crate) struct ApiError {
    status: StatusCode,
    code: &'static str,
    param: Option<String>,
    message: String,
}

impl ApiError {
    pub(crate) fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self {
            status,
            code,
            param: None,
            message: message.into(),
        }
    }

    /// A field's value is refused; the message begins with the field's name.
    pub(crate) fn field(param: impl Into<String>, reason: impl std::fmt::Display) -> Self {
        let param = param.into();
        Self::new(
            StatusCode::BAD_REQUEST,
            "invalid_value",
            format!("{param}: {reason}"),
        )
        .at(param)
    }

    pub(crate) fn at(mut self, param: impl Into<String>) -> Self {
        self.param = Some(param.into());
        self
    }

    pub(crate) fn internal(detail: impl std::fmt::Display) -> Self {
        tracing::error!("request failed: {detail}");
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "internal_error",
            "the server failed on this request; its log has the reason",
        )
    }

    /// The error when a handler panics.
    pub(crate) fn panicked(panic: &(dyn Any + Send)) -> Self {
        let text = panic
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| panic.downcast_ref::<&str>().copied());
        Self::internal(format!("panic: {}", text.unwrap_or("without a message")))
    }

    /// The error when work is not done within its time.
    pub(crate) fn overdue(limit: Duration) -> Self {
        let message = format!(
            "the request took longer than {} s and was given up: send less at a time or ask again",
            limit.as_secs_f64()
        );
        Self::new(StatusCode::GATEWAY_TIMEOUT, "timeout", message)
    }

    pub(crate) fn shutting_down() -> Self {
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "shutting_down",
            "the server is stopping: ask again when it is back",
        )
    }

    /// Names the pipeline field `param` of the request.
    pub(crate) fn lookup(param: &'static str, error: LookupError) -> Self {
        let list = |names: Vec<String>| {
            if names.is_empty() {
                "none".to_owned()
            } else {
                names.join(", ")
            }
        };
        match error {
            LookupError::NotYet(pipeline) => {
                let message =
                    format!("no release serves {pipeline} yet: wait until /readyz answers 200");
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "no_release", message)
            }
            LookupError::Unknown(name, served) => {
                let message = format!(
                    "{param}: there is no pipeline \"{name}\"; served: {}",
                    list(served)
                );
                Self::new(StatusCode::NOT_FOUND, "unknown_pipeline", message).at(param)
            }
            LookupError::Ambiguous(name, fits) => Self::field(
                param,
                format!(
                    "\"{name}\" fits several pipelines: name one of {}",
                    list(fits)
                ),
            ),
            LookupError::Unnamed(served) => Self::new(
                StatusCode::BAD_REQUEST,
                "missing_field",
                format!(
                    "{param}: missing, and several pipelines are served: name one of {}",
                    list(served)
                ),
            )
            .at(param),
        }
    }
}

impl From<LaneError> for ApiError {
    fn from(error: LaneError) -> Self {
        match error {
            LaneError::Busy => Self::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "overloaded",
                "too many requests are waiting: ask again after Retry-After",
            ),
            LaneError::Panicked => Self::internal("the computation panicked"),
        }
    }
}

impl From<IndexError> for ApiError {
    fn from(error: IndexError) -> Self {
        match error {
            IndexError::Filter { field, reason } => Self::field(field, reason),
            IndexError::Query { field, reason } => Self::field(field, reason),
            other => Self::internal(other),
        }
    }
}

impl From<ModelError> for ApiError {
    fn from(error: ModelError) -> Self {
        match error {
            ModelError::Tokenize(_) => {
                Self::new(StatusCode::BAD_REQUEST, "invalid_value", error.to_string())
            }
            ModelError::Chat(_) => Self::new(
                StatusCode::BAD_REQUEST,
                "invalid_value",
                format!("messages: {error}"),
            )
            .at("messages"),
            ModelError::Cancelled => Self::shutting_down(),
            other => Self::internal(other),
        }
    }
}

impl From<EngineError> for ApiError {
    fn from(error: EngineError) -> Self {
        match error {
            EngineError::Index(error) => error.into(),
            EngineError::Model(error) => error.into(),
            EngineError::Unfit(reason) => Self::internal(reason),
        }
    }
}

impl ApiError {
    /// Why an answer to a chat, which has `limit`, is not written.
    pub(crate) fn unwritten(error: GenerateError, limit: Duration) -> Self {
        match error {
            GenerateError::Overdue => Self::overdue(limit),
            GenerateError::Failed(reason) => Self::internal(reason),
        }
    }

    pub(crate) fn status(&self) -> StatusCode {
        self.status
    }

    /// What the client is told.
    pub(crate) fn into_body(self) -> ErrorBody {
        let kind = match self.status {
            StatusCode::UNAUTHORIZED => "authentication_error",
            StatusCode::FORBIDDEN => "permission_error",
            StatusCode::TOO_MANY_REQUESTS => "rate_limit_error",
            status if status.is_server_error() => "server_error",
            _ => "invalid_request_error",
        };
        let error = ErrorDetail {
            message: self.message,
            kind: kind.to_owned(),
            code: self.code.to_owned(),
            param: self.param,
        };
        ErrorBody { error }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let status = self.status;
        let mut response = (status, Json(self.into_body())).into_response();
        let headers = response.headers_mut();
        match status {
            StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"))
            }
            StatusCode::UNAUTHORIZED => {
                headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"))
            }
            _ => None,
        };
        response
    }
}
