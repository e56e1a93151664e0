//! Prefetches batches for the training loop in several threads, which share the work clip by clip.
//! The order and content of batches depend on the plan only, never on the number of threads.

mod queue;

use std::sync::Arc;
use std::thread::JoinHandle;

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use super::dataset::{Batch, Dataset, DatasetError};
use super::plan::Plan;
use super::resize::Resizer;
use queue::Queue;

/// Returns the batches of a training epoch: indices in an order determined by `(seed, epoch)`, in
/// batches of `batch_size`. The last batch may be smaller.
pub fn shuffled(count: usize, batch_size: usize, seed: u64, epoch: usize) -> Vec<Vec<usize>> {
    let mut order: Vec<usize> = (0..count).collect();
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(epoch as u64 + 1);
    order.shuffle(&mut rng);
    order.chunks(batch_size.max(1)).map(<[usize]>::to_vec).collect()
}

/// Returns the batches of a validation pass: indices in annotation order.
pub fn in_order(count: usize, batch_size: usize) -> Vec<Vec<usize>> {
    let order: Vec<usize> = (0..count).collect();
    order.chunks(batch_size.max(1)).map(<[usize]>::to_vec).collect()
}

/// How far a loader reads ahead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Prefetch {
    /// Number of decoding threads; with 0, each batch is read when it is requested.
    pub workers: usize,
    /// Maximum number of batches that are ready or being read.
    pub batches: usize,
    /// Maximum total size of these batches' frames, bytes; a single batch may be larger.
    pub bytes: u64,
}

impl Prefetch {
    /// Returns the default limits with `workers` threads.
    pub fn with_workers(workers: usize) -> Self {
        Self { workers, batches: 4, bytes: 2 << 30 }
    }
}

/// Prefetches the batches of one epoch. Dropping it stops and joins its threads.
pub struct Loader {
    queue: Arc<Queue>,
    workers: Vec<JoinHandle<()>>,
    resizer: Resizer,
}

impl Loader {
    /// Starts `workers` threads (0: each batch is read when it is requested) on `plan`, a list of
    /// batches of indices into the data set's samples.
    pub fn new(dataset: Arc<Dataset>, plan: impl Into<Plan>, workers: usize) -> Self {
        Self::with_prefetch(dataset, plan, Prefetch::with_workers(workers))
    }

    /// Like [`Loader::new`], but with the given limits.
    pub fn with_prefetch(dataset: Arc<Dataset>, plan: impl Into<Plan>, ahead: Prefetch) -> Self {
        let resizer = dataset.resizer();
        let queue = Arc::new(Queue::new(dataset, plan.into(), ahead));
        let workers = if queue.batches() == 0 { 0 } else { ahead.workers };
        let mut threads = Vec::new();
        for number in 0..workers {
            let worker = Arc::clone(&queue);
            let name = format!("decode-{number}");
            let thread = std::thread::Builder::new().name(name).spawn(move || worker.work());
            match thread {
                Ok(thread) => threads.push(thread),
                // With fewer threads, loading is only slower.
                Err(error) => log::warn!("decoding thread {number} could not start: {error}"),
            }
        }
        Self { queue, workers: threads, resizer }
    }

    /// Returns the number of batches in the plan.
    pub fn batches(&self) -> usize {
        self.queue.batches()
    }

    /// Returns the number of batches handed out or skipped so far.
    pub fn taken(&self) -> usize {
        self.queue.taken()
    }

    /// Returns the peak size of the frames in memory, bytes. Used in tests.
    #[doc(hidden)]
    pub fn peak_bytes(&self) -> u64 {
        self.queue.peak_bytes()
    }

    /// Returns the next batch if it has been read already; does not wait. `None` does not mean the
    /// end of the plan.
    ///
    /// # Errors
    /// [`DatasetError`], as for [`Iterator::next`].
    pub fn ready(&mut self) -> Result<Option<Batch>, DatasetError> {
        while let Some(loaded) = self.queue.ready() {
            if let Some(batch) = self.queue.unless_empty(loaded).transpose()? {
                return Ok(Some(batch));
            }
        }
        Ok(None)
    }

    /// Takes back a batch that is no longer needed, so that a later one can be read into its
    /// memory.
    pub fn recycle(&self, batch: Batch) {
        if !self.workers.is_empty() {
            self.queue.recycle(batch.frames);
        }
    }
}

impl Iterator for Loader {
    type Item = Result<Batch, DatasetError>;

    /// Returns the next batch in plan order. Batches without any readable clip are skipped, unless
    /// other processes read parts of them.
    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let loaded = match self.workers.is_empty() {
                true => self.queue.read_next(&mut self.resizer)?,
                false => self.queue.wait_for_next()?,
            };
            if let Some(batch) = self.queue.unless_empty(loaded) {
                return Some(batch);
            }
        }
    }
}

impl Drop for Loader {
    fn drop(&mut self) {
        self.queue.stop();
        for worker in self.workers.drain(..) {
            // A panic in a worker has been reported as `DatasetError::Worker`.
            let _ = worker.join();
        }
    }
}
