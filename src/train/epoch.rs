//! One pass over a split: with updates (training) or without (validation).

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use burn::module::Module;
use burn::optim::GradientsParams;
use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

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

    fn add(&mut self, logits: Tensor<2>, labels: &[usize], loss: f64) -> Result<(), TrainError> {
        let classes = losses::argmax(logits).try_into_vec_as::<i32>()?;
        for (&label, class) in labels.iter().zip(classes) {
            self.matrix.add(label, usize::try_from(class).unwrap_or(usize::MAX))?;
        }
        self.loss += loss * labels.len() as f64;
        self.actions += labels.len();
        Ok(())
    }

    fn record(&self, head: &TaskObjective) -> TaskRecord {
        TaskRecord::new(&head.name, self.loss / self.actions.max(1) as f64, &self.matrix)
    }
}

/// A pass so far: what a checkpoint in its middle keeps, so that its figures come out whole.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PassProgress {
    /// Batches done.
    pub steps: usize,
    loss: f64,
    norm: f64,
    actions: usize,
    clips: usize,
    /// Wall time and the time waited for data before the pass was taken up again, seconds.
    seconds: f64,
    waited: f64,
    tasks: Vec<HeadProgress>,
    auxiliary: Vec<HeadProgress>,
}

impl PassProgress {
    /// A pass that begins.
    pub fn new(objective: &Objective) -> Self {
        Self {
            steps: 0,
            loss: 0.0,
            norm: 0.0,
            actions: 0,
            clips: 0,
            seconds: 0.0,
            waited: 0.0,
            tasks: objective.tasks.iter().map(HeadProgress::new).collect(),
            auxiliary: objective.auxiliary.iter().map(HeadProgress::new).collect(),
        }
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
struct Tally<'a> {
    objective: &'a Objective,
    pass: PassProgress,
    started: Instant,
    waited: Duration,
}

impl<'a> Tally<'a> {
    fn new(objective: &'a Objective, pass: PassProgress) -> Self {
        Self { objective, pass, started: Instant::now(), waited: Duration::ZERO }
    }

    fn seconds(&self) -> f64 {
        self.pass.seconds + self.started.elapsed().as_secs_f64()
    }

