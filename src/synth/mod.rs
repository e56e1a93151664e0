//! Writes a synthetic data set in the layout of the real one, on which every part of the program
//! can be tried.
//!
//! [`write()`] creates `OUT/mvfouls/{train,valid,test}/annotations.json` and
//! `action_<i>/clip_<k>.mp4`: real H.264 at 25 frames per second; a different schema may place the
//! splits in a different folder ([`SynthLayout`]). The caller defines the tasks and the spelling of
//! each class in the annotations. Every class of every task occurs about equally often, and the
//! combinations are shuffled by the seed.
//!
//! Appearance of the classes (see [`SynthOptions`] for the sizes):
//!
//! * **Every task but the first is visible in every view.** A bright disc moves in the direction
//!   2π·class/K (K classes; 0 is to the right, then clockwise on the screen), a quarter of the
//!   frame's width in 16 frames, and is at its centre position at the middle of the window: frame
//!   75, or half the clip if it has 75 frames or fewer. It fades out at the end of its path and in
//!   again at the beginning, so that there is motion throughout. The second task's disc is centred
//!   in the frame; the discs of further tasks are smaller, slower, of other colours, and centred
//!   along the upper edge.
//! * **The first task is split over the views**, so that only all views together determine it. Its
//!   class index is written in binary, and the digits are distributed among the views: view v shows
//!   digit d if `v % n == d`, where n is the number of digits. With fewer views than digits, a view
//!   shows several, and a single view shows all. A digit is a square in the lower half whose colour
//!   identifies it; it oscillates with a period of 12 frames, horizontally for 0, vertically for 1.
//!
//! Nothing else depends on a class: each action and view has its own dim texture, some noise, and a
//! random offset of a few pixels. A small 3D network learns the tasks at 32 to 48 pixels and 8 of
//! the 16 frames around the middle. Directions are classes: flipping or rotating a clip changes its
//! class, so train without such augmentation.
//!
//! The same options and tasks yield byte-identical files. Clips are written first and a split's
//! annotations last, so that an incomplete split is not mistaken for a complete one.

mod clip;
mod deal;
mod encode;
mod scene;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use rayon::prelude::*;
use serde_json::{Map, Value, json};

use crate::atomic_file;
use crate::data::annotations::{ANNOTATIONS, CLIPS, URL};
use crate::data::video::is_hidden;
use crate::schema::{Class, Schema, Task};
use scene::ClipPlan;

/// Frames per second of every synthetic clip.
pub const FPS: u32 = 25;

/// Options of a synthetic data set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SynthOptions {
    /// Output folder; if it exists, it must be empty except for hidden files.
    pub out: PathBuf,
    /// Number of training actions.
    pub actions: usize,
    /// Number of actions in each of the validation and test splits. If `None`, a quarter of the
    /// training split's, and at least twice the number of classes of the largest task.
    pub held_out: Option<usize>,
    /// Clips per action, at least 1.
    pub views: usize,
    /// Random seed.
    pub seed: u64,
    /// Frames per clip, at least 1.
    pub frames: usize,
    /// Width in pixels, even, at least 32.
    pub width: usize,
    /// Height in pixels, even, at least 32.
    pub height: usize,
    /// Amplitude of the noise: each value is changed by a uniform number within ± this many levels
    /// of 255, at least 1. Strong noise makes the data set hard to learn and its files large.
    pub noise: u8,
    /// Ratio of the first task's classes in the training split, one number per class; balanced if
    /// empty. Validation and test are always balanced.
    pub ratio: Vec<usize>,
    /// Location of the splits and naming of the clips.
    pub layout: SynthLayout,
}

/// Location of the splits and naming of the clips in the annotations; SoccerNet's layout by
/// default.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SynthLayout {
    /// Folder below the output folder that contains the splits; empty for the output folder itself.
    pub folder: String,
    /// Prefix of each Url, before the split; may be empty.
    pub url_prefix: String,
    /// Names of train, valid and test in a Url; `None` for a split that is not written.
    pub splits: [Option<String>; 3],
}

impl Default for SynthLayout {
    fn default() -> Self {
        Self {
            folder: "mvfouls".to_owned(),
            url_prefix: "Dataset".to_owned(),
            splits: ["Train", "Valid", "Test"].map(|name| Some(name.to_owned())),
        }
    }
}

impl SynthLayout {
    /// Returns the layout in which the schema expects its data sets.
    pub fn of(schema: &Schema) -> Self {
        let split = |name: &str| {
            let spellings = &schema.split(name)?.spellings;
            // The first spelling is the folder's name; SoccerNet's Urls use the second one.
            spellings.get(1).or(spellings.first()).cloned()
        };
        Self {
            folder: schema.folder.clone().unwrap_or_default(),
            url_prefix: schema.url_prefixes.first().cloned().unwrap_or_default(),
            splits: SPLITS.map(split),
        }
    }
}

impl Default for SynthOptions {
    fn default() -> Self {
        Self {
            out: PathBuf::from("synthetic"),
            actions: 64,
            held_out: None,
            views: 2,
            seed: 1,
            frames: 100,
            width: 128,
            height: 96,
            noise: 2,
            ratio: Vec::new(),
            layout: SynthLayout::default(),
        }
    }
}

