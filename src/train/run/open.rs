//! Opens everything that a run needs.

use std::rc::Rc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use super::Run;
use super::inputs::Inputs;
use crate::cluster::Cluster;
use crate::config::Config;
use crate::conv::describe_units;
use crate::device::MemoryWatch;
use crate::half::describe;
use crate::model::{MemoryEstimate, ModelConfig, MultiViewNet, parameter_count};
use crate::report::{Event, Observer, RunSummary};
use crate::train::agreement::digests;
use crate::train::best::keep_best;
use crate::train::checkpoints::{CheckpointWriter, RunFolder};
use crate::train::devices::Devices;
use crate::train::error::TrainError;
use crate::train::lanes::{self, Lanes};
use crate::train::memory::{MemoryBudget, memory_needs};
use crate::train::metrics::PassProgress;
use crate::train::mixing::Mixing;
use crate::train::objective::Objective;
use crate::train::recording::Recorder;
use crate::train::reporting::Reporter;
use crate::train::run_schedule::RunSchedule;
use crate::train::shared_start::shared_start;
use crate::train::start::Start;
use crate::train::summary::{Opened, summary};
use crate::train::trainer::{Trainer, TrainerParts};
use crate::train::tune::tune;

impl<'a> Run<'a> {
    /// Opens everything, cheap checks first: mistakes must be reported before anything is decoded or
    /// compiled.
    pub(in crate::train) fn open(
        config: &'a Config,
        cluster: Option<&Rc<Cluster>>,
        stop: &'a AtomicBool,
        observer: &'a mut dyn Observer,
    ) -> Result<Self, TrainError> {
        let writes = !config.run.test_run && cluster.is_none_or(|cluster| cluster.is_lead());
        let opening = Opening { config, cluster, writes };
        let inputs = Inputs::open(config, cluster)?;
        let folder = opening.folder()?;
        let devices = Devices::open(config, cluster.map(Rc::as_ref))?;
        let objective = Objective::new(config, &inputs.schema, &inputs.data.train);
        let mut start = opening.start(&inputs, &objective, &devices)?;
        let computing = opening.computing(&devices, start.lanes)?;
        start = start.with_half(computing.half);
        // A step is repeated if the device runs out of memory; loading the weights is not, so check
        // here.
        refuse_out_of_memory(&devices)?;
        let mut inputs = inputs.continuing(start.trained_digests.take());
        let memory = opening.memory(&devices, &start, computing.lanes)?;
        let recorder = opening.recorder(&inputs, &objective, &start, computing.lanes)?;
        // All checks have passed; only now may files in the folder be changed.
        let checkpoints = opening.checkpoints(folder, &inputs, &start, computing.lanes)?;
        inputs.data.open_cache();

        let summary = opening.summary(&inputs, &devices, &computing, &memory, &start.net);
        let epoch_started = Instant::now();
        observer.observe(&Event::Started(summary.clone()));
        if config.compute.tune {
            let clips = computing.clips(config, &inputs);
            let micro_batch = memory.budget.step(&memory.needs).micro_batch.min(clips);
            // Identical devices reuse the first one's results, which are read from its file.
            for device in &devices.own {
                tune(config, device, &start.net, micro_batch, stop, observer)?;
            }
        }
        let Inputs { schema, data, window: _, info } = inputs;
        let (names, done) = (devices.lines().join(", "), start.history.len());
        let reporter = Reporter::open(config, schema.clone(), summary, names, done, writes);
        let mixing = Mixing { config: config.mixing.clone(), seed: config.run.seed };
        let device = &devices.own[0].device;
        let trainer = Trainer::from_parts(TrainerParts {
            net: start.net,
            optimizer: start.optimizer,
            objective,
            augmenter: Some(data.augmenter(&schema)),
            mixing: config.mixing.mixes().then_some(mixing),
            loss_scale: start.loss_scale,
            average: start.average,
            recorder,
            seed: config.run.seed,
            device,
            lanes: opening.lanes(&computing, &info.model, &devices)?,
            stop,
            observer: Box::new(|event| observer.observe(event)),
        });
        let mut run = Self {
            config,
            cluster: cluster.cloned(),
            schema,
            schedule: Rc::new(RunSchedule::new(config, |epoch| data.steps(epoch))),
            data,
            trainer,
            budget: memory.budget,
            checkpoints,
            reporter,
            history: start.history,
            epoch_started,
            seconds_before: start.progress.as_ref().map_or(0.0, PassProgress::seconds),
            progress: start.progress,
            cached: 0,
            advised: false,
        };
        run.show_augmentation(device)?;
        Ok(run)
    }
}

