//! Devices for tests.

use std::sync::atomic::{AtomicUsize, Ordering};

use burn::tensor::Device;

// Every skip is reported in one way.
#[path = "../../tests/it/common/skip.rs"]
#[allow(unreachable_pub, reason = "public in the integration tests")]
mod skip;

/// Opens a device on the software adapter that no other test uses, so that its faults do not affect
/// other tests. `None` if there is no such adapter.
pub(crate) fn unshared() -> Option<Device> {
    static NEXT: AtomicUsize = AtomicUsize::new(1);
    match super::open_copy("wgpu:cpu", NEXT.fetch_add(1, Ordering::Relaxed)) {
        Ok(compute) => Some(compute.device),
        Err(error) => {
            skip::skip_unless_required("POLYVIEW_REQUIRE_WGPU", error);
            None
        }
    }
}
