//! Running statistics after a batch, those of several layers in one launch.

use super::kernel::{NormKernel, PER_CHANNEL};
use super::params::{BlendLayer, BlendParams};
use super::{NormPlan, ROW};
use crate::kernels::layout::array_words;
use crate::kernels::plan::{DeviceLimits, Launch, PlanError, Slot, fits};

/// Layers of a launch, however many buffers the device binds.
pub(super) const MOST_LAYERS: u32 = 7;
/// Buffers of each layer that are read, and of all layers.
const EACH: u32 = 4;
const SHARED: u32 = 2;

/// The blends of some layers.
pub(in crate::norm) struct Blends {
    pub plan: NormPlan,
    /// Words of the result.
    pub words: usize,
    /// Where in it each layer's mean and variance start.
    pub starts: Vec<[usize; 2]>,
}

/// Layers whose statistics one launch updates on a device.
pub(in crate::norm) fn layers_per_launch(limits: &DeviceLimits) -> usize {
    (limits.bindings.saturating_sub(SHARED) / EACH).clamp(1, MOST_LAYERS) as usize
}

/// Running statistics of layers of so many channels, at most [`layers_per_launch`] of them, after a
/// batch. `keep` and `mean_share` are 1 − momentum and momentum, `variance_shares` each layer's
/// momentum·n / (n − 1). Operands: of each layer 0 and 1 the running mean and variance, 2 and 3 the
/// batch's; the last one is written: all the next ones, each from a multiple of 256 bytes on.
pub(in crate::norm) fn blends(
    layers: &[(usize, f32)],
    [keep, mean_share]: [f32; 2],
    limits: &DeviceLimits,
) -> Result<Blends, PlanError> {
    let most = layers.iter().map(|(channels, _)| *channels).max().ok_or(PlanError::Shape)?;
    let groups = most.div_ceil(PER_CHANNEL as usize);
    if groups > limits.max_workgroups_per_dim as usize {
        return Err(PlanError::TooManyGroups);
    }
    let mut words = 0;
    let mut reserve = |channels: usize| {
        let start = words;
        words += channels.next_multiple_of(ROW);
        start
    };
    let starts: Vec<_> =
        layers.iter().map(|(channels, _)| [(); 2].map(|()| reserve(*channels))).collect();
    fits(words, limits)?;
    let count = layers.len() as u32;
    let records =
        layers.iter().zip(&starts).map(|((channels, share), [mean, variance])| BlendLayer {
            channels: *channels as u32,
            mean: *mean as u32,
            variance: *variance as u32,
            variance_share: *share,
        });
    let launch = Launch::new(
        NormKernel::Blend { layers: count },
        [groups as u32, count, 1],
        (0..=EACH as usize * layers.len()).map(Slot::Operand).collect(),
        &BlendParams { keep, mean_share },
    );
    let plan = NormPlan::single(launch.with_tail(array_words(records)));
    Ok(Blends { plan, words, starts })
}
