//! `polyview export`.

use std::path::PathBuf;
use std::process::ExitCode;

use burn::tensor::Device;
use clap::Args;

use super::advice::{output_failure, write_advice};
use super::out_file::{check_out_file, protect_checkpoint, protect_other_file};
use super::trained::trained_input;
use super::{CommandResult, Failure, print_text};
use crate::checkpoint::{self, Layout};
use crate::config::clips::{MAX_FRAMES, MAX_SIDE, MIN_SIDE};
use crate::options::{choices, file_or_folder};
use crate::web::{Memory, WebError, WebModel, is_page};

choices! {
    /// Purpose of an export.
    Target {
        /// All weights, with polyview's names.
        Polyview = "polyview",
        /// The backbone alone, with the names of its public weights.
        Torchvision = "torchvision",
        /// A page that runs the model in a browser.
        Web = "web",
    }
}

/// Command-line options.
#[derive(Debug, Args)]
pub(super) struct ExportArgs {
    /// Checkpoint to read, or a run's folder for its best one
    #[arg(long, value_name = "FILE", value_parser = file_or_folder(checkpoint::BEST, None))]
    checkpoint: PathBuf,
    /// File to write (safetensors; for web, HTML)
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// polyview (all weights), torchvision (the backbone alone, with its public names) or web (a page that
    /// runs the model in a browser)
    #[arg(long = "for", value_name = "WHAT", default_value_t = Target::Polyview)]
    target: Target,
    /// Store weights as f16; biases and batch norm stay f32
    #[arg(long)]
    half: bool,
    /// Clips that the page runs on: frames, rows and columns, e.g. 16,112,199 [default: what the
    /// checkpoint was trained on]
    #[arg(long, value_name = "T,H,W", value_parser = size)]
    size: Option<[usize; 3]>,
}

impl ExportArgs {
    pub(super) fn run(&self) -> CommandResult {
        let layout = match self.target {
            Target::Polyview => Layout::Polyview,
            Target::Torchvision => Layout::Torchvision,
            Target::Web => return self.page(),
        };
        if self.size.is_some() {
            return Err(Failure::usage("--size needs --for web: weights alone fit any size"));
        }
        if self.out.extension().is_some_and(|e| e.eq_ignore_ascii_case("html")) {
            let out = self.out.display();
            return Err(Failure::usage(format!("--out {out}: a page is written with --for web")));
        }
        check_out_file("--out", &self.out, "safetensors")?;
        protect_checkpoint("--out", &self.out, &self.checkpoint)?;
        protect_other_file("--out", &self.out, "an export", |_| checkpoint::is_export(&self.out))?;
        let tensors = checkpoint::export(&self.checkpoint, &self.out, layout, self.half)
            .map_err(|error| output_failure("--out", &error))?;
        let half = if self.half { ", weights in f16" } else { "" };
        print_text(&format!("{}: {tensors} tensors{half}", self.out.display()))?;
        Ok(ExitCode::SUCCESS)
    }

    /// Writes a page that runs the model in a browser.
    fn page(&self) -> CommandResult {
        let shown = self.checkpoint.display();
        check_out_file("--out", &self.out, "html")?;
        protect_other_file("--out", &self.out, "a page of a network", is_page)?;
        let (net, info) = checkpoint::load(&self.checkpoint, &Device::flex())?;
        let schema = info.load_schema(&self.checkpoint).map_err(Failure::runtime)?;
        let mut input = trained_input(&self.checkpoint, &info, &schema)?;
        if let Some([frames, height, width]) = self.size {
            input.window.frames_per_clip = frames;
            input.size = [height, width];
        }
        if !info.model.inputs.is_empty() {
            log::warn!(
                "{shown}: trained with annotated properties as inputs, which the page lacks"
            );
        }
        let model = WebModel::new(&net, &info, &schema, &input, self.half, &self.name());
        let model = model.map_err(|error| self.failure(&error))?;
        let written = model.write(&self.out).map_err(|error| self.failure(&error))?;
        let files = match written.files {
            1 => String::new(),
            files => format!(" in {files} files, to be kept together"),
        };
        let [t, h, w] = [input.window.frames_per_clip, input.size[0], input.size[1]];
        let programs = model.programs();
        let Memory { weights, activations, largest, .. } =
            programs.last().expect("a model has programs").memory;
        print_text(&format!(
            "{}: {:.1} MB{files}\nclips of {t}×{h}×{w}: {} of GPU memory for weights, {} for activations, in \
             buffers of at most {}",
            written.page.display(),
            written.bytes as f64 / 1e6,
            mebibytes(weights),
            mebibytes(activations),
            format_args!("{} MiB", largest.div_ceil(1 << 20))
        ))?;
        Ok(ExitCode::SUCCESS)
    }

    /// Returns the name that the page shows for the checkpoint: `FOLDER/FILE`, because the run's folder
    /// says more than `best`.
    fn name(&self) -> String {
        let text =
            |part: Option<&std::ffi::OsStr>| part.map(|part| part.to_string_lossy().into_owned());
        let file = text(self.checkpoint.file_stem()).unwrap_or_default();
        let full =
            std::path::absolute(&self.checkpoint).unwrap_or_else(|_| self.checkpoint.clone());
        match text(full.parent().and_then(|folder| folder.file_name())) {
            Some(folder) => format!("{folder}/{file}"),
            None => file,
        }
    }

    fn failure(&self, error: &WebError) -> Failure {
        let checkpoint = self.checkpoint.display();
        match error {
            WebError::Plan { .. } => Failure::usage(format!("{error}: choose another --size")),
            WebError::BeyondHalf { .. } => {
                Failure::runtime(format!("{checkpoint}: {error}: export without --half"))
            }
            WebError::Occupied { .. } => {
                Failure::usage(format!("--out {error}: choose another name"))
            }
            WebError::Write { source, .. } => {
                Failure::runtime(format!("--out {error}; {}", write_advice("file", source)))
            }
            WebError::Weights(_) | WebError::Template(_) | WebError::Json(_) => {
                Failure::runtime(format!("{checkpoint}: {error}"))
            }
        }
    }
}

/// Formats a number of bytes in whole MiB.
fn mebibytes(bytes: usize) -> String {
    match bytes as f64 / (1 << 20) as f64 {
        size if size < 1.0 => "less than 1 MiB".to_owned(),
        size => format!("{size:.0} MiB"),
    }
}

/// Parses a size such as `16,112,199`.
fn size(text: &str) -> Result<[usize; 3], String> {
    let wanted = "must be frames, rows and columns, e.g. 16,112,199";
    let numbers: Result<Vec<usize>, _> = text.split(',').map(|part| part.trim().parse()).collect();
    let size: [usize; 3] = numbers
        .ok()
        .and_then(|numbers| numbers.try_into().ok())
        .ok_or_else(|| wanted.to_owned())?;
    let [frames, sides @ ..] = size;
    if !(1..=MAX_FRAMES).contains(&frames) {
        return Err(format!("must have 1 to {MAX_FRAMES} frames"));
    }
    if sides.iter().any(|side| !(MIN_SIDE..=MAX_SIDE).contains(side)) {
        return Err(format!("must have {MIN_SIDE} to {MAX_SIDE} rows and columns"));
    }
    Ok(size)
}
