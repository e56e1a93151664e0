//! Selects the fastest convolution kernels before the first step.

use std::sync::atomic::{AtomicBool, Ordering};

use super::error::TrainError;
use super::run_data::frame_sizes;
use crate::config::Config;
use crate::device::Compute;
use crate::model::MultiViewNet;
use crate::report::{Event, Observer};
use crate::tuning;

/// Times the kernels for steps of up to `clips` clips and selects the fastest.
pub(super) fn tune(
    config: &Config,
    compute: &Compute,
    net: &MultiViewNet,
    clips: usize,
    stop: &AtomicBool,
    observer: &mut dyn Observer,
) -> Result<(), TrainError> {
    let trainable = config.freezing.most_trainable();
    let mut jobs = Vec::new();
    for [height, width] in frame_sizes(config) {
        let clips = [clips, 3, config.clips.frames_per_clip, height, width];
        // Sizes too small for the network have already been rejected.
        jobs.extend(tuning::jobs(&net.backbone, clips, trainable).into_iter().flatten());
    }
    let (mut done, of) = (0, jobs.len());
    let folder = tuning::folder();
    if folder.is_none() {
        log::warn!(
            "there is no home folder (HOME is not set): the results of tuning are not saved"
        );
    }
    let tuned = tuning::tune(compute, &jobs, net.backbone.is_half(), folder.as_deref(), || {
        done += 1;
        observer.observe(&Event::Tuned { done, of });
        !stop.load(Ordering::Relaxed)
    })
    .map_err(TrainError::Tune)?;
    match tuned {
        Some(tuned) => log::info!("tuning: {tuned}"),
        None => log::info!("tuning: {} has no kernels to choose from", compute.info.name),
    }
    Ok(())
}
