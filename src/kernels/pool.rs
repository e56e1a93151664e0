//! A pool of memory for CPU tensors. A fresh large buffer costs a page fault for every 4 kB, which
//! would be a seventh of a training step; a step needs the same buffers as the one before.

use std::collections::BTreeMap;
use std::sync::Mutex;

use burn::backend::flex::{FlexTensor, Layout};
use burn::tensor::{AllocationProperty, Bytes, DType, Shape};

/// Buffers shorter than this are not pooled.
const SMALL: usize = 1 << 14;

/// Free buffers, and how much memory is in use.
struct Pool {
    /// Free buffers by length.
    free: BTreeMap<usize, Vec<Vec<f32>>>,
    /// Number of values in `free`.
    idle: usize,
    /// Number of values in use.
    used: usize,
    /// Largest number of values in use so far.
    peak: usize,
}

static POOL: Mutex<Pool> = Mutex::new(Pool { free: BTreeMap::new(), idle: 0, used: 0, peak: 0 });

fn with_pool<R>(work: impl FnOnce(&mut Pool) -> R) -> R {
    work(&mut POOL.lock().unwrap_or_else(|poisoned| poisoned.into_inner()))
}

impl Pool {
    /// Takes a free buffer of at least this length and at most a quarter more.
    fn take(&mut self, length: usize) -> Option<Vec<f32>> {
        let (&size, buffers) = self.free.range_mut(length..=length + length / 4).next()?;
        let buffer = buffers.pop();
        if buffers.is_empty() {
            self.free.remove(&size);
        }
        self.idle -= buffer.as_ref().map_or(0, Vec::len);
        buffer
    }

    fn note_use(&mut self, length: usize) {
        self.used += length;
        self.peak = self.peak.max(self.used);
    }

    /// Keeps a buffer for reuse. Returns the buffers to be freed so that used and free memory
    /// together exceed the peak use by a quarter at most.
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

    /// Returns the free buffers, to be freed, and measures the peak from now on.
    fn release(&mut self) -> BTreeMap<usize, Vec<Vec<f32>>> {
        self.idle = 0;
        self.peak = self.used;
        std::mem::take(&mut self.free)
    }
}

/// Frees the memory that the CPU kernels keep for reuse when it is dropped: at the end of a run,
/// after everything that the run computed.
pub(crate) struct ReleaseAtEnd;

impl Drop for ReleaseAtEnd {
    fn drop(&mut self) {
        // Freed after the lock is released.
        drop(with_pool(Pool::release));
        polyview_cpu::conv::release_scratch();
    }
}

/// Values of a tensor that is being computed. The memory returns to the pool when the last holder
/// drops it.
pub(crate) struct Buffer {
    whole: Vec<f32>,
    length: usize,
}

impl Buffer {
    /// Creates a buffer of this length with unspecified values.
    pub(crate) fn new(length: usize) -> Self {
        if length < SMALL {
            return Self { whole: vec![0.0; length], length };
        }
        let reused = with_pool(|pool| {
            let reused = pool.take(length);
            pool.note_use(reused.as_ref().map_or(length, Vec::len));
            reused
        });
        Self { whole: reused.unwrap_or_else(|| vec![0.0; length]), length }
    }

    /// Returns the values, to be written.
    pub(crate) fn values(&mut self) -> &mut [f32] {
        &mut self.whole[..self.length]
    }

    /// Turns the buffer into a tensor.
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
            // Freed after the lock is released.
            drop(with_pool(|pool| pool.put(buffer)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_released_pool_keeps_no_more_than_is_in_use() {
        let mut pool = Pool { free: BTreeMap::new(), idle: 0, used: 0, peak: 0 };
        pool.note_use(4 * SMALL);
        pool.note_use(SMALL);
        assert!(pool.put(vec![0.0; 4 * SMALL]).is_empty());
        let freed = pool.release();
        assert_eq!(freed.values().flatten().map(Vec::len).sum::<usize>(), 4 * SMALL);
        assert!(pool.take(4 * SMALL).is_none());
        // Later use is measured anew.
        pool.note_use(2 * SMALL);
        assert_eq!((pool.used, pool.idle, pool.peak), (3 * SMALL, 0, 3 * SMALL));
        assert!(pool.put(vec![0.0; SMALL]).is_empty());
        assert_eq!(pool.take(SMALL).map(|buffer| buffer.len()), Some(SMALL));
    }
}
