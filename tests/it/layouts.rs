//! The same clips in four layouts train to the same weights.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use polyview::checkpoint;
use polyview::data::source::{Format, SourceSpec};
use polyview::data::{DataError, DataSource};
use polyview::model::state_dict::{StateDict, collect_net};
use polyview::synth::{self, SynthOptions};
use serde_json::json;
use tempfile::TempDir;

use crate::common::data::{task, write_split};
use crate::common::run::{defaults_with, run, try_run, with_args};

/// Classes of the only task.
const CLASSES: usize = 2;

/// A clip of the data set.
struct Clip {
    split: &'static str,
    class: String,
    /// Its path below the split's folder, without the extension.
    name: String,
}

/// Writes a folder per split with a folder per class in it, and returns the clips.
fn folders(root: &Path) -> Vec<Clip> {
    let options = SynthOptions {
        out: root.join("synth"),
        actions: 8,
        views: 1,
        frames: 6,
        width: 32,
        height: 32,
        ..SynthOptions::default()
    };
    synth::write(&options, &[task("class", CLASSES)], |_, _| {}).unwrap();
    let mut clips = Vec::new();
    for split in ["train", "valid", "test"] {
        let dir = options.out.join("mvfouls").join(split);
        let text = fs::read_to_string(dir.join("annotations.json")).unwrap();
        let annotations: serde_json::Value = serde_json::from_str(&text).unwrap();
        for (id, action) in annotations["Actions"].as_object().unwrap() {
            let class = action["class"].as_str().unwrap().to_owned();
            let name = format!("{class}/{split} {id}");
            let path = root.join("folders").join(split).join(&name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            let from = dir.join(format!("action_{id}/clip_0.mp4"));
            fs::copy(from, path.with_extension("mp4")).unwrap();
            clips.push(Clip { split, class, name });
        }
    }
    // The order in which the folders are read.
    clips.sort_by_key(|clip| {
        let split = ["train", "valid", "test"].iter().position(|split| *split == clip.split);
        let number: usize = clip.name.rsplit(' ').next().unwrap().parse().unwrap();
        (split, clip.class.clone(), number)
    });
    clips
}

/// Copies the split folders.
fn copy(from: &Path, to: &Path, clips: &[Clip]) {
    for clip in clips {
        let path = to.join(clip.split).join(&clip.name).with_extension("mp4");
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::copy(from.join(clip.split).join(&clip.name).with_extension("mp4"), path).unwrap();
    }
}

fn soccernet(root: &Path, clips: &[Clip]) -> PathBuf {
    let dir = root.join("soccernet");
    copy(&root.join("folders"), &dir, clips);
    for split in ["train", "valid", "test"] {
        let mut actions = serde_json::Map::new();
        for clip in clips.iter().filter(|clip| clip.split == split) {
            let url = format!("{split}/{}", clip.name);
            let action = json!({"class": clip.class, "Clips": [{ "Url": url }]});
            actions.insert(clip.name.clone(), action);
        }
        write_split(&dir, split, &json!({"Actions": actions}).to_string());
    }
    dir
}

fn manifest(root: &Path, clips: &[Clip]) -> PathBuf {
    let dir = root.join("manifest");
    copy(&root.join("folders"), &dir, clips);
    let mut text = "Action;class;split;path\n".to_owned();
    for Clip { split, class, name } in clips {
        writeln!(text, "{name};{class};{split};\"{split}/{name}.mp4\"").unwrap();
    }
    fs::write(dir.join("clips.csv"), text).unwrap();
    dir
}

fn lists(root: &Path, clips: &[Clip]) -> PathBuf {
    let dir = root.join("lists");
    copy(&root.join("folders"), &dir, clips);
    for (split, list) in [("train", "our_train_list"), ("valid", "our_val_list"), ("test", "test")]
    {
        let of_split = clips.iter().filter(|clip| clip.split == split);
        let line = |clip: &Clip| format!("{}.mp4 {}\n", clip.name, clip.class);
        fs::write(dir.join(format!("{list}.txt")), of_split.map(line).collect::<String>()).unwrap();
    }
    dir
}

fn open(root: &Path) -> Result<DataSource, DataError> {
    DataSource::open(&SourceSpec { root: root.to_owned(), ..SourceSpec::default() })
}

fn weights(data: &Path, save: &Path, schema: Option<&Path>) -> StateDict {
    let mut args = vec!["--dataset-root", data.to_str().unwrap()];
    args.extend(["--save-dir", save.to_str().unwrap()]);
    if let Some(schema) = schema {
        args.extend(["--schema", schema.to_str().unwrap()]);
    }
    let options = "--backbone-name r3d_tiny --frames-per-clip 2 --target-fps 25 --start-frame 1 \
                   --end-frame 4 --img-height 16 --img-width 16 --batch-size 4 --num-workers 0 \
                   --device cpu --no-gradual-finetuning --epochs 2 --no-cache";
    let config = with_args(&defaults_with(options), &args);
    run(&config);
    let device = burn::tensor::Device::flex();
    let (net, info) = checkpoint::load(&save.join("last.safetensors"), &device).unwrap();
    collect_net(&net, &info.model).unwrap()
}

#[test]
fn four_layouts_of_the_same_clips_train_to_the_same_weights() {
    let folder = TempDir::new().unwrap();
    let root = folder.path();
    let clips = folders(root);
    let layouts = [
        (Format::Folders, root.join("folders")),
        (Format::Manifest, manifest(root, &clips)),
        (Format::List, lists(root, &clips)),
        (Format::SoccerNet, soccernet(root, &clips)),
    ];
    let inferred = open(&layouts[0].1).unwrap();
    let names: Vec<_> = inferred.schema().tasks.iter().map(|task| task.class_names()).collect();
    assert_eq!(names, [["0", "1"]]);
    let schema = root.join("schema.toml");
    fs::write(&schema, inferred.schema().to_toml()).unwrap();
    let mut first: Option<StateDict> = None;
    for (format, data) in layouts {
        // SoccerNet's layout has SoccerNet's schema unless another is given.
        let given = (format == Format::SoccerNet).then_some(schema.as_path());
        if given.is_none() {
            assert_eq!(open(&data).unwrap().format(), format);
        }
        let save = root.join(format!("run-{format}"));
        let weights = weights(&data, &save, given);
        match &first {
            None => first = Some(weights),
            Some(first) => assert!(*first == weights, "{format}"),
        }
    }
}

#[test]
fn training_needs_labels_in_both_splits() {
    let folder = TempDir::new().unwrap();
    let root = folder.path();
    let data = manifest(root, &folders(root));
    let table = data.join("clips.csv");
    let text = fs::read_to_string(&table).unwrap();
    for split in ["valid", "train"] {
        let unlabelled = text.lines().map(|line| {
            let mut cells: Vec<&str> = line.split(';').collect();
            if cells[2] == split {
                cells[1] = "";
            }
            cells.join(";") + "\n"
        });
        fs::write(&table, unlabelled.collect::<String>()).unwrap();
        let options = "--backbone-name r3d_tiny --device cpu --no-gradual-finetuning --epochs 1";
        let save = root.join("run");
        let places =
            ["--dataset-root", data.to_str().unwrap(), "--save-dir", save.to_str().unwrap()];
        let config = with_args(&defaults_with(options), &places);
        let error = try_run(&config, &AtomicBool::new(false), |_| {}).unwrap_err().to_string();
        assert!(error.contains(&format!("the {split} split has no labels")), "{error}");
        assert!(!save.join("last.safetensors").exists());
    }
}

#[cfg(unix)]
#[test]
fn an_unreadable_split_is_an_error_and_is_not_created() {
    let folder = TempDir::new().unwrap();
    folders(folder.path());
    let root = folder.path().join("folders");
    let soccernet = folder.path().join("synth");
    for (root, valid) in
        [(&root, root.join("valid")), (&soccernet, soccernet.join("mvfouls/valid"))]
    {
        assert_eq!(open(root).unwrap().splits(), ["train", "valid", "test"]);
        fs::remove_dir_all(&valid).unwrap();
        // For any user, root included, a link to itself is an error and not a missing file.
        std::os::unix::fs::symlink(&valid, &valid).unwrap();
        let error = open(root).unwrap_err().to_string();
        assert!(error.starts_with(&format!("{}: cannot be read: ", valid.display())), "{error}");
    }
}
