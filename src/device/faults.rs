//! Out-of-memory errors that wgpu reports of a device.

use std::fmt::Display;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use burn::tensor::Device;

/// The faults of one device.
#[derive(Debug, Default)]
struct Faults {
    /// How often it has been out of memory.
    out_of_memory: AtomicU64,
    /// Whether errors are expected to follow from the last time.
    recovering: AtomicBool,
}

/// The devices that report their faults here.
static WATCHED: Mutex<Vec<(Device, Arc<Faults>)>> = Mutex::new(Vec::new());

fn faults(device: &Device) -> Option<Arc<Faults>> {
    let device = device.clone().without_autodiff();
    let watched = WATCHED.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    watched.iter().find(|(known, _)| *known == device).map(|(_, faults)| Arc::clone(faults))
}

/// Tells whether a device has been out of memory since the watch began. What it computed since then
/// is worthless. Devices other than wgpu's report it when they are read from; see
/// [`MemoryWatch::is_out_of_memory`].
#[derive(Debug, Clone)]
pub struct MemoryWatch {
    device: Device,
    faults: Option<Arc<Faults>>,
    seen: u64,
}

impl MemoryWatch {
    /// Begins now.
    pub fn start(device: &Device) -> Self {
        let faults = faults(device);
        let seen = faults.as_ref().map_or(0, |faults| faults.out_of_memory.load(Ordering::Acquire));
        Self { device: device.clone(), faults, seen }
    }

    /// Whether the device has been out of memory since the watch began or recovered.
    pub fn out_of_memory(&self) -> bool {
        self.faults
            .as_ref()
            .is_some_and(|faults| faults.out_of_memory.load(Ordering::Acquire) > self.seen)
    }

    /// Frees what the device holds without use, waits for the errors that follow from the fault,
    /// and begins anew.
    pub fn recover(&mut self) {
        self.device.memory_cleanup();
        // Whatever the failed work left in the queue no longer matters.
        let _ = self.device.sync();
        if let Some(faults) = &self.faults {
            faults.recovering.store(false, Ordering::Release);
            self.seen = faults.out_of_memory.load(Ordering::Acquire);
        }
    }

    /// Whether a backend's error says that the device is out of memory. The backends have no common
    /// type for it, but common phrases.
    pub fn is_out_of_memory(error: &impl Display) -> bool {
        let text = error.to_string().to_lowercase();
        ["out of memory", "out of device memory", "out-of-memory", "can't allocate buffer"]
            .iter()
            .any(|phrase| text.contains(phrase))
    }
}

/// Counts it when `device` runs out of memory, where Burn's own handler would end the thread that
/// serves the device, and with it the run.
pub(super) fn watch(device: &Device, wgpu: &wgpu::Device) {
    let faults = Arc::new(Faults::default());
    let watched = (device.clone(), Arc::clone(&faults));
    WATCHED.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).push(watched);
    wgpu.on_uncaptured_error(Arc::new(move |error| match error {
        wgpu::Error::OutOfMemory { .. } => {
            faults.recovering.store(true, Ordering::Release);
            faults.out_of_memory.fetch_add(1, Ordering::AcqRel);
            log::debug!("{error}");
        }
        // Follows from a buffer that could not be allocated.
        _ if faults.recovering.load(Ordering::Acquire) => log::debug!("{error}"),
        #[allow(clippy::panic, reason = "a fault of the program's, as Burn treats it")]
        _ => panic!("wgpu error: {error}"),
    }));
}

/// Makes a watched device look as if it had been out of memory.
#[cfg(test)]
pub(crate) fn simulate_out_of_memory(device: &Device) {
    if let Some(faults) = faults(device) {
        faults.out_of_memory.fetch_add(1, Ordering::AcqRel);
    }
}
