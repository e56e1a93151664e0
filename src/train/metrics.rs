//! The metrics of a pass over a split: losses, confusion matrices, wall time, and the share of it spent
//! waiting for data.

use std::time::{Duration, Instant};

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use super::error::TrainError;
use super::objective::{BatchResult, Objective, TaskObjective};
use crate::data::Batch;
use crate::data::loader::Loader;
use crate::losses;
use crate::metrics::ConfusionMatrix;
use crate::report::{Event, PassKind, PassRecord, TaskRecord};

/// Loss and confusion matrix of one head over a pass so far.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct HeadProgress {
    matrix: ConfusionMatrix,
    /// Sum of the batches' mean losses, each multiplied by its divisor. With class weights a batch with
    /// rarer classes thus counts for more, and the mean does not depend on how actions are batched.
    loss: f64,
    /// Sum of the divisors. Older checkpoints have the number of actions instead.
    #[serde(alias = "actions")]
    divisor: f64,
}

impl HeadProgress {
    fn new(head: &TaskObjective) -> Self {
        Self { matrix: ConfusionMatrix::new(head.classes), loss: 0.0, divisor: 0.0 }
    }

    fn add(
        &mut self,
        logits: Tensor<2>,
        labels: impl IntoIterator<Item = Option<usize>>,
        [loss, divisor]: [f64; 2],
    ) -> Result<(), TrainError> {
        let classes = losses::argmax(logits).try_into_vec_as::<i32>()?;
        for (label, class) in labels.into_iter().zip(classes) {
            let Some(label) = label else { continue };
            // The matrix rejects anything that is not a valid index.
            self.matrix.add(label, usize::try_from(class).unwrap_or(usize::MAX))?;
        }
        self.loss += loss * divisor;
        self.divisor += divisor;
        Ok(())
    }

    /// Returns the mean loss; `None` if no class was known.
    fn mean(&self) -> Option<f64> {
        (self.divisor > 0.0).then(|| self.loss / self.divisor)
    }

    fn record(&self, head: &TaskObjective) -> TaskRecord {
        TaskRecord::new(&head.name, self.mean().unwrap_or(0.0), &self.matrix)
    }
}

/// Progress of a pass. Stored in a checkpoint within an epoch, so that the metrics of a resumed
/// pass cover the whole pass.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PassProgress {
    /// Number of steps done.
    pub steps: usize,
    /// Number of batches done, including entirely unreadable ones, which have no step; 0 in older
    /// checkpoints.
    #[serde(default)]
    batches: usize,
    /// Sum of the steps' gradient norms.
    norm: f64,
    /// Number of steps that were skipped, which have no gradient norm.
    #[serde(default)]
    pub left_out: usize,
    actions: usize,
    clips: usize,
    /// Wall time of the pass before it was resumed, seconds.
    seconds: f64,
    /// Part of it spent waiting for data, seconds.
    waited: f64,
    tasks: Vec<HeadProgress>,
    auxiliary: Vec<HeadProgress>,
}

impl PassProgress {
    /// Creates the progress of a pass at its beginning.
    pub fn new(objective: &Objective) -> Self {
        Self {
            steps: 0,
            batches: 0,
            norm: 0.0,
            left_out: 0,
            actions: 0,
            clips: 0,
            seconds: 0.0,
            waited: 0.0,
            tasks: objective.tasks.iter().map(HeadProgress::new).collect(),
            auxiliary: objective.auxiliary.iter().map(HeadProgress::new).collect(),
        }
    }

    /// Returns the number of batches of the pass that are done, with or without a step.
    pub fn batches(&self) -> usize {
        self.batches.max(self.steps)
    }

    /// Returns the wall time of the pass so far, seconds.
    pub fn seconds(&self) -> f64 {
        self.seconds
    }

    /// Returns whether the progress has the same heads as an objective.
    pub fn fits(&self, objective: &Objective) -> bool {
        let fit = |heads: &[HeadProgress], of: &[TaskObjective]| {
            heads.len() == of.len()
                && heads.iter().zip(of).all(|(h, of)| h.matrix.classes() == of.classes)
        };
        fit(&self.tasks, &objective.tasks) && fit(&self.auxiliary, &objective.auxiliary)
    }

    /// Returns the total loss over all actions so far.
    fn loss(&self, objective: &Objective) -> f64 {
        let tasks: Vec<f64> = self.tasks.iter().map(|head| head.mean().unwrap_or(0.0)).collect();
        let auxiliary: Vec<_> = self.auxiliary.iter().map(HeadProgress::mean).collect();
        objective.total(&tasks, &auxiliary)
    }
}

/// Metrics of a pass in progress, with its clock running.
pub(super) struct PassMetrics {
    pass: PassProgress,
    /// Number of batches that were done when the clock was started.
    before: usize,
    started: Instant,
    waited: Duration,
    /// Time spent on exchange between devices, if the pass is computed in lanes.
    pub exchanged: Option<Duration>,
    /// Loss of the batch added last.
    pub last_loss: Option<f64>,
}

