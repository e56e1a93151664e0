//! One pass over a split: with updates (training) or without (validation).

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use burn::module::Module;
use burn::optim::GradientsParams;
use burn::tensor::{Device, Tensor};

use super::objective::{Cost, TaskObjective};
use super::{Augmenter, Objective, Optimizer, Rates, TrainError, plain_clips};
use crate::data::Batch;
use crate::data::loader::Loader;
use crate::losses;
use crate::metrics::ConfusionMatrix;
use crate::model::{DropoutRng, MultiViewNet, Prediction, ViewLayout};
use crate::report::{Event, Observer, PassRecord, TaskRecord};

/// What a training pass needs to know besides the batches.
pub struct StepSettings<'a> {
    /// What is to become smaller.
    pub objective: &'a Objective,
    /// Learning rate of a parameter by its path, and momentum (`None`: the optimizer's own), at a
    /// step of the epoch, counted from 0.
    pub rates: &'a dyn Fn(usize) -> (Rates, Option<f64>),
    /// Seed of the run.
    pub seed: u64,
    /// Epoch, from 1, for messages and the augmentation's draws.
    pub epoch: usize,
    /// Steps done before this epoch; names the dropout masks and the batches' sizes.
    pub first_step: usize,
    /// How the clips are changed; `None` leaves them as they are.
    pub augmenter: Option<&'a Augmenter>,
}

/// Whether the pass ran to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interrupted {
    /// To the end.
    No,
    /// Stopped between two steps because `stop` was raised.
    Yes,
}

/// Loss and confusion of one head over a pass.
struct HeadTally {
    name: String,
    matrix: ConfusionMatrix,
    loss: f64,
    actions: usize,
}

impl HeadTally {
    fn new(head: &TaskObjective) -> Self {
        Self {
            name: head.name.clone(),
            matrix: ConfusionMatrix::new(head.classes),
            loss: 0.0,
            actions: 0,
        }
    }

    fn add(&mut self, logits: Tensor<2>, labels: &[usize], loss: f64) -> Result<(), TrainError> {
        let classes = losses::argmax(logits).try_into_vec_as::<i32>()?;
        for (&label, class) in labels.iter().zip(classes) {
            self.matrix.add(label, usize::try_from(class).unwrap_or(usize::MAX))?;
        }
        self.loss += loss * labels.len() as f64;
        self.actions += labels.len();
        Ok(())
    }

    fn record(&self) -> TaskRecord {
        TaskRecord::new(&self.name, self.loss / self.actions.max(1) as f64, &self.matrix)
    }
}

/// Losses and confusions of a pass, summed up batch by batch.
struct Tally {
    tasks: Vec<HeadTally>,
    auxiliary: Vec<HeadTally>,
    loss: f64,
    norm: f64,
    steps: usize,
    actions: usize,
    clips: usize,
    started: Instant,
    waited: Duration,
}

impl Tally {
    fn new(objective: &Objective) -> Self {
        Self {
            tasks: objective.tasks.iter().map(HeadTally::new).collect(),
            auxiliary: objective.auxiliary.iter().map(HeadTally::new).collect(),
            loss: 0.0,
            norm: 0.0,
            steps: 0,
            actions: 0,
            clips: 0,
            started: Instant::now(),
            waited: Duration::ZERO,
        }
    }

    /// Next batch, with the time it took to come.
    fn wait_for(&mut self, loader: &mut Loader) -> Result<Option<Batch>, TrainError> {
        let asked = Instant::now();
        let batch = loader.next().transpose()?;
        self.waited += asked.elapsed();
        Ok(batch)
    }

    /// Adds a batch: its predictions and what they cost.
    fn add(
        &mut self,
        batch: &Batch,
        prediction: Prediction,
        cost: Cost,
        (total, tasks, auxiliary): (f64, Vec<f64>, Vec<f64>),
    ) -> Result<(), TrainError> {
        for (task, logits) in prediction.logits.into_iter().enumerate() {
            self.tasks[task].add(logits, &batch.labels[task], tasks[task])?;
        }
        for (head, known) in cost.auxiliary.into_iter().enumerate() {
            if let Some(known) = known {
                self.auxiliary[head].add(known.logits, &known.targets, auxiliary[head])?;
            }
        }
        self.loss += total * batch.actions.len() as f64;
        self.steps += 1;
        self.actions += batch.actions.len();
        self.clips += batch.clips();
        Ok(())
    }