/// A task of a synthetic data set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SynthTask {
    /// Name of the task, for messages.
    pub name: String,
    /// Classes in index order.
    pub classes: Vec<SynthClass>,
}

/// A class of a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SynthClass {
    /// Name of the class, for messages.
    pub name: String,
    /// The annotation fields of this class and their values. If two tasks use the same field, the
    /// value of the later task is written.
    pub fields: Vec<(String, String)>,
}

/// Summary of a written data set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SynthSummary {
    /// The folder that contains the splits.
    pub root: PathBuf,
    /// Name and number of actions of each split.
    pub splits: Vec<(String, usize)>,
    /// Number of clips.
    pub clips: usize,
    /// Size of all clips, bytes.
    pub bytes: u64,
}

/// The reason why no data set was written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SynthError {
    /// The output folder is not empty.
    #[error("{}: is not empty; choose a new or an empty folder", .0.display())]
    NotEmpty(PathBuf),
    /// An option is invalid.
    #[error("synthetic data: {0}")]
    Options(String),
    /// A file or folder cannot be written.
    #[error("{}: cannot be written: {reason}", .path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The operating system's message.
        reason: String,
    },
    /// The video encoder or the mp4 muxer failed.
    #[error("{}: cannot be encoded: {reason}", .path.display())]
    Encode {
        /// The clip.
        path: PathBuf,
        /// The encoder's message.
        reason: String,
    },
}

/// The splits that can be written. Their names are used for the folders and in `Set`.
pub const SPLITS: [&str; 3] = ["train", "valid", "test"];

/// Writes the data set. `progress` is called from several threads with the number of clips done and
/// the total.
///
/// # Errors
/// [`SynthError`].
pub fn write(
    options: &SynthOptions,
    tasks: &[SynthTask],
    progress: impl Fn(usize, usize) + Sync,
) -> Result<SynthSummary, SynthError> {
    check(options, tasks)?;
    let layout = &options.layout;
    let root = options.out.join(&layout.folder);
    prepare(&options.out)?;

    let counts: Vec<usize> = tasks.iter().map(|task| task.classes.len()).collect();
    let held_out = held_out(options, tasks);
    let sizes = [options.actions, held_out, held_out];
    // A split's index determines its random streams, regardless of which other splits are written.
    let written: Vec<(usize, &str, usize)> = (0..)
        .zip(SPLITS.into_iter().zip(sizes).zip(&layout.splits))
        .filter_map(|(index, ((_, size), url))| Some((index, url.as_deref()?, size)))
        .collect();
    let total = written.iter().map(|(.., size)| size).sum::<usize>() * options.views;
    let (done, bytes) = (AtomicUsize::new(0), AtomicUsize::new(0));

    let mut splits = Vec::new();
    for (index, url, size) in written {
        let name = SPLITS[index];
        let ratio: &[usize] = if index == 0 { &options.ratio } else { &[] };
        let dealt = deal::classes(&counts, ratio, size, options.seed, index as u64);
        let folder = root.join(name);
        let clips = (0..size).flat_map(|action| (0..options.views).map(move |v| (action, v)));
        clips.collect::<Vec<_>>().into_par_iter().try_for_each(|(action, view)| {
            let folder = folder.join(format!("action_{action}"));
            fs::create_dir_all(&folder).map_err(|e| io(&folder, &e))?;
            let path = folder.join(format!("clip_{view}.mp4"));
            let plan = ClipPlan {
                options,
                counts: &counts,
                classes: &dealt[action],
                view,
                stream: stream(index, action, view),
            };
            let file = clip::encode(&plan)
                .map_err(|reason| SynthError::Encode { path: path.clone(), reason })?;
            fs::write(&path, &file).map_err(|e| io(&path, &e))?;
            bytes.fetch_add(file.len(), Ordering::Relaxed);
            progress(done.fetch_add(1, Ordering::Relaxed) + 1, total);
            Ok(())
        })?;
        let parts = [layout.url_prefix.as_str(), url].into_iter().filter(|part| !part.is_empty());
        let url = parts.collect::<Vec<_>>().join("/");
        let annotations = annotations(name, &url, tasks, &dealt, options.views);
        save(&folder.join(ANNOTATIONS), &annotations)?;
        splits.push((name.to_string(), size));
    }
    let bytes = bytes.into_inner() as u64;
    Ok(SynthSummary { root, splits, clips: total, bytes })
}

/// Maximum number of clips of a data set.
const MOST_CLIPS: usize = 1 << 22;
/// Maximum number of 16×16 blocks in a frame at H.264 level 5.1.
const MOST_BLOCKS: usize = 36_864;

