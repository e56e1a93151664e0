//! Makes sure that all ranks of a cluster have the same configuration and data.

use super::error::TrainError;
use super::run_data::RunData;
use crate::cluster::{Cluster, ClusterError};
use crate::config::Config;
use crate::data::Dataset;

/// Returns the lead's configuration, in which each rank keeps its own device, locations of data,
/// cache and save-dir, and loader settings. The lead warns about other options that differ.
pub(super) fn common_config(config: &Config, cluster: &Cluster) -> Result<Config, TrainError> {
    let text = toml::to_string(config).expect("a configuration can be serialised");
    let texts = cluster.all_gather(&text)?;
    let sent_by = |rank: usize| received(&texts[rank], rank, cluster.hosts());
    let mut common = sent_by(0)?;
    common.compute.device = config.compute.device.clone();
    common.data.dataset_root = config.data.dataset_root.clone();
    common.data.num_workers = config.data.num_workers;
    common.data.prefetch = config.data.prefetch;
    common.data.loader_memory = config.data.loader_memory;
    common.data.cache = config.data.cache.clone();
    common.data.cache_size = config.data.cache_size;
    common.run.save_dir = config.run.save_dir.clone();
    if cluster.is_lead() {
        for rank in 1..cluster.size() {
            let changes = config.changes_from(&sent_by(rank)?);
            if !changes.is_empty() {
                let (name, changes) = (cluster.name(rank), changes.join(", "));
                log::warn!("{name} was started with other options and uses rank 0's: {changes}");
            }
        }
    }
    Ok(common)
}

/// Reads the configuration that a rank has sent. A rank with another version of polyview may have
/// choices that this one does not know.
fn received(text: &str, rank: usize, hosts: &[String]) -> Result<Config, ClusterError> {
    toml::from_str(text).map_err(|error| ClusterError::Message {
        rank,
        host: hosts[rank].clone(),
        reason: error.message().to_owned(),
    })
}

/// Returns an error unless the data are the same on all ranks: otherwise a rank would train on
/// other actions than the run's plan says.
pub(super) fn compare_data(data: &RunData, cluster: &Cluster) -> Result<(), TrainError> {
    let all = cluster.all_gather(&digests(data))?;
    for (index, split) in [&data.train, &data.valid].into_iter().enumerate() {
        if let Some(rank) = all.iter().position(|digests| digests[index] != all[0][index]) {
            let (rank, split) = (cluster.name(rank), split.split.clone());
            return Err(TrainError::OtherData { rank, split });
        }
    }
    Ok(())
}

/// Returns digests of the training and the validation split.
pub(super) fn digests(data: &RunData) -> [u32; 2] {
    [&data.train, &data.valid].map(|split| digest(split))
}

/// Computes a digest that very likely differs between splits with different actions, labels,
/// properties or numbers of views.
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::config::OptimizerKind;

    #[test]
    fn a_configuration_with_an_unknown_choice_is_refused_with_its_sender() {
        let hosts = ["first", "second"].map(str::to_owned);
        let mut config = Config::default();
        config.optimizer.optimizer = OptimizerKind::Sgd;
        let text = toml::to_string(&config).unwrap();
        assert_eq!(received(&text, 1, &hosts).unwrap(), config);
        let other = text.replace("\"sgd\"", "\"newer\"");
        let error = received(&other, 1, &hosts).unwrap_err();
        assert!(
            matches!(&error, ClusterError::Message { rank: 1, host, reason }
                if host == "second" && reason.contains("newer")),
            "{error}"
        );
    }
}
