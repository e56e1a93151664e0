//! Errors that wgpu reports for a device outside of any call: out of memory, and all other
//! failures.

use std::fmt::Display;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use burn::tensor::{Device, ExecutionError};

/// The faults of one device.
#[derive(Debug, Default)]
struct Faults {
    /// Number of times that the device ran out of memory.
    out_of_memory: AtomicU64,
    /// That number at the time of the last recovery.
    recovered: AtomicU64,
    /// Whether further errors are expected as a consequence of running out of memory.
    recovering: AtomicBool,
    /// First error of another kind. Whatever the device computes afterwards is invalid.
    failure: OnceLock<String>,
}

impl Faults {
    /// Records an error that no call returned.
    fn record(&self, error: &wgpu::Error) {
        match error {
            wgpu::Error::OutOfMemory { .. } => {
                self.recovering.store(true, Ordering::Release);
                self.out_of_memory.fetch_add(1, Ordering::AcqRel);
                log::debug!("{error}");
            }
            // Follows from a buffer that could not be allocated.
            _ if self.recovering.load(Ordering::Acquire) => log::debug!("{error}"),
            // Later errors mostly follow from the first one.
            _ => match self.failure.set(in_one_line(error)) {
                Ok(()) => log::error!("the device failed: {}", in_one_line(error)),
                Err(_) => log::debug!("{error}"),
            },
        }
    }
}

/// Returns an error's text without the line breaks that drivers and Burn write.
pub(crate) fn in_one_line(error: &impl Display) -> String {
    error.to_string().split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Devices whose faults are recorded.
static WATCHED: Mutex<Vec<(Device, Arc<Faults>)>> = Mutex::new(Vec::new());

fn faults(device: &Device) -> Option<Arc<Faults>> {
    let device = device.clone().without_autodiff();
    let watched = WATCHED.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    watched.iter().find(|(known, _)| *known == device).map(|(_, faults)| Arc::clone(faults))
}

/// Watches whether a device has run out of memory since it last recovered, or has failed. Results
/// computed since then are invalid. Devices other than wgpu's report this when results are read
/// back; see [`MemoryWatch::is_out_of_memory`].
#[derive(Debug, Clone)]
pub(crate) struct MemoryWatch {
    device: Device,
    faults: Option<Arc<Faults>>,
    seen: u64,
}

impl MemoryWatch {
    /// Starts watching. Earlier faults are seen, too, unless another watch has recovered from them.
    pub(crate) fn start(device: &Device) -> Self {
        let faults = faults(device);
        let seen = faults.as_ref().map_or(0, |faults| faults.recovered.load(Ordering::Acquire));
        Self { device: device.clone(), faults, seen }
    }

    /// Whether the device has run out of memory since this watch recovered or, if it never did,
    /// since the last recovery before the watch was started. Errors of other work count: all of it
    /// shares the memory.
    pub(crate) fn out_of_memory(&self) -> bool {
        self.faults
            .as_ref()
            .is_some_and(|faults| faults.out_of_memory.load(Ordering::Acquire) > self.seen)
    }

    /// Checks that the device has not reported a failure.
    ///
    /// # Errors
    /// The first reported error other than running out of memory.
    pub(crate) fn intact(&self) -> Result<(), ExecutionError> {
        match self.faults.as_ref().and_then(|faults| faults.failure.get()) {
            Some(reason) => Err(ExecutionError::WithContext { reason: reason.clone() }),
            None => Ok(()),
        }
    }

    /// Frees the device's unused memory, waits for the errors that follow from the fault, and
    /// starts watching anew.
    pub(crate) fn recover(&mut self) {
        self.device.memory_cleanup();
        // Whatever the failed work left in the queue no longer matters.
        let _ = self.device.sync();
        if let Some(faults) = &self.faults {
            faults.recovering.store(false, Ordering::Release);
            self.seen = faults.out_of_memory.load(Ordering::Acquire);
            // Watches that were started earlier keep their own count: their work has failed all the
            // same.
            faults.recovered.fetch_max(self.seen, Ordering::AcqRel);
        }
    }

    /// Returns why the device can no longer compute; `None` if it may still, for instance after a
    /// failure of some work alone. Waits for the device.
    pub(crate) fn lasting_failure(&self) -> Option<ExecutionError> {
        // An error left behind by failed work is reported once, the loss of the device every time.
        let _ = self.device.sync();
        let waited = self.device.sync().err();
        let waited = waited.filter(|error| !Self::is_out_of_memory(error));
        self.intact().err().or(waited)
    }

    /// Whether a backend's error says that the device is out of memory. The backends have no common
    /// type for it, but common phrases.
    pub(crate) fn is_out_of_memory(error: &impl Display) -> bool {
        let text = error.to_string().to_lowercase();
        ["out of memory", "out of device memory", "out-of-memory", "can't allocate buffer"]
            .iter()
            .any(|phrase| text.contains(phrase))
    }
}

/// Records the errors of `device` for [`MemoryWatch`]. Burn's own handler would end the thread that
/// serves the device, and with it the run. CubeCL reports the loss of a device where the device is
/// waited for, but calls that still use it fail as well, and those errors come here.
pub(super) fn watch(device: &Device, wgpu: &wgpu::Device) {
    let faults = Arc::new(Faults::default());
    let watched = (device.clone(), Arc::clone(&faults));
    WATCHED.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).push(watched);
    wgpu.on_uncaptured_error(Arc::new(move |error| faults.record(&error)));
}