    fn mean_loss(&self) -> f64 {
        self.loss / self.actions.max(1) as f64
    }

    /// Tells of the step just added; whether the pass must end here.
    fn after_step(&self, stop: &AtomicBool, observer: &mut dyn Observer) -> bool {
        let seconds = self.started.elapsed().as_secs_f64();
        observer.observe(&Event::Step {
            done: self.steps,
            loss: self.mean_loss(),
            clips_per_second: self.clips as f64 / seconds.max(1e-9),
        });
        stop.load(Ordering::Relaxed)
    }

    fn record(self) -> PassRecord {
        let seconds = self.started.elapsed().as_secs_f64();
        PassRecord {
            loss: self.mean_loss(),
            tasks: self.tasks.iter().map(HeadTally::record).collect(),
            auxiliary: self.auxiliary.iter().map(HeadTally::record).collect(),
            gradient_norm: self.norm / self.steps.max(1) as f64,
            actions: self.actions,
            clips: self.clips,
            seconds,
            data_wait: self.waited.as_secs_f64() / seconds.max(1e-9),
        }
    }
}

/// Trains on every batch of `loader` and gives the network back with the pass's figures. `device`
/// must have automatic differentiation on. When `stop` is raised the step in progress is finished
/// first.
pub fn train_one_epoch(
    mut net: MultiViewNet,
    optimizer: &mut Optimizer,
    mut loader: Loader,
    settings: &StepSettings,
    device: &Device,
    stop: &AtomicBool,
    observer: &mut dyn Observer,
) -> Result<(MultiViewNet, PassRecord, Interrupted), TrainError> {
    let objective = settings.objective;
    let mut tally = Tally::new(objective);
    let mut interrupted = Interrupted::No;
    while let Some(batch) = tally.wait_for(&mut loader)? {
        let views = ViewLayout::new(batch.view_counts.clone());
        let step = settings.first_step + tally.steps;
        let clips = match &settings.augmenter {
            Some(augmenter) => augmenter.clips(&batch, settings.epoch, step, device)?,
            None => plain_clips(&batch, device)?,
        };
        let mut rng = DropoutRng::new(settings.seed, step as u64);
        let annotated = objective.annotated(&batch);
        let prediction = net.forward_annotated(clips, &views, &annotated, Some(&mut rng));
        let cost = objective.cost(&prediction, &batch);
        // Queued before the losses are read, so that a GPU is never idle while the host waits.
        let grads = GradientsParams::from_grads(cost.total.backward(), &net);
        let values = cost.read()?;
        let total = values.0;
        if !total.is_finite() {
            return Err(TrainError::NotFinite {
                loss: total,
                epoch: settings.epoch,
                step: tally.steps + 1,
                actions: batch.actions.join(", "),
            });
        }
        let (rates, momentum) = (settings.rates)(tally.steps);
        let (updated, norm) = optimizer.step(net, grads, &|path| rates.of(path), momentum)?;
        net = updated;
        tally.norm += norm;
        log::debug!(
            "epoch {} step {}: loss {total:.4}, norm {norm:.3}",
            settings.epoch,
            tally.steps + 1
        );
        tally.add(&batch, prediction, cost, values)?;
        if tally.after_step(stop, observer) {
            interrupted = Interrupted::Yes;
            break;
        }
    }
    Ok((net, tally.record(), interrupted))
}

/// Judges the network on every batch of `loader`, without updates or dropout, with running
/// batch-norm statistics. `device` must have automatic differentiation off.
pub fn validate_one_epoch(
    net: &MultiViewNet,
    mut loader: Loader,
    objective: &Objective,
    device: &Device,
    stop: &AtomicBool,
    observer: &mut dyn Observer,
) -> Result<(PassRecord, Interrupted), TrainError> {
    let net = net.valid();
    let mut tally = Tally::new(objective);
    let mut interrupted = Interrupted::No;
    while let Some(batch) = tally.wait_for(&mut loader)? {
        let views = ViewLayout::new(batch.view_counts.clone());
        let annotated = objective.annotated(&batch);
        let clips = plain_clips(&batch, device)?;
        let prediction = net.forward_annotated(clips, &views, &annotated, None);
        let cost = objective.cost(&prediction, &batch);
        let values = cost.read()?;
        tally.add(&batch, prediction, cost, values)?;
        if tally.after_step(stop, observer) {
            interrupted = Interrupted::Yes;
            break;
        }
    }
    Ok((tally.record(), interrupted))
}
