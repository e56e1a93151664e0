//! One pass over a split: with updates (training) or without (validation).

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use burn::module::Module;
use burn::optim::GradientsParams;
use burn::tensor::{Device, Tensor};

use super::{Augmenter, Optimizer, TrainError, plain_clips};
use crate::data::Batch;
use crate::data::loader::Loader;
use crate::losses;
use crate::metrics::ConfusionMatrix;
use crate::model::{DropoutRng, MultiViewNet, Prediction, ViewLayout};
use crate::report::{Event, Observer, PassRecord, TaskRecord};

/// What a training step needs to know besides the batch.
#[derive(Debug, Clone)]
pub struct StepSettings {
    /// Learning rate in force.
    pub lr: f64,
    /// Share of the target spread over all classes.
    pub label_smoothing: f64,
    /// Seed of the run.
    pub seed: u64,
    /// Epoch, from 1, for messages.
    pub epoch: usize,
    /// Steps done before this epoch; names the dropout masks and the batches' sizes.
    pub first_step: usize,
    /// How the clips are changed; `None` leaves them as they are.
    pub augmenter: Option<Augmenter>,
}

/// Whether the pass ran to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interrupted {
    /// To the end.
    No,
    /// Stopped between two steps because `stop` was raised.
    Yes,
}

/// Loss and confusion of a pass, summed up batch by batch.
struct Tally {
    names: Vec<String>,
    matrices: Vec<ConfusionMatrix>,
    losses: Vec<f64>,
    steps: usize,
    actions: usize,
    clips: usize,
    started: Instant,
    waited: Duration,
}

impl Tally {
    fn new(tasks: &[(String, usize)]) -> Self {
        Self {
            names: tasks.iter().map(|(name, _)| name.clone()).collect(),
            matrices: tasks.iter().map(|(_, classes)| ConfusionMatrix::new(*classes)).collect(),
            losses: vec![0.0; tasks.len()],
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

    /// Adds a batch: its predictions and each task's mean loss.
    fn add(
        &mut self,
        batch: &Batch,
        prediction: Prediction,
        losses: &[f64],
    ) -> Result<(), TrainError> {
        for (task, logits) in prediction.logits.into_iter().enumerate() {
            let classes = losses::argmax(logits).try_into_vec_as::<i32>()?;
            for (&label, class) in batch.labels[task].iter().zip(classes) {
                self.matrices[task].add(label, usize::try_from(class).unwrap_or(usize::MAX))?;
            }
            self.losses[task] += losses[task] * batch.actions.len() as f64;
        }
        self.steps += 1;
        self.actions += batch.actions.len();
        self.clips += batch.clips();
        Ok(())
    }

    fn mean_loss(&self) -> f64 {
        self.losses.iter().sum::<f64>() / self.actions.max(1) as f64
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
        let actions = self.actions.max(1) as f64;
        PassRecord {
            loss: self.mean_loss(),
            tasks: self
                .names
                .iter()
                .zip(&self.losses)
                .zip(&self.matrices)
                .map(|((name, loss), matrix)| TaskRecord::new(name, loss / actions, matrix))
                .collect(),
            actions: self.actions,
            clips: self.clips,
            seconds,
            data_wait: self.waited.as_secs_f64() / seconds.max(1e-9),
        }
    }
}

/// Each task's mean loss over a batch, as scalars `[1]` on the device.
fn task_losses(prediction: &Prediction, batch: &Batch, label_smoothing: f64) -> Vec<Tensor<1>> {
    prediction
        .logits
        .iter()
        .zip(&batch.labels)
        .map(|(logits, labels)| {
            losses::cross_entropy(logits.clone(), labels, None, label_smoothing)
        })
        .collect()
}

fn read_losses(losses: &[Tensor<1>]) -> Result<Vec<f64>, TrainError> {
    // One read-back for all tasks.
    let values = Tensor::cat(losses.to_vec(), 0).try_into_vec_as::<f32>()?;
    Ok(values.into_iter().map(f64::from).collect())
}

/// Trains on every batch of `loader` and gives the network back with the pass's figures. `tasks`
/// are names and class counts; `device` must have automatic differentiation on. When `stop` is
/// raised the step in progress is finished first.
#[allow(clippy::too_many_arguments)]
pub fn train_one_epoch(
    mut net: MultiViewNet,
    optimizer: &mut Optimizer,
    mut loader: Loader,
    tasks: &[(String, usize)],
    settings: &StepSettings,
    device: &Device,
    stop: &AtomicBool,
    observer: &mut dyn Observer,
) -> Result<(MultiViewNet, PassRecord, Interrupted), TrainError> {
    let mut tally = Tally::new(tasks);
    let mut interrupted = Interrupted::No;
    while let Some(batch) = tally.wait_for(&mut loader)? {
        let views = ViewLayout::new(batch.view_counts.clone());
        let step = settings.first_step + tally.steps;
        let clips = match &settings.augmenter {
            Some(augmenter) => augmenter.clips(&batch, settings.epoch, step, device)?,
            None => plain_clips(&batch, device)?,
        };
        let mut rng = DropoutRng::new(settings.seed, step as u64);
        let prediction = net.forward(clips, &views, Some(&mut rng));
        let losses = task_losses(&prediction, &batch, settings.label_smoothing);
        // Queued before the losses are read, so that a GPU is never idle while the host waits.
        let loss = Tensor::cat(losses.clone(), 0).sum();
        let grads = GradientsParams::from_grads(loss.backward(), &net);
        let values = read_losses(&losses)?;
        let total: f64 = values.iter().sum();
        if !total.is_finite() {
            return Err(TrainError::NotFinite {
                loss: total,
                epoch: settings.epoch,
                step: tally.steps + 1,
                actions: batch.actions.join(", "),
            });
        }
        let (updated, norm) = optimizer.step(net, grads, settings.lr)?;
        net = updated;
        log::debug!(
            "epoch {} step {}: loss {total:.4}, norm {norm:.3}",
            settings.epoch,
            tally.steps + 1
        );
        tally.add(&batch, prediction, &values)?;
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
    tasks: &[(String, usize)],
    label_smoothing: f64,
    device: &Device,
    stop: &AtomicBool,
    observer: &mut dyn Observer,
) -> Result<(PassRecord, Interrupted), TrainError> {
    let net = net.valid();
    let mut tally = Tally::new(tasks);
    let mut interrupted = Interrupted::No;
    while let Some(batch) = tally.wait_for(&mut loader)? {
        let views = ViewLayout::new(batch.view_counts.clone());
        let prediction = net.forward(plain_clips(&batch, device)?, &views, None);
        let values = read_losses(&task_losses(&prediction, &batch, label_smoothing))?;
        tally.add(&batch, prediction, &values)?;
        if tally.after_step(stop, observer) {
            interrupted = Interrupted::Yes;
            break;
        }
    }
    Ok((tally.record(), interrupted))
}
