//! The launch path shared by all hand-written kernels. The planner of an operation (`crate::conv`,
//! `crate::norm`, `crate::optim`, `crate::augment`) turns sizes and `DeviceLimits` into a
//! `plan::Plan`; `launch` executes it. Kernel parameters are structs with the same `layout` in Rust
//! and WGSL. On the CPU the kernels are plain functions of `polyview_cpu`; `host` and `pool` turn
//! Burn's tensors into slices and back.

pub(crate) mod host;
pub(crate) mod launch;
pub(crate) mod layout;
pub mod memory;
pub(crate) mod plan;
pub(crate) mod pool;
pub(crate) mod registry;
pub(crate) mod storage;
#[doc(hidden)]
pub mod web;

use std::cell::Cell;
use std::thread::LocalKey;

use burn::backend::DispatchDevice;
use burn::tensor::{DType, Device, Tensor};

use crate::device::cube_device;

pub use crate::device::Vendor;
pub use plan::{DeviceLimits, MatrixUnits, PlanError};

/// The implementation that an operation uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Implementation {
    /// Our compute shaders, on wgpu devices whose kernels Burn compiles as WGSL.
    Wgsl(DeviceLimits),
    /// Our vector code, on Burn's CPU backend.
    Cpu,
    /// Burn's own operations, on everything else.
    Burn,
}

/// A function that changes a device's limits, for [`with_limits`].
pub type ChangedLimits = fn(DeviceLimits) -> DeviceLimits;

thread_local! {
    static STOCK: Cell<bool> = const { Cell::new(false) };
    static LIMITS_OVERRIDE: Cell<Option<ChangedLimits>> = const { Cell::new(None) };
}

/// Runs `work` with a thread-local setting, which is restored afterwards, even after a panic.
fn with_setting<T: 'static, R>(
    setting: &'static LocalKey<Cell<T>>,
    value: T,
    work: impl FnOnce() -> R,
) -> R {
    struct Restore<T: 'static>(&'static LocalKey<Cell<T>>, Option<T>);
    impl<T> Drop for Restore<T> {
        fn drop(&mut self) {
            if let Some(before) = self.1.take() {
                self.0.set(before);
            }
        }
    }
    let _restore = Restore(setting, Some(setting.replace(value)));
    work()
}

/// Runs `work` with Burn's own operations on every device, in this thread, for comparisons.
pub fn with_stock<R>(work: impl FnOnce() -> R) -> R {
    with_setting(&STOCK, true, work)
}

/// Runs `work` with the kernels that a device with other limits would use, in this thread, for
/// tests of a GPU's kernels on a software rasteriser.
pub fn with_limits<R>(limits: ChangedLimits, work: impl FnOnce() -> R) -> R {
    with_setting(&LIMITS_OVERRIDE, Some(limits), work)
}

/// Returns a device's limits, changed if this is called within [`with_limits`].
fn overridden(limits: DeviceLimits) -> DeviceLimits {
    LIMITS_OVERRIDE.get().map_or(limits, |change| change(limits))
}

/// Whether this thread is within [`with_stock`].
pub(crate) fn stock_wanted() -> bool {
    STOCK.get()
}

/// Returns what the planners need to know about a device; `None` if it cannot run our shaders.
pub fn limits(device: &Device) -> Option<DeviceLimits> {
    launch::limits(&cube_device(device)?)
}

impl Implementation {
    /// Returns the implementation that operations on this device use.
    pub fn of(device: &Device) -> Self {
        if stock_wanted() {
            return Self::Burn;
        }
        match device.clone().without_autodiff().as_dispatch() {
            DispatchDevice::Flex(_) => Self::Cpu,
            _ => limits(device).map_or(Self::Burn, Self::Wgsl),
        }
    }

    /// Returns the implementation that operations on this tensor use: our kernels take f32, and
    /// activations in f16 on wgpu.
    pub(crate) fn of_tensor<const D: usize>(tensor: &Tensor<D>) -> Self {
        match (tensor.dtype(), Self::of(&tensor.device())) {
            (DType::F32, any) => any,
            (DType::F16, Self::Wgsl(limits)) => Self::Wgsl(limits),
            _ => Self::Burn,
        }
    }
}