    /// The pass so far, with its times brought up to now.
    fn progress(&self) -> PassProgress {
        PassProgress {
            seconds: self.seconds(),
            waited: self.pass.waited + self.waited.as_secs_f64(),
            ..self.pass.clone()
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
        let pass = &mut self.pass;
        for (task, logits) in prediction.logits.into_iter().enumerate() {
            pass.tasks[task].add(logits, &batch.labels[task], tasks[task])?;
        }
        for (head, known) in cost.auxiliary.into_iter().enumerate() {
            if let Some(known) = known {
                pass.auxiliary[head].add(known.logits, &known.targets, auxiliary[head])?;
            }
        }
        pass.loss += total * batch.actions.len() as f64;
        pass.steps += 1;
        pass.actions += batch.actions.len();
        pass.clips += batch.clips();
        Ok(())
    }

    fn mean_loss(&self) -> f64 {
        self.pass.loss / self.pass.actions.max(1) as f64
    }

    /// Tells of the step just added; whether the pass must end here.
    fn after_step(&self, stop: &AtomicBool, observer: &mut dyn Observer) -> bool {
        observer.observe(&Event::Step {
            done: self.pass.steps,
            loss: self.mean_loss(),
            clips_per_second: self.pass.clips as f64 / self.seconds().max(1e-9),
        });
        stop.load(Ordering::Relaxed)
    }

    fn record(&self) -> PassRecord {
        let (pass, seconds) = (&self.pass, self.seconds());
        let records = |heads: &[HeadProgress], of: &[TaskObjective]| {
            heads.iter().zip(of).map(|(head, of)| head.record(of)).collect()
        };
        PassRecord {
            loss: self.mean_loss(),
            tasks: records(&pass.tasks, &self.objective.tasks),
            auxiliary: records(&pass.auxiliary, &self.objective.auxiliary),
            gradient_norm: pass.norm / pass.steps.max(1) as f64,
            actions: pass.actions,
            clips: pass.clips,
            seconds,
            data_wait: (pass.waited + self.waited.as_secs_f64()) / seconds.max(1e-9),
        }
    }
}

/// Called after each training step, with the network and the optimizer as they are then: the
/// place to write a checkpoint from.
pub type AfterStep<'a> = dyn FnMut(
        &MultiViewNet,
        &Optimizer,
        &dyn Fn() -> PassProgress,
        &mut dyn Observer,
    ) -> Result<(), TrainError>
    + 'a;

/// Trains on every batch of `loader` and gives the network back with the pass's figures. `device`
/// must have automatic differentiation on. When `stop` is raised the step in progress is finished
/// first.
pub fn train_one_epoch(
    net: MultiViewNet,
    optimizer: &mut Optimizer,
    loader: Loader,
    settings: &StepSettings,
    device: &Device,
    stop: &AtomicBool,
    observer: &mut dyn Observer,
) -> Result<(MultiViewNet, PassRecord, Interrupted), TrainError> {
    let from = PassProgress::new(settings.objective);
    let (net, _, record, interrupted) = continue_epoch(
        net,
        optimizer,
        loader,
        settings,
        from,
        device,
        stop,
        observer,
        &mut |_, _, _, _| Ok(()),
    )?;
    Ok((net, record, interrupted))
}

/// The same for a pass that was begun earlier: `from` is what it has done already, `loader` has
/// the batches that remain. Gives the progress too, for a checkpoint of an interrupted pass.
#[allow(clippy::too_many_arguments, reason = "the pieces of a run, each of its own kind")]
pub fn continue_epoch(
    mut net: MultiViewNet,
    optimizer: &mut Optimizer,
    mut loader: Loader,
    settings: &StepSettings,
    from: PassProgress,
    device: &Device,
    stop: &AtomicBool,
    observer: &mut dyn Observer,
    after_step: &mut AfterStep,
) -> Result<(MultiViewNet, PassProgress, PassRecord, Interrupted), TrainError> {
    let objective = settings.objective;
    let mut tally = Tally::new(objective, from);
    let mut interrupted = Interrupted::No;
    while let Some(batch) = tally.wait_for(&mut loader)? {
        let views = ViewLayout::new(batch.view_counts.clone());
        let step = settings.first_step + tally.pass.steps;
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
                step: tally.pass.steps + 1,
                actions: batch.actions.join(", "),
            });
        }
        let (rates, momentum) = (settings.rates)(tally.pass.steps);
        let (updated, norm) = optimizer.step(net, grads, &|path| rates.of(path), momentum)?;
        net = updated;
        tally.pass.norm += norm;
        log::debug!(
            "epoch {} step {}: loss {total:.4}, norm {norm:.3}",
            settings.epoch,
            tally.pass.steps + 1
        );
        tally.add(&batch, prediction, cost, values)?;
        after_step(&net, optimizer, &|| tally.progress(), observer)?;
        if tally.after_step(stop, observer) {
            interrupted = Interrupted::Yes;
            break;
        }
    }
    Ok((net, tally.progress(), tally.record(), interrupted))
}

/// Judges the network on every batch of `loader`, without updates or dropout, with running
/// batch-norm statistics. `device` must have automatic differentiation off.
pub fn validate_one_epoch(
    net: &MultiViewNet,
    loader: Loader,
    objective: &Objective,
    device: &Device,
    stop: &AtomicBool,
    observer: &mut dyn Observer,
) -> Result<(PassRecord, Interrupted), TrainError> {
    validate_and_see(net, loader, objective, device, stop, observer, &mut |_, _| Ok(()))
}

/// Called with each batch and what the network says of it.
pub type See<'a> = dyn FnMut(&Batch, &Prediction) -> Result<(), TrainError> + 'a;

/// The same, with a look at every prediction.
pub fn validate_and_see(
    net: &MultiViewNet,
    mut loader: Loader,
    objective: &Objective,
    device: &Device,
    stop: &AtomicBool,
    observer: &mut dyn Observer,
    see: &mut See,
) -> Result<(PassRecord, Interrupted), TrainError> {
    let net = net.valid();
    let mut tally = Tally::new(objective, PassProgress::new(objective));
    let mut interrupted = Interrupted::No;
    while let Some(batch) = tally.wait_for(&mut loader)? {
        let views = ViewLayout::new(batch.view_counts.clone());
        let annotated = objective.annotated(&batch);
        let clips = plain_clips(&batch, device)?;
        let prediction = net.forward_annotated(clips, &views, &annotated, None);
        let cost = objective.cost(&prediction, &batch);
        let values = cost.read()?;
        see(&batch, &prediction)?;
        tally.add(&batch, prediction, cost, values)?;
        if tally.after_step(stop, observer) {
            interrupted = Interrupted::Yes;
            break;
        }
    }
    Ok((tally.record(), interrupted))
}
