//! Peak device memory, sampled at each launch of our kernels. Tests compare the estimate of a
//! step's memory with it.

use std::cell::RefCell;

use burn::tensor::Device;
use cubecl::MemoryScope;
use cubecl::client::Client;
use serde::Serialize;

use crate::device::cube_device;

/// Peak use of a device's memory, bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct MemoryPeak {
    /// Memory in tensors, scratch buffers and launch parameters.
    pub in_use: u64,
    /// Memory allocated on the device, in use or not.
    pub reserved: u64,
}

thread_local! {
    static PEAK: RefCell<Option<MemoryPeak>> = const { RefCell::new(None) };
}

/// Runs `work` and returns its result with the most memory that this thread used on the device
/// meanwhile. Burn allocates for each thread separately, so other threads do not count. `None`
/// where our kernels do not run.
pub fn peak_of<R>(device: &Device, work: impl FnOnce() -> R) -> Option<(R, MemoryPeak)> {
    super::limits(device)?;
    let client = cube_device(device)?.client();
    let outer = PEAK.replace(Some(MemoryPeak::default()));
    let result = work();
    observe(&client);
    let peak = PEAK.replace(outer).expect("the peak was set above, and nested calls restore it");
    // An enclosing call counts this peak, too.
    PEAK.with_borrow_mut(|outer| {
        if let Some(outer) = outer {
            outer.in_use = outer.in_use.max(peak.in_use);
            outer.reserved = outer.reserved.max(peak.reserved);
        }
    });
    Some((result, peak))
}

/// Samples the memory in use now, if called within [`peak_of`].
pub(super) fn observe(client: &Client) {
    PEAK.with_borrow_mut(|peak| {
        let Some(peak) = peak else { return };
        let now = client.memory_report(MemoryScope::CurrentStream).usage();
        peak.in_use = peak.in_use.max(now.bytes_in_use);
        peak.reserved = peak.reserved.max(now.bytes_reserved);
    });
}
