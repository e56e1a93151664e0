//! Opens the data set to evaluate. Splits that it lacks are created as they were for training, so that
//! no action that the network was trained on is tested.

use std::path::Path;

use super::Failure;
use crate::checkpoint::CheckpointInfo;
use crate::data::DataSource;
use crate::data::source::{Format, Partition, SourceSpec};
use crate::schema::Schema;

/// Opens a data set to evaluate one of its splits.
pub(super) fn open(
    root: &Path,
    format: Option<Format>,
    schema: &Schema,
    info: &CheckpointInfo,
    split: &str,
) -> Result<DataSource, Failure> {
    let stored = info.partition.clone().unwrap_or_default();
    let plain = DataSource::open(&SourceSpec {
        root: root.to_owned(),
        format,
        schema: Some(schema.clone()),
        partition: Partition { seed: stored.seed, ..Partition::default() },
    })?;
    let made =
        |source: &DataSource| schema.split(split).is_some_and(|spec| source.makes(&spec.name));
    // The way in which the training data were split need not suit this data set, which may have the
    // requested split itself.
    let source = match plain.clone().divided(&stored) {
        Ok(divided) if made(&plain) || !made(&divided) || is_known(&divided, info)? => divided,
        _ => {
            if !made(&plain) {
                log::warn!(
                    "{}: evaluating its own {split} split, not one created with the training's {}; if this is \
                     the data set it was trained on, the network may have seen actions of that split in training",
                    root.display(),
                    options(&stored)
                );
            }
            plain
        }
    };
    if made(&source) && !as_trained(&source, info)? {
        log::warn!(
            "{}: the splits created from it are not those of the training, so the network may have been \
             trained on actions of the {split} split; to avoid that, give the data set as it was then, or list \
             the new actions as a split of their own",
            root.display()
        );
    }
    Ok(source)
}

/// Returns the options with which splits were created.
fn options(partition: &Partition) -> String {
    let shares = partition.shares.as_ref().map(|shares| format!("--split {shares}"));
    let fold = partition.fold.map(|fold| format!("--fold {fold}"));
    shares.into_iter().chain(fold).collect::<Vec<_>>().join(" and ")
}

/// Returns whether the created training split is one that the network was trained on; `true` for older
/// checkpoints, which do not record that.
fn is_known(source: &DataSource, info: &CheckpointInfo) -> Result<bool, Failure> {
    let digest = source.training_digest()?;
    let known = &info.trained_digests;
    Ok(known.is_empty() || digest.is_some_and(|digest| known.contains(&digest)))
}

/// Returns whether the created training split is the only one that the network was trained on.
fn as_trained(source: &DataSource, info: &CheckpointInfo) -> Result<bool, Failure> {
    Ok(is_known(source, info)? && info.trained_digests.len() < 2)
}
