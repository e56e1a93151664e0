//! `polyview predict`: classifies actions from their clips.

mod actions;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use clap::Args;

use self::actions::{Action, actions, distinct_names, each_clip};
use super::advice::output_failure;
use super::out_file::{
    check_out_file, protect_checkpoint, protect_data, protect_other_file, write_png,
};
use super::trained::{Trained, TrainedArgs, averaged};
use super::visible::visible_line;
use super::{CommandResult, Failure, Terminal, print_json, print_text};
use crate::atomic_file::linked;
use crate::checkpoint::{self, write_text};
use crate::data::{Dataset, Reading};
use crate::evaluate::{
    ActionOutput, ActionPrediction, OutputOptions, are_predictions, predict_dataset,
    predictions_csv, saliency,
};
use crate::options::at_least;
use crate::schema::Schema;
use crate::sheet::{contact_sheet, explained};

/// Command-line options.
#[derive(Debug, Args)]
pub(super) struct PredictArgs {
    /// The clips of one action; or folders of clips, each an action; or a folder of such folders
    #[arg(required = true, value_name = "CLIP")]
    clips: Vec<PathBuf>,
    /// Treat each clip as a separate action, whatever folder it is in
    #[arg(long)]
    each: bool,
    /// Also draw which moments and regions of each view support the predicted classes (PNG)
    #[arg(long, value_name = "FILE.png")]
    explain: Option<PathBuf>,
    /// Also write a table with a line per action, as `evaluate` does
    #[arg(long, value_name = "FILE.csv")]
    predictions: Option<PathBuf>,
    /// Most probable classes to print per task
    #[arg(long, value_name = "N", value_parser = at_least(1), default_value_t = 2)]
    top: usize,
    /// Print JSON
    #[arg(long)]
    json: bool,
    // Last, because options after it would be listed under its headings.
    #[command(flatten)]
    trained: TrainedArgs,
}

impl PredictArgs {
    pub(super) fn run(&self, terminal: &Terminal) -> CommandResult {
        let mut actions = actions(&self.clips)?;
        if self.each {
            actions = each_clip(actions);
        }
        let Some(checkpoint) = &self.trained.checkpoint else {
            return Err(Failure::usage("--checkpoint is required: weights that `train` wrote"));
        };
        if self.explain.is_some() && actions.len() > 1 {
            return Err(Failure::usage(format!(
                "--explain draws one action, but there are {}: name the clips of one",
                actions.len()
            )));
        }
        let files =
            [("--explain", &self.explain, "png"), ("--predictions", &self.predictions, "csv")];
        for (option, path, extension) in files {
            let Some(path) = path else { continue };
            check_out_file(option, path, extension)?;
            let views = actions.iter().flat_map(|action| &action.views);
            protect_data(option, path, views.map(PathBuf::as_path))?;
        }
        if let Some(path) = &self.predictions {
            protect_checkpoint("--predictions", path, checkpoint)?;
            protect_other_file("--predictions", path, "a file of predictions", are_predictions)?;
        }
        let trained = self.trained.open(checkpoint)?;
        terminal.line(&trained.describe());
        trained.warn_of_inputs();
        let limit = trained.input.max_views.unwrap_or(usize::MAX);
        if actions.iter().any(|action| action.views.len() > limit) {
            let views = if limit == 1 { "view".to_owned() } else { format!("{limit} views") };
            terminal.line(&format!("only the first {views} of each action (--max-views)"));
        }
        actions.iter_mut().for_each(|action| action.views.truncate(limit));
        let names = distinct_names(&actions);
        let clips = names.iter().cloned().zip(actions.iter().map(|action| action.views.clone()));
        let input = &trained.input;
        let dataset = Dataset::of_clips(clips.collect(), input.window, input.size);
        let dataset = Arc::new(dataset.allow_unreadable());
        let started = Instant::now();
        let mut clips = 0;
        let (options, device) = (&trained.options, &trained.compute.device);
        let mut progress = |_, done| clips = done;
        let predicted = predict_dataset(&trained.net, &dataset, options, device, &mut progress)?;
        let seconds = started.elapsed().as_secs_f64();
        averaged(&predicted).1.iter().for_each(|note| terminal.line(note));
        // Predictions are in the order of the actions; those of which nothing can be read have none.
        let mut predictions = predicted.iter().peekable();
        let results = actions.iter().zip(&names).map(|(action, name)| {
            let prediction = predictions.next_if(|prediction| prediction.action == *name);
            ((action, name), prediction)
        });
        if self.json {
            let list = results.map(|((action, name), prediction)| {
                self.json(&trained.schema, action, name, prediction, &dataset)
            });
            print_json(&list.collect::<Vec<ActionOutput>>())?;
        } else {
            for ((action, _), prediction) in results {
                if let Some(prediction) = prediction {
                    print_text(&self.text(&trained.schema, action, prediction))?;
                }
            }
        }
        let Some(first) = predicted.first() else {
            return Err(Failure::runtime("none of the clips can be read"));
        };
        if let Some(path) = &self.predictions {
            write_text(&linked(path), predictions_csv(&trained.schema, &predicted))
                .map_err(|error| output_failure("--predictions", &error))?;
            terminal.line(&format!("predictions: {}", path.display()));
        }
        if let Some(path) = &self.explain {
            self.draw(path, checkpoint, &trained, &dataset, first)?;
            terminal.line(&format!("explanation: {}", path.display()));
        }
        terminal.line(&format!("{:.1} clips/s", clips as f64 / seconds.max(1e-9)));
        Ok(ExitCode::SUCCESS)
    }

