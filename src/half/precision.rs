//! Whether a run stores activations in half precision.

use burn::tensor::Device;

use crate::device::Compute;
use crate::kernels;
use crate::options::choices;

choices! {
    /// Storage of activations, of the values kept of them for the backward pass, and of their
    /// gradients.
    pub Precision {
        /// In f32.
        F32 = "f32",
        /// In f16.
        F16 = "f16",
        /// In f16 on GPUs, where memory bounds much of a step; in f32 on the CPU, and on software
        /// rasterisers, which would spend more on converting than they save.
        Auto = "auto",
    }
}

impl Precision {
    /// Returns [`Self::F16`] if activations are in half precision, otherwise [`Self::F32`].
    pub(crate) fn of(half: bool) -> Self {
        if half { Self::F16 } else { Self::F32 }
    }

    /// Returns whether activations on a device are stored in half precision, and a note for the
    /// user if that was requested but is not possible.
    pub(crate) fn on(self, compute: &Compute) -> (bool, Option<String>) {
        let limits = kernels::limits(&compute.device);
        match (self, limits) {
            (Self::F32, _) | (Self::Auto, None) => (false, None),
            (Self::F16, None) => {
                let note = format!(
                    "half precision: activations are stored in f32 on {} ({}), which has no kernels \
                     for f16",
                    compute.info.id, compute.info.name
                );
                (false, Some(note))
            }
            (Self::F16, Some(_)) => (true, None),
            (Self::Auto, Some(limits)) => (!limits.software, None),
        }
    }
}

/// Describes the precision of a run on a device.
pub(crate) fn describe(half: bool, device: &Device) -> String {
    match kernels::limits(device) {
        Some(limits) if half => {
            let how = if limits.shader_f16 { "native" } else { "packed" };
            format!("activations in f16 ({how}), everything else in f32")
        }
        _ => "f32".to_owned(),
    }
}
