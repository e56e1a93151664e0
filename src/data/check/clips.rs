//! Checks the clips of a split, individually and in comparison with each other.

use std::fmt;

use indexmap::IndexMap;
use serde::Serialize;

use super::super::clip::{ClipInfo, made_upright};
use super::super::problem::{Level, Problem, ProblemKind};
use super::super::sampling::{WindowPick, WindowSpec};
use super::super::window::Window;
use super::{Clip, Job, SplitReport};
use crate::units::plural;

/// The number of clips of one format.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FormatCount {
    /// Width of the upright frames in pixels.
    pub width: usize,
    /// Height of the upright frames in pixels.
    pub height: usize,
    /// Frames per second, in steps of 0.001.
    pub fps: f64,
    /// Degrees clockwise by which frames are rotated to be upright.
    pub rotation: u32,
    /// Whether frames are mirrored top to bottom before the rotation.
    pub mirrored: bool,
    /// Width and height of a pixel, in lowest terms.
    pub pixel_aspect: [u32; 2],
    /// Number of clips.
    pub clips: usize,
}

impl fmt::Display for FormatCount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}×{} at {} frames per second", self.width, self.height, self.fps)?;
        if let Some(how) = made_upright(self.rotation, self.mirrored) {
            write!(f, ", {how}")?;
        }
        if self.pixel_aspect != SQUARE {
            write!(f, ", pixels {}", ratio(self.pixel_aspect))?;
        }
        Ok(())
    }
}

/// Clips whose window has fewer frames at the target rate than are sampled from it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Repeats {
    /// Number of such clips.
    pub clips: usize,
    /// Smallest number of distinct frames that are sampled from one of these clips.
    pub fewest: usize,
    /// Largest number of distinct frames that are sampled from one of these clips.
    pub most: usize,
    /// Number of frames sampled from each clip.
    pub wanted: usize,
    /// Smallest number of frames in the window over these clips.
    pub window: usize,
    /// A target rate at which no frame would repeat; `None` if the window itself is too small.
    pub target_fps: Option<f64>,
}

const SQUARE: [u32; 2] = [1, 1];

/// Views of one action are reported if the length of the shortest divided by that of the longest is
/// below this. Clips that are cut by hand differ by a few frames.
const SIMILAR: f64 = 0.8;
/// Maximum number of lengths that a message names.
const LENGTHS: usize = 6;

/// Adds everything that concerns clips to a report.
pub(super) fn check(report: &mut SplitReport, window: &WindowSpec, clips: &[Clip]) {
    report.clips = ["all", "ok", "short", "odd"].map(|key| (key.to_owned(), 0)).into();
    let readable: Vec<(&Job, &ClipInfo)> =
        clips.iter().filter_map(|(job, outcome)| Some((job, outcome.as_ref().ok()?))).collect();
    let usual = majority(readable.iter().map(|(_, info)| *info));
    let mut repeats = Vec::new();
    for (job, outcome) in clips {
        one(report, window, usual, job, outcome);
        if let Ok(info) = outcome {
            let pick = window.window_indices(info);
            if pick.distinct < window.frames_per_clip && !pick.past_end {
                repeats.push((pick.distinct, length(&pick), info.fps));
            }
        }
    }
    report.formats = formats(readable.iter().map(|(_, info)| *info));
    report.repeats = repeats.iter().map(|(distinct, ..)| *distinct).min().map(|fewest| {
        let frames = repeats.iter().map(|(_, frames, _)| *frames).fold(usize::MAX, usize::min);
        let fastest = repeats.iter().map(|(.., fps)| *fps).fold(0.0, f64::max);
        let by_rate = window.window.has_rate() && frames >= window.frames_per_clip;
        Repeats {
            clips: repeats.len(),
            fewest,
            most: repeats.iter().map(|(distinct, ..)| *distinct).max().unwrap_or(fewest),
            wanted: window.frames_per_clip,
            window: frames,
            target_fps: by_rate.then_some(fastest),
        }
    });
    let used: Vec<_> = readable.into_iter().filter(|(job, _)| job.used).collect();
    lengths(report, &used);
    mixtures(report, &used);
}