    /// Draws which parts of the only action's views support its predicted classes.
    fn draw(
        &self,
        path: &Path,
        checkpoint: &Path,
        trained: &Trained,
        dataset: &Dataset,
        prediction: &ActionPrediction,
    ) -> Result<(), Failure> {
        let device = &trained.compute.device;
        // The same network again, now with gradients.
        let (net, _) = checkpoint::load(checkpoint, &device.clone().autodiff())?;
        let net = net.with_half(trained.net.backbone.is_half());
        let read = dataset.read_batch(&[0], &Reading::MIDDLE, &mut dataset.resizer());
        // The prediction may have used other parts of the clips.
        let Some(batch) = read? else {
            return Err(Failure::runtime(format!(
                "--explain {}: no view can be read around its middle, which would be drawn",
                path.display()
            )));
        };
        let annotated = vec![vec![0]; trained.info.model.inputs.len()];
        let mut rows = Vec::new();
        for (index, task) in trained.schema.tasks.iter().enumerate() {
            let class = prediction.predicted(index);
            let all = saliency(&net, &batch, &annotated, [index, class], device)?;
            for (clip, (saliency, view)) in all.iter().zip(&batch.views).enumerate() {
                let file = dataset.samples[0].views[*view].file_name().unwrap_or_default();
                let name = &task.classes[class].name;
                let frame = (saliency.moment() * batch.size[0] as f64) as usize + 1;
                let caption = format!(
                    "{}: {name}\n{}\nmost at frame {frame} of {}",
                    task.title,
                    file.to_string_lossy(),
                    batch.size[0]
                );
                rows.push(explained(&batch, clip, saliency, caption));
            }
        }
        let title = format!("{}: what supports the predicted classes", prediction.action);
        write_png("--explain", path, &contact_sheet(&title, &rows))
    }

    fn text(&self, schema: &Schema, action: &Action, prediction: &ActionPrediction) -> String {
        let mut lines = vec![prediction.action.clone()];
        for (index, task) in schema.tasks.iter().enumerate() {
            let ranked = prediction.ranked(index);
            let classes = ranked.iter().take(self.top.max(1)).map(|(class, probability)| {
                format!("{} {:.1} %", task.classes[*class].name, probability * 100.0)
            });
            let classes = classes.collect::<Vec<String>>().join(", ");
            lines.push(match self.answer().decides(prediction, index) {
                true => format!("  {}: {classes}", task.title),
                false => format!("  {}: undecided ({classes})", task.title),
            });
        }
        for (view, share) in prediction.views.iter().zip(&prediction.shares) {
            let path = action.views[*view].display();
            lines.push(format!("  view {path}: {:.1} % of the decision", share * 100.0));
        }
        lines.iter().map(|line| visible_line(line)).collect::<Vec<_>>().join("\n")
    }

    /// Returns which parts of a prediction are reported.
    fn answer(&self) -> OutputOptions {
        let min_confidence = self.trained.min_confidence;
        OutputOptions { top: Some(self.top.max(1)), min_confidence }
    }

    /// Returns the answer for an action as JSON. Without a readable view it has neither tasks nor views.
    fn json(
        &self,
        schema: &Schema,
        action: &Action,
        name: &str,
        prediction: Option<&ActionPrediction>,
        dataset: &Dataset,
    ) -> ActionOutput {
        let shown = |path: &PathBuf| path.to_string_lossy().into_owned();
        let clips: Vec<String> = action.views.iter().map(shown).collect();
        let unreadable = action
            .views
            .iter()
            .enumerate()
            .filter_map(|(view, path)| Some((view, dataset.why_unreadable(path)?.to_string())));
        let unreadable = unreadable.collect();
        ActionOutput::new(schema, name, &clips, prediction, unreadable, &self.answer())
    }
}
