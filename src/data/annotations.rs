//! Reads `annotations.json` of a split and applies the schema's label rules.

mod fields;

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use super::error::DataError;
use super::json::{Json, Object, Oddity, Parsed, RawFile, describe, parse};
use super::layout::{SplitDir, clip_path, find_split};
use super::problem::{Level, Problem, ProblemKind};
use crate::near::nearest;
use crate::schema::{Fields, Labelled, Schema};
use fields::FieldTally;

/// Name of the annotation file in a split folder.
pub const ANNOTATIONS: &str = "annotations.json";

/// The field of an action that lists its clips.
const CLIPS: &str = "Clips";
/// The field of a clip with its path.
const URL: &str = "Url";

/// A split's annotations. Every action in the file is either in `actions` or in `left_out`.
#[derive(Debug, Clone, PartialEq)]
pub struct Split {
    /// The split's name in the schema.
    pub name: String,
    /// Its folder.
    pub dir: PathBuf,
    /// Whether its actions carry labels.
    pub labelled: bool,
    /// The usable actions, in file order.
    pub actions: Vec<Action>,
    /// The others, in file order.
    pub left_out: Vec<LeftOut>,
    /// Errors and warnings, in file order.
    pub problems: Vec<Problem>,
}

/// One event with its clips.
#[derive(Debug, Clone, PartialEq)]
pub struct Action {
    /// Its key in the annotation file.
    pub id: String,
    /// One class index per task, or `None` where it is unknown; no list in a split without labels.
    pub labels: Option<Vec<Option<usize>>>,
    /// The annotated values of the fields that the schema reads.
    pub fields: Fields,
    /// The clips, in file order; at least one.
    pub views: Vec<View>,
}

/// An action that is not used, and why.
#[derive(Debug, Clone, PartialEq)]
pub struct LeftOut {
    /// Its key in the annotation file.
    pub id: String,
    /// The rule's reason, or what is wrong with the entry.
    pub reason: String,
    /// The clips it lists.
    pub views: Vec<View>,
}

/// One clip of an action.
#[derive(Debug, Clone, PartialEq)]
pub struct View {
    /// The Url as annotated.
    pub url: String,
    /// Path inside the split folder, usually without an extension.
    pub path: PathBuf,
    /// The camera, where it is annotated.
    pub camera: Option<String>,
    /// Playback speed of the replay, where it is annotated; 1 is real time.
    pub replay_speed: Option<f64>,
    /// Milliseconds into the match recording, where it is annotated.
    pub timestamp: Option<i64>,
}

impl Split {
    /// The path of a clip.
    pub fn clip(&self, view: &View) -> PathBuf {
        self.dir.join(&view.path)
    }

    /// Number of usable actions per class of a task.
    pub fn class_counts(&self, task: usize, classes: usize) -> Vec<usize> {
        let mut counts = vec![0; classes];
        for label in self.actions.iter().filter_map(|a| *a.labels.as_ref()?.get(task)?) {
            if let Some(count) = counts.get_mut(label) {
                *count += 1;
            }
        }
        counts
    }
}

/// Finds and reads a split; `split` in any of its spellings. In a split that the schema marks as
/// unlabelled every action with a clip is usable, without labels.
///
/// # Errors
/// [`DataError`] if the split or its annotation file is missing or unreadable. Errors in single
/// actions are in [`Split::problems`].
pub fn load_split(root: &Path, split: &str, schema: &Schema) -> Result<Split, DataError> {
    read_split(&find_split(root, split, schema)?, schema)
}

/// Reads the annotations of a split that was found.
///
/// # Errors
/// [`DataError::Io`] and [`DataError::Json`].
#[doc(hidden)]
pub fn read_split(found: &SplitDir, schema: &Schema) -> Result<Split, DataError> {
    let path = found.dir.join(ANNOTATIONS);
    let bytes = std::fs::read(&path)
        .map_err(|e| DataError::Io { path: path.clone(), reason: e.to_string() })?;
    let parsed: Parsed<RawFile> = parse(&bytes).map_err(|e| DataError::Json {
        path: path.clone(),
        line: e.line,
        column: e.column,
        reason: e.reason,
    })?;

    let raw = parsed.value;
    let mut reader = Reader::new(found, schema);
    reader.header(&raw, &parsed.oddities, &path);
    let mut tally = FieldTally::new(schema);
    for (id, entry) in &raw.actions.0 {
        if let Json::Object(entry) = entry {
            tally.add(entry);
        }
        reader.action(id, entry);
    }
    let mut split = reader.split;
    split.problems.extend(tally.problems(split.labelled));
    Ok(split)
}

/// Collects a split while iterating over the file.
struct Reader<'a> {
    schema: &'a Schema,
    split: Split,
    ids: HashSet<String>,
}

