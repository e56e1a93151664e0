//! Window options of commands that sample clips as a run does but take no configuration.

use clap::Args;

use crate::config::{ClipConfig, MAX_FRAMES, WindowChoice};
use crate::options::{between, positive};

/// Command-line options.
#[derive(Debug, Args)]
pub(super) struct SampledWindow {
    #[command(flatten)]
    window: WindowChoice,
    /// Rate at which the window is sampled, frames per second
    #[arg(long, value_name = "FPS", value_parser = positive)]
    #[arg(default_value_t = ClipConfig::default().target_fps)]
    target_fps: f64,
    /// Frames sampled from each clip
    #[arg(long, value_name = "N", value_parser = between(1, MAX_FRAMES))]
    #[arg(default_value_t = ClipConfig::default().frames_per_clip)]
    frames_per_clip: usize,
}

impl SampledWindow {
    /// Returns the default clip configuration with these options.
    pub(super) fn clips(&self) -> ClipConfig {
        ClipConfig {
            window: self.window,
            target_fps: self.target_fps,
            frames_per_clip: self.frames_per_clip,
            ..ClipConfig::default()
        }
    }
}
