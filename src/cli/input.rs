//! Options that change which part of a clip a trained network sees, and at what size.

use std::fmt::Display;

use clap::Args;

use super::Failure;
use crate::config::WindowChoice;
use crate::config::clips::{MAX_FRAMES, MAX_SIDE, MIN_SIDE};
use crate::data::{InputSpec, Window};
use crate::options;

/// Command-line options; those not given are taken from the checkpoint.
#[derive(Debug, Args)]
#[command(next_help_heading = "Clips, in place of what the checkpoint was trained on")]
pub(super) struct InputArgs {
    /// Frames per clip in the network
    #[arg(long, value_name = "N", value_parser = options::between(1, MAX_FRAMES))]
    frames_per_clip: Option<usize>,
    /// Rate at which the window is sampled, frames per second
    #[arg(long, value_name = "FPS", value_parser = options::positive)]
    target_fps: Option<f64>,
    #[command(flatten)]
    window: WindowChoice,
    /// Frame height in the network, pixels
    #[arg(long, value_name = "PX", value_parser = options::between(MIN_SIDE, MAX_SIDE))]
    img_height: Option<usize>,
    /// Frame width in the network, pixels
    #[arg(long, value_name = "PX", value_parser = options::between(MIN_SIDE, MAX_SIDE))]
    img_width: Option<usize>,
    /// Maximum views per action
    #[arg(long, value_name = "N", value_parser = options::at_least(1))]
    max_views: Option<usize>,
}

impl InputArgs {
    /// Returns the checkpoint's input with the given options in place of its values, and logs each
    /// change.
    pub(super) fn over(&self, mut input: InputSpec) -> Result<InputSpec, Failure> {
        let window = &mut input.window;
        replace("frames-per-clip", self.frames_per_clip, &mut window.frames_per_clip);
        replace("target-fps", self.target_fps, &mut window.target_fps);
        self.replace_window(&mut window.window)?;
        replace("img-height", self.img_height, &mut input.size[0]);
        replace("img-width", self.img_width, &mut input.size[1]);
        if let Some(most) = self.max_views
            && input.max_views != Some(most)
        {
            match input.max_views {
                Some(trained) => announce("max-views", most, trained),
                None => log::info!("--max-views {most}: the checkpoint was trained with all views"),
            }
            input.max_views = Some(most);
        }
        Ok(input)
    }

    fn replace_window(&self, window: &mut Window) -> Result<(), Failure> {
        let typed = self.window.over(*window)?;
        match (*window, typed) {
            (Window::Frames { mut start, mut end }, Window::Frames { start: first, end: last })
                if self.window.window.is_none() =>
            {
                replace("start-frame", Some(first), &mut start);
                replace("end-frame", Some(last), &mut end);
            }
            (mut trained, typed) => replace("window", Some(typed), &mut trained),
        }
        *window = typed;
        Ok(())
    }
}

fn replace<T: PartialEq + Copy + Display>(option: &str, typed: Option<T>, trained: &mut T) {
    if let Some(typed) = typed.filter(|typed| typed != trained) {
        announce(option, typed, *trained);
        *trained = typed;
    }
}

fn announce(option: &str, typed: impl Display, trained: impl Display) {
    log::info!("--{option} {typed} instead of the checkpoint's {trained}");
}
