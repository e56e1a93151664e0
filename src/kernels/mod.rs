//! What the hand-written kernels share: which of them a device takes, plans of WGSL launches and
//! their execution, and the way from Burn's tensors to slices on the CPU.

pub(crate) mod host;
pub(crate) mod launch;
pub mod plan;
pub(crate) mod pool;

use std::cell::Cell;

use burn::backend::DispatchDevice;
use burn::tensor::{DType, Device, Tensor};

use plan::DeviceLimits;

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

/// Whether this thread is within [`with_stock`].
pub(crate) fn stock_wanted() -> bool {
    STOCK.get()
}

/// What plans must know of a device; `None` where it does not take our shaders.
pub fn limits(device: &Device) -> Option<DeviceLimits> {
    match device.clone().without_autodiff().as_dispatch() {
        DispatchDevice::Cube(device) => launch::limits(device),
        _ => None,
    }
}

impl Path {
    /// What operations on this device take.
    pub fn of(device: &Device) -> Self {
        if stock_wanted() {
            return Self::Stock;
        }
        match device.clone().without_autodiff().as_dispatch() {
            DispatchDevice::Flex(_) => Self::Host,
            _ if limits(device).is_some() => Self::Wgsl,
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
