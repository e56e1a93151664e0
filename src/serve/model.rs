//! The trained network and the thread in which it predicts.

use std::path::PathBuf;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use serde::Serialize;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::ServeError;
use super::queue::{Job, Queue};
use crate::checkpoint::CheckpointInfo;
use crate::data::video::Cancel;
use crate::data::{Dataset, InputSpec};
use crate::device::{Compute, MemoryWatch, in_one_line};
use crate::evaluate::{
    ActionOutput, EvaluateError, OutputOptions, PredictOptions, predict_dataset,
};
use crate::model::MultiViewNet;
use crate::schema::Schema;

/// A trained network on its device, with everything that determines its predictions.
#[derive(Debug)]
pub struct Model {
    /// Name shown to clients, such as the checkpoint's file name.
    pub name: String,
    /// The network, on the device of `compute`.
    pub net: MultiViewNet,
    /// Header of the network's checkpoint.
    pub info: CheckpointInfo,
    /// The network's tasks and classes.
    pub schema: Schema,
    /// The network's input.
    pub input: InputSpec,
    /// How clips are passed through the network.
    pub options: PredictOptions,
    /// Minimum probability of a task's most probable class; below it, the task is undecided.
    pub min_confidence: Option<f64>,
    /// The network's device.
    pub compute: Compute,
}

/// The uploaded clips of one action, in a folder that is removed on drop.
#[derive(Debug)]
pub(super) struct Clips {
    pub folder: TempDir,
    /// Files of the clips, in `folder`.
    pub paths: Vec<PathBuf>,
    /// The client's names of the clips.
    pub names: Vec<String>,
    /// Cancels reading the clips.
    pub cancel: Cancel,
}

/// Outcome of a prediction.
pub(super) type Predicted = Result<Answer, EvaluateError>;

/// The answer to a client.
#[derive(Debug, Serialize)]
pub(super) struct Answer {
    #[serde(flatten)]
    pub action: ActionOutput,
    /// Seconds spent on decoding and prediction.
    seconds: f64,
    /// Seconds spent in the queue.
    waited: f64,
}

/// Requests for the model's thread.
pub(super) type Requests = Queue<Clips, Predicted>;

impl Model {
    /// Returns the description of the model for clients. `clips` is the maximum number of clips,
    /// `max_upload` their maximum total size in bytes.
    pub(super) fn about(&self, clips: usize, max_upload: u64) -> Value {
        let tasks: Vec<Value> = self
            .schema
            .tasks
            .iter()
            .map(|task| {
                json!({ "name": task.name, "title": task.title, "classes": task.class_names() })
            })
            .collect();
        let window = &self.input.window;
        let averaging = &self.options.averaging;
        json!({
            "checkpoint": self.name,
            "backbone": self.info.model.backbone.to_string(),
            "epoch": self.info.epoch,
            "device": self.compute.info.name,
            "input": {
                "frames": window.frames_per_clip,
                "height": self.input.size[0],
                "width": self.input.size[1],
                "window": window.window.to_string(),
                "max_views": clips,
            },
            "averaging": {
                "clips": averaging.clips,
                "crops": if averaging.three_crops { 3 } else { 1 },
                "flip": averaging.flip,
                "most": averaging.most(),
            },
            "tasks": tasks,
            "max_upload": max_upload,
            "min_confidence": self.min_confidence,
        })
    }

    /// Starts the thread that predicts until the queue is closed or the device has failed for good.
    /// `reading` is the time limit for reading the clips of a request.
    pub(super) fn start(
        self,
        queue: Arc<Requests>,
        reading: Duration,
    ) -> Result<JoinHandle<Result<(), ServeError>>, ServeError> {
        let answer = move || {
            while let Some(Job { request, since, reply, .. }) = queue.next() {
                request.cancel.after(reading);
                let answer = self.predict(&request, since.elapsed().as_secs_f64());
                // The clips are removed before the client gets its answer.
                drop(request);
                let next =
                    answer.as_ref().map_or_else(|error| self.check_device(error), |_| Ok(()));
                // The client may not be waiting any more.
                let _ = reply.send(answer);
                next?;
            }
            Ok(())
        };
        thread::Builder::new().name("model".to_owned()).spawn(answer).map_err(ServeError::Start)
    }

    /// Returns an error if the device cannot serve further requests after `error`.
    fn check_device(&self, error: &EvaluateError) -> Result<(), ServeError> {
        if matches!(error, EvaluateError::NetworkOutOfMemory) {
            return Err(ServeError::Device(error.to_string()));
        }
        match MemoryWatch::start(&self.compute.device).lasting_failure() {
            Some(error) => {
                Err(ServeError::Device(format!("the device is lost: {}", in_one_line(&error))))
            }
            None => Ok(()),
        }
    }

    fn predict(&self, clips: &Clips, waited: f64) -> Predicted {
        const ACTION: &str = "action";
        let started = Instant::now();
        let action = vec![(ACTION.to_owned(), clips.paths.clone())];
        let dataset = Dataset::of_clips(action, self.input.window, self.input.size);
        let dataset = dataset.allow_unreadable().cancelled_by(clips.cancel.clone());
        let dataset = Arc::new(dataset);
        let device = &self.compute.device;
        let predicted =
            predict_dataset(&self.net, &dataset, &self.options, device, &mut |_, _| ())?;
        let unreadable = clips.paths.iter().zip(&clips.names).enumerate();
        let unreadable = unreadable.filter_map(|(view, (path, name))| {
            let reason = dataset.why_unreadable(path)?.to_string();
            // The paths of the server's files are not revealed to clients.
            let reason = reason.replace(&*path.to_string_lossy(), name);
            Some((view, reason.replace(&*clips.folder.path().to_string_lossy(), "")))
        });
        let options = OutputOptions { top: None, min_confidence: self.min_confidence };
        let action = ActionOutput::new(
            &self.schema,
            ACTION,
            &clips.names,
            predicted.first(),
            unreadable.collect(),
            &options,
        );
        Ok(Answer { action, seconds: started.elapsed().as_secs_f64(), waited })
    }
}