/// Returns the number of frames from the first to the last one of a window.
fn length(pick: &WindowPick) -> usize {
    let [start, end] = pick.window;
    end.saturating_sub(start).saturating_add(1)
}

/// Counts a single clip and adds its problems.
fn one(
    report: &mut SplitReport,
    window: &WindowSpec,
    usual: Option<Format>,
    job: &Job,
    outcome: &Result<ClipInfo, super::ClipError>,
) {
    let problems = &mut report.problems;
    let mut add = |kind, message: String| {
        let file = job.path.display().to_string();
        let problem = Problem::of_clip(kind, &job.action, file, message);
        // The clip of an action that is left out is not needed.
        let level = if job.used { problem.level } else { Level::Warning };
        problems.push(Problem { level, ..problem });
    };
    let mut count = |key: &str| *report.clips.entry(key.to_owned()).or_insert(0) += 1;
    count("all");
    let info = match outcome {
        Ok(info) => info,
        Err(error) => {
            count(error.kind());
            return add(ProblemKind::from(error), error.to_string());
        }
    };
    count("ok");
    if let Some(complaint) = &info.complaint {
        let message = format!("some frames may be missing or broken: {complaint}");
        add(ProblemKind::ClipConcealed, message);
    }
    let pick = window.window_indices(info);
    if pick.past_end {
        count("short");
        let [start, end] = pick.window;
        let message = format!(
            "the window of frames {start} to {end} goes past its {} frames; the last one is \
             repeated",
            info.frames
        );
        add(ProblemKind::ClipShort, message);
    }
    if matches!(window.window, Window::Seconds { .. }) && info.drift * info.fps > 1.0 {
        let message =
            format!("frames are up to {:.2} s away from their times at the mean rate", info.drift);
        add(ProblemKind::UnevenTimes, message);
    }
    if let Some(usual) = usual.filter(|usual| *usual != Format::of(info)) {
        count("odd");
        let message = format!("{}, most clips of the split: {usual}", Format::of(info));
        add(ProblemKind::ClipOdd, message);
    }
}

/// Reports actions whose views differ in length.
fn lengths(report: &mut SplitReport, clips: &[(&Job, &ClipInfo)]) {
    let mut actions: IndexMap<&str, Vec<&ClipInfo>> = IndexMap::new();
    for (job, info) in clips {
        actions.entry(&job.action).or_default().push(info);
    }
    let differ = |views: &[&ClipInfo], length: fn(&ClipInfo) -> f64| {
        let lengths = || views.iter().map(|info| length(info)).filter(|length| length.is_finite());
        let (least, most) = (lengths().fold(f64::MAX, f64::min), lengths().fold(0.0, f64::max));
        least < SIMILAR * most
    };
    for (action, views) in actions {
        if differ(&views, |info| info.frames as f64) || differ(&views, seconds) {
            let length = |info: &&ClipInfo| format!("{} ({:.2} s)", info.frames, seconds(info));
            let mut text = views.iter().take(LENGTHS).map(length).collect::<Vec<_>>().join(", ");
            if views.len() > LENGTHS {
                text += " …";
            }
            let message = format!("its views have {text} frames");
            report.problems.push(Problem::of_action(ProblemKind::ViewLengths, action, message));
        }
    }
}

fn seconds(info: &ClipInfo) -> f64 {
    info.frames as f64 / info.fps
}