impl<'a> Reader<'a> {
    fn new(found: &SplitDir, schema: &'a Schema) -> Self {
        let split = Split {
            name: found.name.clone(),
            dir: found.dir.clone(),
            labelled: found.labelled,
            actions: Vec::new(),
            left_out: Vec::new(),
            problems: Vec::new(),
        };
        Self { schema, split, ids: HashSet::new() }
    }

    fn header(&mut self, raw: &RawFile, oddities: &[Oddity], path: &Path) {
        let file = path.display().to_string();
        let mut warn = |kind, message: String| {
            self.split.problems.push(Problem::of_file(kind, file.clone(), message));
        };
        for oddity in oddities {
            let kind = match oddity {
                Oddity::Marked | Oddity::Utf16 => ProblemKind::Encoding,
                Oddity::NotFinite { .. } => ProblemKind::NotFinite,
            };
            warn(kind, oddity.to_string());
        }
        if let Some(set) = raw.set.as_ref().and_then(Json::as_str)
            && let Some(spec) = self.schema.split(set)
            && spec.name != self.split.name
        {
            let name = &self.split.name;
            warn(ProblemKind::OtherSplit, format!("names the split {set:?}, read as {name:?}"));
        }
        let found = raw.actions.0.len() as u64;
        if let Some(stated) = raw.count.as_ref().and_then(|n| n.as_number()?.as_u64())
            && stated != found
        {
            let message = format!("states {stated} actions and holds {found}");
            warn(ProblemKind::CountMismatch, message);
        }
    }

    fn problem(&mut self, kind: ProblemKind, action: &str, message: String) {
        self.split.problems.push(Problem::of_action(kind, action, message));
    }

    fn leave_out(&mut self, id: &str, reason: impl Into<String>, views: Vec<View>) {
        self.split.left_out.push(LeftOut { id: id.to_owned(), reason: reason.into(), views });
    }

    fn action(&mut self, id: &str, entry: &Json) {
        if !self.ids.insert(id.to_owned()) {
            let message = "the id occurs before; the first entry is used".to_owned();
            self.problem(ProblemKind::DuplicateAction, id, message);
            return self.leave_out(id, "duplicate id", Vec::new());
        }
        let Some(entry) = entry.as_object() else {
            let message = format!("expected an object, found {}", describe(entry));
            self.problem(ProblemKind::WrongType, id, message);
            return self.leave_out(id, "broken annotation", Vec::new());
        };
        let fields = self.fields(id, entry);
        let views = self.views(id, entry);
        let Ok(fields) = fields else {
            return self.leave_out(id, "broken annotation", views);
        };
        let labels = match self.split.labelled {
            false => None,
            true => match self.schema.label(&fields) {
                Labelled::Labels(labels) => Some(labels),
                Labelled::LeftOut { reason } => return self.leave_out(id, reason, views),
                Labelled::Unknown(values) => {
                    for unknown in values {
                        let (task, field, value) = (unknown.task, unknown.field, unknown.value);
                        let message = format!("{field} {value:?} fits no class of {task}");
                        self.problem(ProblemKind::UnknownValue, id, message);
                    }
                    return self.leave_out(id, "unknown value", views);
                }
            },
        };
        if views.is_empty() {
            return self.leave_out(id, "no usable clip", views);
        }
        self.split.actions.push(Action { id: id.to_owned(), labels, fields, views });
    }

    /// The values of the fields that the schema reads. `Err` if one that determines labels is broken; a
    /// broken property counts as unknown.
    fn fields(&mut self, id: &str, entry: &Object) -> Result<Fields, BrokenLabel> {
        let schema = self.schema;
        let label_fields = schema.label_fields();
        let mut fields = Fields::new();
        let mut broken = false;
        for field in schema.fields() {
            let decides = label_fields.contains(field);
            let Ok(value) = self.only(id, entry, field) else {
                broken |= decides && self.split.labelled;
                continue;
            };
            match value {
                None => {}
                Some(Json::String(text)) => {
                    fields.insert(field.to_owned(), text.clone());
                }
                // In a split without labels they are not used.
                Some(_) if decides && !self.split.labelled => {}
                Some(other) => {
                    let found = describe(other);
                    let empty = if other.is_none() { "; write \"\" if it is unknown" } else { "" };
                    let message = format!("{field}: expected a string, found {found}{empty}");
                    self.problem(ProblemKind::WrongType, id, message);
                    broken |= decides;
                }
            }
        }
        for property in &schema.properties {
            let value = fields.get(&property.field).map_or("", String::as_str);
            if !property.knows(value) {
                let message = format!("{} {value:?} is not listed in the schema", property.field);
                self.problem(ProblemKind::UnlistedValue, id, message);
            }
        }
        if broken { Err(BrokenLabel) } else { Ok(fields) }
    }

