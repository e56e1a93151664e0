//! What all ranks of a cluster must have in common: the configuration and the data.

use super::error::TrainError;
use super::run_data::RunData;
use crate::cluster::Cluster;
use crate::config::Config;
use crate::data::Dataset;

/// The lead's configuration, with what is each rank's own: its device, where its data and cache are, how
/// they are read. The lead warns of other options that differ.
pub(super) fn common_config(config: &Config, cluster: &Cluster) -> Result<Config, TrainError> {
    let text = toml::to_string(config).expect("a configuration is a table");
    let texts = cluster.all(&text)?;
    let parse = |text: &String| -> Config {
        toml::from_str(text).expect("ranks of one version have the same options")
    };
    let mut common = parse(&texts[0]);
    common.compute.device = config.compute.device.clone();
    common.data.dataset_root = config.data.dataset_root.clone();
    common.data.num_workers = config.data.num_workers;
    common.data.prefetch = config.data.prefetch;
    common.data.loader_memory = config.data.loader_memory;
    common.data.cache = config.data.cache.clone();
    common.data.cache_size = config.data.cache_size;
    common.run.save_dir = config.run.save_dir.clone();
    if cluster.leads() {
        for (rank, text) in texts.iter().enumerate().skip(1) {
            let changes = config.changes_from(&parse(text));
            if !changes.is_empty() {
                let (name, changes) = (cluster.name(rank), changes.join(", "));
                log::warn!("{name} was started with other options and takes rank 0's: {changes}");
            }
        }
    }
    Ok(common)
}

/// Refuses data that are not the same on all ranks: each would train on other actions than it says.
pub(super) fn compare_data(data: &RunData, cluster: &Cluster) -> Result<(), TrainError> {
    let all = cluster.all(&digests(data))?;
    for (index, split) in [&data.train, &data.valid].into_iter().enumerate() {
        if let Some(rank) = all.iter().position(|digests| digests[index] != all[0][index]) {
            let (rank, split) = (cluster.name(rank), split.split.clone());
            return Err(TrainError::OtherData { rank, split });
        }
    }
    Ok(())
}

/// Numbers for the training and the validation split.
pub(super) fn digests(data: &RunData) -> [u32; 2] {
    [&data.train, &data.valid].map(|split| digest(split))
}

/// A number that a split with other actions, labels, properties or views has with little probability.
fn digest(split: &Dataset) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    for sample in &split.samples {
        crc.update(sample.action.as_bytes());
        let labels = sample.labels.iter().map(|label| label.map_or(0, |label| label + 1));
        let numbers = labels.chain(sample.properties.iter().copied());
        for number in numbers.chain([0, sample.views.len()]) {
            crc.update(&(number as u64).to_le_bytes());
        }
    }
    crc.finalize()
}
