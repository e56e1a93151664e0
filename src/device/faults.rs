//! What wgpu reports of a device that cannot do its work.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use burn::tensor::Device;

/// The devices that are watched, and whether each has been out of memory.
static WATCHED: Mutex<Vec<(Device, Arc<AtomicBool>)>> = Mutex::new(Vec::new());

/// Whether a device has been out of memory since the last time this was asked. What it computed in
/// between is worthless then. Devices other than wgpu's say so themselves, when they are read from.
pub fn out_of_memory(device: &Device) -> bool {
    flag(device).is_some_and(|flag| flag.swap(false, Ordering::AcqRel))
}

fn flag(device: &Device) -> Option<Arc<AtomicBool>> {
    let device = device.clone().without_autodiff();
    let watched = WATCHED.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    watched.iter().find(|(known, _)| *known == device).map(|(_, flag)| Arc::clone(flag))
}

/// Remembers it when `device` runs out of memory, where Burn's own handler would end the thread
/// that serves the device, and with it the run.
pub(super) fn watch(device: &Device, wgpu: &wgpu::Device) {
    let flag = Arc::new(AtomicBool::new(false));
    let watched = (device.clone(), Arc::clone(&flag));
    WATCHED.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).push(watched);
    wgpu.on_uncaptured_error(Arc::new(move |error| match error {
        wgpu::Error::OutOfMemory { .. } => {
            flag.store(true, Ordering::Release);
            log::debug!("{error}");
        }
        // What follows from a buffer that could not be had.
        _ if flag.load(Ordering::Acquire) => log::debug!("{error}"),
        #[allow(clippy::panic, reason = "a fault of the program's, as Burn treats it")]
        _ => panic!("wgpu error: {error}"),
    }));
}

/// Makes a watched device look as if it had been out of memory.
#[cfg(test)]
pub(crate) fn pretend(device: &Device) {
    flag(device).into_iter().for_each(|flag| flag.store(true, Ordering::Release));
}
