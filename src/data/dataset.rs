//! A split's labelled actions, which are read as batches of uint8 frames.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};

use super::annotations::Split;
use super::cache::{FrameCache, Key};
use super::clip::ClipError;
use super::error::DataError;
use super::mix::Mix;
use super::problem::{Level, Problem, ProblemKind};
use super::sampling::WindowSpec;
use super::source::{DataSource, SourceSpec};
use super::video::{self, Cancel};
use crate::schema::Schema;

/// One action of a data set: its labels and the paths of its views.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sample {
    /// The annotation's key.
    pub action: String,
    /// Class index per task, `None` where it is unknown; empty in a split without labels.
    pub labels: Vec<Option<usize>>,
    /// Value index of each of the schema's properties, 0 for unknown; empty without annotations.
    pub properties: Vec<usize>,
    /// Clip paths, in annotation order.
    pub views: Vec<PathBuf>,
}

/// B actions in memory: N clips of T frames, `[N, T, H, W, 3]` uint8, grouped by action.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Batch {
    /// Annotation keys of the B actions.
    pub actions: Vec<String>,
    /// Number of times that the pass has already read each action.
    pub earlier: Vec<usize>,
    /// Number of readable views of each action; their sum is N.
    pub view_counts: Vec<usize>,
    /// Index of each of the N clips among its action's annotated views.
    pub views: Vec<usize>,
    /// Class index `labels[task][action]`, `None` where it is unknown.
    pub labels: Vec<Vec<Option<usize>>>,
    /// Value index `properties[property][action]` of the schema's properties, 0 for unknown; empty
    /// without annotations.
    pub properties: Vec<Vec<usize>>,
    /// The frames, `N·T·H·W·3` bytes. Where other processes have read part of the batch, only the
    /// frames of this process's consecutive clips.
    pub frames: Vec<u8>,
    /// Index of the clip with which `frames` starts.
    pub frames_from: usize,
    /// Size of a clip, `[T, H, W]`.
    pub size: [usize; 3],
    /// How the actions are mixed for a training step; `None` if they are not.
    pub mix: Option<Mix>,
    /// The consecutive actions of each lane (see [`Plan`](super::Plan)); usually one lane with all
    /// of them.
    pub lanes: Vec<Range<usize>>,
}

impl Batch {
    /// Number of clips N.
    pub fn clips(&self) -> usize {
        self.view_counts.iter().sum()
    }

    /// Returns the frames of a range of clips, `[clips, T, H, W, 3]`.
    ///
    /// # Panics
    /// If another process has read these clips.
    pub fn frames_of(&self, clips: Range<usize>) -> &[u8] {
        let clip = self.size.iter().product::<usize>() * 3;
        let start =
            clips.start.checked_sub(self.frames_from).expect("a process only uses its own clips");
        &self.frames[start * clip..(start + clips.len()) * clip]
    }

    /// Returns the range of clips that belong to a range of actions.
    pub fn clips_of(&self, actions: &Range<usize>) -> Range<usize> {
        let start = self.view_counts[..actions.start].iter().sum();
        start..start + self.view_counts[actions.clone()].iter().sum::<usize>()
    }
}

/// Largest tolerated share of unreadable views: beyond it, the rest would be a different data set.
const MAX_UNREADABLE: f64 = 0.2;

/// A split whose clips can be read.
#[derive(Debug)]
pub struct Dataset {
    /// Name of the split.
    pub split: String,
    /// The usable actions, in annotation order.
    pub samples: Vec<Sample>,
    /// The annotations, including the actions that were left out and why.
    pub annotations: Split,
    pub(super) window: WindowSpec,
    /// `[H, W]` of the network's input.
    pub(super) size: [usize; 2],
    pub(super) cache: Option<Arc<FrameCache>>,
    pub(super) findings: Findings,
    /// Largest tolerated share of unreadable views; beyond it, reading fails.
    pub(super) max_unreadable: f64,
    /// Aborts reading when it is triggered.
    pub(super) cancel: Option<Cancel>,
}