/// What all steps of opening a run depend on.
struct Opening<'a, 'c> {
    config: &'a Config,
    cluster: Option<&'c Rc<Cluster>>,
    /// Whether this process writes the run's files.
    writes: bool,
}

/// How steps are computed, which is the same on all devices.
struct Computing {
    /// Whether activations are stored in half precision.
    half: bool,
    lanes: usize,
}

impl Computing {
    /// Returns the largest number of clips in a lane.
    fn clips(&self, config: &Config, inputs: &Inputs) -> usize {
        config.optimizer.batch_size.div_ceil(self.lanes) * inputs.data.train.max_views()
    }
}

/// The memory of the devices, and what steps need of it.
struct Memory {
    budget: MemoryBudget,
    needs: MemoryEstimate,
}

impl<'a> Opening<'a, '_> {
    /// Opens the run's folder.
    fn folder(&self) -> Result<RunFolder<'a>, TrainError> {
        if let (Some(folder), None) = (&self.config.run.record, &self.config.run.resume) {
            // Must come before an earlier run is moved aside.
            Recorder::refuse_occupied(folder)?;
        }
        RunFolder::open(self.config, self.writes)
    }

    /// Opens the state in which the run starts.
    fn start(
        &self,
        inputs: &Inputs,
        objective: &Objective,
        devices: &Devices,
    ) -> Result<Start, TrainError> {
        let device = devices.own[0].device.clone().autodiff();
        let open = || {
            let start = Start::open(self.config, &inputs.info, objective, &device)?;
            if start.data.is_some_and(|data| data != digests(&inputs.data)) {
                log::warn!(
                    "the training or validation split has different actions, labels or views than when the \
                     checkpoint was written (changed data, max-views, split or fold): the resumed run \
                     will not match an uninterrupted one"
                );
            }
            Ok(start)
        };
        match self.cluster {
            Some(cluster) => shared_start(cluster, self.config, &inputs.info, &device, open),
            None => open(),
        }
    }

    /// Decides how steps are computed; `saved` is the number of lanes of the checkpointed run.
    fn computing(&self, devices: &Devices, saved: Option<usize>) -> Result<Computing, TrainError> {
        let half = self.half_precision(devices)?;
        let (requested, actions) = (self.config.compute.lanes, self.config.optimizer.batch_size);
        let lanes = lanes::count(requested, devices.count(), saved, actions)?;
        if self.config.compute.sync_batch_norm && lanes == 1 {
            log::info!("sync-batch-norm changes nothing: the run has one lane");
        }
        Ok(Computing { half, lanes })
    }

    /// Returns whether activations are stored in half precision, which applies to all devices or none.
    fn half_precision(&self, devices: &Devices) -> Result<bool, TrainError> {
        let mut half = true;
        for device in devices.distinct() {
            let (own, note) = self.config.compute.precision.on(device);
            half &= own;
            if let Some(note) = note {
                log::warn!("{note}");
            }
        }
        match self.cluster {
            Some(cluster) => Ok(cluster.all_gather(&half)?.into_iter().all(|half| half)),
            None => Ok(half),
        }
    }

    /// Plans the memory of steps in `lanes` lanes.
    fn memory(&self, devices: &Devices, start: &Start, lanes: usize) -> Result<Memory, TrainError> {
        let mut budget = MemoryBudget::new(self.config, devices, lanes);
        if let Some(memory) = start.memory {
            budget.resume(memory);
        }
        let trainable = self.config.freezing.most_trainable();
        let needs = memory_needs(self.config, &start.net, trainable)?;
        budget.check(&needs, self.config.clips.size())?;
        Ok(Memory { budget, needs })
    }

    /// Begins or continues the record of the steps, if they are recorded.
    fn recorder(
        &self,
        inputs: &Inputs,
        objective: &Objective,
        start: &Start,
        lanes: usize,
    ) -> Result<Option<Recorder>, TrainError> {
        let Some(folder) = self.config.run.record.as_ref().filter(|_| self.writes) else {
            return Ok(None);
        };
        if lanes > 1 {
            let folder = folder.display().to_string();
            return Err(TrainError::RecordLanes { folder, lanes });
        }
        let resumed = !start.history.is_empty() || start.progress.is_some();
        let recorder = Recorder::begin(
            folder,
            &inputs.schema,
            objective,
            &inputs.data.train,
            &start.net,
            &inputs.info,
            resumed.then_some(start.history.len()),
        )?;
        Ok(Some(recorder))
    }

    /// Takes the best weights along and begins the run's files.
    fn checkpoints(
        &self,
        folder: RunFolder<'a>,
        inputs: &Inputs,
        start: &Start,
        lanes: usize,
    ) -> Result<CheckpointWriter<'a>, TrainError> {
        let (score, within_epoch) = (start.best_score, start.progress.is_some());
        let best_score = match self.writes {
            true => keep_best(self.config, &start.history, score, within_epoch)?,
            false => score,
        };
        let (info, data) = (inputs.info.clone(), digests(&inputs.data));
        CheckpointWriter::begin(folder, info, best_score, data, lanes, &start.history)
    }

    /// Describes the run.
    fn summary(
        &self,
        inputs: &Inputs,
        devices: &Devices,
        computing: &Computing,
        memory: &Memory,
        net: &MultiViewNet,
    ) -> RunSummary {
        let &Computing { half, lanes } = computing;
        let compute = &devices.own[0];
        let clips = computing.clips(self.config, inputs);
        let what = if lanes > 1 { "a lane" } else { "a step" };
        summary(
            self.config,
            &Opened {
                schema: &inputs.schema,
                window: &inputs.window,
                model: &inputs.info.model,
                devices: &devices.lines(),
                lanes: devices.describe_lanes(lanes, self.config.compute.sync_batch_norm),
                parameters: parameter_count(net),
                precision: describe(half, &compute.device),
                units: half.then(|| describe_units(&compute.device)),
                memory: memory.budget.describe(&memory.needs, clips, what),
                train: &inputs.data.train,
                valid: &inputs.data.valid,
            },
        )
    }

    /// Opens the lanes, shared with the ranks of a cluster if there is one; `None` if there is only one
    /// lane.
    fn lanes(
        &self,
        computing: &Computing,
        model: &ModelConfig,
        devices: &Devices,
    ) -> Result<Option<Lanes>, TrainError> {
        if computing.lanes <= 1 {
            return Ok(None);
        }
        let all = Lanes::new(computing.lanes, model, computing.half, &devices.others())?;
        let all = match self.cluster {
            Some(cluster) => all.across(Rc::clone(cluster), &devices.counts(), devices.alike()),
            None => all,
        };
        Ok(Some(all.with_sync_batch_norm(self.config.compute.sync_batch_norm)))
    }
}

/// Returns an error if the trainer's device has run out of memory or failed so far.
fn refuse_out_of_memory(devices: &Devices) -> Result<(), TrainError> {
    let device = &devices.own[0].device;
    let synced = device.sync();
    if MemoryWatch::start(device).out_of_memory() {
        return Err(TrainError::OutOfMemory);
    }
    Ok(synced?)
}
