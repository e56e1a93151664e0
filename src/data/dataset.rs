//! The labelled actions of a split, and reading them as batches of uint8 frames.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use super::annotations::{self, Split};
use super::clip::{ClipError, ClipInfo};
use super::error::DataError;
use super::problem::Level;
use super::resize::Resizer;
use super::sampling::WindowSpec;
use super::video;
use crate::schema::Schema;

/// One action that takes part: its labels and where its views lie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sample {
    /// The annotation's key.
    pub action: String,
    /// Class index per task.
    pub labels: Vec<usize>,
    /// Index of each of the schema's properties, 0 for unknown.
    pub properties: Vec<usize>,
    /// Clip paths, in the annotation's order.
    pub views: Vec<PathBuf>,
}

/// Actions read into memory: N clips of T frames, `[N, T, H, W, 3]` uint8, action by action.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// The actions' keys, B of them.
    pub actions: Vec<String>,
    /// Readable views per action; their sum is N.
    pub view_counts: Vec<usize>,
    /// Which view of its action each clip is, counted as annotated; N numbers.
    pub views: Vec<usize>,
    /// Class index `labels[task][action]`.
    pub labels: Vec<Vec<usize>>,
    /// Index `properties[property][action]` of the schema's properties, 0 for unknown.
    pub properties: Vec<Vec<usize>>,
    /// `N·T·H·W·3` bytes.
    pub frames: Vec<u8>,
    /// `[T, H, W]`.
    pub size: [usize; 3],
}

impl Batch {
    /// Number of clips N.
    pub fn clips(&self) -> usize {
        self.view_counts.iter().sum()
    }

    /// The frames of some clips, numbered as they lie in the batch.
    pub fn frames_of(&self, clips: std::ops::Range<usize>) -> &[u8] {
        let clip = self.size.iter().product::<usize>() * 3;
        &self.frames[clips.start * clip..clips.end * clip]
    }
}

/// A split, ready to be read.
#[derive(Debug)]
pub struct Dataset {
    /// Name of the split.
    pub split: String,
    /// Actions that take part, in the annotation's order.
    pub samples: Vec<Sample>,
    /// What the annotations said, with what was left out and why.
    pub annotations: Split,
    window: WindowSpec,
    /// `[H, W]` of a frame in the network.
    size: [usize; 2],
    unreadable: Mutex<BTreeMap<PathBuf, ClipError>>,
    told_short: AtomicBool,
    told_repeats: AtomicBool,
}

/// Why a split could not be used.
#[derive(Debug, thiserror::Error)]
pub enum DatasetError {
    /// The annotations could not be read.
    #[error(transparent)]
    Annotations(#[from] DataError),
    /// Every action was left out.
    #[error(
        "{}: none of its {left_out} actions can take part (`polyview check-data` tells why)",
        .dir.display()
    )]
    NoActions {
        /// The split's folder.
        dir: PathBuf,
        /// Actions left out.
        left_out: usize,
    },
    /// Too much of the split is unreadable for the rest to stand for it.
    #[error(
        "{split} split: more than 20 % of its {views} views cannot be read: {}",
        list(.errors)
    )]
    TooManyUnreadable {
        /// The split.
        split: String,
        /// Its views.
        views: usize,
        /// The unreadable ones so far.
        errors: Vec<ClipError>,
    },
    /// A decoding thread ended without a result.
    #[error("a decoding thread died; --num-workers 0 shows where")]
    Worker,
}

fn list(errors: &[ClipError]) -> String {
    let lines: Vec<String> = errors.iter().map(|error| format!("\n  {error}")).collect();
    lines.concat()
}

/// Names what is wrong with the annotations, at most so many times.
fn tell_problems(annotations: &Split) {
    const MOST: usize = 10;
    let errors = annotations.problems.iter().filter(|problem| problem.level == Level::Error);
    for problem in errors.clone().take(MOST) {
        log::warn!("{} split: {problem}", annotations.name);
    }
    let rest = errors.count().saturating_sub(MOST);
    if rest > 0 {
        log::warn!("{} split: {rest} more; polyview check-data lists them", annotations.name);
    }
}

/// More than this share of unreadable views ends the run: what remains is another data set.
const MAX_UNREADABLE: f64 = 0.2;