/// Problems encountered while reading, recorded so that each is reported only once.
#[derive(Debug, Default)]
pub(super) struct Findings {
    pub unreadable: Mutex<BTreeMap<PathBuf, ClipError>>,
    pub reported_short: AtomicBool,
    pub reported_repeats: AtomicBool,
    pub reported_beyond: AtomicBool,
    pub reported_complaint: AtomicBool,
    pub cropped: AtomicBool,
}

/// Why a split cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DatasetError {
    /// The annotations cannot be read.
    #[error(transparent)]
    Annotations(#[from] DataError),
    /// Every action was left out.
    #[error("{}: none of its {left_out} actions can be used", .dir.display())]
    NoActions {
        /// The split's folder.
        dir: PathBuf,
        /// Number of actions left out.
        left_out: usize,
    },
    /// A split has no labels although they are needed.
    #[error("{}: the {split} split has no labels", .path.display())]
    Unlabelled {
        /// The split.
        split: String,
        /// The file or folder that lists its actions.
        path: PathBuf,
    },
    /// Too many views are unreadable: the rest would be a different data set.
    #[error(
        "{split} split: more than 20 % of its {views} views cannot be read, for example {}",
        some(.errors)
    )]
    TooManyUnreadable {
        /// The split.
        split: String,
        /// Number of views in the split.
        views: usize,
        /// Errors of the unreadable views so far.
        errors: Vec<ClipError>,
    },
    /// The window begins after the end of every clip, so that only last frames would be sampled.
    #[error(
        "{split} split: the window begins at frame {first}, and every clip ends before it, such as {} \
         with {frames} frames",
        .path.display()
    )]
    BeyondClips {
        /// The split.
        split: String,
        /// First frame of the window, in that clip.
        first: usize,
        /// One of the clips.
        path: PathBuf,
        /// Number of frames of that clip.
        frames: usize,
    },
    /// A decoding thread panicked.
    #[error("a decoding thread panicked")]
    Worker,
}

/// Formats the first of several errors; all of them have been logged.
fn some(errors: &[ClipError]) -> String {
    errors.first().map_or_else(String::new, ToString::to_string)
}

/// Warnings that are logged when a split is opened: the data set may not be the intended one.
const LOGGED: [ProblemKind; 5] = [
    ProblemKind::AbsentClass,
    ProblemKind::UnusedImages,
    ProblemKind::UnusedClips,
    ProblemKind::MissingValue,
    ProblemKind::SimilarClasses,
];

/// Logs the first few errors in the annotations and the number of remaining ones, and likewise each
/// kind of warning that is [`LOGGED`].
fn log_problems(annotations: &Split) {
    let log = |problems: Vec<&Problem>, rest_is: &str| {
        const MOST: usize = 10;
        for problem in problems.iter().take(MOST) {
            log::warn!("{} split: {problem}", annotations.name);
        }
        let rest = problems.len().saturating_sub(MOST);
        if rest > 0 {
            log::warn!("{} split: {rest} more {rest_is}", annotations.name);
        }
    };
    let problems = annotations.problems.iter();
    let errors = problems.clone().filter(|problem| problem.level == Level::Error);
    log(errors.collect(), "errors in the annotations");
    for kind in LOGGED {
        let of_kind = problems.clone().filter(|problem| problem.kind == kind);
        log(of_kind.collect(), &format!("warnings: {}", kind.title()));
    }
}

impl Dataset {
    /// Opens a split of the data set at `root`. `size` is `[H, W]` of the network's input; only the
    /// first `max_views` views of each action are used.
    ///
    /// # Errors
    /// [`DatasetError::Annotations`], [`DatasetError::NoActions`].
    pub fn open(
        root: &Path,
        split: &str,
        schema: &Schema,
        window: WindowSpec,
        size: [usize; 2],
        max_views: Option<usize>,
    ) -> Result<Self, DatasetError> {
        let schema = Some(schema.clone());
        let spec = SourceSpec { root: root.to_owned(), schema, ..SourceSpec::default() };
        Self::of_source(&DataSource::open(&spec)?, split, window, size, max_views)
    }

