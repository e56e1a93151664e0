//! Options of `evaluate`, `predict` and `serve` for averaging several predictions of an action.

use clap::Args;

use super::Failure;
use crate::data::Window;
use crate::evaluate::Averaging;
use crate::options::{OptionError, between};

/// Command-line options.
#[derive(Debug, Args)]
#[command(next_help_heading = "Average of several predictions for each action")]
pub(super) struct AveragingArgs {
    /// Windows, evenly spread over each clip; more than one needs --window dense or segments
    #[arg(long, value_name = "N", value_parser = between(1, 1000), default_value_t = 1)]
    test_clips: usize,
    /// 1: the middle of each frame; 3: also both ends of the axis that is longer than the input's
    #[arg(long, value_name = "1|3", value_parser = crops, default_value_t = 1)]
    test_crops: usize,
    /// Also predict each clip flipped horizontally
    #[arg(long)]
    flip_test: bool,
}

fn crops(text: &str) -> Result<usize, &'static str> {
    match text {
        "1" => Ok(1),
        "3" => Ok(3),
        _ => Err("must be 1 or 3"),
    }
}

impl AveragingArgs {
    /// Returns the averaging for clips that are sampled from `window`.
    pub(super) fn averaging(&self, window: Window) -> Result<Averaging, Failure> {
        let clips = self.test_clips;
        if clips > 1 && !window.varies() {
            let reason = format!(
                "the window {window} has a fixed position in the clip: use --window dense or segments, \
                 which can be placed anywhere in it"
            );
            return Err(OptionError::new("test-clips", clips, reason).into());
        }
        Ok(Averaging { clips, three_crops: self.test_crops == 3, flip: self.flip_test })
    }
}
