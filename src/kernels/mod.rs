//! What the hand-written kernels share: which of them a device takes, plans of WGSL launches and
//! their execution, and the way from Burn's tensors to slices on the CPU.

pub(crate) mod host;
pub(crate) mod launch;
pub mod plan;
pub(crate) mod pool;
pub(crate) mod simd;

use std::cell::Cell;

use burn::backend::DispatchDevice;
use burn::tensor::{DType, Device, Tensor};

use crate::{conv, norm, optim};
use plan::Shader;

/// Which implementation an operation takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Path {
    /// Our compute shaders, on wgpu devices whose kernels Burn compiles as WGSL.
    Wgsl,
    /// Our vector code, on Burn's CPU backend.
    Host,
    /// Burn's own operations, on everything else.
    Stock,
}

thread_local! {
    static STOCK: Cell<bool> = const { Cell::new(false) };
}

/// Runs `work` with Burn's own operations on every device, in this thread: for comparisons.
pub fn with_stock<R>(work: impl FnOnce() -> R) -> R {
    struct Restore(bool);
    impl Drop for Restore {
        fn drop(&mut self) {
            STOCK.set(self.0);
        }
    }
    let _restore = Restore(STOCK.replace(true));
    work()
}

impl Path {
    /// What operations on this device take.
    pub fn of(device: &Device) -> Self {
        if STOCK.get() {
            return Self::Stock;
        }
        match device.clone().without_autodiff().as_dispatch() {
            DispatchDevice::Cube(device) if launch::limits(device).is_some() => Self::Wgsl,
            DispatchDevice::Flex(_) => Self::Host,
            _ => Self::Stock,
        }
    }

    /// What operations on this tensor take; the kernels know f32 alone.
    pub fn of_tensor<const D: usize>(tensor: &Tensor<D>) -> Self {
        match tensor.dtype() {
            DType::F32 => Self::of(&tensor.device()),
            _ => Self::Stock,
        }
    }
}

/// Every variant of every shader of the kernels with its name, as it reaches the driver. For
/// validation without a device.
pub fn shader_variants() -> Vec<(String, String)> {
    fn texts<K: Shader>(kernels: Vec<K>) -> impl Iterator<Item = (String, String)> {
        let name = |kernel: &K| format!("{}, {kernel:?}", kernel.file());
        kernels.into_iter().map(move |kernel| (name(&kernel), kernel.source()))
    }
    // Without subgroup operations, and with every size of subgroup that they are made for.
    let conv =
        [0, 4, 8, 16].into_iter().flat_map(|lanes| texts(conv::wgsl::Kernel::variants(lanes)));
    let norm = texts(norm::wgsl::Kernel::variants());
    let optim = texts(optim::wgsl::Kernel::variants());
    conv.chain(norm).chain(optim).collect()
}
