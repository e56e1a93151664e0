//! The wgpu device that tests run on: a GPU if there is one, else a software rasteriser.

use std::sync::OnceLock;

use burn::tensor::wgpu::WgpuBackend;
use burn::tensor::{Device, DeviceKind};
use polyview::device::{Compute, DeviceError};

use super::skip;

/// With this variable set to 1, a machine without an adapter fails the tests.
const REQUIRED: &str = "POLYVIEW_REQUIRE_WGPU";

/// The adapter with its name as `--device` takes it. Where the machine has none the test skips,
/// or fails with `POLYVIEW_REQUIRE_WGPU=1`.
fn open() -> Option<(&'static str, Compute)> {
    let named = |name| polyview::device::open(name).map(|compute| (name, compute));
    let found = named("gpu").or_else(|error| match error {
        DeviceError::Absent { .. } => named("wgpu:cpu"),
        error => Err(error),
    });
    match found {
        Ok(found) => Some(found),
        // A GPU that does not open is a failure, not a reason to test something else.
        Err(error) => {
            let is_absent = matches!(error, DeviceError::Absent { .. });
            assert!(is_absent, "the device cannot be opened: {error}");
            skip::skip_unless_required(REQUIRED, error);
            None
        }
    }
}

/// The device; `None` after reporting the skip.
pub fn device() -> Option<Device> {
    open().map(|(_, compute)| compute.device)
}

/// The device with what is known of it; `None` after reporting the skip.
pub fn compute() -> Option<Compute> {
    open().map(|(_, compute)| compute)
}

/// The adapter as a device of its own: what tests of tuning choose for it concerns no other test. (The
/// same adapter behind another API, or behind any, is another device to Burn.) `None` after reporting
/// the skip.
pub fn own_device() -> Option<Compute> {
    let mut compute = compute()?;
    let shared = compute.device.clone();
    let kind =
        if compute.info.kind == "software" { DeviceKind::Cpu } else { DeviceKind::default() };
    let options = Device::wgpu_options().device_kind(kind).graphics_api(WgpuBackend::Auto);
    // A process opens it once.
    static OPENED: OnceLock<Device> = OnceLock::new();
    compute.device = OPENED.get_or_init(|| options.init().unwrap()).clone();
    assert_ne!(compute.device, shared);
    Some(compute)
}

/// What to give to `--device`; `None` after reporting the skip.
pub fn name() -> Option<&'static str> {
    open().map(|(name, _)| name)
}

/// The CPU and, where there is one, the adapter, both with automatic differentiation.
pub fn differentiable() -> Vec<Device> {
    let devices = [Some(Device::flex()), device()];
    devices.into_iter().flatten().map(Device::autodiff).collect()
}
