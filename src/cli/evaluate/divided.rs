//! The data set that is evaluated, with the splits that it lacks made as for the training: the actions that were
//! trained on must not be among those tested.

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
    // What the training made of its data set need not go with this one, which may have what is asked for.
    let source = match plain.clone().divided(&stored) {
        Ok(divided) if made(&plain) || !made(&divided) || is_known(&divided, info)? => divided,
        _ => {
            if !made(&plain) {
                log::warn!(
                    "{}: evaluating its own {split} split, not one made with the training's {}; if this is \
                     the data set of the training, actions of that split may have been trained on",
                    root.display(),
                    options(&stored)
                );
            }
            plain
        }
    };
    if made(&source) && !as_trained(&source, info)? {
        log::warn!(
            "{}: the splits that are made of it are not those of the training, so that actions of the {split} \
             split may have been trained on; to test what was not, give the data set as it was then, or list the \
             new actions as a split of their own",
            root.display()
        );
    }
    Ok(source)
}

/// How splits were made, as options.
fn options(partition: &Partition) -> String {
    let shares = partition.shares.as_ref().map(|shares| format!("--split {shares}"));
    let fold = partition.fold.map(|fold| format!("--fold {fold}"));
    shares.into_iter().chain(fold).collect::<Vec<_>>().join(" and ")
}

/// Whether the training split that is made is one that the network was trained on. Of older checkpoints it
/// is not known.
fn is_known(source: &DataSource, info: &CheckpointInfo) -> Result<bool, Failure> {
    let digest = source.training_digest()?;
    let known = &info.trained_digests;
    Ok(known.is_empty() || digest.is_some_and(|digest| known.contains(&digest)))
}

/// Whether it is the only one.
fn as_trained(source: &DataSource, info: &CheckpointInfo) -> Result<bool, Failure> {
    Ok(is_known(source, info)? && info.trained_digests.len() < 2)
}
