//! Records the inputs and outcomes of training steps, so that they can be reproduced in another
//! framework.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use burn::tensor::{Device, Tensor};
use indexmap::IndexMap;
use serde_json::{Map, Value, json};

use super::error::TrainError;
use super::objective::{Losses, Objective, TaskObjective};
use super::run_schedule::Rates;
use crate::checkpoint::{self, CheckpointInfo, write_tensors};
use crate::data::{Batch, Dataset};
use crate::model::state_dict::StateDict;
use crate::model::{DropoutMasks, MultiViewNet, STAGES, ViewLayout, plain_clips_of};
use crate::schema::Schema;

/// Name of the file with the weights before the first step.
const INITIAL: &str = "initial.safetensors";

/// Writes a record: a folder with `initial.safetensors` (a weight file), `record.json`, and one
/// safetensors file for each step and for each batch of the first validation pass. Such a file
/// contains `clips`, the normalised clips `[N, 3, T, H, W]` as fed to the backbone. For a step it
/// also contains `dropout.0` `[N, F]` and `dropout.1`, … `[B, hidden]`, the factors of the dropout
/// before view pooling and in each head. The metadata entry `record` is a JSON object with the
/// actions, their views and labels, and, for a step, its learning rates, losses and gradient norm.
#[derive(Debug)]
pub struct Recorder {
    folder: PathBuf,
    schema: Schema,
    /// Width of the backbone's features.
    features: usize,
    /// Number of validation batches recorded so far; `None` once the pass is over.
    validated: Option<usize>,
}

/// A step before its update.
pub(super) struct RecordedStep<'a> {
    /// Number of steps of the run before this one.
    pub before: usize,
    pub epoch: usize,
    pub net: &'a MultiViewNet,
    pub batch: &'a Batch,
    pub clips: Tensor<5>,
    pub masks: &'a DropoutMasks,
    pub rates: &'a Rates,
    pub losses: &'a Losses,
    /// Gradient norm before clipping.
    pub norm: f64,
}

impl Recorder {
    /// Returns an error if a folder already holds a record.
    ///
    /// # Errors
    /// [`TrainError::RecordOccupied`].
    pub(super) fn refuse_occupied(folder: &Path) -> Result<(), TrainError> {
        match folder.join(INITIAL).exists() {
            true => Err(TrainError::RecordOccupied { folder: folder.display().to_string() }),
            false => Ok(()),
        }
    }

    /// Begins a record in a folder that holds none, or continues that of a run that is resumed after
    /// `resumed_after` epochs.
    ///
    /// # Errors
    /// A folder that cannot be written, or that holds the record of another run.
    pub(super) fn begin(
        folder: &Path,
        schema: &Schema,
        objective: &Objective,
        train: &Dataset,
        net: &MultiViewNet,
        info: &CheckpointInfo,
        resumed_after: Option<usize>,
    ) -> Result<Self, TrainError> {
        if resumed_after.is_none() {
            Self::refuse_occupied(folder)?;
        }
        checkpoint::prepare_folder(folder)?;
        let describe = |(index, task): (usize, &TaskObjective)| {
            let counts = train.class_counts(index, task.classes);
            json!({ "name": task.name, "weight": task.weight, "class_counts": counts })
        };
        let tasks: Vec<Value> = objective.tasks.iter().enumerate().map(describe).collect();
        let about = json!({ "tasks": tasks, "imbalanced": schema.imbalanced_task() });
        checkpoint::write_text(&folder.join("record.json"), serde_json::to_string_pretty(&about))?;
        // A resumed run keeps the weights from its beginning.
        let initial = folder.join(INITIAL);
        if !initial.exists() {
            checkpoint::save(&initial, net, info)?;
        }
        let features = info.model.backbone.features();
        let (folder, schema) = (folder.to_owned(), schema.clone());
        // The first epoch's validation pass may have been interrupted: it only counts as recorded once
        // that epoch is finished.
        let recorded = resumed_after > Some(0) && folder.join(valid_name(0)).exists();
        let validated = (!recorded).then_some(0);
        Ok(Self { folder, schema, features, validated })
    }

    /// Writes a step.
    pub(super) fn step(&self, step: &RecordedStep<'_>) -> Result<(), TrainError> {
        let RecordedStep { batch, rates, losses, .. } = step;
        let mut tensors = StateDict::new();
        tensors.insert("clips".to_owned(), step.clips.clone().try_into_data()?);
        let views = ViewLayout::new(batch.view_counts.clone());
        let factors = step.net.dropout_factors(self.features, &views, step.masks);
        for (layer, factors) in factors.into_iter().enumerate() {
            tensors.insert(format!("dropout.{layer}"), factors.try_into_data()?);
        }
        let mut record = self.describe(batch);
        let stages = STAGES.iter().zip(rates.stages).map(|(name, rate)| (*name, rate));
        let by_name: IndexMap<&str, f64> = stages.chain([("heads", rates.heads)]).collect();
        let entries = json!({
            "epoch": step.epoch,
            "trainable": step.net.backbone.trainable().names(),
            "rates": by_name,
            "momentum": rates.momentum,
            "losses": losses,
            "gradient_norm": step.norm,
        });
        if let Value::Object(entries) = entries {
            record.extend(entries);
        }
        if let Some(mix) = &batch.mix {
            let mix = json!({ "partners": mix.partners, "share": mix.share });
            record.insert("mix".to_owned(), mix);
        }
        self.write(&format!("step-{:06}.safetensors", step.before + 1), &tensors, record)
    }

    /// Writes a validation batch, if this is the first validation pass.
    pub(super) fn validation(&mut self, batch: &Batch, device: &Device) -> Result<(), TrainError> {
        let Some(before) = self.validated else {
            return Ok(());
        };
        let clips = plain_clips_of(batch, 0..batch.clips(), device)?.try_into_data()?;
        let tensors = StateDict::from([("clips".to_owned(), clips)]);
        self.write(&valid_name(before), &tensors, self.describe(batch))?;
        self.validated = Some(before + 1);
        Ok(())
    }

    /// Ends the validation pass; later passes are not recorded, as they have the same clips.
    pub(super) fn validated(self) -> Self {
        Self { validated: None, ..self }
    }

    fn describe(&self, batch: &Batch) -> Map<String, Value> {
        let named = |names: Vec<&String>, values: Vec<Value>| -> Value {
            names.into_iter().cloned().zip(values).collect::<Map<_, _>>().into()
        };
        let tasks = self.schema.tasks.iter().map(|task| &task.name).collect();
        let properties = self.schema.properties.iter().map(|property| &property.name).collect();
        let labels = batch.labels.iter().map(|labels| json!(labels)).collect();
        let values = batch.properties.iter().map(|values| json!(values)).collect();
        Map::from_iter([
            ("actions".to_owned(), json!(batch.actions)),
            ("view_counts".to_owned(), json!(batch.view_counts)),
            ("labels".to_owned(), named(tasks, labels)),
            ("properties".to_owned(), named(properties, values)),
        ])
    }

    fn write(
        &self,
        name: &str,
        tensors: &StateDict,
        record: Map<String, Value>,
    ) -> Result<(), TrainError> {
        let metadata = HashMap::from([("record".to_owned(), Value::from(record).to_string())]);
        Ok(write_tensors(&self.folder.join(name), tensors, metadata)?)
    }
}

/// Returns the file name of a validation batch, counted from 0.
fn valid_name(batch: usize) -> String {
    format!("valid-{:04}.safetensors", batch + 1)
}
