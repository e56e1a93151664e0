//! Logs a line for each request, once it is answered or abandoned.

use std::time::Instant;

use axum::extract::Request;
use axum::http::{Method, StatusCode};
use axum::middleware::Next;
use axum::response::Response;
use log::Level;

/// Logs the requests that pass through: those with clips always, others only with `-v`, because the page
/// polls the queue's length every second.
pub(super) async fn logged(request: Request, next: Next) -> Response {
    let method = request.method().clone();
    let level = if method == Method::POST { Level::Info } else { Level::Debug };
    let path = request.uri().path().to_owned();
    let mut line = Line { level, method, path, started: Instant::now(), status: None };
    let response = next.run(request).await;
    line.status = Some(response.status());
    response
}

/// A log line that is written on drop, so that it is also written when the request's future is dropped
/// because its client goes away or the server shuts down.
struct Line {
    level: Level,
    method: Method,
    path: String,
    started: Instant,
    status: Option<StatusCode>,
}

impl Drop for Line {
    fn drop(&mut self) {
        let Self { level, method, path, started, status } = self;
        let seconds = started.elapsed().as_secs_f64();
        match status {
            Some(status) => log::log!(*level, "{method} {path}: {status} in {seconds:.2} s"),
            None => log::log!(*level, "{method} {path}: given up after {seconds:.2} s"),
        }
    }
}
