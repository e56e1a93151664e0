//! Which part of a clip the network sees, and at what size.

use clap::Args;
use serde::{Deserialize, Serialize};

use crate::data::sampling::WindowSpec;
use crate::options::{self, option_defaults};

/// Longest clip, and smallest and largest frame side: four halvings must leave a pixel, and beyond
/// the upper bounds a number is a typing error.
pub(crate) const MAX_FRAMES: usize = 512;
pub(crate) const MIN_SIDE: usize = 16;
pub(crate) const MAX_SIDE: usize = 4096;

/// Window, frame rate, frame size and number of views.
#[derive(Debug, Clone, PartialEq, Args, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
#[command(next_help_heading = "Clips")]
pub struct ClipConfig {
    /// Frames per clip in the network, T
    #[arg(long, value_name = "N")]
    #[arg(value_parser = options::between(1, MAX_FRAMES), default_value_t = 16)]
    pub frames_per_clip: usize,
    /// Rate at which the window is sampled, frames per second
    #[arg(long, value_name = "FPS", value_parser = options::positive, default_value = "15")]
    pub target_fps: f64,
    /// First frame of the window
    #[arg(long, value_name = "N")]
    #[arg(value_parser = options::whole, default_value_t = 67)]
    pub start_frame: usize,
    /// Last frame of the window, inclusive
    #[arg(long, value_name = "N")]
    #[arg(value_parser = options::whole, default_value_t = 82)]
    pub end_frame: usize,
    /// Frame height in the network, pixels
    #[arg(long, value_name = "PX")]
    #[arg(value_parser = options::between(MIN_SIDE, MAX_SIDE), default_value_t = 224)]
    pub img_height: usize,
    /// Frame width in the network, pixels
    #[arg(long, value_name = "PX")]
    #[arg(value_parser = options::between(MIN_SIDE, MAX_SIDE), default_value_t = 398)]
    pub img_width: usize,
    /// Most views per action [default: all]
    #[arg(long, value_name = "N", value_parser = options::at_least(1))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_views: Option<usize>,
    /// Train each batch at one of three frame sizes: 1, 7/8 and 3/4 of the full one
    #[arg(long)]
    pub multi_scale: bool,
}

option_defaults!(ClipConfig);

impl ClipConfig {
    /// Which frames of a clip are used.
    pub fn window(&self) -> WindowSpec {
        WindowSpec {
            start_frame: self.start_frame,
            end_frame: self.end_frame,
            target_fps: self.target_fps,
            frames_per_clip: self.frames_per_clip,
        }
    }

    /// `[H, W]` of a frame in the network.
    pub fn frame_size(&self) -> [usize; 2] {
        [self.img_height, self.img_width]
    }

    /// `[T, H, W]` of a clip in the network.
    pub fn size(&self) -> [usize; 3] {
        [self.frames_per_clip, self.img_height, self.img_width]
    }
}
