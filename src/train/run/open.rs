//! Opens everything that a run needs.

use std::rc::Rc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use super::Run;
use crate::checkpoint::CheckpointInfo;
use crate::cluster::Cluster;
use crate::config::Config;
use crate::conv::describe_units;
use crate::data::DatasetError;
use crate::data::source::Partition;
use crate::device::MemoryWatch;
use crate::half::describe;
use crate::model::parameter_count;
use crate::report::{Event, Observer};
use crate::train::agreement::{compare_data, digests};
use crate::train::best::keep_best;
use crate::train::checkpoints::CheckpointWriter;
use crate::train::devices::Devices;
use crate::train::error::TrainError;
use crate::train::lanes::{self, Lanes};
use crate::train::memory::{MemoryBudget, memory_needs};
use crate::train::metrics::PassProgress;
use crate::train::mixing::Mixing;
use crate::train::objective::Objective;
use crate::train::recording::Recorder;
use crate::train::reporting::Reporter;
use crate::train::run_data::RunData;
use crate::train::run_schedule::RunSchedule;
use crate::train::shared_start::shared_start;
use crate::train::start::Start;
use crate::train::summary::{Opened, summary};
use crate::train::trainer::Trainer;
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
        config.validate()?;
        config.warnings().iter().for_each(|warning| log::warn!("{warning}"));
        let source = config.open_data().map_err(DatasetError::from)?;
        let schema = source.schema().clone();
        config.validate_with(&schema)?;
        source.notes().iter().for_each(|note| log::info!("{note}"));
        let mut data = RunData::open(config, &source)?;
        if let Some(cluster) = cluster {
            compare_data(&data, cluster)?;
        }
        let model = config.model(&schema);
        let partition =
            Some(config.data.partition.partition()).filter(|p| *p != Partition::default());
        let input = config.input(&schema)?;
        let window = input.window;
        let info = CheckpointInfo {
            input: Some(input),
            partition,
            trained_digests: source
                .makes("train")
                .then(|| data.train.annotations.digest())
                .into_iter()
                .collect(),
            ..CheckpointInfo::new(&schema, model)
        };
        let writes = !config.run.test_run && cluster.is_none_or(|cluster| cluster.leads());
        if let (Some(folder), None) = (&config.run.record, &config.run.resume) {
            // Must come before an earlier run is moved aside.
            Recorder::refuse_occupied(folder)?;
        }
        let mut checkpoints = CheckpointWriter::open(config, info, writes)?;

        let devices = Devices::open(config, cluster.map(Rc::as_ref))?;
        let compute = &devices.own[0];
        let objective = Objective::new(config, &schema, &data.train);
        let autodiff = compute.device.clone().autodiff();
        checkpoints.data = digests(&data);
        let open = || {
            let start = Start::open(config, &checkpoints.info, &objective, &autodiff)?;
            if start.data.is_some_and(|data| data != checkpoints.data) {
                log::warn!(
                    "the training or validation split has different actions, labels or views than when the \
                     checkpoint was written (changed data, max-views, split or fold): the resumed run \
                     will not match an uninterrupted one"
                );
            }
            Ok(start)
        };
        let mut start = match cluster {
            Some(cluster) => shared_start(cluster, config, &checkpoints.info, &autodiff, open)?,
            None => open()?,
        };
        let half = half_precision(config, &devices, cluster)?;
        let (requested, actions) = (config.compute.lanes, config.optimizer.batch_size);
        let lanes = lanes::count(requested, devices.count(), start.lanes, actions)?;
        data.lanes = lanes;
        let sync_norm = config.compute.sync_batch_norm;
        if sync_norm && lanes == 1 {
            log::info!("sync-batch-norm changes nothing: the run has one lane");
        }
        start.net = start.net.with_half(half);
        start.average = start.average.map(|average| average.with_half(half));
        // A step is repeated if the device runs out of memory; loading the weights is not, so check
        // here.
        let synced = compute.device.sync();
        if MemoryWatch::start(&compute.device).out_of_memory() {
            return Err(TrainError::OutOfMemory);
        }
        synced?;
        checkpoints.best_score = start.best_score;
        // Actions seen before the data set changed still count as trained on. An empty list means that
        // the earlier data are unknown.
        if let Some(mut before) = start.trained_digests {
            let now = std::mem::take(&mut checkpoints.info.trained_digests);
            if !before.is_empty() && now.iter().any(|digest| !before.contains(digest)) {
                before.extend(now);
            }
            checkpoints.info.trained_digests = before;
        }
        let mut budget = MemoryBudget::new(config, &devices, lanes);
        if let Some(memory) = start.memory {
            budget.resume(memory);
        }
        let needs = memory_needs(config, &start.net, config.freezing.most_trainable())?;
        budget.check(&needs, config.clips.size())?;
        let record = config.run.record.as_ref().filter(|_| writes);
        if let (Some(folder), 2..) = (record, lanes) {
            return Err(TrainError::RecordLanes { folder: folder.display().to_string(), lanes });
        }
        let resumed = !start.history.is_empty() || start.progress.is_some();
        let record = record.map(|folder| {
            Recorder::begin(
                folder,
                &schema,
                &objective,
                &data.train,
                &start.net,
                &checkpoints.info,
                resumed.then_some(start.history.len()),
            )
        });
        let recorder = record.transpose()?;
        // All checks have passed; only now may files in the folder be changed.
        if writes {
            let (score, within_epoch) = (checkpoints.best_score, start.progress.is_some());
            checkpoints.best_score = keep_best(config, &start.history, score, within_epoch)?;
        }
        checkpoints.begin(&start.history, lanes)?;
        data.open_cache();

        let clips = actions.div_ceil(lanes) * data.train.max_views();
        let summary = summary(
            config,
            &Opened {
                schema: &schema,
                window: &window,
                model: &checkpoints.info.model,
                devices: &devices.lines(),
                lanes: devices.describe_lanes(lanes, sync_norm),
                parameters: parameter_count(&start.net),
                precision: describe(half, &compute.device),
                units: half.then(|| describe_units(&compute.device)),
                memory: budget.describe(&needs, clips, if lanes > 1 { "a lane" } else { "a step" }),
                train: &data.train,
                valid: &data.valid,
            },
        );
        let epoch_started = Instant::now();
        observer.observe(&Event::Started(summary.clone()));
        if config.compute.tune {
            let micro_batch = budget.step(&needs).micro_batch.min(clips);
            // Identical devices reuse the first one's results, which are read from its file.
            for device in &devices.own {
                tune(config, device, &start.net, micro_batch, stop, observer)?;
            }
        }
        let (names, done) = (devices.lines().join(", "), start.history.len());
        let reporter = Reporter::open(config, schema.clone(), summary, names, done, writes);
        let mut trainer = Trainer::new(start.net, start.optimizer, objective, &compute.device)
            .stopped_by(stop)
            .observed_by(observer);
        if lanes > 1 {
            let model = &checkpoints.info.model;
            let all =
                on_devices(Lanes::new(lanes, model, half, &devices.others())?, &devices, cluster)
                    .with_sync_batch_norm(sync_norm);
            data.own_lanes = all.local();
            trainer = trainer.in_lanes(all);
        }
        trainer.augmenter = Some(data.augmenter(&schema));
        trainer.seed = config.run.seed;
        trainer.average = start.average;
        trainer.recorder = recorder;
        let mixing = Mixing { config: config.mixing.clone(), seed: config.run.seed };
        trainer.mixing = config.mixing.mixes().then_some(mixing);
        // A run resumed in f32 needs no loss scale; one newly in f16 starts from the default.
        trainer.loss_scale = trainer.loss_scale.map(|default| start.loss_scale.unwrap_or(default));
        let mut run = Self {
            config,
            cluster: cluster.cloned(),
            schema,
            schedule: Rc::new(RunSchedule::new(config, |epoch| data.steps(epoch))),
            data,
            trainer,
            budget,
            checkpoints,
            reporter,
            history: start.history,
            epoch_started,
            seconds_before: start.progress.as_ref().map_or(0.0, PassProgress::seconds),
            progress: start.progress,
            cached: 0,
            advised: false,
        };
        run.show_augmentation(&compute.device)?;
        Ok(run)
    }
}

/// Returns whether activations are stored in half precision, which applies to all devices or none.
fn half_precision(
    config: &Config,
    devices: &Devices,
    cluster: Option<&Rc<Cluster>>,
) -> Result<bool, TrainError> {
    let mut half = true;
    for device in devices.distinct() {
        let (own, note) = config.compute.precision.on(device);
        half &= own;
        if let Some(note) = note {
            log::warn!("{note}");
        }
    }
    match cluster {
        Some(cluster) => Ok(cluster.all(&half)?.into_iter().all(|half| half)),
        None => Ok(half),
    }
}

/// Shares the lanes with the ranks of a cluster, if there is one.
fn on_devices(lanes: Lanes, devices: &Devices, cluster: Option<&Rc<Cluster>>) -> Lanes {
    match cluster {
        Some(cluster) => lanes.across(Rc::clone(cluster), &devices.counts(), devices.alike()),
        None => lanes,
    }
}
