//! The metrics of a pass over a split: losses, confusion matrices, its time, and how much of that
//! was spent waiting for data.

use std::time::{Duration, Instant};

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use super::error::TrainError;
use super::objective::{BatchResult, Objective, TaskObjective};
use crate::data::Batch;
use crate::data::loader::Loader;
use crate::losses;
use crate::metrics::ConfusionMatrix;
use crate::report::{Event, PassRecord, TaskRecord};

/// Loss and confusion of one head over a pass so far.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct HeadProgress {
    matrix: ConfusionMatrix,
    loss: f64,
    actions: usize,
}

impl HeadProgress {
    fn new(head: &TaskObjective) -> Self {
        Self { matrix: ConfusionMatrix::new(head.classes), loss: 0.0, actions: 0 }
    }

    fn add(
        &mut self,
        logits: Tensor<2>,
        labels: impl IntoIterator<Item = Option<usize>>,
        loss: f64,
    ) -> Result<(), TrainError> {
        let classes = losses::argmax(logits).try_into_vec_as::<i32>()?;
        let mut known = 0;
        for (label, class) in labels.into_iter().zip(classes) {
            let Some(label) = label else { continue };
            // What is no index is refused by the matrix.
            self.matrix.add(label, usize::try_from(class).unwrap_or(usize::MAX))?;
            known += 1;
        }
        self.loss += loss * known as f64;
        self.actions += known;
        Ok(())
    }

    fn record(&self, head: &TaskObjective) -> TaskRecord {
        TaskRecord::new(&head.name, self.loss / self.actions.max(1) as f64, &self.matrix)
    }
}

/// A pass so far: what a checkpoint within an epoch keeps, so that the metrics of a resumed pass are
/// those of the whole pass.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PassProgress {
    /// Batches done.
    pub steps: usize,
    /// The same with those of which nothing could be read; 0 in checkpoints of before they were counted.
    #[serde(default)]
    batches: usize,
    loss: f64,
    /// Sum of the steps' gradient norms.
    norm: f64,
    /// Steps that were left out, and have none.
    #[serde(default)]
    pub left_out: usize,
    actions: usize,
    clips: usize,
    /// Wall time, and time spent waiting for data, before the pass was resumed, seconds.
    seconds: f64,
    waited: f64,
    tasks: Vec<HeadProgress>,
    auxiliary: Vec<HeadProgress>,
}

impl PassProgress {
    /// A pass at its beginning.
    pub fn new(objective: &Objective) -> Self {
        Self {
            steps: 0,
            batches: 0,
            loss: 0.0,
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

    /// Batches of the pass's plan that are done, with or without a step.
    pub fn batches(&self) -> usize {
        self.batches.max(self.steps)
    }

    /// Whether it is a pass over this objective's heads.
    pub fn fits(&self, objective: &Objective) -> bool {
        let fit = |heads: &[HeadProgress], of: &[TaskObjective]| {
            heads.len() == of.len()
                && heads.iter().zip(of).all(|(h, of)| h.matrix.classes() == of.classes)
        };
        fit(&self.tasks, &objective.tasks) && fit(&self.auxiliary, &objective.auxiliary)
    }
}

/// A pass with its clock running.
pub(super) struct PassMetrics {
    pass: PassProgress,
    /// Batches of the plan that were done when the clock was started.
    before: usize,
    started: Instant,
    waited: Duration,
    /// Time of the exchange between devices, where there are several.
    pub exchanged: Option<Duration>,
    /// Loss of the batch just added.
    pub last_loss: Option<f64>,
}

impl PassMetrics {
    pub(super) fn new(pass: PassProgress) -> Self {
        let (before, waited) = (pass.batches(), Duration::ZERO);
        Self { pass, before, started: Instant::now(), waited, exchanged: None, last_loss: None }
    }

    /// Batches done.
    pub(super) fn steps(&self) -> usize {
        self.pass.steps
    }

    fn seconds(&self) -> f64 {
        self.pass.seconds + self.started.elapsed().as_secs_f64()
    }

    /// The pass so far, with its times up to now.
    pub(super) fn progress(&self) -> PassProgress {
        PassProgress {
            seconds: self.seconds(),
            waited: self.pass.waited + self.waited.as_secs_f64(),
            ..self.pass.clone()
        }
    }

    /// The next batch; the time it takes to arrive counts as waiting.
    pub(super) fn wait_for(&mut self, loader: &mut Loader) -> Result<Option<Batch>, TrainError> {
        let asked = Instant::now();
        let batch = loader.next().transpose()?;
        self.waited += asked.elapsed();
        Ok(batch)
    }

    /// So many batches of the loader are done, with or without a step.
    pub(super) fn done(&mut self, batches: usize) {
        self.pass.batches = self.before + batches;
    }

    /// Adds a batch's result and the norm of its gradients; none where its step was left out.
    pub(super) fn add(
        &mut self,
        batch: &Batch,
        result: BatchResult,
        gradient_norm: Option<f64>,
    ) -> Result<(), TrainError> {
        let (pass, losses) = (&mut self.pass, &result.losses);
        for (task, logits) in result.logits.into_iter().enumerate() {
            pass.tasks[task].add(logits, batch.labels[task].iter().copied(), losses.tasks[task])?;
        }
        for (head, known) in result.auxiliary.into_iter().enumerate() {
            if let Some(known) = known {
                pass.auxiliary[head].add(known.logits, known.labels, losses.auxiliary[head])?;
            }
        }
        pass.loss += losses.total * batch.actions.len() as f64;
        self.last_loss = Some(losses.total);
        match gradient_norm {
            Some(norm) => pass.norm += norm,
            None => pass.left_out += 1,
        }
        pass.steps += 1;
        pass.actions += batch.actions.len();
        pass.clips += batch.clips();
        Ok(())
    }

    fn mean_loss(&self) -> f64 {
        self.pass.loss / self.pass.actions.max(1) as f64
    }

    fn data_wait(&self) -> f64 {
        (self.pass.waited + self.waited.as_secs_f64()) / self.seconds().max(1e-9)
    }

    /// The event of the batch just added.
    pub(super) fn event(&self) -> Event {
        Event::Step {
            done: self.pass.steps,
            loss: self.mean_loss(),
            clips_per_second: self.pass.clips as f64 / self.seconds().max(1e-9),
            data_wait: self.data_wait(),
            exchange: self.exchange(),
        }
    }

    /// Share of the time since the pass was begun or resumed.
    fn exchange(&self) -> Option<f64> {
        Some(self.exchanged?.as_secs_f64() / self.started.elapsed().as_secs_f64().max(1e-9))
    }

    /// The metrics of the pass, whose heads are those of `objective`.
    pub(super) fn record(&self, objective: &Objective) -> PassRecord {
        let (pass, seconds) = (&self.pass, self.seconds());
        let updates = pass.steps - pass.left_out;
        let records = |heads: &[HeadProgress], of: &[TaskObjective]| {
            heads.iter().zip(of).map(|(head, of)| head.record(of)).collect()
        };
        PassRecord {
            loss: self.mean_loss(),
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
