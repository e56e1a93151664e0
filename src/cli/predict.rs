//! `polyview predict`: the clips of an action in, its classes out.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use clap::Args;
use serde_json::{Value, json};

use super::trained::{Trained, TrainedArgs};
use super::{CommandResult, Failure, Terminal, print_json, print_text};
use crate::data::Dataset;
use crate::data::video::is_hidden;
use crate::evaluate::{Judged, judge};

/// Options as typed.
#[derive(Debug, Args)]
pub struct PredictArgs {
    /// The clips of one action, or a folder of clips, or a folder of such folders
    #[arg(required = true, value_name = "CLIP")]
    clips: Vec<PathBuf>,
    #[command(flatten)]
    trained: TrainedArgs,
    /// Classes to name per task
    #[arg(long, value_name = "N", default_value_t = 2)]
    top: usize,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl PredictArgs {
    pub(super) fn run(&self, terminal: &Terminal) -> CommandResult {
        let actions = actions(&self.clips)?;
        let Some(checkpoint) = &self.trained.checkpoint else {
            return Err(Failure::usage("--checkpoint is required: weights that `train` wrote"));
        };
        let trained = self.trained.open(checkpoint)?;
        let paths: Vec<Vec<PathBuf>> = actions.iter().map(|(_, views)| views.clone()).collect();
        let names: Vec<String> = actions.iter().map(|(name, _)| name.clone()).collect();
        let input = &trained.input;
        let dataset = Arc::new(Dataset::of_clips(actions, input.window, input.size));
        let started = Instant::now();
        let mut clips = 0;
        let judged = judge(
            &trained.net,
            &dataset,
            self.trained.batch_size,
            self.trained.num_workers,
            &trained.compute.device,
            &mut |_, done| clips = done,
        )?;
        let seconds = started.elapsed().as_secs_f64();
        if judged.is_empty() {
            return Err(Failure::runtime("none of the clips can be read"));
        }
        let views = |action: &Judged| -> Vec<PathBuf> {
            let place = names.iter().position(|name| *name == action.action);
            let paths = place.and_then(|place| paths.get(place));
            let path = |view: &usize| paths.and_then(|paths| paths.get(*view)).cloned();
            action.views.iter().filter_map(path).collect()
        };
        if self.json {
            let list: Vec<Value> =
                judged.iter().map(|j| self.json(&trained, j, &views(j))).collect();
            print_json(&list)?;
        } else {
            for action in &judged {
                print_text(&self.words(&trained, action, &views(action)))?;
            }
        }
        terminal.line(&format!("{:.1} clips/s", clips as f64 / seconds.max(1e-9)));
        Ok(ExitCode::SUCCESS)
    }

    fn words(&self, trained: &Trained, action: &Judged, views: &[PathBuf]) -> String {
        let mut lines = vec![action.action.clone()];
        for (index, task) in trained.schema.tasks.iter().enumerate() {
            let ranked = action.ranked(index);
            let classes = ranked.iter().take(self.top.max(1)).map(|(class, probability)| {
                format!("{} {:.1} %", task.classes[*class].name, probability * 100.0)
            });
            let classes: Vec<String> = classes.collect();
            lines.push(format!("  {}: {}", task.title, classes.join(", ")));
        }
        for (path, share) in views.iter().zip(&action.shares) {
            lines.push(format!(
                "  view {}: {:.1} % of the decision",
                path.display(),
                share * 100.0
            ));
        }
        lines.join("\n")
    }

    fn json(&self, trained: &Trained, action: &Judged, views: &[PathBuf]) -> Value {
        let tasks: serde_json::Map<String, Value> = trained
            .schema
            .tasks
            .iter()
            .enumerate()
            .map(|(index, task)| {
                let ranked = action.ranked(index);
                let classes = ranked.iter().take(self.top.max(1)).map(|(class, probability)| {
                    json!({ "class": task.classes[*class].name, "confidence": probability })
                });
                (task.name.clone(), classes.collect())
            })
            .collect();
        let views = views.iter().zip(&action.shares);
        let views: Vec<Value> =
            views.map(|(path, share)| json!({ "clip": path, "share": share })).collect();
        json!({ "action": action.action, "tasks": tasks, "views": views })
    }
}

/// The actions that the arguments name.
fn actions(given: &[PathBuf]) -> Result<Vec<(String, Vec<PathBuf>)>, Failure> {
    let name = |path: &Path| {
        path.file_name().map_or_else(|| path.display().to_string(), |n| n.to_string_lossy().into())
    };
    if let Some(missing) = given.iter().find(|path| !path.exists()) {
        return Err(Failure::usage(format!("{}: there is no such clip", missing.display())));
    }
    let [folder] = given else {
        return Ok(vec![("action".to_owned(), given.to_vec())]);
    };
    if !folder.is_dir() {
        return Ok(vec![("action".to_owned(), given.to_vec())]);
    }
    let inside = entries(folder)?;
    let films: Vec<PathBuf> = inside.iter().filter(|path| is_clip(path)).cloned().collect();
    if !films.is_empty() {
        return Ok(vec![(name(folder), films)]);
    }
    let mut actions = Vec::new();
    for path in inside.into_iter().filter(|path| path.is_dir()) {
        let films: Vec<PathBuf> = entries(&path)?.into_iter().filter(|p| is_clip(p)).collect();
        if !films.is_empty() {
            actions.push((name(&path), films));
        }
    }
    if actions.is_empty() {
        let what = folder.display();
        return Err(Failure::usage(format!("{what}: holds neither clips nor folders of clips")));
    }
    Ok(actions)
}

/// A folder's entries but the hidden ones, action_2 before action_10.
fn entries(folder: &Path) -> Result<Vec<PathBuf>, Failure> {
    let fail = |error| Failure::runtime(format!("{}: {error}", folder.display()));
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(fail)? {
        let entry = entry.map_err(fail)?;
        if !is_hidden(&entry.file_name()) {
            paths.push(entry.path());
        }
    }
    let key = |path: &PathBuf| {
        let name = path.file_name().map_or(String::new(), |n| n.to_string_lossy().into_owned());
        (name.len(), name)
    };
    paths.sort_by_key(key);
    Ok(paths)
}

fn is_clip(path: &Path) -> bool {
    const ENDINGS: [&str; 8] = ["mp4", "mov", "m4v", "mkv", "avi", "webm", "ts", "mpg"];
    let ending = path.extension().and_then(|e| e.to_str()).unwrap_or_default();
    path.is_file() && ENDINGS.contains(&ending.to_ascii_lowercase().as_str())
}
