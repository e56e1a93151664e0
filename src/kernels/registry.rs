//! State that belongs to a device and not to the process.

use std::sync::{Arc, Mutex};

use burn::backend::CubeDevice;

/// One value per device, created on first use. Burn identifies a device by its adapter and its
/// graphics API. Like Burn's devices, the values live as long as the process.
pub(crate) struct PerDevice<T> {
    known: Mutex<Vec<(CubeDevice, Arc<T>)>>,
}

impl<T> PerDevice<T> {
    /// Creates an empty registry.
    pub(crate) const fn new() -> Self {
        Self { known: Mutex::new(Vec::new()) }
    }

    /// Returns the device's value; `make` creates it once per device.
    pub(crate) fn get_or_insert(&self, device: &CubeDevice, make: impl FnOnce() -> T) -> Arc<T> {
        let mut known = self.known.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Some((_, value)) = known.iter().find(|(of, _)| of == device) {
            return value.clone();
        }
        let value = Arc::new(make());
        known.push((device.clone(), value.clone()));
        value
    }
}
