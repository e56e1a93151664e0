//! The wgpu device that tests run on: a GPU if there is one, else a software rasteriser.

use std::sync::OnceLock;

use burn::tensor::wgpu::WgpuBackend;
use burn::tensor::{Device, DeviceKind};
use polyview::device::{Compute, DeviceError};

use super::skip;

/// Environment variable that, set to 1, makes tests fail on a machine without an adapter.
const REQUIRED: &str = "POLYVIEW_REQUIRE_WGPU";

/// Opens the adapter and returns it with its name for `--device`. Without an adapter the test is
/// skipped, or fails if `POLYVIEW_REQUIRE_WGPU=1`.
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

/// Returns the device, or `None` after reporting a skip.
pub fn device() -> Option<Device> {
    open().map(|(_, compute)| compute.device)
}

/// Returns the device and its properties, or `None` after reporting a skip.
pub fn compute() -> Option<Compute> {
    open().map(|(_, compute)| compute)
}

/// Opens the adapter as a separate device, so that the choices of tuning tests affect no other test.
/// (To Burn, the same adapter with another graphics API, or with `Auto`, is another device.) Returns
/// `None` after reporting a skip.
pub fn own_device() -> Option<Compute> {
    let mut compute = compute()?;
    let shared = compute.device.clone();
    let kind =
        if compute.info.kind == "software" { DeviceKind::Cpu } else { DeviceKind::default() };
    let options = Device::wgpu_options().device_kind(kind).graphics_api(WgpuBackend::Auto);
    // Opened once per process.
    static OPENED: OnceLock<Device> = OnceLock::new();
    compute.device = OPENED.get_or_init(|| options.init().unwrap()).clone();
    assert_ne!(compute.device, shared);
    Some(compute)
}

/// Returns the value for `--device`, or `None` after reporting a skip.
pub fn name() -> Option<&'static str> {
    open().map(|(name, _)| name)
}

/// Returns the CPU and, if there is one, the adapter, both with automatic differentiation.
pub fn differentiable() -> Vec<Device> {
    let devices = [Some(Device::flex()), device()];
    devices.into_iter().flatten().map(Device::autodiff).collect()
}