/// Makes a watched device look as if it had run out of memory.
#[cfg(test)]
pub(crate) fn simulate_out_of_memory(device: &Device) {
    if let Some(faults) = faults(device) {
        faults.out_of_memory.fetch_add(1, Ordering::AcqRel);
    }
}

/// Makes a watched device fail permanently.
#[cfg(test)]
pub(crate) fn simulate_failure(device: &Device) {
    if let Some(faults) = faults(device) {
        let _ = faults.failure.set("simulated".to_owned());
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn validation(description: &str) -> wgpu::Error {
        wgpu::Error::Validation { source: "validation".into(), description: description.to_owned() }
    }

    fn out_of_memory() -> wgpu::Error {
        wgpu::Error::OutOfMemory { source: "memory".into() }
    }

    fn watched(faults: &Arc<Faults>) -> MemoryWatch {
        let seen = faults.recovered.load(Ordering::Acquire);
        MemoryWatch { device: Device::flex(), faults: Some(Arc::clone(faults)), seen }
    }

    #[test]
    fn a_watch_sees_what_nobody_has_recovered_from() {
        let faults = Arc::new(Faults::default());
        let mut early = watched(&faults);
        assert!(!early.out_of_memory());
        faults.record(&out_of_memory());
        let late = watched(&faults);
        assert!(early.out_of_memory() && late.out_of_memory());
        // Errors that follow from it do not count as a failure of the device.
        faults.record(&validation("Buffer with '' label is invalid"));
        early.recover();
        assert!(!early.out_of_memory() && !watched(&faults).out_of_memory());
        early.intact().unwrap();
        // The work of the other watch has not been repeated.
        assert!(late.out_of_memory());
    }

    #[test]
    fn other_errors_fail_the_device_and_end_no_thread() {
        let faults = Arc::new(Faults::default());
        let watch = watched(&faults);
        watch.intact().unwrap();
        faults.record(&validation("In set_bind_group\n  BindGroup is invalid"));
        faults.record(&validation("another error"));
        let error = in_one_line(&watch.intact().unwrap_err());
        assert!(error.contains("In set_bind_group BindGroup is invalid"), "{error}");
        assert!(!watch.out_of_memory());
        assert!(watched(&faults).intact().is_err());
    }
}
