//! The whole job: opens everything, trains and validates epoch by epoch, keeps the best weights.

mod at_rates;
mod inputs;
mod open;
mod stage_gradients;

use std::path::PathBuf;
use std::rc::Rc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use super::agreement::common_config;
use super::checkpoints::CheckpointWriter;
use super::early_stopping::EarlyStopping;
use super::error::TrainError;
use super::loss_scale::refuse_untrained;
use super::memory::{MemoryBudget, memory_needs};
use super::metrics::PassProgress;
use super::recording::Recorder;
use super::reporting::{Reporter, finished};
use super::run_data::RunData;
use super::run_schedule::{EpochPlan, RunSchedule};
use super::state::Snapshot;
use super::trainer::{TrainPass, Trainer};
use crate::cluster::Cluster;
use crate::config::Config;
use crate::config::advice::data_wait_advice;
use crate::data::Batch;
use crate::evaluate::{ActionLogits, ActionPrediction, Calibration};
use crate::kernels::pool::ReleaseAtEnd;
use crate::model::{STAGES, StageSet};
use crate::report::html::RunStatus;
use crate::report::{EpochRecord, Event, Observer, PassKind, PassRecord, best_epoch};
use crate::schema::Schema;

/// Outcome of a run.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// Records of all finished epochs.
    pub history: Vec<EpochRecord>,
    /// Whether the user stopped the run.
    pub interrupted: bool,
    /// Folder of the run's files.
    pub save_dir: PathBuf,
    /// Weight files that the run wrote.
    pub files: Vec<PathBuf>,
    /// Whether a resumed run had no epochs left to train.
    pub was_finished: bool,
}

impl Outcome {
    /// Returns the epoch with the highest validation score; the earliest on a tie.
    pub fn best(&self) -> Option<&EpochRecord> {
        best_epoch(&self.history)
    }
}

/// Trains as configured by `config` and writes checkpoints, history and report to its save-dir.
/// Setting `stop` ends the run after the step in progress; the last checkpoint is then written.
///
/// Runs of one process that use the same device at the same time share its choice of kernels, so with `tune`
/// their results may differ in the last bits from those of a run on its own.
///
/// # Errors
/// An invalid configuration, unreadable data, files that cannot be written, a device that fails.
pub fn run(
    config: &Config,
    stop: &AtomicBool,
    observer: &mut dyn Observer,
) -> Result<Outcome, TrainError> {
    run_on_cluster(config, None, stop, observer)
}

/// Like [`run`], together with the other ranks of a cluster, which call it with the same configuration.
/// Only the lead writes files and reports what concerns all ranks.
///
/// # Errors
/// Those of [`run`]. An error is not passed on to the other ranks, which keep waiting for this one until
/// the caller ends the job.
pub fn run_on_cluster(
    config: &Config,
    cluster: Option<&Rc<Cluster>>,
    stop: &AtomicBool,
    observer: &mut dyn Observer,
) -> Result<Outcome, TrainError> {
    // Dropped last.
    let _memory = ReleaseAtEnd;
    let common = cluster.map(|cluster| common_config(config, cluster)).transpose()?;
    let config = common.as_ref().unwrap_or(config);
    let mut run = Run::open(config, cluster, stop, observer)?;
    let resumed_epochs = run.history.len();
    let status = run.epochs()?;
    if let Some(cache) = &run.data.cache {
        log::info!("frame cache: {}", cache.stats());
    }
    run.reporter.end(&run.history, status);
    if status != RunStatus::Interrupted && !config.run.test_run {
        refuse_untrained(&run.history)?;
    }
    let outcome = Outcome {
        interrupted: status == RunStatus::Interrupted,
        save_dir: config.run.save_dir.clone(),
        files: run.checkpoints.files,
        was_finished: run.history.len() == resumed_epochs && status != RunStatus::Interrupted,
        history: run.history,
    };
    run.trainer.observe(&finished(&outcome, status));
    Ok(outcome)
}

/// Returns whether a run with this configuration and history has nothing left to do: all its epochs
/// are done, or early stopping has ended it.
pub fn is_finished(config: &Config, history: &[EpochRecord]) -> bool {
    let stopping = EarlyStopping { patience: config.patience() };
    let over = history.len() >= config.total_epochs() || stopping.has_ended(history);
    over && refuse_untrained(history).is_ok()
}

/// A run in progress.
pub(super) struct Run<'a> {
    config: &'a Config,
    cluster: Option<Rc<Cluster>>,
    schema: Schema,
    data: RunData<'a>,
    trainer: Trainer<'a>,
    schedule: Rc<RunSchedule>,
    budget: MemoryBudget,
    checkpoints: CheckpointWriter<'a>,
    reporter: Reporter<'a>,
    history: Vec<EpochRecord>,
    /// Progress within the next epoch, in a run that was resumed within an epoch.
    progress: Option<PassProgress>,
    /// Time when the current epoch started.
    epoch_started: Instant,
    /// Seconds spent on the current epoch before the run was resumed.
    seconds_before: f64,
    /// Number of clips written to the frame cache up to the end of the last epoch.
    cached: u64,
    /// Whether advice on waiting for data has been logged.
    advised: bool,
}