    /// Opens a split of `source`; the other arguments are as for [`Dataset::open`].
    ///
    /// # Errors
    /// [`DatasetError::Annotations`], [`DatasetError::NoActions`].
    pub fn of_source(
        source: &DataSource,
        split: &str,
        window: WindowSpec,
        size: [usize; 2],
        max_views: Option<usize>,
    ) -> Result<Self, DatasetError> {
        let (schema, annotations) = (source.schema(), source.split(split)?);
        let samples: Vec<Sample> = annotations
            .actions
            .iter()
            .filter_map(|action| {
                Some(Sample {
                    action: action.id.clone(),
                    // A split without labels can still be used for prediction.
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
        log_problems(&annotations);
        if samples.is_empty() {
            let left_out = annotations.left_out.len();
            return Err(DatasetError::NoActions { dir: annotations.dir, left_out });
        }
        Ok(Self {
            split: annotations.name.clone(),
            samples,
            annotations,
            window,
            size,
            cache: None,
            findings: Findings::default(),
            max_unreadable: MAX_UNREADABLE,
            cancel: None,
        })
    }

    /// Creates a data set of clips without annotations from action names and the paths of their
    /// clips.
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
            annotations: Split::new(&name, PathBuf::new(), false),
            window,
            size,
            cache: None,
            findings: Findings::default(),
            max_unreadable: MAX_UNREADABLE,
            cancel: None,
        }
    }

    /// Returns the split unchanged if its actions have labels, which training and validation need.
    ///
    /// # Errors
    /// [`DatasetError::Unlabelled`].
    pub fn labelled(self) -> Result<Self, DatasetError> {
        if self.annotations.labelled {
            return Ok(self);
        }
        let Split { name: split, file, dir, .. } = self.annotations;
        Err(DatasetError::Unlabelled { split, path: file.unwrap_or(dir) })
    }

    /// Leaves out unreadable views no matter how many there are. This is for evaluation and
    /// prediction, where an unreadable view only affects its own action; training on the rest of a
    /// broken data set would waste days.
    #[must_use]
    pub fn allow_unreadable(self) -> Self {
        Self { max_unreadable: 1.0, ..self }
    }

    /// Treats clips that have not been read when `cancel` triggers as unreadable.
    #[must_use]
    pub fn cancelled_by(self, cancel: Cancel) -> Self {
        Self { cancel: Some(cancel), ..self }
    }

    /// Returns the name of the split in messages.
    pub(super) fn title(&self) -> String {
        match self.annotations.dir.as_os_str().is_empty() {
            true => "given clips".to_owned(),
            false => format!("{} split", self.split),
        }
    }

    /// Returns the number of views of all actions together.
    pub fn views(&self) -> usize {
        self.samples.iter().map(|s| s.views.len()).sum()
    }

    /// Returns the largest number of views of any action.
    pub fn max_views(&self) -> usize {
        self.samples.iter().map(|s| s.views.len()).max().unwrap_or(0)
    }

    /// Returns the number of actions per class of a task.
    pub fn class_counts(&self, task: usize, classes: usize) -> Vec<usize> {
        let mut counts = vec![0; classes];
        for sample in &self.samples {
            if let Some(&Some(label)) = sample.labels.get(task) {
                counts[label] += 1;
            }
        }
        counts
    }

    /// Adds a frame cache, from which clips are read that an earlier epoch or another run has
    /// decoded.
    #[must_use]
    pub fn with_cache(mut self, cache: Arc<FrameCache>) -> Self {
        self.use_cache(cache);
        self
    }

    /// Like [`Dataset::with_cache`], but in place.
    pub(crate) fn use_cache(&mut self, cache: Arc<FrameCache>) {
        let paths = self.samples.iter().flat_map(|sample| &sample.views);
        let resolved = paths.filter_map(|path| video::resolve_clip(path).ok());
        cache.expect(resolved.filter_map(|path| Key::new(&path, &self.window, self.size)));
        self.cache = Some(cache);
    }
}
