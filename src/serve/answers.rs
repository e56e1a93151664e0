//! JSON responses.

use axum::http::StatusCode;
use axum::http::header::{CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use super::upload::UploadError;
use crate::evaluate::UnreadableView;

/// Seconds after which a client may retry when the server is busy.
const RETRY_SECONDS: u16 = 5;

/// Creates a response with a JSON value.
pub(super) fn json(status: StatusCode, value: &impl Serialize) -> Response {
    let text = serde_json::to_string(value).expect("answers have text as keys");
    (status, [(CONTENT_TYPE, HeaderValue::from_static("application/json"))], text).into_response()
}

/// An error response.
#[derive(Debug)]
pub(super) struct Refusal {
    status: StatusCode,
    body: Body,
}

#[derive(Debug, Serialize)]
struct Body {
    /// The message, one line.
    error: String,
    /// The clips that cannot be read, if that is the error.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    unreadable: Vec<UnreadableView>,
}

impl Refusal {
    pub(super) fn new(status: StatusCode, error: impl Into<String>) -> Self {
        Self { status, body: Body { error: error.into(), unreadable: Vec::new() } }
    }

    /// Creates the response to a request none of whose clips can be read.
    pub(super) fn unreadable(unreadable: Vec<UnreadableView>) -> Self {
        let error = "none of the clips can be read".to_owned();
        Self { status: StatusCode::UNPROCESSABLE_ENTITY, body: Body { error, unreadable } }
    }
}

impl From<UploadError> for Refusal {
    fn from(error: UploadError) -> Self {
        let status = match &error {
            UploadError::Form(_) | UploadError::Incomplete => StatusCode::BAD_REQUEST,
            UploadError::TooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
            UploadError::Slow => StatusCode::REQUEST_TIMEOUT,
            UploadError::Store(reason) => {
                log::warn!("{error}: {reason}");
                StatusCode::INTERNAL_SERVER_ERROR
            }
        };
        Self::new(status, error.to_string())
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut response = json(self.status, &self.body);
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            response.headers_mut().insert(RETRY_AFTER, RETRY_SECONDS.into());
        }
        response
    }
}
