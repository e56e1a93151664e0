//! The labelled actions of a split, and reading them as batches of uint8 frames.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};

use super::annotations::{self, Split};
use super::cache::{FrameCache, Key};
use super::clip::ClipError;
use super::error::DataError;
use super::problem::Level;
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
    pub(super) window: WindowSpec,
    /// `[H, W]` of a frame in the network.
    pub(super) size: [usize; 2],
    pub(super) cache: Option<Arc<FrameCache>>,
    pub(super) news: News,
}

/// What reading has come upon so far.
#[derive(Debug, Default)]
pub(super) struct News {
    pub unreadable: Mutex<BTreeMap<PathBuf, ClipError>>,
    pub told_short: AtomicBool,
    pub told_repeats: AtomicBool,
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
            cache: None,
            news: News::default(),
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
            cache: None,
            news: News::default(),
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

    /// With a cache of frames: what another run or epoch has decoded is read from there.
    #[must_use]
    pub fn with_cache(mut self, cache: Arc<FrameCache>) -> Self {
        let paths = self.samples.iter().flat_map(|sample| &sample.views);
        let resolved = paths.filter_map(|path| video::resolve_clip(path).ok());
        cache.expect(resolved.filter_map(|path| Key::new(&path, &self.window, self.size)));
        self.cache = Some(cache);
        self
    }
}