impl<'a> Run<'a> {
    /// Writes augmented clips of the first two actions to TensorBoard.
    fn show_augmentation(&mut self, device: &burn::tensor::Device) -> Result<(), TrainError> {
        let Some(augmenter) = &self.trainer.augmenter else {
            return Ok(());
        };
        let leads = self.cluster.as_ref().is_none_or(|cluster| cluster.is_lead());
        if self.config.run.test_run || !self.history.is_empty() || !leads {
            return Ok(());
        }
        let first: Vec<usize> = (0..self.data.train.samples.len().min(2)).collect();
        if let Some(batch) = self.data.train_batch(0, &first)? {
            self.reporter.augmented(augmenter, &batch, device);
        }
        Ok(())
    }

    /// Runs the remaining epochs.
    fn epochs(&mut self) -> Result<RunStatus, TrainError> {
        let schedule = Rc::clone(&self.schedule);
        let stopping = EarlyStopping { patience: self.config.patience() };
        for epoch in self.history.len()..schedule.epochs() {
            if stopping.has_ended(&self.history) {
                self.trainer.observe(&Event::StoppedEarly { epochs: stopping.patience });
                return Ok(RunStatus::StoppedEarly);
            }
            let past: Vec<_> = self.history.iter().map(EpochRecord::outcome).collect();
            let plan = schedule.epoch(epoch, &past);
            let (train, pass) = self.train(epoch, &plan)?;
            let progress = pass.progress();
            if self.trainer.stopped() {
                let interrupted = self.interrupted(progress);
                // Not before saving: dropping the pass waits for its decoding threads.
                drop(pass);
                return interrupted;
            }
            drop(pass);
            let (valid, outputs) = self.validate(epoch)?;
            if self.trainer.stopped() {
                return self.interrupted(progress);
            }
            if !valid.loss.is_finite() {
                let (value, epoch) = (valid.loss, epoch + 1);
                let half = self.trainer.loss_scale.is_some();
                return Err(TrainError::ValidationNotFinite { value, epoch, half });
            }
            let calibration = Calibration::of(&outputs);
            let temperatures = calibration.temperatures();
            let predictions: Vec<ActionPrediction> =
                outputs.into_iter().map(|output| output.prediction(&temperatures)).collect();
            let record = self.record(epoch, &plan, [train, valid], calibration)?;
            self.finish_epoch(record, &predictions, progress)?;
        }
        Ok(RunStatus::Finished)
    }

    /// Ends a run that the user stops within an epoch that has got as far as `progress`.
    fn interrupted(&mut self, progress: PassProgress) -> Result<RunStatus, TrainError> {
        // Save before notifying the observer, which may itself fail.
        self.save(Some(progress))?;
        self.trainer.observe(&Event::Interrupted);
        Ok(RunStatus::Interrupted)
    }

    /// Runs the training pass of an epoch, or the rest of it. Returns its metrics and the pass.
    fn train(
        &mut self,
        epoch: usize,
        plan: &EpochPlan,
    ) -> Result<(PassRecord, TrainPass), TrainError> {
        self.announce(epoch, PassKind::Train, self.data.steps(epoch));
        let progress = self.progress.take();
        let progress = progress.unwrap_or_else(|| PassProgress::new(&self.trainer.objective));
        let loader = self.data.train_loader(epoch, progress.batches(), self.trainer.share());
        self.trainer.set_trainable(plan.trainable);
        let needs = memory_needs(self.config, self.trainer.net(), plan.trainable)?;
        let planned = self.budget.step(&needs);
        self.trainer.memory = planned;
        self.trainer.epoch = epoch;
        self.trainer.steps = self.schedule.steps_before(epoch) + progress.steps;
        let traffic = self.cluster.as_ref().map(|cluster| cluster.traffic());
        let (mut pass, before) = (self.trainer.resume_epoch(loader, progress), self.trainer.steps);
        while self.trainer.train_step(&mut pass, &|step| plan.at(step))? {
            self.budget.learn(&planned, &self.trainer.memory);
            if self.checkpoints.is_due() {
                self.save(Some(pass.progress()))?;
            }
        }
        self.budget.learn(&planned, &self.trainer.memory);
        if let (Some(cluster), Some(traffic)) = (&self.cluster, traffic) {
            let steps = self.trainer.steps - before;
            log::debug!("epoch {}: {}", epoch + 1, cluster.traffic().since(&traffic, steps));
        }
        if let Some(scale) = &self.trainer.loss_scale {
            scale.warn(epoch + 1, &pass.progress());
        }
        Ok((self.trainer.record(&pass), pass))
    }

