//! Reads a split's `annotations.json` and applies the schema's label rules.

mod fields;

use std::collections::HashSet;
use std::path::Path;

use super::error::DataError;
use super::json::{Json, Object, Oddity, Parsed, RawFile, describe, parse};
use super::layout::{SplitDir, clip_path, find_split};
use super::problem::{Level, Problem, ProblemKind};
pub use super::split::{Action, LeftOut, Split, View};
use crate::near::nearest;
use crate::schema::{Fields, Schema};
use crate::units::plural;
use fields::FieldTally;

/// Name of the annotation file in a split folder.
pub const ANNOTATIONS: &str = "annotations.json";

/// The field of an action that lists its clips.
pub(crate) const CLIPS: &str = "Clips";
/// The field of a clip that contains its path.
pub(crate) const URL: &str = "Url";

/// Finds and reads a split; `split` may be any of its spellings. In a split that the schema marks
/// as unlabelled, every action with a clip is usable and has no labels.
///
/// # Errors
/// [`DataError`] if the split or its annotation file is missing or unreadable. Errors in individual
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
            file: Some(found.dir.join(ANNOTATIONS)),
            ..Split::new(&found.name, found.dir.clone(), found.labelled)
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
            let message = format!("states {} but contains {found}", plural(stated, "action"));
            warn(ProblemKind::CountMismatch, message);
        }
    }

    fn problem(&mut self, kind: ProblemKind, action: &str, message: String) {
        self.split.problems.push(Problem::of_action(kind, action, message));
    }

    fn action(&mut self, id: &str, entry: &Json) {
        if !self.ids.insert(id.to_owned()) {
            let message = "the id occurs more than once; the first entry is used".to_owned();
            self.problem(ProblemKind::DuplicateAction, id, message);
            return self.split.leave_out(id, "duplicate id", Vec::new());
        }
        let Some(entry) = entry.as_object() else {
            let message = format!("expected an object, found {}", describe(entry));
            self.problem(ProblemKind::WrongType, id, message);
            return self.split.leave_out(id, "broken annotation", Vec::new());
        };
        let fields = self.fields(id, entry);
        let views = self.views(id, entry);
        let Ok(fields) = fields else {
            return self.split.leave_out(id, "broken annotation", views);
        };
        self.split.add(self.schema, id, fields, views);
    }

    /// Returns the values of the fields that the schema reads. `Err` if a field that determines
    /// labels is broken; a broken property counts as unknown.
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
                // Such fields are not used in a split without labels.
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
        if broken { Err(BrokenLabel) } else { Ok(fields) }
    }

    /// Returns the value of a field, which may be repeated with the same value. `Err` if the values
    /// differ: JSON readers disagree on which one they use.
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
                    found += &format!("; is {near:?} a misspelling?");
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

    /// Returns an optional property of a clip. A wrong type is only a warning: the clip can be
    /// used.
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