impl PassMetrics {
    pub(super) fn new(pass: PassProgress) -> Self {
        let (before, waited) = (pass.batches(), Duration::ZERO);
        Self { pass, before, started: Instant::now(), waited, exchanged: None, last_loss: None }
    }

    /// Returns the number of steps done.
    pub(super) fn steps(&self) -> usize {
        self.pass.steps
    }

    fn seconds(&self) -> f64 {
        self.pass.seconds + self.started.elapsed().as_secs_f64()
    }

    /// Returns the progress of the pass, with its times up to now.
    pub(super) fn progress(&self) -> PassProgress {
        PassProgress {
            seconds: self.seconds(),
            waited: self.pass.waited + self.waited.as_secs_f64(),
            ..self.pass.clone()
        }
    }

    /// Returns the next batch and counts the time until it arrives as waiting.
    pub(super) fn wait_for(&mut self, loader: &mut Loader) -> Result<Option<Batch>, TrainError> {
        let began = Instant::now();
        let batch = loader.next().transpose()?;
        self.waited += began.elapsed();
        Ok(batch)
    }

    /// Records that `batches` batches of the loader are done, with or without a step.
    pub(super) fn done(&mut self, batches: usize) {
        self.pass.batches = self.before + batches;
    }

    /// Adds the result of a training step and its gradient norm; the norm is `None` if the step was skipped.
    pub(super) fn add(
        &mut self,
        objective: &Objective,
        batch: &Batch,
        result: BatchResult,
        gradient_norm: Option<f64>,
    ) -> Result<(), TrainError> {
        self.add_result(objective, batch, result)?;
        match gradient_norm {
            Some(norm) => self.pass.norm += norm,
            None => self.pass.left_out += 1,
        }
        Ok(())
    }

    /// Adds the result of a batch that needs no gradient.
    pub(super) fn add_result(
        &mut self,
        objective: &Objective,
        batch: &Batch,
        result: BatchResult,
    ) -> Result<(), TrainError> {
        let (pass, losses) = (&mut self.pass, &result.losses);
        let [tasks, auxiliary] = objective.divisors(batch);
        for (task, logits) in result.logits.into_iter().enumerate() {
            let labels = batch.labels[task].iter().copied();
            pass.tasks[task].add(logits, labels, [losses.tasks[task], tasks[task]])?;
        }
        for (head, known) in result.auxiliary.into_iter().enumerate() {
            if let Some(known) = known {
                let loss = [losses.auxiliary[head], auxiliary[head]];
                pass.auxiliary[head].add(known.logits, known.labels, loss)?;
            }
        }
        self.last_loss = Some(losses.total);
        pass.steps += 1;
        pass.actions += batch.actions.len();
        pass.clips += batch.clips();
        Ok(())
    }

    fn data_wait(&self) -> f64 {
        (self.pass.waited + self.waited.as_secs_f64()) / self.seconds().max(1e-9)
    }

    /// Returns the event for the batch added last.
    pub(super) fn event(&self, objective: &Objective, epoch: usize, phase: PassKind) -> Event {
        Event::Step {
            epoch,
            phase,
            done: self.pass.steps,
            loss: self.pass.loss(objective),
            clips_per_second: self.pass.clips as f64 / self.seconds().max(1e-9),
            data_wait: self.data_wait(),
            exchange: self.exchange(),
        }
    }

    /// Returns the share of time spent on exchange since the pass was started or resumed.
    fn exchange(&self) -> Option<f64> {
        Some(self.exchanged?.as_secs_f64() / self.started.elapsed().as_secs_f64().max(1e-9))
    }

