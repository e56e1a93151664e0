//! Stores the clips of a request's body in files, in chunks and within limits.

use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, BodyDataStream, Bytes};
use futures_core::Stream;
use multer::{Field, Multipart};
use tempfile::TempDir;
use tokio::fs::File;
use tokio::io::AsyncWriteExt;
use tokio::time::{Instant, timeout};

use super::Limits;
use super::model::Clips;
use crate::data::video::{Cancel, has_clip_extension};
use crate::text::turns;

/// Maximum number of bytes of a part's head, or of anything else that is not a clip's content.
const MAX_HEAD: u64 = 1 << 20;

/// Maximum number of characters of a clip's name; the rest is cut off.
const MAX_NAME: usize = 120;

/// Why a request's body is refused.
#[derive(Debug, thiserror::Error)]
pub(super) enum UploadError {
    /// The body is malformed or does not have the expected parts.
    #[error("{0}")]
    Form(String),
    /// The body is larger than allowed.
    #[error("the clips are larger than {} MiB in total", .0 >> 20)]
    TooLarge(u64),
    /// The body arrives too slowly.
    #[error("the clips did not arrive in time")]
    Slow,
    /// The connection was closed early.
    #[error("the request is incomplete")]
    Incomplete,
    /// The clips cannot be stored.
    #[error("the clips cannot be stored")]
    Store(#[from] std::io::Error),
}

/// Stores the clips of a `multipart/form-data` body in a new folder inside `folder`.
pub(super) async fn receive(
    body: Body,
    boundary: String,
    folder: &Path,
    limits: &Limits,
) -> Result<Clips, UploadError> {
    let timeouts = Timeouts { idle: limits.idle, end: Instant::now() + limits.body };
    let held = Arc::new(AtomicU64::new(0));
    let body = Paced {
        body: body.into_data_stream(),
        received: 0,
        limit: limits.max_upload,
        held: Arc::clone(&held),
        pause: false,
    };
    let mut parts = Multipart::new(body, boundary);
    let folder = TempDir::new_in(folder)?;
    let (mut paths, mut names) = (Vec::new(), Vec::new());
    while let Some(mut part) = timeouts.within(parts.next_field()).await? {
        held.store(0, Ordering::Relaxed);
        let name = clip_name(&part)?;
        if paths.len() == limits.clips {
            return Err(UploadError::Form(format!("more than {} clips", limits.clips)));
        }
        let path = folder.path().join(file_name(paths.len(), &name));
        let mut file = File::create(&path).await?;
        while let Some(chunk) = timeouts.within(part.chunk()).await? {
            held.store(0, Ordering::Relaxed);
            file.write_all(&chunk).await?;
        }
        file.flush().await?;
        paths.push(path);
        names.push(name);
    }
    match paths.is_empty() {
        true => Err(UploadError::Form("there is no part named clip".to_owned())),
        false => Ok(Clips { folder, paths, names, cancel: Cancel::default() }),
    }
}

/// Returns the client's name for the clip of a part: the last component of its path, shortened.
fn clip_name(part: &Field<'_>) -> Result<String, UploadError> {
    if part.name() != Some("clip") {
        return Err(UploadError::Form("there is a part not named clip".to_owned()));
    }
    let given = part.file_name().unwrap_or_default();
    let last = given.rsplit(['/', '\\']).next().unwrap_or_default();
    let name: String =
        last.chars().filter(|&c| !c.is_control() && !turns(c)).take(MAX_NAME).collect();
    match name.is_empty() {
        true => Err(UploadError::Form("there is a clip without a file name".to_owned())),
        false => Ok(name),
    }
}

/// Returns the name of a clip's file, which takes nothing from the client but a known extension.
fn file_name(index: usize, shown: &str) -> String {
    let shown = Path::new(shown);
    let extension = shown.extension().and_then(|extension| extension.to_str());
    match extension.filter(|_| has_clip_extension(shown)) {
        Some(extension) => format!("clip_{index}.{}", extension.to_ascii_lowercase()),
        None => format!("clip_{index}"),
    }
}

/// Time limits for receiving a body.
struct Timeouts {
    idle: Duration,
    end: Instant,
}

impl Timeouts {
    /// Waits for the next piece within the limits.
    async fn within<T>(
        &self,
        piece: impl Future<Output = multer::Result<T>>,
    ) -> Result<T, UploadError> {
        let left = self.end.saturating_duration_since(Instant::now());
        match timeout(self.idle.min(left), piece).await {
            Ok(piece) => piece.map_err(refused),
            Err(_) => Err(UploadError::Slow),
        }
    }
}

fn refused(error: multer::Error) -> UploadError {
    match error {
        multer::Error::StreamReadFailed(error) => match error.downcast::<UploadError>() {
            Ok(error) => *error,
            Err(_) => UploadError::Incomplete,
        },
        error => UploadError::Form(format!("not multipart/form-data: {error}")),
    }
}

/// A body that is limited in size and passed to the parser one chunk at a time. The parser would otherwise
/// buffer everything available before it returns anything, and without limit if a part has no end.
struct Paced {
    body: BodyDataStream,
    received: u64,
    limit: u64,
    /// Bytes that the parser has read since it last returned something.
    held: Arc<AtomicU64>,
    /// Whether to return `Pending` once, so that the parser processes the last chunk first.
    pause: bool,
}

impl Stream for Paced {
    type Item = Result<Bytes, UploadError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if std::mem::take(&mut self.pause) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let chunk = match Pin::new(&mut self.body).poll_next(cx) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(None) => return Poll::Ready(None),
            Poll::Ready(Some(Err(_))) => return Poll::Ready(Some(Err(UploadError::Incomplete))),
            Poll::Ready(Some(Ok(chunk))) => chunk,
        };
        self.pause = true;
        let size = chunk.len() as u64;
        self.received += size;
        let held = self.held.fetch_add(size, Ordering::Relaxed) + size;
        Poll::Ready(Some(if self.received > self.limit {
            Err(UploadError::TooLarge(self.limit))
        } else if held > MAX_HEAD {
            Err(UploadError::Form("not multipart/form-data: no part begins".to_owned()))
        } else {
            Ok(chunk)
        }))
    }
}
