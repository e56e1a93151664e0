//! `--tune`: the fastest variant of each convolution on a device, timed once and kept in a file for
//! every run on that device with the same kernels. A choice applies to its device only.
//!
//! The variants differ in the sizes of their tiles and in how long sums are split, so results of
//! different variants differ in the last bits; a variant that is read from the file gives the same
//! bits again.

mod remembered;

use std::fmt;
use std::path::{Path, PathBuf};

use burn::tensor::{DType, Device, ExecutionError};
use serde::Serialize;

use crate::conv::{ConvPass, ConvShape, checked_limits, choose, fastest};
use crate::device::Compute;
use crate::kernels::Implementation;
use crate::model::{Backbone, STAGES, StageSet};
use remembered::{Entry, Kind, Remembered};

/// A pass of a convolution in training.
pub type TuningPass = (ConvPass, ConvShape);

/// Number of passes that are timed between two writes of the file, so that an interrupted run loses
/// few.
const WRITTEN_EVERY: usize = 16;

/// The result of tuning.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Tuned {
    /// Number of passes that were timed.
    pub tried: usize,
    /// Number of passes whose fastest variant was in the file.
    pub remembered: usize,
    /// Number of passes that use a variant other than the one that the device's limits suggest.
    pub changed: usize,
    /// Time of all passes in the suggested variants divided by their time in the chosen ones.
    pub gain: f64,
    /// File in which the choices are stored.
    pub file: Option<PathBuf>,
}

impl fmt::Display for Tuned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { tried, remembered, changed, gain, file } = self;
        write!(
            f,
            "{tried} passes timed, {remembered} known from earlier runs; {changed} use a variant \
             other than the device's limits suggest; all passes together {gain:.2} times as fast"
        )?;
        match file {
            Some(file) => write!(f, "; stored in {}", file.display()),
            None => Ok(()),
        }
    }
}

/// Returns the passes of training the stages of `trainable` with clips `[N, 3, T, H, W]`, each
/// once; `None` if the clips are too small.
pub fn jobs(
    backbone: &Backbone,
    clips: [usize; 5],
    trainable: StageSet,
) -> Option<Vec<TuningPass>> {
    let lowest = (0..STAGES.len()).find(|&stage| trainable.contains(stage));
    let mut jobs = Vec::new();
    let mut add = |job: TuningPass| {
        if !jobs.contains(&job) {
            jobs.push(job);
        }
    };
    let mut is_first = true;
    for part in backbone.convolutions_by_part(clips)? {
        let trained = lowest.is_some_and(|lowest| part.stage >= lowest);
        for shape in part.convolutions {
            add((ConvPass::Forward, shape));
            if trained {
                // The gradient of the lowest trained stage's input is not needed.
                if !std::mem::take(&mut is_first) {
                    add((ConvPass::InputGradient, shape));
                }
                add((ConvPass::WeightGradient, shape));
            }
        }
    }
    Some(jobs)
}

/// Returns the default folder for the file: the user's cache folder.
pub fn folder() -> Option<PathBuf> {
    Some(dirs::cache_dir()?.join("polyview").join("tuned"))
}

/// Finds the fastest variant for each job, in the file in `folder` or by timing all of them with
/// activations in half precision or in f32. The device uses it from then on, until a run opens the
/// device ([`crate::train::run`]), whose results depend on its own options. `proceed` is called
/// after each job and returns whether to continue with the next one. `None` if the device has no
/// variants (CPU, CUDA).
///
/// # Errors
/// If the device fails. A file that cannot be read or written only causes a warning.
pub fn tune(
    compute: &Compute,
    jobs: &[TuningPass],
    half: bool,
    folder: Option<&Path>,
    mut proceed: impl FnMut() -> bool,
) -> Result<Option<Tuned>, ExecutionError> {
    let device = &compute.device;
    let Implementation::Wgsl(_) = Implementation::of(device) else { return Ok(None) };
    let units = checked_limits(device, dtype(half)).and_then(|limits| limits.matrix_units);
    let kind = Kind { half, units: units.map(|units| units.size) };
    let mut known = Remembered::open(folder, &compute.info);
    let mut tuned = Tuned { tried: 0, remembered: 0, changed: 0, gain: 1.0, file: None };
    let (mut usual_ms, mut ms) = (0.0, 0.0);
    for &job in jobs {
        let mut entry = take_known(device, &known, job, kind);
        if entry.is_some() {
            tuned.remembered += 1;
        } else if let Some(timed) = try_all(device, job, kind)? {
            known.add(timed);
            tuned.tried += 1;
            if tuned.tried.is_multiple_of(WRITTEN_EVERY) {
                known.write();
            }
            entry = Some(timed);
        }
        if let Some(Entry { ms: chosen, usual_ms: usual, .. }) = entry {
            tuned.changed += usize::from(chosen < usual);
            (usual_ms, ms) = (usual_ms + usual, ms + chosen);
        }
        if !proceed() {
            break;
        }
    }
    if !tuned.tried.is_multiple_of(WRITTEN_EVERY) {
        known.write();
    }
    if ms > 0.0 {
        tuned.gain = usual_ms / ms;
    }
    tuned.file = known.file().map(Path::to_owned);
    Ok(Some(tuned))
}

/// Uses the file's choice for a job, if the device offers that variant.
fn take_known(device: &Device, known: &Remembered, job: TuningPass, kind: Kind) -> Option<Entry> {
    let (entry, (pass, shape)) = (known.find(&job, kind)?, job);
    choose(device, pass, &shape, dtype(kind.half), entry.choice).then_some(*entry)
}

/// Times every variant of a job and chooses the fastest; `None` if there is only one.
fn try_all(device: &Device, job: TuningPass, kind: Kind) -> Result<Option<Entry>, ExecutionError> {
    let (pass, shape) = job;
    let trial = fastest(device, pass, &shape, dtype(kind.half))?;
    Ok(trial.map(|trial| {
        choose(device, pass, &shape, dtype(kind.half), trial.choice);
        Entry::new(job, kind, trial)
    }))
}

fn dtype(half: bool) -> DType {
    if half { DType::F16 } else { DType::F32 }
}