    /// Runs the validation pass of an epoch. Returns its metrics and the network's outputs in the order
    /// of the split.
    fn validate(&mut self, epoch: usize) -> Result<(PassRecord, Vec<ActionLogits>), TrainError> {
        let loader = self.data.valid_loader(self.trainer.share());
        self.announce(epoch, PassKind::Validate, loader.batches());
        let needs = memory_needs(self.config, self.trainer.net(), StageSet::NONE)?;
        self.trainer.memory = self.budget.step(&needs);
        let mut outputs = Vec::new();
        let mut recorder = self.trainer.recorder.take();
        let device = self.trainer.device().clone().without_autodiff();
        let record = self.trainer.validate_with(loader, &mut |batch, prediction| {
            if let Some(recorder) = &mut recorder {
                recorder.validation(batch, &device)?;
            }
            outputs.extend(ActionLogits::read(batch, prediction)?);
            Ok(())
        })?;
        self.trainer.recorder = recorder.map(Recorder::validated);
        Ok((record, outputs))
    }

    fn announce(&mut self, epoch: usize, phase: PassKind, batches: usize) {
        let epochs = self.schedule.epochs();
        self.trainer.observe(&Event::PassStarted { epoch: epoch + 1, epochs, phase, batches });
    }

    /// Builds the record of a finished epoch.
    fn record(
        &mut self,
        epoch: usize,
        plan: &EpochPlan,
        [train, valid]: [PassRecord; 2],
        calibration: Calibration,
    ) -> Result<EpochRecord, TrainError> {
        let score = valid.score();
        let best = self.checkpoints.is_best(score);
        let rates = plan.at(self.data.steps(epoch).saturating_sub(1));
        let mut groups = indexmap::IndexMap::from([("heads".to_owned(), rates.heads)]);
        for (stage, name) in STAGES.iter().enumerate().rev() {
            if plan.trainable.contains(stage) {
                groups.insert((*name).to_owned(), rates.stages[stage]);
            }
        }
        let gradients =
            if plan.phase.freezing.wants_gradients() { self.stage_gradients(epoch)? } else { None };
        let wall_seconds =
            self.epoch_started.elapsed().as_secs_f64() + std::mem::take(&mut self.seconds_before);
        self.epoch_started = Instant::now();
        Ok(EpochRecord {
            epoch: epoch + 1,
            phase: plan.phase.number,
            trainable: plan.trainable.names().into_iter().map(str::to_owned).collect(),
            rates: groups,
            gradients,
            train,
            valid,
            score,
            calibration: Some(calibration),
            best,
            wall_seconds: Some(wall_seconds),
        })
    }

    /// Saves and reports a finished epoch. `progress` is that of its training pass.
    fn finish_epoch(
        &mut self,
        record: EpochRecord,
        predictions: &[ActionPrediction],
        progress: PassProgress,
    ) -> Result<(), TrainError> {
        self.advise_on_waiting(&record);
        self.history.push(record.clone());
        let snapshot = snapshot(&self.trainer, &self.budget, &self.history, None);
        match self.checkpoints.save_epoch(snapshot, &self.schema, predictions) {
            Ok(saved) => self.report_saved(saved),
            Err(error) => {
                // One of the epoch's files could not be written. Save the finished training pass,
                // so that a resumed run repeats only the validation and then writes the files.
                self.history.pop();
                if let Err(also) = self.save(Some(progress)) {
                    log::debug!("the epoch's training pass could not be saved either: {also}");
                }
                return Err(error);
            }
        }
        let explain = |batch: &Batch, class| {
            let explained = self.trainer.explain(batch, class);
            explained.unwrap_or_else(|error| {
                log::warn!("the report is incomplete: {error}");
                None
            })
        };
        self.reporter.epoch(&self.history, predictions, &self.data.valid, &explain);
        self.trainer.observe(&Event::Epoch(Box::new(record)));
        Ok(())
    }

    /// Writes the last checkpoint within an epoch.
    fn save(&mut self, progress: Option<PassProgress>) -> Result<(), TrainError> {
        let snapshot = snapshot(&self.trainer, &self.budget, &self.history, progress);
        let saved = self.checkpoints.save(snapshot)?;
        self.report_saved(saved);
        Ok(())
    }

    fn report_saved(&mut self, paths: Vec<PathBuf>) {
        for path in paths {
            self.trainer.observe(&Event::Saved { path });
        }
    }

    /// Suggests, once per run, which option to change if training waits for data. Epochs that filled
    /// the frame cache are ignored, as they do not predict the next one.
    fn advise_on_waiting(&mut self, record: &EpochRecord) {
        let written = self.data.cache.as_ref().map_or(0, |cache| cache.stats().written);
        let filled = std::mem::replace(&mut self.cached, written) < written;
        if self.advised || filled {
            return;
        }
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        if let Some(advice) = data_wait_advice(self.config, record.train.data_wait, cores) {
            log::info!("advice: {advice}");
            self.advised = true;
        }
    }
}

fn snapshot<'a>(
    trainer: &'a Trainer,
    budget: &MemoryBudget,
    history: &'a [EpochRecord],
    progress: Option<PassProgress>,
) -> Snapshot<'a> {
    let (net, optimizer, memory) = (trainer.net(), &trainer.optimizer, budget.state);
    let (lanes, loss_scale, average) =
        (trainer.lanes(), trainer.loss_scale, trainer.average.as_ref());
    Snapshot { net, average, optimizer, memory, loss_scale, lanes, history, progress }
}
