//! Reused memory of CPU tensors. A fresh large buffer costs a page fault for every 4 kB, which
//! would be a seventh of a training step; a step needs the same buffers as the one before.

use std::collections::BTreeMap;
use std::sync::Mutex;

use burn::backend::flex::{FlexTensor, Layout};
use burn::tensor::{AllocationProperty, Bytes, DType, Shape};

/// Lengths below which the allocator's own memory is used.
const SMALL: usize = 1 << 14;

/// Free buffers by their length.
struct Pool {
    free: BTreeMap<usize, Vec<Vec<f32>>>,
    /// Values in `free`, in use, and in use at most so far.
    idle: usize,
    used: usize,
    peak: usize,
}

static POOL: Mutex<Pool> = Mutex::new(Pool { free: BTreeMap::new(), idle: 0, used: 0, peak: 0 });

fn with_pool<R>(work: impl FnOnce(&mut Pool) -> R) -> R {
    work(&mut POOL.lock().unwrap_or_else(|poisoned| poisoned.into_inner()))
}

impl Pool {
    /// A free buffer of at least this length, and of no more than a quarter over it.
    fn take(&mut self, length: usize) -> Option<Vec<f32>> {
        let (&found, buffers) = self.free.range_mut(length..=length + length / 4).next()?;
        let buffer = buffers.pop();
        if buffers.is_empty() {
            self.free.remove(&found);
        }
        self.idle -= buffer.as_ref().map_or(0, Vec::len);
        buffer
    }

    fn note_use(&mut self, length: usize) {
        self.used += length;
        self.peak = self.peak.max(self.used);
    }

    /// Keeps a buffer for reuse; returns others to be freed where all together would be more than a
    /// quarter over what was once needed.
    fn put(&mut self, buffer: Vec<f32>) -> Vec<Vec<f32>> {
        self.used -= buffer.len();
        self.idle += buffer.len();
        self.free.entry(buffer.len()).or_default().push(buffer);
        let mut surplus = Vec::new();
        while self.used + self.idle > self.peak + self.peak / 4 {
            let Some(mut smallest) = self.free.first_entry() else { break };
            let buffer = smallest.get_mut().pop();
            if smallest.get().is_empty() {
                smallest.remove();
            }
            self.idle -= buffer.as_ref().map_or(0, Vec::len);
            surplus.extend(buffer);
        }
        surplus
    }
}

/// Values of a tensor to be. The memory returns to the pool with the last holder.
pub(crate) struct Buffer {
    whole: Vec<f32>,
    length: usize,
}

impl Buffer {
    /// A buffer of this length with unspecified values.
    pub(crate) fn new(length: usize) -> Self {
        if length < SMALL {
            return Self { whole: vec![0.0; length], length };
        }
        let kept = with_pool(|pool| {
            let kept = pool.take(length);
            pool.note_use(kept.as_ref().map_or(length, Vec::len));
            kept
        });
        Self { whole: kept.unwrap_or_else(|| vec![0.0; length]), length }
    }

    /// The values, to be written.
    pub(crate) fn values(&mut self) -> &mut [f32] {
        &mut self.whole[..self.length]
    }

    /// The values as a tensor.
    pub(crate) fn into_tensor<const D: usize>(mut self, shape: [usize; D]) -> FlexTensor {
        let bytes = if self.length < SMALL {
            Bytes::from_elems(std::mem::take(&mut self.whole))
        } else {
            Bytes::from_shared(bytes::Bytes::from_owner(self), AllocationProperty::Native)
        };
        FlexTensor::new(bytes, Layout::contiguous(Shape::from(shape)), DType::F32)
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        bytemuck::cast_slice(&self.whole[..self.length])
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let buffer = std::mem::take(&mut self.whole);
        if buffer.len() >= SMALL {
            // Freed after the lock.
            drop(with_pool(|pool| pool.put(buffer)));
        }
    }
}
