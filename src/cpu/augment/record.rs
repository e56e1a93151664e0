//! The augmentation of one clip with every random choice already made: the interface between
//! planning and execution.

use std::fmt::Write as _;

/// Source of one output frame, and the frame that is mixed into it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FrameRecord {
    /// Index of the source frame, from 0. It combines shift, reversal, warp and the repetition of
    /// edge frames.
    pub source: usize,
    /// Whether the frame is black instead. Like all temporal changes, this happens before the
    /// spatial and colour stages: a lower contrast makes the frame grey, and noise is added to it.
    pub dropped: bool,
    /// Index of the output frame (not source frame) that is mixed in.
    pub partner: usize,
    /// Share of the partner, 0 to 1; 0 = not mixed.
    pub mix: f32,
}

/// A rectangle of the source frame, in pixels from the frame's upper left corner.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Crop {
    /// Upper edge.
    pub top: f32,
    /// Left edge.
    pub left: f32,
    /// Height, at least 1.
    pub height: f32,
    /// Width, at least 1.
    pub width: f32,
}

/// A rectangle of the *output* frame that is filled with one value. It is given as fractions of the
/// frame's sides, so that a record fits every output size; edges are rounded to whole pixels.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Cutout {
    /// Upper edge, 0 to 1.
    pub top: f32,
    /// Left edge, 0 to 1.
    pub left: f32,
    /// Height; `top + height` is at most 1.
    pub height: f32,
    /// Width; `left + width` is at most 1.
    pub width: f32,
    /// Value of all channels, 0 to 1, before the colour stage.
    pub fill: f32,
}

impl Cutout {
    /// Returns `[x0, y0, x1, y1]` in pixels of an output of `[h, w]`, ends excluded.
    pub(super) fn pixels(&self, [h, w]: [usize; 2]) -> [usize; 4] {
        let edge = |share: f32, side: usize| {
            ((f64::from(share) * side as f64 + 0.5).floor() as usize).min(side)
        };
        [
            edge(self.left, w),
            edge(self.top, h),
            edge(self.left + self.width, w),
            edge(self.top + self.height, h),
        ]
    }
}

/// One clip's augmentation as plain numbers. [`ClipRecord::identity`] leaves the clip unchanged.
#[derive(Debug, Clone, PartialEq)]
pub struct ClipRecord {
    /// One entry per output frame.
    pub frames: Vec<FrameRecord>,
    /// Part of the source frame that fills the output; `None` = the whole frame.
    pub crop: Option<Crop>,
    /// Rigid rotation about the frame's centre, degrees, counter-clockwise on screen.
    pub rotation: f32,
    /// Whether left and right are exchanged.
    pub flip: bool,
    /// Rectangle that is filled.
    pub cutout: Option<Cutout>,
    /// Factor that every value is multiplied by; the result is clamped to [0, 1].
    pub brightness: f32,
    /// Factor that the distance from 0.5 is multiplied by; the result is clamped to [0, 1].
    pub contrast: f32,
    /// Standard deviation of the noise, in [0, 1] units; the result is clamped to [0, 1].
    pub noise_std: f32,
    /// Key of the noise generator: the same key gives the same noise.
    pub noise_key: u64,
}

/// Why a record is invalid.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum RecordError {
    /// The record has no frames.
    #[error("the record has no frames")]
    NoFrames,
    /// A source frame is outside the clip.
    #[error("output frame {frame} reads source frame {source_frame} of a clip of {frames} frames")]
    Source {
        /// Index of the output frame.
        frame: usize,
        /// Index of its source frame.
        source_frame: usize,
        /// Number of frames in the clip.
        frames: usize,
    },
    /// A mixing partner is outside the output.
    #[error(
        "output frame {frame} is mixed with output frame {partner}, but there are only {frames}"
    )]
    Partner {
        /// Index of the output frame.
        frame: usize,
        /// Index of its partner.
        partner: usize,
        /// Number of output frames.
        frames: usize,
    },
    /// A crop is smaller than one pixel or extends beyond the frame.
    #[error("{crop:?} is smaller than one pixel or extends beyond a frame of {height}x{width}")]
    Crop {
        /// The crop.
        crop: Crop,
        /// Height of the frame.
        height: usize,
        /// Width of the frame.
        width: usize,
    },
    /// A number is outside its range or NaN.
    #[error("{name} is {value}, which is not {range}")]
    Value {
        /// Name of the field.
        name: &'static str,
        /// Its value.
        value: f32,
        /// The allowed range, in words.
        range: &'static str,
    },
}

impl ClipRecord {
    /// Returns the record that only normalises, for clips of `frames` frames.
    pub fn identity(frames: usize) -> Self {
        Self {
            frames: (0..frames)
                .map(|t| FrameRecord { source: t, dropped: false, partner: t, mix: 0.0 })
                .collect(),
            crop: None,
            rotation: 0.0,
            flip: false,
            cutout: None,
            brightness: 1.0,
            contrast: 1.0,
            noise_std: 0.0,
            noise_key: 0,
        }
    }

