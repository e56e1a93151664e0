//! The routes of the server, documented in `schemas/openapi.json`.

use std::path::PathBuf;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderName, StatusCode};
use axum::middleware::{from_fn, from_fn_with_state};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::{get, post};
use serde_json::Value;
use tokio::sync::Semaphore;

use super::answers::{Refusal, json};
use super::guard::{Hosts, guard};
use super::model::{Answer, Requests};
use super::requests_log::logged;
use super::upload::{UploadError, receive};
use super::{Limits, OPENAPI};
use crate::data::video::Cancel;

/// State that all requests share.
#[derive(Debug)]
pub(super) struct Shared {
    pub page: String,
    /// Description of the model.
    pub about: Value,
    /// Slots for requests with clips that are being received, waiting or being processed.
    pub slots: Arc<Semaphore>,
    pub queue: Arc<Requests>,
    /// Folder of all uploads.
    pub folder: PathBuf,
    pub hosts: Hosts,
    pub limits: Limits,
}

type Served = State<Arc<Shared>>;

pub(super) fn router(shared: Arc<Shared>) -> Router {
    let page = async |State(shared): Served| Html(shared.page.clone());
    let about = async |State(shared): Served| json(StatusCode::OK, &shared.about);
    let length = async |State(shared): Served| json(StatusCode::OK, &shared.queue.length());
    let api = async || ([(CONTENT_TYPE, "application/json")], OPENAPI);
    let absent =
        async || Refusal::new(StatusCode::NOT_FOUND, "there is no such page; see /openapi.json");
    let method = async || {
        Refusal::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "this path does not support that method; see /openapi.json",
        )
    };
    Router::new()
        .route("/", get(page))
        .route("/api/model", get(about))
        .route("/api/queue", get(length))
        .route("/api/predictions", post(predictions))
        .route("/openapi.json", get(api))
        .fallback(absent)
        .method_not_allowed_fallback(method)
        .layer(from_fn_with_state(Arc::clone(&shared), guard))
        // Outside the guard, so that requests that it refuses are logged too.
        .layer(from_fn(logged))
        .with_state(shared)
}

async fn predictions(State(shared): Served, request: Request) -> Response {
    match predict(&shared, request).await {
        Ok(answer) => json(StatusCode::OK, &answer),
        Err(refusal) => refusal.into_response(),
    }
}

/// Receives the clips, waits for the device, and predicts. The future is dropped when the client goes away.
async fn predict(shared: &Shared, request: Request) -> Result<Answer, Refusal> {
    let Ok(_slot) = shared.slots.try_acquire() else {
        let busy = "too many requests are waiting: try again later";
        return Err(Refusal::new(StatusCode::SERVICE_UNAVAILABLE, busy));
    };
    let (head, body) = request.into_parts();
    let boundary = boundary(&head.headers)?;
    let announced = text(&head.headers, CONTENT_LENGTH).and_then(|length| length.parse().ok());
    if announced.is_some_and(|length: u64| length > shared.limits.max_upload) {
        return Err(UploadError::TooLarge(shared.limits.max_upload).into());
    }
    let clips = receive(body, boundary, &shared.folder, &shared.limits).await?;
    let _cancel = CancelOnDrop(clips.cancel.clone());
    let ticket = shared.queue.join(clips);
    match ticket.answer().await {
        Some(Ok(answer)) if answer.action.views.is_empty() => {
            Err(Refusal::unreadable(answer.action.unreadable))
        }
        Some(Ok(answer)) => Ok(answer),
        Some(Err(error)) => {
            log::error!("{error}");
            let failed = "the prediction failed; the server's log says why";
            Err(Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, failed))
        }
        None => Err(Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "the server is shutting down")),
    }
}

/// Cancels reading the clips when the client no longer waits for its prediction.
struct CancelOnDrop(Cancel);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

/// Returns the boundary between the parts of a multipart body.
fn boundary(headers: &HeaderMap) -> Result<String, Refusal> {
    let kind = text(headers, CONTENT_TYPE).unwrap_or_default();
    multer::parse_boundary(kind).map_err(|error| match error {
        multer::Error::NoBoundary => {
            Refusal::new(StatusCode::BAD_REQUEST, "multipart/form-data without a boundary")
        }
        _ => Refusal::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "clips must be sent as multipart/form-data, in parts named clip",
        ),
    })
}

fn text(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    headers.get(name)?.to_str().ok()
}
