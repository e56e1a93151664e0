//! The same run with and without freezing.

use std::sync::atomic::AtomicBool;

use super::{Outcome, TrainError, run};
use crate::config::{CacheChoice, Config, FreezingKind};
use crate::report::Observer;

/// What came of both runs.
#[derive(Debug)]
pub struct Comparison {
    /// The run as configured.
    pub frozen: Outcome,
    /// The same with every stage trained from the first epoch on.
    pub unfrozen: Outcome,
}

/// Trains twice from the same seed, for the same number of epochs: as configured (in
/// `SAVE_DIR/frozen`), then without freezing (in `SAVE_DIR/unfrozen`). A raised `stop` ends the
/// run in progress; the second does not begin then, and its outcome is empty.
pub fn compare_freezing(
    config: &Config,
    stop: &AtomicBool,
    observer: &mut dyn Observer,
) -> Result<Comparison, TrainError> {
    // Both runs read the same clips.
    let cache = config.cache_folder().map_or(CacheChoice::Off, CacheChoice::Folder);
    let config = &Config { cache, ..config.clone() };
    let as_configured = Config {
        save_dir: config.save_dir.join("frozen"),
        compare_freezing: false,
        ..config.clone()
    };
    let without = Config {
        save_dir: config.save_dir.join("unfrozen"),
        compare_freezing: false,
        freezing_strategy: FreezingKind::None,
        gradual_finetuning: false,
        epochs: config.total_epochs(),
        early_stopping_patience: crate::config::Auto::Number(config.patience()),
        ..config.clone()
    };
    without.validate()?;
    let frozen = run(&as_configured, stop, observer)?;
    let unfrozen = if frozen.interrupted {
        Outcome {
            history: Vec::new(),
            interrupted: true,
            save_dir: without.save_dir,
            files: Vec::new(),
            network: None,
        }
    } else {
        run(&without, stop, observer)?
    };
    Ok(Comparison { frozen, unfrozen })
}
