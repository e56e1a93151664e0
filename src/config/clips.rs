//! Which part of a clip the network sees, and at what size.

use clap::Args;
use serde::{Deserialize, Serialize};

use super::window::WindowChoice;
use crate::data::sampling::WindowSpec;
use crate::options::{self, OptionError, option_defaults};
use crate::schema::Schema;

/// Maximum length of a clip. Larger numbers are assumed to be typing errors.
pub(crate) const MAX_FRAMES: usize = 512;
/// Minimum side of a frame: four halvings must leave a pixel.
pub(crate) const MIN_SIDE: usize = 16;
/// Maximum side of a frame. Larger numbers are assumed to be typing errors.
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
    /// Part of each clip that is sampled.
    #[command(flatten)]
    #[serde(flatten)]
    pub window: WindowChoice,
    /// Frame height in the network, pixels
    #[arg(long, value_name = "PX")]
    #[arg(value_parser = options::between(MIN_SIDE, MAX_SIDE), default_value_t = 224)]
    pub img_height: usize,
    /// Frame width in the network, pixels
    #[arg(long, value_name = "PX")]
    #[arg(value_parser = options::between(MIN_SIDE, MAX_SIDE), default_value_t = 398)]
    pub img_width: usize,
    /// Maximum views per action [default: all]
    #[arg(long, value_name = "N", value_parser = options::at_least(1))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_views: Option<usize>,
    /// Train each batch at one of three frame sizes: 1, 7/8 and 3/4 of the full one
    #[arg(long)]
    pub multi_scale: bool,
}

option_defaults!(ClipConfig);

impl ClipConfig {
    /// Returns which frames of a clip are used. The window is the schema's unless an option gives it.
    ///
    /// # Errors
    /// Those of [`WindowChoice::over`].
    pub fn window(&self, schema: &Schema) -> Result<WindowSpec, OptionError> {
        let window = self.window.over(schema.default_window())?;
        let &Self { target_fps, frames_per_clip, .. } = self;
        Ok(WindowSpec { window, target_fps, frames_per_clip })
    }

    /// Returns `[H, W]` of a frame in the network.
    pub fn frame_size(&self) -> [usize; 2] {
        [self.img_height, self.img_width]
    }

    /// Returns `[T, H, W]` of a clip in the network.
    pub fn size(&self) -> [usize; 3] {
        [self.frames_per_clip, self.img_height, self.img_width]
    }
}
