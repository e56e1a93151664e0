//! The max pooling after the stem of Hara et al.'s networks; training uses Burn's for it.

use crate::kernels::layout::{Layout, Record, wgsl_struct};
use crate::kernels::plan::{self, DeviceLimits, Launch, PlanError, Shader, Slot, fill, fits, fold};
use crate::kernels::storage::Storage;

/// The kernel in `max_pool.wgsl`, for tensors stored in the given way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct MaxPoolKernel(Storage);

wgsl_struct! {
    struct MaxPoolParams as "Params" {
        values: u32,
        from_t: u32,
        from_h: u32,
        from_w: u32,
        to_t: u32,
        to_h: u32,
        to_w: u32,
    }
}

const THREADS: u32 = 64;

impl MaxPoolKernel {
    /// Returns every variant of the kernel.
    pub(crate) fn variants() -> Vec<Self> {
        [Storage::F32].into_iter().chain(Storage::HALVES).map(Self).collect()
    }
}

impl Shader for MaxPoolKernel {
    fn file(&self) -> &'static str {
        "max_pool.wgsl"
    }

    fn source(&self) -> String {
        let Self(stored) = *self;
        let values = [
            ("source", stored.element(false).to_owned()),
            ("stored", stored.element(true).to_owned()),
            ("load", stored.load("x", false)),
            ("store", stored.store(&["y"])),
            ("read", stored.read("x", "index")),
            ("write", stored.write("y", "at", "four")),
        ];
        stored.directive().to_owned() + &fill(include_str!("../../shaders/max_pool.wgsl"), &values)
    }

    fn workgroup_size(&self) -> u32 {
        THREADS
    }

    fn params(&self) -> &'static Layout {
        MaxPoolParams::LAYOUT
    }
}

/// Plans the pooling from `[N, C, T, H, W]` = `from` to `to`. Operands: 0 `x`; 1 `y`, written, with its
/// length rounded up to a multiple of four.
pub(super) fn plan(
    [from, to]: [[usize; 5]; 2],
    stored: Storage,
    limits: &DeviceLimits,
) -> Result<plan::Plan<MaxPoolKernel>, PlanError> {
    let values = to.iter().product::<usize>();
    fits(from.iter().product(), limits)?;
    fits(values.next_multiple_of(4), limits)?;
    let groups = fold(values.div_ceil(4 * THREADS as usize), 1, limits)?;
    let [.., from_t, from_h, from_w] = from.map(|size| size as u32);
    let [.., to_t, to_h, to_w] = to.map(|size| size as u32);
    let values = values as u32;
    let params = MaxPoolParams { values, from_t, from_h, from_w, to_t, to_h, to_w };
    let buffers = vec![Slot::Operand(0), Slot::Operand(1)];
    Ok(plan::Plan::single(Launch::new(MaxPoolKernel(stored), groups, buffers, &params)))
}