impl Dataset {
    /// Opens a split. `size` is `[H, W]` in the network; `max_views` bounds the views per action
    /// (the first ones are kept).
    pub fn open(
        root: &Path,
        split: &str,
        schema: &Schema,
        window: WindowSpec,
        size: [usize; 2],
        max_views: Option<usize>,
    ) -> Result<Self, DatasetError> {
        let annotations = annotations::load_split(root, split, schema)?;
        let samples: Vec<Sample> = annotations
            .actions
            .iter()
            .filter_map(|action| {
                Some(Sample {
                    action: action.id.clone(),
                    // A split without labels can be predicted; its actions have none.
                    labels: match &action.labels {
                        Some(labels) => labels.clone(),
                        None if !annotations.labelled => Vec::new(),
                        None => return None,
                    },
                    properties: schema.properties.iter().map(|p| p.read(&action.fields)).collect(),
                    views: action
                        .views
                        .iter()
                        .take(max_views.unwrap_or(usize::MAX))
                        .map(|view| annotations.clip(view))
                        .collect(),
                })
            })
            .collect();
        tell_problems(&annotations);
        if samples.is_empty() {
            let left_out = annotations.left_out.len();
            return Err(DatasetError::NoActions { dir: annotations.dir, left_out });
        }
        Ok(Self {
            split: split.to_owned(),
            samples,
            annotations,
            window,
            size,
            unreadable: Mutex::new(BTreeMap::new()),
            told_short: AtomicBool::new(false),
            told_repeats: AtomicBool::new(false),
        })
    }

    /// Actions that no annotation tells of: names with the paths of their clips. They have no
    /// labels.
    pub fn of_clips(
        actions: Vec<(String, Vec<PathBuf>)>,
        window: WindowSpec,
        size: [usize; 2],
    ) -> Self {
        let sample =
            |(action, views)| Sample { action, labels: Vec::new(), properties: Vec::new(), views };
        let name = "given".to_owned();
        Self {
            split: name.clone(),
            samples: actions.into_iter().map(sample).collect(),
            annotations: Split {
                name,
                dir: PathBuf::new(),
                labelled: false,
                actions: Vec::new(),
                left_out: Vec::new(),
                problems: Vec::new(),
            },
            window,
            size,
            unreadable: Mutex::new(BTreeMap::new()),
            told_short: AtomicBool::new(false),
            told_repeats: AtomicBool::new(false),
        }
    }

    /// Number of views over all actions.
    pub fn views(&self) -> usize {
        self.samples.iter().map(|s| s.views.len()).sum()
    }

    /// Most views that one action has.
    pub fn max_views(&self) -> usize {
        self.samples.iter().map(|s| s.views.len()).max().unwrap_or(0)
    }

    /// How often each class of a task occurs.
    pub fn class_counts(&self, task: usize, classes: usize) -> Vec<usize> {
        let mut counts = vec![0; classes];
        for sample in &self.samples {
            if let Some(&label) = sample.labels.get(task) {
                counts[label] += 1;
            }
        }
        counts
    }

    /// The clips that could not be read so far, with the reason.
    pub fn unreadable(&self) -> Vec<ClipError> {
        self.lock_unreadable().values().cloned().collect()
    }

    fn lock_unreadable(&self) -> std::sync::MutexGuard<'_, BTreeMap<PathBuf, ClipError>> {
        self.unreadable.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// What a thread that reads batches needs for itself.
    pub fn resizer(&self) -> Resizer {
        let [height, width] = self.size;
        Resizer::new(height, width)
    }

