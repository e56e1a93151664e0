//! Peak device memory, sampled at each launch of our kernels: what the estimate of a step's memory is
//! tested against.

use std::cell::RefCell;

use burn::tensor::Device;
use cubecl::MemoryScope;
use cubecl::client::Client;
use serde::Serialize;

use super::cube_device;

/// Bytes of a device's memory.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct MemoryPeak {
    /// In tensors, scratch buffers and parameters of launches.
    pub in_use: u64,
    /// Allocated on the device, in use or not.
    pub reserved: u64,
}

thread_local! {
    static PEAK: RefCell<Option<MemoryPeak>> = const { RefCell::new(None) };
}

/// Runs `work` and returns the most memory that this thread took on the device meanwhile. Burn
/// allocates for each thread separately, so other threads do not count. `None` where our kernels do
/// not run.
pub fn peak_of<R>(device: &Device, work: impl FnOnce() -> R) -> Option<(R, MemoryPeak)> {
    super::limits(device)?;
    let client = cube_device(device)?.client();
    let around = PEAK.replace(Some(MemoryPeak::default()));
    let result = work();
    observe(&client);
    let peak = PEAK.replace(around).expect("it was set above, and a call within puts it back");
    // What a call around this one has counted goes on.
    PEAK.with_borrow_mut(|around| {
        if let Some(around) = around {
            around.in_use = around.in_use.max(peak.in_use);
            around.reserved = around.reserved.max(peak.reserved);
        }
    });
    Some((result, peak))
}

/// Counts what is in use now, within [`peak_of`].
pub(super) fn observe(client: &Client) {
    PEAK.with_borrow_mut(|peak| {
        let Some(peak) = peak else { return };
        let now = client.memory_report(MemoryScope::CurrentStream).usage();
        peak.in_use = peak.in_use.max(now.bytes_in_use);
        peak.reserved = peak.reserved.max(now.bytes_reserved);
    });
}
