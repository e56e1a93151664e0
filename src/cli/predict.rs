//! `polyview predict`: classifies an action from its clips.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use clap::Args;
use serde_json::{Value, json};

use super::trained::{Trained, TrainedArgs};
use super::{CommandResult, Failure, Terminal, print_json, print_text};
use crate::data::Dataset;
use crate::data::natural::natural_order;
use crate::data::video::is_hidden;
use crate::evaluate::{ActionPrediction, predict_dataset};

/// Options as typed.
#[derive(Debug, Args)]
pub(super) struct PredictArgs {
    /// The clips of one action, or a folder of clips, or a folder of such folders
    #[arg(required = true, value_name = "CLIP")]
    clips: Vec<PathBuf>,
    #[command(flatten)]
    trained: TrainedArgs,
    /// Most probable classes to print per task
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
        if let [first, rest @ ..] = trained.info.model.inputs.as_slice() {
            let names = rest.iter().fold(first.name.clone(), |all, i| format!("{all}, {}", i.name));
            log::warn!(
                "{}: trained with annotated properties as inputs ({names}), which are unknown for \
                 bare clips",
                checkpoint.display()
            );
        }
        let paths: Vec<Vec<PathBuf>> = actions.iter().map(|(_, views)| views.clone()).collect();
        let names: Vec<String> = actions.iter().map(|(name, _)| name.clone()).collect();
        let input = &trained.input;
        let dataset =
            Arc::new(Dataset::of_clips(actions, input.window, input.size).tolerating_unreadable());
        let started = Instant::now();
        let mut clips = 0;
        let (options, device) = (&trained.options, &trained.compute.device);
        let mut progress = |_, done| clips = done;
        let predicted = predict_dataset(&trained.net, &dataset, options, device, &mut progress)?;
        let seconds = started.elapsed().as_secs_f64();
        if predicted.is_empty() {
            return Err(Failure::runtime("none of the clips can be read"));
        }
        let views = |action: &ActionPrediction| -> Vec<PathBuf> {
            let index = names.iter().position(|name| *name == action.action);
            let paths = &paths[index.expect("every prediction is of a given action")];
            action.views.iter().map(|view| paths[*view].clone()).collect()
        };
        if self.json {
            let list: Vec<Value> =
                predicted.iter().map(|p| self.json(&trained, p, &views(p))).collect();
            print_json(&list)?;
        } else {
            for action in &predicted {
                print_text(&self.text(&trained, action, &views(action)))?;
            }
        }
        terminal.line(&format!("{:.1} clips/s", clips as f64 / seconds.max(1e-9)));
        Ok(ExitCode::SUCCESS)
    }

    fn text(&self, trained: &Trained, action: &ActionPrediction, views: &[PathBuf]) -> String {
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

    fn json(&self, trained: &Trained, action: &ActionPrediction, views: &[PathBuf]) -> Value {
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

/// The actions that the arguments specify: names with the paths of their clips.
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
    let clips: Vec<PathBuf> = inside.iter().filter(|path| is_clip(path)).cloned().collect();
    if !clips.is_empty() {
        return Ok(vec![(name(folder), clips)]);
    }
    let mut actions = Vec::new();
    for path in inside.into_iter().filter(|path| path.is_dir()) {
        let clips: Vec<PathBuf> = entries(&path)?.into_iter().filter(|p| is_clip(p)).collect();
        if !clips.is_empty() {
            actions.push((name(&path), clips));
        }
    }
    if actions.is_empty() {
        let folder = folder.display();
        return Err(Failure::usage(format!(
            "{folder}: contains neither clips nor folders of clips"
        )));
    }
    Ok(actions)
}

/// A folder's entries except for hidden ones, in natural order.
fn entries(folder: &Path) -> Result<Vec<PathBuf>, Failure> {
    let fail = |error| Failure::runtime(format!("{}: {error}", folder.display()));
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(fail)? {
        let entry = entry.map_err(fail)?;
        if !is_hidden(&entry.file_name()) {
            paths.push(entry.path());
        }
    }
    natural_order(&mut paths);
    Ok(paths)
}

fn is_clip(path: &Path) -> bool {
    const EXTENSIONS: [&str; 8] = ["mp4", "mov", "m4v", "mkv", "avi", "webm", "ts", "mpg"];
    let extension = path.extension().and_then(|e| e.to_str());
    path.is_file()
        && extension.is_some_and(|e| EXTENSIONS.contains(&e.to_ascii_lowercase().as_str()))
}
