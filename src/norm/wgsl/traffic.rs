//! Memory traffic of a normalisation, counted from its plans.

use super::kernel::Mask;
use super::{BatchNorm, NormKernel, NormPlan};
use crate::kernels::plan::{Access, Slot};

impl NormKernel {
    /// How the kernel uses each of its bindings, except for the parameters.
    fn access(&self) -> Vec<Access> {
        use Access::{Read, Write};
        let optional = |present: bool, access: Access| present.then_some(access);
        match *self {
            Self::Stats { .. } | Self::Collect | Self::CollectSums => vec![Read, Write],
            Self::Apply { residual, given, .. } => {
                let statistics = if given { [Read, Read] } else { [Read, Write] };
                let mut access = vec![Read, Read, Read, Write];
                access.extend(statistics);
                access.extend(optional(residual, Read));
                access
            }
            Self::Grads { mask, .. } => {
                let mut access = vec![Read, Read, Read, Write];
                access.extend(optional(mask == Mask::Kept, Write));
                access
            }
            Self::Input { .. } => vec![Read, Read, Read, Read, Write, Write, Write],
            Self::Frozen { relu, residual, .. } => {
                let mut access = vec![Read, Read, Read, Write];
                access.extend(optional(relu, Read));
                access.extend(optional(residual, Write));
                access
            }
            Self::Blend { layers } => {
                let mut access = vec![Read; 4 * layers as usize];
                access.push(Write);
                access
            }
        }
    }
}

/// Bytes that a plan's launches read and write, counting each buffer once in every launch that uses
/// it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Traffic {
    pub read: usize,
    pub written: usize,
}

impl Traffic {
    /// Counts the traffic of a plan, given the bytes of each operand.
    fn of(plan: &NormPlan, operands: &[usize]) -> Self {
        let mut traffic = Self::default();
        for launch in &plan.launches {
            for (slot, access) in launch.buffers.iter().zip(launch.kernel.access()) {
                let bytes = match *slot {
                    Slot::Operand(n) => operands[n],
                    Slot::Scratch(n) => plan.scratch[n],
                    Slot::Table(n) => 4 * plan.tables[n].len(),
                };
                match access {
                    Access::Read => traffic.read += bytes,
                    Access::Write => traffic.written += bytes,
                }
            }
        }
        traffic
    }

    /// Bytes read and written.
    pub(crate) fn total(&self) -> usize {
        self.read + self.written
    }
}

impl BatchNorm {
    /// Returns the traffic of the forward and of the backward pass in training, with slices as in
    /// [`Self::forward`] and [`Self::backward`]. It includes what convolutions write for the
    /// normalisation, the x that they read for it, and the conversion of results that could not be
    /// written in half precision.
    pub(crate) fn traffic(&self, [moments, sums]: [Option<usize>; 2]) -> [Traffic; 2] {
        let operands = self.forward_operands(moments);
        let [.., parts] = operands;
        let mut forward = Traffic::of(&self.forward(moments), &operands);
        forward.written += parts;
        let operands = self.backward_operands(sums);
        let [x, .., parts] = operands;
        let mut backward = Traffic::of(&self.backward(sums), &operands);
        backward.written += parts;
        backward.read += if sums.is_some() { x } else { 0 };
        if self.y() != self.x {
            let (from, to) = (self.y().bytes(self.values()), self.x.bytes(self.values()));
            let gradients = 1 + usize::from(self.spec.masks_residual());
            for (pass, count) in [(&mut forward, 1), (&mut backward, gradients)] {
                pass.read += count * from;
                pass.written += count * to;
            }
        }
        [forward, backward]
    }
}

#[cfg(test)]
mod tests {
    use naga::valid::{Capabilities, GlobalUse, ValidationFlags, Validator};

    use super::super::Spec;
    use super::*;
    use crate::kernels::DeviceLimits;
    use crate::kernels::plan::Shader;
    use crate::kernels::storage::Storage;

