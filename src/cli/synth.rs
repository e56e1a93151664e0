//! `polyview synth`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::quoted::quoted;
use super::{CommandResult, Failure, Terminal, print_text};
use crate::config::load_schema;
use crate::data::Window;
use crate::options::{between, seed, within};
use crate::synth::{self, SynthError, SynthLayout, SynthOptions};
use crate::units::{ByteSize, plural};

/// Upper limit of counts, far above any use.
const MAX_COUNT: usize = 1 << 20;

/// Command-line options.
#[derive(Debug, Args)]
pub(super) struct SynthArgs {
    /// Folder to write to; must be empty or absent
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Actions in the training split
    #[arg(long, value_name = "N", value_parser = between(1, MAX_COUNT))]
    #[arg(default_value_t = SynthOptions::default().actions)]
    actions: usize,
    /// Actions in validation and in test [default: a quarter of the training split's]
    #[arg(long, value_name = "N", value_parser = between(1, MAX_COUNT))]
    held_out: Option<usize>,
    /// Views per action
    #[arg(long, value_name = "N", value_parser = between(1, 64))]
    #[arg(default_value_t = SynthOptions::default().views)]
    views: usize,
    /// Random seed; the same seed gives the same files
    #[arg(long, value_name = "N", value_parser = seed)]
    #[arg(default_value_t = SynthOptions::default().seed)]
    seed: u64,
    /// Frames per clip, at 25 fps
    #[arg(long, value_name = "N", value_parser = between(1, MAX_COUNT))]
    #[arg(default_value_t = SynthOptions::default().frames)]
    frames: usize,
    /// Width of a frame, pixels
    #[arg(long, value_name = "PX", value_parser = between(32, 4096))]
    #[arg(default_value_t = SynthOptions::default().width)]
    width: usize,
    /// Height of a frame, pixels
    #[arg(long, value_name = "PX", value_parser = between(32, 4096))]
    #[arg(default_value_t = SynthOptions::default().height)]
    height: usize,
    /// Noise added to each pixel, up to ± N of 255 levels
    #[arg(long, value_name = "N", value_parser = within::<u8>(1, 255))]
    #[arg(default_value_t = SynthOptions::default().noise)]
    noise: u8,
    /// Class ratio of the first task in the training split, e.g. 8 4 2 1 [default: balanced]
    #[arg(long, value_name = "N", num_args = 1.., value_parser = between(1, MAX_COUNT))]
    ratio: Vec<usize>,
    /// Schema whose tasks the clips show (TOML) [default: SoccerNet-MVFoul]
    #[arg(long, value_name = "FILE")]
    schema: Option<PathBuf>,
}

impl SynthArgs {
    pub(super) fn run(self, terminal: &Terminal) -> CommandResult {
        let schema = load_schema(self.schema.as_deref())?;
        let options = SynthOptions {
            out: self.out,
            actions: self.actions,
            held_out: self.held_out,
            views: self.views,
            seed: self.seed,
            frames: self.frames,
            width: self.width,
            height: self.height,
            noise: self.noise,
            ratio: self.ratio,
            layout: SynthLayout::of(&schema),
        };
        // The built-in schema's splits were not the user's choice, so they are not worth a warning.
        let own = schema.splits.iter().filter(|_| self.schema.is_some());
        for split in own.filter(|split| !synth::SPLITS.contains(&&*split.name)) {
            let written = synth::SPLITS.join(", ");
            log::warn!("the schema's split {} is not written; synth writes {written}", split.name);
        }
        let bar = terminal.counter("clips");
        let written = synth::write(&options, &synth::tasks_of(&schema), |done, of| {
            bar.set_length(of as u64);
            bar.set_position(done as u64);
        });
        bar.finish_and_clear();
        let summary = written.map_err(|error| match error {
            SynthError::Options(_) => Failure::usage(error),
            _ => Failure::runtime(error),
        })?;
        let splits: Vec<String> =
            summary.splits.iter().map(|(name, actions)| format!("{name} {actions}")).collect();
        let schema_option = match &self.schema {
            Some(path) => format!(" --schema {}", quoted(path)),
            None => String::new(),
        };
        let window = match reaches(schema.default_window(), options.frames) {
            true => "",
            false => " --window center",
        };
        print_text(&format!(
            "{}: {}, {} ({} actions)\ntry: polyview train --dataset-root {}{schema_option} \
             --backbone-name r3d_tiny --img-height 48 --img-width 64 --target-fps {}{window} \
             --no-gradual-finetuning --disable-augmentation",
            summary.root.display(),
            plural(summary.clips, "clip"),
            ByteSize(summary.bytes),
            splits.join(", "),
            quoted(&options.out),
            synth::FPS
        ))?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Returns whether clips of `frames` frames reach to the end of a window.
fn reaches(window: Window, frames: usize) -> bool {
    match window {
        Window::Frames { end, .. } => end < frames,
        Window::Seconds { end, .. } => end * f64::from(synth::FPS) < frames as f64,
        Window::Center | Window::Dense | Window::Segments | Window::Whole => true,
    }
}
