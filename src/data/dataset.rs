//! The labelled actions of a split, and reading them as batches of uint8 frames.

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
use super::problem::{Level, ProblemKind};
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
    /// The annotations' keys of the B actions.
    pub actions: Vec<String>,
    /// How often the pass has read each action before.
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
    /// `N·T·H·W·3` bytes; those of consecutive clips alone where other processes have read the rest.
    pub frames: Vec<u8>,
    /// The clip whose frames come first.
    pub frames_from: usize,
    /// `[T, H, W]`.
    pub size: [usize; 3],
    /// How its actions are mixed for a training step, if they are.
    pub mix: Option<Mix>,
    /// The consecutive actions of each lane (see [`Plan`](super::Plan)); all of them in one, usually.
    pub lanes: Vec<Range<usize>>,
}

impl Batch {
    /// Number of clips N.
    pub fn clips(&self) -> usize {
        self.view_counts.iter().sum()
    }

    /// The frames of a range of clips, `[clips, T, H, W, 3]`.
    ///
    /// # Panics
    /// Where another process has read them.
    pub fn frames_of(&self, clips: Range<usize>) -> &[u8] {
        let clip = self.size.iter().product::<usize>() * 3;
        let start = clips.start.checked_sub(self.frames_from).expect("a process asks for its own");
        &self.frames[start * clip..(start + clips.len()) * clip]
    }

    /// The clips of consecutive actions.
    pub fn clips_of(&self, actions: &Range<usize>) -> Range<usize> {
        let start = self.view_counts[..actions.start].iter().sum();
        start..start + self.view_counts[actions.clone()].iter().sum::<usize>()
    }
}

/// A larger share of unreadable views is an error: the rest would be a different data set.
const MAX_UNREADABLE: f64 = 0.2;

/// A split whose clips can be read.
#[derive(Debug)]
pub struct Dataset {
    /// Name of the split.
    pub split: String,
    /// The usable actions, in annotation order.
    pub samples: Vec<Sample>,
    /// The annotations, with the actions left out and the reasons.
    pub annotations: Split,
    pub(super) window: WindowSpec,
    /// `[H, W]` of the network's input.
    pub(super) size: [usize; 2],
    pub(super) cache: Option<Arc<FrameCache>>,
    pub(super) findings: Findings,
    /// Largest share of unreadable views; more end the reading.
    pub(super) max_unreadable: f64,
    /// What ends the reading before its time.
    pub(super) cancel: Option<Cancel>,
}

/// Problems met while reading, so that each is reported once.
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
    /// A split without labels where they are needed.
    #[error("{}: the {split} split has no labels", .path.display())]
    Unlabelled {
        /// The split.
        split: String,
        /// Where its actions are listed.
        path: PathBuf,
    },
    /// Too many unreadable views: the rest would be a different data set.
    #[error(
        "{split} split: more than 20 % of its {views} views cannot be read, among them {}",
        some(.errors)
    )]
    TooManyUnreadable {
        /// The split.
        split: String,
        /// Number of its views.
        views: usize,
        /// The unreadable views so far.
        errors: Vec<ClipError>,
    },
    /// A window that no clip reaches, so that nothing but last frames would be seen.
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
        /// Its frames.
        frames: usize,
    },
    /// A decoding thread panicked.
    #[error("a decoding thread panicked")]
    Worker,
}

/// The first of several errors; each has been logged.
fn some(errors: &[ClipError]) -> String {
    errors.first().map_or_else(String::new, ToString::to_string)
}

/// Logs the first few errors in the annotations, and the number of the others.
fn log_problems(annotations: &Split) {
    const MOST: usize = 10;
    let errors = annotations.problems.iter().filter(|problem| problem.level == Level::Error);
    for problem in errors.clone().take(MOST) {
        log::warn!("{} split: {problem}", annotations.name);
    }
    let rest = errors.count().saturating_sub(MOST);
    if rest > 0 {
        log::warn!("{} split: {rest} more errors in the annotations", annotations.name);
    }
    let absent = annotations.problems.iter().filter(|p| p.kind == ProblemKind::AbsentClass);
    for problem in absent {
        log::warn!("{} split: {problem}", annotations.name);
    }
}

impl Dataset {
    /// Opens a split of the data set at `root`. `size` is `[H, W]` of the network's input; `max_views`
    /// limits the views per action to the first ones.
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

    /// Opens a split of a data set; the rest as for [`Dataset::open`].
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
                    // A split without labels can still be predicted.
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

    /// A data set of clips without annotations: names of actions with the paths of their clips.
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

    /// The same split, if its actions have labels, as training and validation need them.
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

    /// Leaves out unreadable views however many there are: for evaluation and prediction, where each
    /// costs itself only. Training on the rest of a broken data set would waste days.
    #[must_use]
    pub fn tolerating_unreadable(self) -> Self {
        Self { max_unreadable: 1.0, ..self }
    }

    /// Clips that are not read when `cancel` ends are unreadable.
    #[must_use]
    pub fn cancelled_by(self, cancel: Cancel) -> Self {
        Self { cancel: Some(cancel), ..self }
    }

    /// What messages call it.
    pub(super) fn title(&self) -> String {
        match self.annotations.dir.as_os_str().is_empty() {
            true => "given clips".to_owned(),
            false => format!("{} split", self.split),
        }
    }

    /// Number of views over all actions.
    pub fn views(&self) -> usize {
        self.samples.iter().map(|s| s.views.len()).sum()
    }

    /// Largest number of views of an action.
    pub fn max_views(&self) -> usize {
        self.samples.iter().map(|s| s.views.len()).max().unwrap_or(0)
    }

    /// Number of actions per class of a task.
    pub fn class_counts(&self, task: usize, classes: usize) -> Vec<usize> {
        let mut counts = vec![0; classes];
        for sample in &self.samples {
            if let Some(&Some(label)) = sample.labels.get(task) {
                counts[label] += 1;
            }
        }
        counts
    }

    /// With a frame cache: clips that an earlier epoch or another run has decoded are read from it.
    #[must_use]
    pub fn with_cache(mut self, cache: Arc<FrameCache>) -> Self {
        self.use_cache(cache);
        self
    }

    /// The same in place.
    pub(crate) fn use_cache(&mut self, cache: Arc<FrameCache>) {
        let paths = self.samples.iter().flat_map(|sample| &sample.views);
        let resolved = paths.filter_map(|path| video::resolve_clip(path).ok());
        cache.expect(resolved.filter_map(|path| Key::new(&path, &self.window, self.size)));
        self.cache = Some(cache);
    }
}
