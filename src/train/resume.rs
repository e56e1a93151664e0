//! Going on from a checkpoint.

use std::path::PathBuf;

use burn::tensor::Device;

use super::pair::{Saved, load_pair};
use super::{Objective, TrainError};
use crate::checkpoint::{self, CheckpointError, CheckpointInfo};
use crate::config::Config;

/// Word of `--resume` for the save-dir's last checkpoint, if there is one.
const AUTO: &str = "auto";

/// Opens the checkpoint that `--resume` names, its network on `device`; `None` where there is
/// nothing to go on from. `info` is what this run's checkpoints will say of themselves.
pub(super) fn open(
    config: &Config,
    info: &CheckpointInfo,
    objective: &Objective,
    device: &Device,
) -> Result<Option<Saved>, TrainError> {
    let path = match config.run.resume.as_deref() {
        None => return Ok(None),
        Some(AUTO) => {
            let last = config.run.save_dir.join(checkpoint::LAST);
            if !last.exists() {
                log::info!(
                    "--resume auto: no checkpoint in {}, starting anew",
                    config.run.save_dir.display()
                );
                return Ok(None);
            }
            last
        }
        Some(file) => PathBuf::from(file),
    };
    let saved = load_pair(&path, device)?;
    let refuse = |reason: String| CheckpointError::Resume { path: path.clone(), reason };
    if let Some(difference) = difference(&saved.info, info) {
        return Err(refuse(difference).into());
    }
    if saved.state.progress.as_ref().is_some_and(|progress| !progress.fits(objective)) {
        let reason = "it was written in the middle of an epoch with other heads";
        return Err(refuse(reason.to_owned()).into());
    }
    let changed = config.changes_from(&saved.state.config);
    if !changed.is_empty() {
        log::warn!("--resume: not the same run any more: {}", changed.join(", "));
    }
    let step = saved.state.progress.as_ref().map_or(0, |progress| progress.steps);
    log::info!("{}: going on after epoch {}, step {step}", path.display(), saved.state.epoch);
    Ok(Some(saved))
}

/// What keeps a checkpoint from being this run's.
fn difference(there: &CheckpointInfo, here: &CheckpointInfo) -> Option<String> {
    let differs = |what: &str, there: String, here: String| {
        (there != here).then(|| {
            format!(
                "its {what} is {there}, this run's is {here}: take the same, or another --resume"
            )
        })
    };
    let (old, new) = (&there.model, &here.model);
    differs("backbone", old.backbone.to_string(), new.backbone.to_string())
        .or_else(|| differs("schema", there.schema.clone(), here.schema.clone()))
        .or_else(|| differs("list of classes", list(&there.classes), list(&here.classes)))
        .or_else(|| differs("view aggregation", pool(old.attention), pool(new.attention)))
        .or_else(|| differs("network", format!("{old:?}"), format!("{new:?}")))
}

fn list(classes: &[Vec<String>]) -> String {
    let tasks: Vec<String> = classes.iter().map(|task| task.join(", ")).collect();
    format!("({})", tasks.join("; "))
}

fn pool(attention: bool) -> String {
    if attention { "attention" } else { "mean" }.to_owned()
}
