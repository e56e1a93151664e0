//! Options for the part of a clip that is sampled.

use clap::Args;
use serde::{Deserialize, Serialize};

use crate::data::Window;
use crate::options::{self, OptionError};

/// `--window`, or its ends as `--start-frame` and `--end-frame`. What is not given is taken from the
/// data set's window.
#[derive(Debug, Clone, Copy, Default, PartialEq, Args, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct WindowChoice {
    /// Part of a clip: START..END in frames (67..82) or seconds (2.5s..3.3s), center, dense, segments
    /// or whole [default: the schema's, else dense]
    #[arg(long, value_name = "W")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub window: Option<Window>,
    /// First frame of the window
    #[arg(long, value_name = "N", value_parser = options::whole)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start_frame: Option<usize>,
    /// Last frame of the window, inclusive
    #[arg(long, value_name = "N", value_parser = options::whole)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub end_frame: Option<usize>,
}

impl From<Window> for WindowChoice {
    fn from(window: Window) -> Self {
        Self { window: Some(window), ..Self::default() }
    }
}

impl WindowChoice {
    /// Returns the window that is given, or `usual`. Either end may be given alone.
    ///
    /// # Errors
    /// Options that contradict each other, and one end alone if `usual` does not have the other one.
    pub fn over(&self, usual: Window) -> Result<Window, OptionError> {
        let ends = [("start-frame", self.start_frame), ("end-frame", self.end_frame)];
        if let Some(window) = self.window {
            let known = match window {
                Window::Frames { start, end } => [Some(start), Some(end)],
                _ => [None, None],
            };
            for ((option, given), known) in ends.into_iter().zip(known) {
                if let Some(given) = given.filter(|given| known != Some(*given)) {
                    let reason = format!("contradicts --window {window}: leave one of the two out");
                    return Err(OptionError::new(option, given, reason));
                }
            }
            return Ok(window);
        }
        let (start, end) = match (self.start_frame, self.end_frame, usual) {
            (None, None, usual) => return Ok(usual),
            (Some(start), Some(end), _) => (start, end),
            (start, end, Window::Frames { start: usual_start, end: usual_end }) => {
                (start.unwrap_or(usual_start), end.unwrap_or(usual_end))
            }
            (Some(start), None, usual) => {
                let reason = format!("needs --end-frame too: the window is {usual} otherwise");
                return Err(OptionError::new("start-frame", start, reason));
            }
            (None, Some(end), usual) => {
                let reason = format!("needs --start-frame too: the window is {usual} otherwise");
                return Err(OptionError::new("end-frame", end, reason));
            }
        };
        if end < start {
            let reason = format!("must not be before --start-frame {start}");
            return Err(OptionError::new("end-frame", end, reason));
        }
        Ok(Window::Frames { start, end })
    }

    /// Refuses options that contradict each other, whatever the data set's window is.
    pub(super) fn check(&self) -> Result<(), OptionError> {
        let both = self.start_frame.is_some() && self.end_frame.is_some();
        if self.window.is_some() || both { self.over(Window::Whole).map(drop) } else { Ok(()) }
    }
}
