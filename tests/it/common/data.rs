//! Data sets: synthetic ones, and annotations written by hand.

use std::path::{Path, PathBuf};

use polyview::data::DataSource;
use polyview::data::annotations::{Split, load_split};
use polyview::data::error::DataError;
use polyview::data::source::SourceSpec;
use polyview::schema::{Fields, Labelled, Schema, UnknownValue};
use polyview::synth::{self, SynthClass, SynthOptions, SynthTask};
use serde_json::{Value, json};
use tempfile::TempDir;

/// Writes a small synthetic data set: 12 training actions of 2 views, 12 frames of 32×32.
pub fn small_set(folder: &Path) {
    synthetic_set(folder, 12);
}

/// Like [`small_set`], with `actions` training actions.
pub fn synthetic_set(folder: &Path, actions: usize) {
    let options = SynthOptions {
        out: folder.to_owned(),
        actions,
        views: 2,
        seed: 3,
        frames: 12,
        width: 32,
        height: 32,
        ..SynthOptions::default()
    };
    let tasks = synth::tasks_of(&Schema::mvfoul().expect("the built-in schema is valid"));
    synth::write(&options, &tasks, |_, _| {}).expect("an empty folder");
}

/// Returns the path of a training clip of a synthetic data set.
pub fn clip(root: &Path, action: usize, view: usize) -> PathBuf {
    root.join(format!("mvfouls/train/action_{action}/clip_{view}.mp4"))
}

/// Returns a task for `synth` whose classes are the values of one annotation field of the same name.
pub fn task(name: &str, classes: usize) -> SynthTask {
    let class = |c: usize| SynthClass {
        name: format!("{name} {c}"),
        fields: vec![(name.to_string(), format!("{c}"))],
    };
    SynthTask { name: name.to_string(), classes: (0..classes).map(class).collect() }
}

/// Returns an action's annotation with one view per URL.
pub fn action(class: &str, offence: &str, severity: &str, urls: &[&str]) -> Value {
    let clips: Vec<_> = urls
        .iter()
        .map(|url| {
            json!({"Url": url, "Camera type": "Main", "Timestamp": 471255, "Replay speed": 1.8})
        })
        .collect();
    json!({"UrlLocal": "a\\b", "Action class": class, "Offence": offence, "Severity": severity,
           "Multiple fouls": "yes", "Clips": clips})
}

/// Writes a split's annotations.
pub fn write_split(root: &Path, folder: &str, text: &str) {
    let dir = root.join(folder);
    std::fs::create_dir_all(&dir).expect("the folder is writable");
    std::fs::write(dir.join("annotations.json"), text).expect("the folder is writable");
}

/// Reads a split with the built-in schema.
pub fn load(root: &TempDir, split: &str) -> Result<Split, DataError> {
    load_split(root.path(), split, &Schema::mvfoul().expect("the built-in schema is valid"))
}

/// Opens the data set in a folder, with the built-in schema.
pub fn source(root: &Path) -> Result<DataSource, DataError> {
    let schema = Some(Schema::mvfoul().expect("the built-in schema is valid"));
    DataSource::open(&SourceSpec { root: root.to_owned(), schema, ..SourceSpec::default() })
}

/// Returns an action's annotation fields.
pub fn fields(pairs: &[(&str, &str)]) -> Fields {
    pairs.iter().map(|(field, value)| ((*field).to_owned(), (*value).to_owned())).collect()
}

/// Returns the labelling of an action with one value that the schema does not know.
pub fn unknown(task: &str, field: &str, value: &str) -> Labelled {
    let [task, field, value] = [task, field, value].map(str::to_owned);
    Labelled::Unknown(vec![UnknownValue { task, field, value }])
}