/// Reports differences between the clips of a split that are counted rather than listed.
fn mixtures(report: &mut SplitReport, clips: &[(&Job, &ClipInfo)]) {
    let mut add = |kind, message| report.problems.push(Problem::of_split(kind, message));
    let turn = |info: &ClipInfo| (info.rotation, info.mirrored);
    let rotations = counts(clips.iter().map(|(_, info)| turn(info)));
    if rotations.len() > 1 {
        let text = |((angle, mirrored), count): &((u32, bool), usize)| {
            let clips = plural(*count, "clip");
            match made_upright(*angle, *mirrored) {
                None => format!("{clips} not turned"),
                Some(how) => format!("{clips} {how}, as the metadata says"),
            }
        };
        let message = rotations.iter().map(text).collect::<Vec<_>>().join(", ");
        let mixed = mixed_actions(clips, turn);
        add(ProblemKind::MixedRotation, message + &mixed);
    }
    let tall = |info: &ClipInfo| info.width.cmp(&info.height);
    let shapes = counts(clips.iter().map(|(_, info)| tall(info)).filter(|shape| shape.is_ne()));
    if let [(shape, most), (_, fewer)] = shapes[..] {
        let (wide, high) = if shape.is_gt() { (most, fewer) } else { (fewer, most) };
        let message = format!(
            "{} taller than wide, {} wider than tall",
            plural(high, "clip"),
            plural(wide, "clip")
        );
        add(ProblemKind::MixedOrientation, message + &mixed_actions(clips, tall));
    }
    let aspects = counts(clips.iter().map(|(_, info)| info.pixel_aspect));
    if aspects.len() > 1 {
        let text = |(aspect, count): &([u32; 2], usize)| match *aspect {
            SQUARE => format!("{} with square pixels", plural(*count, "clip")),
            aspect => format!("{} with pixels of {}", plural(*count, "clip"), ratio(aspect)),
        };
        add(ProblemKind::MixedPixelAspect, aspects.iter().map(text).collect::<Vec<_>>().join(", "));
    }
}

/// Returns "; in 2 actions the views differ", or an empty string.
fn mixed_actions<T: PartialEq>(
    clips: &[(&Job, &ClipInfo)],
    value: impl Fn(&ClipInfo) -> T,
) -> String {
    let mut actions: IndexMap<&str, (T, bool)> = IndexMap::new();
    for (job, info) in clips {
        let found = value(info);
        match actions.get_mut(job.action.as_str()) {
            Some((first, mixed)) => *mixed |= found != *first,
            None => drop(actions.insert(&job.action, (found, false))),
        }
    }
    match actions.values().filter(|(_, mixed)| *mixed).count() {
        0 => String::new(),
        mixed => format!("; in {} the views differ", plural(mixed, "action")),
    }
}

fn ratio([width, height]: [u32; 2]) -> String {
    format!("{width}:{height}")
}

/// Counts values, sorted by descending count and then by first occurrence.
fn counts<T: std::hash::Hash + Eq>(values: impl Iterator<Item = T>) -> Vec<(T, usize)> {
    let mut counts: IndexMap<T, usize> = IndexMap::new();
    for value in values {
        *counts.entry(value).or_insert(0) += 1;
    }
    counts.sort_by(|_, a, _, b| b.cmp(a));
    counts.into_iter().collect()
}

/// Size and frame rate of a clip.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Format {
    width: usize,
    height: usize,
    /// Frames per 1000 seconds, an integer so that formats can be compared and counted.
    milli_fps: u64,
}

impl Format {
    fn of(info: &ClipInfo) -> Self {
        let milli_fps = (info.fps * 1000.0).round() as u64;
        Self { width: info.width, height: info.height, milli_fps }
    }

    fn fps(self) -> f64 {
        self.milli_fps as f64 / 1000.0
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}×{} at {} frames per second", self.width, self.height, self.fps())
    }
}

/// Returns the format of more than half of the clips, if there is one.
fn majority<'a>(infos: impl Iterator<Item = &'a ClipInfo>) -> Option<Format> {
    let counts = counts(infos.map(Format::of));
    let all: usize = counts.iter().map(|(_, count)| count).sum();
    counts.first().filter(|(_, count)| 2 * count > all).map(|(format, _)| *format)
}

fn formats<'a>(infos: impl Iterator<Item = &'a ClipInfo>) -> Vec<FormatCount> {
    let keys =
        infos.map(|info| (Format::of(info), info.rotation, info.mirrored, info.pixel_aspect));
    let count = |((format, rotation, mirrored, pixel_aspect), clips)| {
        let Format { width, height, .. } = format;
        FormatCount { width, height, fps: format.fps(), rotation, mirrored, pixel_aspect, clips }
    };
    counts(keys).into_iter().map(count).collect()
}