    /// Returns the metrics of the pass, which must have the heads of `objective`.
    pub(super) fn record(&self, objective: &Objective) -> PassRecord {
        let (pass, seconds) = (&self.pass, self.seconds());
        let updates = pass.steps - pass.left_out;
        let records = |heads: &[HeadProgress], of: &[TaskObjective]| {
            heads.iter().zip(of).map(|(head, of)| head.record(of)).collect()
        };
        PassRecord {
            loss: pass.loss(objective),
            tasks: records(&pass.tasks, &objective.tasks),
            auxiliary: records(&pass.auxiliary, &objective.auxiliary),
            gradient_norm: (updates > 0).then(|| pass.norm / updates as f64),
            left_out: pass.left_out,
            loss_scale: None,
            actions: pass.actions,
            clips: pass.clips,
            seconds,
            data_wait: self.data_wait(),
            exchange: self.exchange(),
            slowest: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, TensorData};
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;
    use crate::config::Config;
    use crate::data::Dataset;
    use crate::losses::CrossEntropy;
    use crate::model::Prediction;
    use crate::schema::Schema;

    const ACTIONS: usize = 12;

    /// An objective with class weights in one task, none in the other, and auxiliary heads.
    fn objective(schema: &Schema) -> Objective {
        let mut config = Config::default();
        config.loss.auxiliary_task_weight = 0.7;
        let window = config.clips.window(schema).unwrap();
        let train = Dataset::of_clips(Vec::new(), window, [20, 18]);
        let class_weights = Some(vec![1.0, 8.0, 3.0, 0.5]);
        Objective::new(&config, schema, &train)
            .with_loss(0, CrossEntropy { class_weights, label_smoothing: 0.1 })
            .with_loss(1, CrossEntropy::default())
    }

    /// Returns the record of a pass over the same actions, in batches of `size`.
    fn pass(objective: &Objective, schema: &Schema, size: usize) -> PassRecord {
        let device = Device::flex();
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        let mut head = |classes: usize, known: usize| {
            let logits: Vec<f32> =
                (0..ACTIONS * classes).map(|_| rng.random_range(-2.0..2.0)).collect();
            let label = |_| (rng.random_range(0..10) < known).then(|| rng.random_range(0..classes));
            (logits, classes, (0..ACTIONS).map(label).collect::<Vec<Option<usize>>>())
        };
        let tasks: Vec<_> = objective.tasks.iter().map(|task| head(task.classes, 8)).collect();
        // Some properties have only a few known values, or none.
        let values: Vec<_> =
            schema.properties.iter().enumerate().map(|(n, p)| head(p.values.len(), n)).collect();
        let mut metrics = PassMetrics::new(PassProgress::new(objective));
        for first in (0..ACTIONS).step_by(size) {
            let rows = first..ACTIONS.min(first + size);
            let logits = |(logits, classes, _): &(Vec<f32>, usize, _)| {
                let data = logits[rows.start * classes..rows.end * classes].to_vec();
                Tensor::<2>::from_data(TensorData::new(data, [rows.len(), *classes]), &device)
            };
            let index = |value: &Option<usize>| value.map_or(0, |class| class + 1);
            let batch = Batch {
                actions: rows.clone().map(|action| action.to_string()).collect(),
                view_counts: vec![1; rows.len()],
                labels: tasks.iter().map(|(.., labels)| labels[rows.clone()].to_vec()).collect(),
                properties: values
                    .iter()
                    .map(|(.., labels)| labels[rows.clone()].iter().map(index).collect())
                    .collect(),
                ..Batch::default()
            };
            let prediction = Prediction {
                logits: tasks.iter().map(logits).collect(),
                auxiliary: values.iter().map(logits).collect(),
                view_weights: Tensor::zeros([rows.len(), 1], &device),
            };
            let cost = objective.cost(&prediction, &batch);
            let losses = cost.read().unwrap();
            let result = BatchResult::new(losses, prediction.logits, cost.auxiliary);
            metrics.add(objective, &batch, result, None).unwrap();
        }
        let record = metrics.record(objective);
        if size >= ACTIONS {
            // With a single batch it is exactly the loss that training minimises.
            assert!((record.loss - metrics.last_loss.unwrap()).abs() < 1e-5, "{record:?}");
        }
        record
    }

    #[test]
    fn the_loss_of_a_pass_does_not_depend_on_its_batches() {
        let schema = Schema::mvfoul().unwrap();
        let objective = objective(&schema);
        assert_eq!(objective.auxiliary.len(), schema.properties.len());
        let whole = pass(&objective, &schema, ACTIONS);
        for size in [1, 2, 5] {
            let batches = pass(&objective, &schema, size);
            assert!((batches.loss - whole.loss).abs() < 1e-5, "{size}: {batches:?} {whole:?}");
            let heads =
                |record: &PassRecord| [record.tasks.clone(), record.auxiliary.clone()].concat();
            for (ours, whole) in heads(&batches).iter().zip(heads(&whole)) {
                assert!((ours.loss - whole.loss).abs() < 1e-5, "{size}: {ours:?} {whole:?}");
                assert_eq!(ours.confusion, whole.confusion);
            }
        }
    }

    #[test]
    #[should_panic(expected = "index out of bounds")]
    fn a_loss_for_a_task_that_does_not_exist_is_not_dropped() {
        let schema = Schema::mvfoul().unwrap();
        let tasks = schema.tasks.len();
        let _ = Objective::plain(&schema).with_loss(tasks, CrossEntropy::default());
    }

    #[test]
    fn progress_from_before_divisors_were_counted_can_be_resumed() {
        let schema = Schema::mvfoul().unwrap();
        let objective = objective(&schema);
        let mut old = toml::Table::try_from(PassProgress::new(&objective)).unwrap();
        old.insert("loss".to_owned(), 9.0.into());
        let head = old["tasks"][0].as_table_mut().unwrap();
        head.remove("divisor");
        head.insert("actions".to_owned(), 4.into());
        head.insert("loss".to_owned(), 6.0.into());
        let old: PassProgress = old.try_into().unwrap();
        assert!(old.fits(&objective));
        assert_eq!(old.tasks[0].mean(), Some(1.5));
        assert_eq!(old.loss(&objective), 1.5 * objective.tasks[0].weight);
    }
}