fn check(options: &SynthOptions, tasks: &[SynthTask]) -> Result<(), SynthError> {
    let bad = |what: String| Err(SynthError::Options(what));
    let (width, height) = (options.width, options.height);
    if tasks.is_empty() {
        return bad("the schema has no task".into());
    }
    if options.layout.splits[0].is_none() {
        return bad("the schema has no split train".into());
    }
    if let Some(task) = tasks.iter().find(|task| task.classes.is_empty()) {
        return bad(format!("the task {} has no classes", task.name));
    }
    let writes_clips = |class: &SynthClass| class.fields.iter().any(|(field, _)| field == CLIPS);
    if let Some(task) = tasks.iter().find(|task| task.classes.iter().any(writes_clips)) {
        let name = &task.name;
        return bad(format!(
            "the task {name} has the field {CLIPS}, which lists an action's clips"
        ));
    }
    let classes = tasks[0].classes.len();
    if !options.ratio.is_empty() && options.ratio.len() != classes {
        return bad(format!("ratio: give {classes} numbers, one per class of {}", tasks[0].name));
    }
    if options.ratio.contains(&0) || options.ratio.iter().any(|part| *part > 1 << 20) {
        return bad(format!("ratio: every number must be between 1 and {}", 1 << 20));
    }
    for (name, value) in [
        ("actions", options.actions),
        ("held-out", options.held_out.unwrap_or(1)),
        ("views", options.views),
        ("frames", options.frames),
        ("noise", options.noise.into()),
    ] {
        if value == 0 || value > 1 << 20 {
            return bad(format!("{name} is {value}: give a number from 1 to {}", 1 << 20));
        }
    }
    let held_out = held_out(options, tasks);
    let clips = (options.actions + 2 * held_out) * options.views;
    if clips > MOST_CLIPS {
        return bad(format!(
            "{clips} clips: give fewer actions or views, at most {MOST_CLIPS} clips"
        ));
    }
    let fits = |size: usize| (32..=4096).contains(&size) && size.is_multiple_of(2);
    if !fits(width) || !fits(height) {
        return bad(format!("{width}x{height} pixels: both must be even and from 32 to 4096"));
    }
    if width.div_ceil(16) * height.div_ceil(16) > MOST_BLOCKS {
        return bad(format!(
            "{width}x{height} pixels: at most 4096x2304, the limit of H.264 level 5.1"
        ));
    }
    Ok(())
}

/// Returns the number of actions of each split but the first; by default enough for every class to
/// occur twice.
fn held_out(options: &SynthOptions, tasks: &[SynthTask]) -> usize {
    let most = tasks.iter().map(|task| task.classes.len()).max().unwrap_or(0);
    options.held_out.unwrap_or((options.actions / 4).max(2 * most))
}

/// Creates the folder, which must be new or empty. Hidden files are ignored: macOS writes
/// `.DS_Store` to every folder that is viewed.
fn prepare(out: &Path) -> Result<(), SynthError> {
    fs::create_dir_all(out).map_err(|e| io(out, &e))?;
    for entry in fs::read_dir(out).map_err(|e| io(out, &e))? {
        let entry = entry.map_err(|e| io(out, &e))?;
        if !is_hidden(&entry.file_name()) {
            return Err(SynthError::NotEmpty(out.to_path_buf()));
        }
    }
    Ok(())
}

/// Returns the random stream of a clip. Each clip has its own, so that the result does not depend
/// on threads.
fn stream(split: usize, action: usize, view: usize) -> u64 {
    (split as u64 + 1) << 48 | (action as u64) << 24 | view as u64
}

/// Returns the annotation file of one split; `url` is the prefix of each clip's Url.
fn annotations(
    set: &str,
    url: &str,
    tasks: &[SynthTask],
    dealt: &[Vec<usize>],
    views: usize,
) -> Value {
    let mut actions = Map::new();
    for (action, classes) in dealt.iter().enumerate() {
        let mut entry = Map::new();
        for (task, &class) in tasks.iter().zip(classes) {
            for (field, value) in &task.classes[class].fields {
                entry.insert(field.clone(), json!(value));
            }
        }
        let clips: Vec<Value> = (0..views)
            .map(|view| {
                json!({
                    URL: format!("{url}/action_{action}/clip_{view}"),
                    "Camera type": format!("Synthetic view {view}"),
                    "Timestamp": 1000 * action,
                    "Replay speed": 1.0,
                })
            })
            .collect();
        entry.insert(CLIPS.into(), json!(clips));
        actions.insert(action.to_string(), Value::Object(entry));
    }
    json!({ "Set": set, "Number of actions": dealt.len(), "Actions": actions })
}

/// Writes a JSON file atomically.
fn save(path: &Path, value: &Value) -> Result<(), SynthError> {
    atomic_file::replace(path, format!("{value:#}\n").as_bytes()).map_err(|e| io(path, &e))
}

fn io(path: &Path, error: &std::io::Error) -> SynthError {
    SynthError::Io { path: path.to_path_buf(), reason: error.to_string() }
}

/// Returns the tasks of a schema; each class has the fields that the schema writes for it.
pub fn tasks_of(schema: &Schema) -> Vec<SynthTask> {
    let class = |class: &Class| SynthClass {
        name: class.name.clone(),
        fields: class.write.iter().map(|(f, v)| (f.clone(), v.clone())).collect(),
    };
    let task = |task: &Task| SynthTask {
        name: task.name.clone(),
        classes: task.classes.iter().map(class).collect(),
    };
    schema.tasks.iter().map(task).collect()
}
