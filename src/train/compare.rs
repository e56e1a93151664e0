//! Compares a run with and without freezing.

use std::rc::Rc;
use std::sync::atomic::AtomicBool;

use super::error::TrainError;
use super::run::{Outcome, run_on_cluster};
use crate::cluster::Cluster;
use crate::config::{Auto, CacheChoice, Config, FreezingConfig, FreezingKind};
use crate::report::Observer;

/// Outcomes of both runs.
#[derive(Debug)]
pub struct Comparison {
    /// Outcome of the run as configured.
    pub frozen: Outcome,
    /// Outcome of the run with all stages trained from the first epoch on.
    pub unfrozen: Outcome,
}

/// Trains twice from the same seed, for the same number of epochs: as configured (in
/// `SAVE_DIR/frozen`), then without freezing (in `SAVE_DIR/unfrozen`). Setting `stop` ends the run in
/// progress; if that is the first, the second is not started and its outcome is empty. With
/// `--resume auto`, each run continues from the last checkpoint in its own folder.
pub fn compare_freezing(
    config: &Config,
    cluster: Option<&Rc<Cluster>>,
    stop: &AtomicBool,
    observer: &mut dyn Observer,
) -> Result<Comparison, TrainError> {
    let mut as_configured = config.clone();
    as_configured.run.compare_freezing = false;
    // Both runs read the same clips.
    as_configured.data.cache = config.cache_folder().map_or(CacheChoice::Off, CacheChoice::Folder);

    let mut without = as_configured.clone();
    // Reset options that only affect the other run, so that there is no warning about their having no
    // effect in this one.
    let usual = Config::default();
    without.freezing = FreezingConfig {
        freezing_strategy: FreezingKind::None,
        gradual_finetuning: false,
        exponential_lr_decay: config.freezing.exponential_lr_decay,
        discriminative_lr: config.freezing.discriminative_lr,
        layer_decay: config.freezing.layer_decay,
        ..usual.freezing
    };
    // A schedule with its own warm-up does not allow another one in a single phase.
    without.schedule.lr_warmup &= !config.schedule.scheduler.has_own_warm_up();
    if config.freezing.gradual_finetuning {
        as_configured.schedule.lr = usual.schedule.lr;
        as_configured.schedule.epochs = usual.schedule.epochs;
    }
    without.schedule.epochs = config.total_epochs();
    without.schedule.early_stopping_patience = Auto::Number(config.patience());

    as_configured.run.save_dir = config.run.save_dir.join("frozen");
    without.run.save_dir = config.run.save_dir.join("unfrozen");
    without.validate()?;
    let frozen = run_on_cluster(&as_configured, cluster, stop, observer)?;
    let unfrozen = if frozen.interrupted {
        Outcome {
            history: Vec::new(),
            interrupted: true,
            save_dir: without.run.save_dir,
            files: Vec::new(),
            was_finished: false,
        }
    } else {
        run_on_cluster(&without, cluster, stop, observer)?
    };
    Ok(Comparison { frozen, unfrozen })
}
