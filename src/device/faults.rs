//! Errors that wgpu reports outside of any call.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use burn::tensor::Device;

/// The watched devices, each with a flag that is set when it has run out of memory.
static WATCHED: Mutex<Vec<(Device, Arc<AtomicBool>)>> = Mutex::new(Vec::new());

/// Whether a device has run out of memory since the last call, which clears the flag. If so, what it
/// computed in between is invalid. Devices other than wgpu's report it themselves when they are read
/// from.
pub(crate) fn out_of_memory(device: &Device) -> bool {
    flag(device).is_some_and(|flag| flag.swap(false, Ordering::AcqRel))
}

fn flag(device: &Device) -> Option<Arc<AtomicBool>> {
    let device = device.clone().without_autodiff();
    let watched = WATCHED.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    watched.iter().find(|(known, _)| *known == device).map(|(_, flag)| Arc::clone(flag))
}

/// Sets a flag when `device` runs out of memory. Burn's own handler would end the thread that serves
/// the device, and with it the run.
pub(super) fn watch(device: &Device, wgpu: &wgpu::Device) {
    let flag = Arc::new(AtomicBool::new(false));
    let watched = (device.clone(), Arc::clone(&flag));
    WATCHED.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).push(watched);
    wgpu.on_uncaptured_error(Arc::new(move |error| match error {
        wgpu::Error::OutOfMemory { .. } => {
            flag.store(true, Ordering::Release);
            log::debug!("{error}");
        }
        // Consequences of the failed allocation.
        _ if flag.load(Ordering::Acquire) => log::debug!("{error}"),
        #[allow(clippy::panic, reason = "a bug in the program, which is how Burn treats it")]
        _ => panic!("wgpu error: {error}"),
    }));
}

/// Makes a watched device look as if it had run out of memory.
#[cfg(test)]
pub(crate) fn pretend(device: &Device) {
    flag(device).into_iter().for_each(|flag| flag.store(true, Ordering::Release));
}
