//! The page for browsers.

use askama::Template;

use super::{Limits, Model};

#[derive(Template)]
#[template(path = "serve.html")]
struct Page<'a> {
    model: &'a Model,
    clips: usize,
    max_mib: u64,
}

/// A form that sends clips to the API, and what it sends them to.
pub(super) fn page(model: &Model, limits: &Limits) -> Result<String, askama::Error> {
    Page { model, clips: limits.clips, max_mib: limits.max_upload >> 20 }.render()
}