    /// Reads the actions at `indices` (into [`Dataset::samples`]). A view that cannot be read is
    /// left out and remembered; an action without any readable view is left out of the batch.
    /// `None` when nothing of the batch could be read.
    pub fn read_batch(
        &self,
        indices: &[usize],
        resizer: &mut Resizer,
    ) -> Result<Option<Batch>, DatasetError> {
        let [height, width] = self.size;
        let (tasks, properties) =
            self.samples.first().map_or((0, 0), |s| (s.labels.len(), s.properties.len()));
        let mut batch = Batch {
            actions: Vec::new(),
            view_counts: Vec::new(),
            views: Vec::new(),
            labels: vec![Vec::new(); tasks],
            properties: vec![Vec::new(); properties],
            frames: Vec::new(),
            size: [self.window.frames_per_clip, height, width],
        };
        for &index in indices {
            let sample = &self.samples[index];
            let mut readable = 0;
            let mut news = false;
            for (view, path) in sample.views.iter().enumerate() {
                match self.read_view(path, resizer, &mut batch.frames) {
                    Ok(()) => {
                        batch.views.push(view);
                        readable += 1;
                    }
                    Err(error) => news |= self.note_unreadable(path, error)?,
                }
            }
            if readable == 0 {
                if news {
                    log::warn!(
                        "{} split: action {} has no readable view and is left out",
                        self.split,
                        sample.action
                    );
                }
                continue;
            }
            batch.actions.push(sample.action.clone());
            batch.view_counts.push(readable);
            for (task, &label) in sample.labels.iter().enumerate() {
                batch.labels[task].push(label);
            }
            for (property, &index) in sample.properties.iter().enumerate() {
                batch.properties[property].push(index);
            }
        }
        Ok((!batch.actions.is_empty()).then_some(batch))
    }

    /// Reads view `view` of the action at `index`, as a batch of one clip.
    pub fn read_one(
        &self,
        index: usize,
        view: usize,
        resizer: &mut Resizer,
    ) -> Result<Batch, ClipError> {
        let sample = &self.samples[index];
        let [height, width] = self.size;
        let mut frames = Vec::new();
        self.read_view(&sample.views[view], resizer, &mut frames)?;
        Ok(Batch {
            actions: vec![sample.action.clone()],
            view_counts: vec![1],
            views: vec![view],
            labels: sample.labels.iter().map(|&label| vec![label]).collect(),
            properties: sample.properties.iter().map(|&index| vec![index]).collect(),
            frames,
            size: [self.window.frames_per_clip, height, width],
        })
    }

    /// Appends one view's `[T, H, W, 3]` to `out`; on error `out` is unchanged.
    fn read_view(
        &self,
        path: &Path,
        resizer: &mut Resizer,
        out: &mut Vec<u8>,
    ) -> Result<(), ClipError> {
        let (_, frames) = video::read_clip(path, |info| self.pick(path, info))?;
        let resized = resizer.frames(&frames).map_err(|error| ClipError::Damaged {
            path: path.to_owned(),
            reason: error.to_string(),
        })?;
        out.extend_from_slice(&resized.data);
        Ok(())
    }

    fn pick(&self, path: &Path, info: &ClipInfo) -> Vec<usize> {
        let pick = self.window.window_indices(info);
        if pick.past_end && !self.told_short.swap(true, Ordering::Relaxed) {
            log::info!(
                "{} split: some clips end before frame {}; their last frame is repeated",
                self.split,
                self.window.end_frame
            );
        }
        if pick.past_end {
            log::debug!("{}: {} frames, the last one is repeated", path.display(), info.frames);
        }
        let wanted = self.window.frames_per_clip;
        if pick.distinct < wanted
            && !pick.past_end
            && !self.told_repeats.swap(true, Ordering::Relaxed)
        {
            log::info!(
                "{} split: frames {} to {} hold {} frames at {} fps, {wanted} are wanted: some \
                 repeat (--target-fps {} takes every frame of the file)",
                self.split,
                self.window.start_frame,
                self.window.end_frame,
                pick.distinct,
                self.window.target_fps,
                info.fps
            );
        }
        pick.indices
    }

    /// Remembers an unreadable view; whether it was news.
    fn note_unreadable(&self, path: &Path, error: ClipError) -> Result<bool, DatasetError> {
        let mut unreadable = self.lock_unreadable();
        let news = !unreadable.contains_key(path);
        if news {
            log::warn!("{} split: view left out: {error}", self.split);
            unreadable.insert(path.to_owned(), error);
        }
        if unreadable.len() as f64 > MAX_UNREADABLE * self.views() as f64 {
            return Err(DatasetError::TooManyUnreadable {
                split: self.split.clone(),
                views: self.views(),
                errors: unreadable.values().cloned().collect(),
            });
        }
        Ok(news)
    }
}
