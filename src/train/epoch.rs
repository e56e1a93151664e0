//! One pass over a split: with updates (training) or without (validation).

use std::cell::RefCell;
use std::ops::Range;
use std::sync::atomic::AtomicBool;

use burn::module::Module;
use burn::tensor::{Device, Tensor};

use super::augmenting::plain_clips_of;
use super::step::{Step, chunks, first_pass, is_out_of_memory};
use super::tally::{PassProgress, Tally};
use super::{Augmenter, Known, Objective, Optimizer, Rates, StepMemory, TrainError};
use crate::data::Batch;
use crate::data::loader::Loader;
use crate::model::{DropoutRng, MultiViewNet, Prediction, ViewLayout};
use crate::report::{Observer, PassRecord};

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

impl StepSettings<'_> {
    /// Some clips of a batch, ready for the network.
    fn clips(
        &self,
        batch: &Batch,
        range: Range<usize>,
        step: usize,
        device: &Device,
    ) -> Result<Tensor<5>, TrainError> {
        Ok(match self.augmenter {
            Some(augmenter) => augmenter.clips_of(batch, range, self.epoch, step, device)?,
            None => plain_clips_of(batch, range, device)?,
        })
    }
}

/// A batch, and the clips that its step begins with, already on their way to the device.
struct Arrived {
    batch: Batch,
    step: usize,
    first: RefCell<Option<(Range<usize>, Tensor<5>)>>,
}

impl Arrived {
    fn new(
        batch: Batch,
        step: usize,
        settings: &StepSettings,
        device: &Device,
        memory: StepMemory,
    ) -> Result<Self, TrainError> {
        let range = first_pass(&batch.view_counts, memory.micro_batch);
        let clips = settings.clips(&batch, range.clone(), step, device)?;
        Ok(Self { batch, step, first: RefCell::new(Some((range, clips))) })
    }

    /// Clips of the step; those that came first are handed out once, so that they are not held
    /// longer than the step needs them.
    fn clips(
        &self,
        range: Range<usize>,
        settings: &StepSettings,
        device: &Device,
    ) -> Result<Tensor<5>, TrainError> {
        match self.first.take() {
            Some((first, clips)) if first == range => Ok(clips),
            _ => settings.clips(&self.batch, range, self.step, device),
        }
    }
}

/// Called after each training step, with the network, the optimizer and the micro-batch as they are
/// then: the place to write a checkpoint from.
pub type AfterStep<'a> = dyn FnMut(
        &MultiViewNet,
        &Optimizer,
        &StepMemory,
        &dyn Fn() -> PassProgress,
        &mut dyn Observer,
    ) -> Result<(), TrainError>
    + 'a;

/// Trains on every batch of `loader`, each in one piece, and gives the network back with the
/// pass's figures. `device` must have automatic differentiation on. When `stop` is raised the step
/// in progress is finished first.
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
        &mut StepMemory::default(),
        loader,
        settings,
        from,
        device,
        stop,
        observer,
        &mut |_, _, _, _, _| Ok(()),
    )?;
    Ok((net, record, interrupted))
}

