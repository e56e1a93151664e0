//! Training runs that take seconds. Configurations are made from command-line options, as users
//! make them; the tests neither build a [`Config`] field by field nor call the trainer themselves.

use std::path::Path;
use std::sync::atomic::AtomicBool;

use polyview::cli::train_config;
use polyview::config::Config;
use polyview::report::Event;
use polyview::train::{self, Outcome, TrainError};
use tempfile::TempDir;

use super::data::small_set;

/// Options of a run on 12 small actions that ends in seconds.
const SMALL: &str = "--backbone-name r3d_tiny --frames-per-clip 2 --target-fps 25 --start-frame 2 \
    --end-frame 5 --img-height 16 --img-width 16 --batch-size 6 --num-workers 0 --device cpu \
    --augmentation-strength none --overwrite";

/// Reason why a path is valid Unicode.
const UNICODE: &str = "temporary folders have Unicode names";

/// Returns the default configuration with these options.
pub fn defaults_with(options: &str) -> Config {
    with(&train_config(["--dataset-root", "data"]).expect("defaults are valid"), options)
}

/// Returns the configuration of a tiny run on the synthetic data set in `folder`, which is written if
/// it is missing.
pub fn small_config(folder: &TempDir) -> Config {
    let data = folder.path().join("data");
    if !data.exists() {
        small_set(&data);
    }
    let [data, save] = [data, folder.path().join("run")].map(|path| path.into_os_string());
    let config = train_config(["--dataset-root".into(), data, "--save-dir".into(), save]);
    with(&config.expect("defaults are valid"), SMALL)
}

/// Returns the configuration with these options changed.
pub fn with(config: &Config, options: &str) -> Config {
    with_args(config, &options.split_whitespace().collect::<Vec<_>>())
}

/// Like [`with`], for options whose values may contain white space.
pub fn with_args(config: &Config, args: &[&str]) -> Config {
    let folder = TempDir::new().expect("a temporary folder");
    let file = write_config(config, folder.path());
    train_config(["--config", &file].iter().chain(args))
        .unwrap_or_else(|error| panic!("{args:?}: {error}"))
}

/// Returns the configuration with its files in another folder.
pub fn saving_to(config: &Config, folder: &Path) -> Config {
    with_args(config, &["--save-dir", folder.to_str().expect(UNICODE)])
}

/// Writes the configuration to a file for `--config` and returns its path.
pub fn write_config(config: &Config, folder: &Path) -> String {
    let path = folder.join("config.toml");
    let options = toml::to_string(config).expect("a configuration can be written");
    std::fs::write(&path, options).expect("the folder is writable");
    path.to_str().expect(UNICODE).to_owned()
}

/// Trains to the end.
pub fn run(config: &Config) -> Outcome {
    run_observed(config, |_| {})
}

/// Trains to the end and passes every event to `observer`.
pub fn run_observed(config: &Config, observer: impl FnMut(&Event)) -> Outcome {
    try_run(config, &AtomicBool::new(false), observer).expect("the run succeeds")
}

/// Trains until the end or until `stop` is raised.
pub fn try_run(
    config: &Config,
    stop: &AtomicBool,
    mut observer: impl FnMut(&Event),
) -> Result<Outcome, TrainError> {
    train::run(config, stop, &mut |event: &Event| observer(event))
}
