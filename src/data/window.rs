//! The window: the stretch of a clip from which frames are sampled.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A stretch of a clip, given by its ends or by a rule. `T` stands for the frames per clip, `fps`
/// for the target rate.
///
/// If its position is not fixed ([`Window::varies`]), training draws a position in each epoch, and
/// testing uses the middle or several evenly spaced positions ([`Place`](super::Place)).
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Window {
    /// `67..82`: from one frame of the clip to another, both inclusive, counted from 0.
    Frames {
        /// First frame.
        start: usize,
        /// Last frame, inclusive.
        end: usize,
    },
    /// `2.5s..3.3s`: the same in seconds from the clip's first frame.
    Seconds {
        /// Time of the first frame.
        start: f64,
        /// Time of the last frame, inclusive.
        end: f64,
    },
    /// `center`: T consecutive frames at `fps` around the clip's middle.
    Center,
    /// `dense`: T consecutive frames at `fps` from anywhere in the clip. MMAction2's `SampleFrames` with
    /// one clip; torchvision's `RandomClipSampler` and `UniformClipSampler`.
    Dense,
    /// `segments`: one frame of each of T equal parts of the clip (Wang et al. 2016, "Temporal Segment
    /// Networks"). MMAction2's `UniformSample`.
    Segments,
    /// `whole`: T evenly spaced frames, including the clip's first and last one.
    Whole,
}

/// Describes the accepted values in error messages.
const KNOWN: &str = "must be START..END in frames (67..82) or seconds (2.5s..3.3s), center, dense, segments or whole";

impl Window {
    /// Returns whether the window can lie at different positions in a clip.
    pub fn varies(self) -> bool {
        matches!(self, Self::Dense | Self::Segments)
    }

    /// Returns whether the target rate affects which frames are sampled.
    pub(super) fn has_rate(self) -> bool {
        !matches!(self, Self::Segments | Self::Whole)
    }
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Frames { start, end } => write!(f, "{start}..{end}"),
            Self::Seconds { start, end } => write!(f, "{start}s..{end}s"),
            Self::Center => f.pad("center"),
            Self::Dense => f.pad("dense"),
            Self::Segments => f.pad("segments"),
            Self::Whole => f.pad("whole"),
        }
    }
}

impl FromStr for Window {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "center" => return Ok(Self::Center),
            "dense" => return Ok(Self::Dense),
            "segments" => return Ok(Self::Segments),
            "whole" => return Ok(Self::Whole),
            "random" => {
                let why = "is called dense (consecutive frames) or segments (one of each part)";
                return Err(why.to_owned());
            }
            "uniform" => return Err("is called segments (one frame of each part)".to_owned()),
            _ => {}
        }
        let Some((start, end)) = text.split_once("..") else {
            return Err(KNOWN.to_owned());
        };
        let window = match (start.strip_suffix('s'), end.strip_suffix('s')) {
            (None, None) => {
                let (start, end) = (frame(start)?, frame(end)?);
                (start <= end).then_some(Self::Frames { start, end })
            }
            (Some(start), Some(end)) => {
                let (start, end) = (seconds(start)?, seconds(end)?);
                (start <= end).then_some(Self::Seconds { start, end })
            }
            _ => return Err("must have both ends in frames, or both in seconds".to_owned()),
        };
        window.ok_or_else(|| "must not end before it starts".to_owned())
    }
}

fn frame(text: &str) -> Result<usize, String> {
    // TOML's integers are limited to i64, and a frame number has no sign.
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let number = text.parse::<i64>().ok().filter(|_| digits);
    number.and_then(|number| usize::try_from(number).ok()).ok_or_else(|| KNOWN.to_owned())
}

fn seconds(text: &str) -> Result<f64, String> {
    let number = text.parse().ok().filter(|number: &f64| number.is_finite() && *number >= 0.0);
    number.ok_or_else(|| KNOWN.to_owned())
}

impl Serialize for Window {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Window {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(|reason| de::Error::custom(format!("`{text}` {reason}")))
    }
}