/// The same for a pass that was begun earlier: `from` is what it has done already, `loader` has
/// the batches that remain. A step that does not fit in the device's memory is repeated with half the
/// micro-batch, which `memory` keeps. Gives the progress too, for a checkpoint of an interrupted
/// pass.
#[allow(clippy::too_many_arguments, reason = "the pieces of a run, each of its own kind")]
pub fn continue_epoch(
    mut net: MultiViewNet,
    optimizer: &mut Optimizer,
    memory: &mut StepMemory,
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
    let mut next = None;
    loop {
        let step = settings.first_step + tally.pass.steps;
        let arrived = match next.take() {
            Some(arrived) => arrived,
            None => match tally.wait_for(&mut loader)? {
                Some(batch) => Arrived::new(batch, step, settings, device, *memory)?,
                None => break,
            },
        };
        let done = loop {
            let mut rng = DropoutRng::new(settings.seed, step as u64);
            let clips = |range| arrived.clips(range, settings, device);
            let (batch, memory_now) = (&arrived.batch, *memory);
            let work = Step { net: &net, objective, batch, clips: &clips, memory: memory_now };
            let queued = work.queue(Some(&mut rng));
            // While the device works on this step, the next one's clips go up, if they are there.
            if next.is_none()
                && let Some(batch) = loader.ready()?
            {
                next = Some(Arrived::new(batch, step + 1, settings, device, *memory)?);
            }
            match queued.and_then(|queued| queued.finish(device)) {
                Ok(done) => break done,
                Err(error) if is_out_of_memory(&error) => {
                    if let Some(next) = &next {
                        next.first.take();
                    }
                    memory.shrink(batch.clips(), device)?;
                }
                Err(error) => return Err(error),
            }
        };
        let batch = &arrived.batch;
        let total = done.losses.total;
        if !total.is_finite() {
            return Err(TrainError::NotFinite {
                loss: total,
                epoch: settings.epoch,
                step: tally.pass.steps + 1,
                actions: batch.actions.join(", "),
            });
        }
        let (rates, momentum) = (settings.rates)(tally.pass.steps);
        let (updated, norm) = optimizer.step(net, done.grads, &|path| rates.of(path), momentum)?;
        net = updated;
        tally.pass.norm += norm;
        log::debug!(
            "epoch {} step {}: loss {total:.4}, norm {norm:.3}",
            settings.epoch,
            tally.pass.steps + 1
        );
        tally.add(batch, done.logits, done.known, &done.losses)?;
        loader.recycle(arrived.batch);
        after_step(&net, optimizer, memory, &|| tally.progress(), observer)?;
        if tally.after_step(stop, observer) {
            interrupted = Interrupted::Yes;
            break;
        }
    }
    Ok((net, tally.progress(), tally.record(), interrupted))
}

/// What the network says of a batch, `most` clips at a time through the backbone, without graph,
/// dropout or augmentation. `annotated` is [`Objective::annotated`], or empty.
pub fn predict(
    net: &MultiViewNet,
    batch: &Batch,
    annotated: &[Vec<usize>],
    most: usize,
    device: &Device,
) -> Result<Prediction, TrainError> {
    let features = |range| -> Result<Tensor<2>, TrainError> {
        Ok(net.backbone.forward(plain_clips_of(batch, range, device)?))
    };
    let pieces = chunks(&(0..batch.clips()), most).into_iter();
    let features = Tensor::cat(pieces.map(features).collect::<Result<Vec<_>, _>>()?, 0);
    let views = ViewLayout::new(batch.view_counts.clone());
    Ok(net.classify(features, &views, annotated, None))
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
    let all = usize::MAX;
    validate_and_see(net, loader, objective, all, device, stop, observer, &mut |_, _| Ok(()))
}

/// Called with each batch and what the network says of it.
pub type See<'a> = dyn FnMut(&Batch, &Prediction) -> Result<(), TrainError> + 'a;

/// The same, at most `most` clips at a time through the backbone, with a look at every prediction.
#[allow(clippy::too_many_arguments, reason = "the pieces of a run, each of its own kind")]
pub fn validate_and_see(
    net: &MultiViewNet,
    mut loader: Loader,
    objective: &Objective,
    most: usize,
    device: &Device,
    stop: &AtomicBool,
    observer: &mut dyn Observer,
    see: &mut See,
) -> Result<(PassRecord, Interrupted), TrainError> {
    let net = net.valid();
    let mut tally = Tally::new(objective, PassProgress::new(objective));
    let mut interrupted = Interrupted::No;
    while let Some(batch) = tally.wait_for(&mut loader)? {
        let prediction = predict(&net, &batch, &objective.annotated(&batch), most, device)?;
        let cost = objective.cost(&prediction, &batch);
        let losses = cost.read()?;
        see(&batch, &prediction)?;
        let known = |known: Known| (known.logits, known.targets);
        let known = cost.auxiliary.into_iter().map(|head| head.map(known)).collect();
        tally.add(&batch, prediction.logits, known, &losses)?;
        loader.recycle(batch);
        if tally.after_step(stop, observer) {
            interrupted = Interrupted::Yes;
            break;
        }
    }
    Ok((tally.record(), interrupted))
}