    /// Checks whether the record can be executed on a clip of `[T, H, W]`. After `Ok`, neither
    /// execution reads outside the clip, and the output is finite.
    pub fn check(&self, [t, h, w]: [usize; 3]) -> Result<(), RecordError> {
        if self.frames.is_empty() {
            return Err(RecordError::NoFrames);
        }
        for (frame, record) in self.frames.iter().enumerate() {
            if record.source >= t {
                let source_frame = record.source;
                return Err(RecordError::Source { frame, source_frame, frames: t });
            }
            if record.partner >= self.frames.len() {
                let (partner, frames) = (record.partner, self.frames.len());
                return Err(RecordError::Partner { frame, partner, frames });
            }
            share("mix", record.mix)?;
        }
        if let Some(crop) = self.crop {
            let fits = |start: f32, length: f32, side: usize| {
                start >= 0.0 && length >= 1.0 && start + length <= side as f32
            };
            if !fits(crop.top, crop.height, h) || !fits(crop.left, crop.width, w) {
                return Err(RecordError::Crop { crop, height: h, width: w });
            }
        }
        if let Some(cutout) = self.cutout {
            share("cutout.top", cutout.top)?;
            share("cutout.left", cutout.left)?;
            share("cutout.height", cutout.height)?;
            share("cutout.width", cutout.width)?;
            share("cutout.fill", cutout.fill)?;
        }
        let within = |name, value: f32, low: f32, high: f32, range| {
            let fine = (low..=high).contains(&value);
            if fine { Ok(()) } else { Err(RecordError::Value { name, value, range }) }
        };
        within("rotation", self.rotation, -360.0, 360.0, "from -360 to 360 degrees")?;
        within("brightness", self.brightness, 0.0, 100.0, "from 0 to 100")?;
        within("contrast", self.contrast, 0.0, 100.0, "from 0 to 100")?;
        within("noise_std", self.noise_std, 0.0, 10.0, "from 0 to 10")
    }

    /// Describes the record for a contact sheet: one line per stage that changes the clip.
    pub fn describe(&self) -> String {
        let mut lines: Vec<String> = Vec::new();
        let sources: Vec<usize> = self.frames.iter().map(|f| f.source).collect();
        if sources.iter().enumerate().any(|(t, source)| t != *source) {
            lines.push(format!("frames {}", runs(&sources)));
        }
        let dropped: Vec<String> = (0..self.frames.len())
            .filter(|t| self.frames[*t].dropped)
            .map(|t| t.to_string())
            .collect();
        if !dropped.is_empty() {
            lines.push(format!("dropped {}", dropped.join(" ")));
        }
        if let Some(crop) = self.crop {
            lines.push(format!(
                "crop {:.0}x{:.0} at {:.0},{:.0}",
                crop.width, crop.height, crop.left, crop.top
            ));
        }
        if self.rotation != 0.0 {
            lines.push(format!("rotation {:+.1} degrees", self.rotation));
        }
        if self.flip {
            lines.push("flipped".to_owned());
        }
        if let Some(cutout) = self.cutout {
            let percent = [cutout.width, cutout.height, cutout.left, cutout.top].map(|s| s * 100.0);
            let [w, h, x, y] = percent;
            lines.push(format!("cutout {w:.0}x{h:.0} % at {x:.0},{y:.0} %"));
        }
        if self.brightness != 1.0 {
            lines.push(format!("brightness x{:.2}", self.brightness));
        }
        if self.contrast != 1.0 {
            lines.push(format!("contrast x{:.2}", self.contrast));
        }
        if self.noise_std != 0.0 {
            lines.push(format!("noise {:.3}", self.noise_std));
        }
        let mixed = self.frames.iter().enumerate().find(|(_, f)| f.mix != 0.0);
        if let Some((t, frame)) = mixed {
            let with = if frame.partner < t { "previous" } else { "next" };
            lines.push(format!("mixed {:.2} with the {with} frame", frame.mix));
        }
        if lines.is_empty() { "unchanged".to_owned() } else { lines.join("\n") }
    }
}

fn share(name: &'static str, value: f32) -> Result<(), RecordError> {
    if (0.0..=1.0).contains(&value) {
        Ok(())
    } else {
        Err(RecordError::Value { name, value, range: "from 0 to 1" })
    }
}

/// Formats frame numbers with runs that count up or down by one abbreviated: `3-7 7 7` for
/// 3 4 5 6 7 7 7.
fn runs(frames: &[usize]) -> String {
    let mut text = String::new();
    let mut first = 0;
    while first < frames.len() {
        let step = |i: usize| frames[i].wrapping_sub(frames[i - 1]);
        let mut last = first;
        while last + 1 < frames.len()
            && (step(last + 1) == 1 || step(last + 1) == usize::MAX)
            && (last == first || step(last + 1) == step(last))
        {
            last += 1;
        }
        let gap = if text.is_empty() { "" } else { " " };
        // Writing to a String cannot fail.
        let _ = match last - first {
            0 => write!(text, "{gap}{}", frames[first]),
            _ => write!(text, "{gap}{}-{}", frames[first], frames[last]),
        };
        first = last + 1;
    }
    text
}