    /// Counted by hand for two images of 8 channels of 1024 values.
    #[test]
    fn words_are_counted() {
        let (channels, values) = (8, 8 * 2 * 1024);
        let words = |slices: [Option<usize>; 2], residual: bool| {
            let spec = Spec { epsilon: 1e-5, residual, relu: true };
            let norm = |x| BatchNorm::new([2, 8, 1024], spec, x, &DeviceLimits::WEBGPU).unwrap();
            // Half precision halves tensors of the size of x. The forward pass moves two of them,
            // one more for the statistics and one more with a residual; the backward pass four, one
            // more for the sums and one more with a residual.
            let more = usize::from(residual);
            let [moments, sums] = slices.map(|slice| usize::from(slice.is_none()));
            let saved = [2 + moments + more, 4 + sums + more];
            let bytes = |x| norm(x).traffic(slices).map(|traffic| traffic.total());
            let (whole, half) = (bytes(Storage::F32), bytes(Storage::Packed));
            assert_eq!(half, [0, 1].map(|pass| whole[pass] - saved[pass] * values * 2));
            whole.map(|bytes| bytes / 4)
        };
        // γ, β, dγ and dβ have one number per channel, a part has two, and four rows of 64 are
        // kept.
        let (layer, kept) = (2 * channels, 4 * 64);
        // Statistics: x, parts. Normalisation: x, parts, y, what is kept.
        let forward = 3 * values + layer + 2 * (2 * channels) + kept;
        // Sums: x, dy, parts, what is kept. Gradients: x, dy, parts, dx, what is kept.
        let backward = 5 * values + layer + 2 * (2 * channels) + 2 * kept;
        assert_eq!(words([None; 2], false), [forward, backward]);
        // 16 parts of 128 values instead of the pass over x, or 512 of 4, which are merged.
        let parts = 2 * channels * 16;
        let given = 2 * values + layer + 2 * parts + kept;
        assert_eq!(words([Some(128), None], false), [given, backward]);
        let given = 2 * values + layer + 2 * (32 * parts) + 2 * (2 * channels) + kept;
        assert_eq!(words([Some(4), None], false), [given, backward]);
        // Likewise for the gradient sums: x, dy, dx, the parts, what is kept, and x for the
        // convolution.
        let given = 4 * values + layer + 2 * parts + kept;
        assert_eq!(words([None, Some(128)], false), [forward, given]);
        let given = 4 * values + layer + 2 * (32 * parts) + 2 * (2 * channels) + kept;
        assert_eq!(words([None, Some(4)], false), [forward, given]);
        // The residual, its gradient instead of dy, and one bit per value.
        let (more, mask) = (values, values / 32);
        assert_eq!(words([None; 2], true), [forward + more + mask, backward + more + 2 * mask]);
    }

    /// Kernels use their bindings as the count of bytes assumes.
    #[test]
    fn bindings_are_used_as_declared() {
        for kernel in NormKernel::variants() {
            let module = naga::front::wgsl::parse_str(&kernel.source()).unwrap();
            let f16 = Capabilities::SHADER_FLOAT16 | Capabilities::SHADER_FLOAT16_IN_FLOAT32;
            let mut validator = Validator::new(ValidationFlags::all(), f16);
            let info = validator.validate(&module).unwrap();
            let access = kernel.access();
            for (handle, variable) in module.global_variables.iter() {
                let Some(binding) = &variable.binding else { continue };
                let found = info.get_entry_point(0)[handle] & (GlobalUse::READ | GlobalUse::WRITE);
                let want = match access.get(binding.binding as usize) {
                    Some(Access::Write) => GlobalUse::WRITE,
                    // The parameters come last.
                    Some(Access::Read) | None => GlobalUse::READ,
                };
                assert_eq!(found, want, "{kernel:?}: {:?}", variable.name);
            }
            let bound = module.global_variables.iter().filter(|(_, of)| of.binding.is_some());
            assert_eq!(bound.count(), access.len() + 1, "{kernel:?}");
        }
    }
}
