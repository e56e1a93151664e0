//! Plans that update the running statistics of several layers after a batch, in one launch.

use super::kernel::{NormKernel, PER_CHANNEL};
use super::params::{BlendLayer, BlendParams};
use super::{NormPlan, ROW};
use crate::kernels::layout::array_words;
use crate::kernels::plan::{DeviceLimits, Launch, PlanError, Slot, fits};

/// Maximum number of layers per launch, however many buffers the device can bind.
pub(super) const MAX_LAYERS: u32 = 7;
/// Number of buffers that are read for each layer, and number of buffers that all layers share.
const EACH: u32 = 4;
const SHARED: u32 = 2;

/// A plan that updates the running statistics of some layers.
pub(in crate::norm) struct Blends {
    pub plan: NormPlan,
    /// Size of the result, words.
    pub words: usize,
    /// Offsets of each layer's mean and variance in the result.
    pub starts: Vec<[usize; 2]>,
}

/// Returns the number of layers whose statistics one launch updates on a device.
pub(in crate::norm) fn layers_per_launch(limits: &DeviceLimits) -> usize {
    (limits.bindings.saturating_sub(SHARED) / EACH).clamp(1, MAX_LAYERS) as usize
}

/// Plans the update of layers' running statistics after a batch, for at most [`layers_per_launch`]
/// layers. `layers` are the number of channels and momentum·n / (n − 1) of each, `keep` and
/// `mean_share` are 1 − momentum and momentum. Operands: for each layer, 0 and 1 the running mean
/// and variance, 2 and 3 the batch's; the last operand is written: the updated statistics of all
/// layers, each starting at a multiple of 256 bytes.
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