    /// The value of a field, which may be repeated with the same value. `Err` if it has several: JSON
    /// readers differ in which one they take.
    fn only<'j>(
        &mut self,
        id: &str,
        object: &'j Object,
        field: &str,
    ) -> Result<Option<&'j Json>, Contradiction> {
        let mut values = object.all(field);
        let Some(first) = values.next() else { return Ok(None) };
        let (mut repeated, mut other) = (false, None);
        for value in values {
            repeated = true;
            other = other.or((value != first).then_some(value));
        }
        if let Some(other) = other {
            let (first, other) = (describe(first), describe(other));
            let message = if first == other {
                format!("{field} occurs twice with different values")
            } else {
                format!("{field} occurs twice, as {first} and as {other}")
            };
            self.problem(ProblemKind::DuplicateField, id, message);
            return Err(Contradiction);
        }
        if repeated {
            let message = format!("{field} occurs twice with the same value");
            let problem = Problem::of_action(ProblemKind::DuplicateField, id, message);
            self.split.problems.push(Problem { level: Level::Warning, ..problem });
        }
        Ok(Some(first))
    }

    fn views(&mut self, id: &str, entry: &Object) -> Vec<View> {
        let Ok(clips) = self.only(id, entry, CLIPS) else {
            return Vec::new();
        };
        let clips = match clips {
            None => return Vec::new(),
            Some(Json::Array(clips)) => clips,
            Some(other) => {
                let message = format!("Clips: expected a list, found {}", describe(other));
                self.problem(ProblemKind::WrongType, id, message);
                return Vec::new();
            }
        };
        let mut views: Vec<View> = Vec::with_capacity(clips.len());
        for (k, clip) in clips.iter().enumerate() {
            let Some(view) = self.view(id, k, clip) else {
                continue;
            };
            if views.iter().any(|other| other.path == view.path) {
                let message = "the clip is listed twice in this action";
                let kind = ProblemKind::DuplicateClip;
                self.split.problems.push(Problem::of_clip(kind, id, view.url, message));
            } else {
                views.push(view);
            }
        }
        views
    }

    fn view(&mut self, id: &str, k: usize, clip: &Json) -> Option<View> {
        let no_fields = Object::default();
        let clip = clip.as_object().unwrap_or(&no_fields);
        let url = match self.only(id, clip, URL).ok()? {
            Some(Json::String(url)) => url.clone(),
            other => {
                let mut found = other.map_or("none".to_owned(), describe);
                if other.is_none()
                    && let Some(near) = nearest(URL, clip.keys())
                {
                    found += &format!("; did you mean that by {near:?}?");
                }
                let message = format!("Clips, entry {k}: expected a string Url, found {found}");
                self.problem(ProblemKind::WrongType, id, message);
                return None;
            }
        };
        let resolved = match clip_path(&url, self.schema) {
            Ok(resolved) => resolved,
            Err(reason) => {
                let problem = Problem::of_clip(ProblemKind::RefusedPath, id, url, reason);
                self.split.problems.push(problem);
                return None;
            }
        };
        if let Some(named) = resolved.split.filter(|named| *named != self.split.name) {
            let message = format!("names the split {named:?}, read from {:?}", self.split.name);
            let problem = Problem::of_clip(ProblemKind::OtherSplit, id, url.clone(), message);
            self.split.problems.push(problem);
        }
        Some(View {
            url,
            path: resolved.path,
            camera: self
                .detail(id, clip, "Camera type", "a string", |v| v.as_str().map(str::to_owned)),
            replay_speed: self
                .detail(id, clip, "Replay speed", "a number", |v| v.as_number()?.as_f64()),
            timestamp: self
                .detail(id, clip, "Timestamp", "an integer", |v| v.as_number()?.as_i64()),
        })
    }

    /// An optional property of a clip. A wrong type is only a warning: the clip can be used.
    fn detail<T>(
        &mut self,
        id: &str,
        clip: &Object,
        key: &str,
        expected: &str,
        read: impl Fn(&Json) -> Option<T>,
    ) -> Option<T> {
        let value = clip.get(key).filter(|value| !value.is_none())?;
        let found = read(value);
        if found.is_none() {
            let message = format!("{key}: expected {expected}, found {}", describe(value));
            let problem = Problem::of_action(ProblemKind::WrongType, id, message);
            self.split.problems.push(Problem { level: Level::Warning, ..problem });
        }
        found
    }
}

/// A field that determines labels is broken; the problem is recorded.
struct BrokenLabel;

/// A field occurs twice with different values; the problem is recorded.
struct Contradiction;
