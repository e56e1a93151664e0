//! Writing the page to files.

use std::fs;
use std::path::{Path, PathBuf};

use askama::Template;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;

use super::about::{About, ServedAbout};
use super::{WebError, WebModel};
use crate::atomic_file;

/// Maximum size of a single file, in bytes. A larger page becomes a folder, because browsers and mail
/// programs have trouble with such files.
const LARGEST: usize = 100_000_000;
/// Bytes of weights in one file of a folder; a multiple of 3, for base64.
const PIECE: usize = 30_000_000;

/// Caption of the frames that the page shows, if the network sees no others.
const SEEN: &str = "what the network sees of each";

/// The files of a page that was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// The page to open.
    pub page: PathBuf,
    /// Total size of the files in bytes.
    pub bytes: u64,
    /// Number of files; more than 1 if the page is a folder.
    pub files: usize,
}

#[derive(Template)]
#[template(path = "model.html")]
struct Page<'a> {
    name: &'a str,
    backbone: &'a str,
    epoch: usize,
    /// Whether the network runs on the server that the page comes from.
    server: bool,
    /// Caption of the frames that the page shows.
    seen: &'a str,
    /// JSON without characters that could end the HTML element.
    about: &'a str,
    /// The weights in base64, if they are in the page.
    weights: Option<&'a str>,
    /// Otherwise, the scripts that contain them.
    scripts: &'a [String],
}

impl WebModel {
    /// Writes the page to `out`. A page that would be larger than 100 MB is written as a folder instead,
    /// named without the extension, with `index.html` and scripts that contain the weights.
    ///
    /// # Errors
    /// [`WebError`].
    pub fn write(&self, out: &Path) -> Result<Written, WebError> {
        let about = inline_json(&self.about)?;
        let About { name, backbone, epoch, .. } = &self.about;
        let page = |weights, scripts: &[String]| {
            let (epoch, about) = (*epoch, &about);
            let (server, seen) = (false, SEEN);
            let page = Page { name, backbone, epoch, server, seen, about, weights, scripts };
            page.render().map_err(WebError::from)
        };
        if self.weights.len().div_ceil(3) * 4 + about.len() <= LARGEST {
            let text = page(Some(&STANDARD.encode(&self.weights)), &[])?;
            write(out, text.as_bytes())?;
            return Ok(Written { page: out.to_owned(), bytes: text.len() as u64, files: 1 });
        }
        let folder = out.with_extension("");
        let fail = |source| WebError::Write { path: folder.clone(), source };
        fs::create_dir_all(&folder).map_err(fail)?;
        // A folder with an earlier page may be overwritten.
        let is_empty = fs::read_dir(&folder).map_err(fail)?.next().is_none();
        if !is_empty && !folder.join(script(0)).is_file() {
            return Err(WebError::Occupied { path: folder });
        }
        let (mut bytes, mut scripts) = (0, Vec::new());
        for (index, piece) in self.weights.chunks(PIECE).enumerate() {
            let script = script(index);
            let text =
                format!("(window.modelWeights ??= []).push(\"{}\");\n", STANDARD.encode(piece));
            write(&folder.join(&script), text.as_bytes())?;
            bytes += text.len() as u64;
            scripts.push(script);
        }
        let text = page(None, &scripts)?;
        let index = folder.join("index.html");
        write(&index, text.as_bytes())?;
        for rest in (scripts.len()..).map(|index| folder.join(script(index))) {
            if fs::remove_file(rest).is_err() {
                break;
            }
        }
        Ok(Written { page: index, bytes: bytes + text.len() as u64, files: scripts.len() + 1 })
    }
}

/// Whether a file that starts with `head` is a network's page, as opposed to, say, a run's report.
pub(crate) fn is_page(head: &[u8]) -> bool {
    let head = String::from_utf8_lossy(head);
    // Only these pages play clips from memory.
    head.starts_with("<!doctype html>") && head.contains("media-src blob:")
}

/// Returns the name of the script with a piece of the weights.
fn script(index: usize) -> String {
    format!("weights-{}.js", index + 1)
}

/// Renders the page that sends clips to its own server.
pub(super) fn served(about: &ServedAbout<'_>) -> Result<String, WebError> {
    let ServedAbout { name, backbone, epoch, .. } = about;
    let json = inline_json(about)?;
    let seen = match about {
        ServedAbout { averaged: 1, .. } => SEEN.to_owned(),
        ServedAbout { averaged, same_crops_count_once, .. } => {
            let upto = if *same_crops_count_once { "up to " } else { "" };
            format!("the middle of each; the network sees {upto}{averaged} inputs per view")
        }
    };
    let page = Page {
        name,
        backbone,
        epoch: *epoch,
        server: true,
        seen: &seen,
        about: &json,
        weights: None,
        scripts: &[],
    };
    Ok(page.render()?)
}

/// Serialises a value as JSON without characters that could end the HTML element.
fn inline_json(value: &impl Serialize) -> Result<String, WebError> {
    Ok(serde_json::to_string(value)?.replace('<', "\\u003c"))
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), WebError> {
    atomic_file::replace(&atomic_file::linked(path), bytes)
        .map_err(|source| WebError::Write { path: path.to_owned(), source })
}
