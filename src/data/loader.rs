//! Reads batches ahead of the training loop, in several threads. Order and content depend on the
//! plan alone, never on the number of threads.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use super::dataset::{Batch, Dataset, DatasetError};
use super::resize::Resizer;

/// The order in which an epoch visits the actions: a shuffle that `(seed, epoch)` fixes, cut into
/// batches of `batch_size` indices. The last batch may be smaller.
pub fn shuffled(count: usize, batch_size: usize, seed: u64, epoch: usize) -> Vec<Vec<usize>> {
    let mut order: Vec<usize> = (0..count).collect();
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(epoch as u64 + 1);
    order.shuffle(&mut rng);
    order.chunks(batch_size.max(1)).map(<[usize]>::to_vec).collect()
}

/// The annotation's order, for validation.
pub fn in_order(count: usize, batch_size: usize) -> Vec<Vec<usize>> {
    let order: Vec<usize> = (0..count).collect();
    order.chunks(batch_size.max(1)).map(<[usize]>::to_vec).collect()
}

type Loaded = Result<Option<Batch>, DatasetError>;

struct State {
    /// Next batch that nobody has taken up.
    next: usize,
    /// Batches handed out so far.
    taken: usize,
    /// Read, waiting for their turn.
    ready: BTreeMap<usize, Loaded>,
    /// Threads still running; when none is left and a batch is missing, one has panicked.
    running: usize,
    stop: bool,
}

struct Shared {
    dataset: Arc<Dataset>,
    plan: Vec<Vec<usize>>,
    ahead: usize,
    state: Mutex<State>,
    changed: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn wait<'a>(&self, guard: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        self.changed.wait(guard).unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn work(&self) {
        let mut resizer = self.dataset.resizer();
        loop {
            let mut state = self.lock();
            while !state.stop
                && state.next < self.plan.len()
                && state.next >= state.taken + self.ahead
            {
                state = self.wait(state);
            }
            if state.stop || state.next >= self.plan.len() {
                return;
            }
            let index = state.next;
            state.next += 1;
            drop(state);
            let loaded = self.dataset.read_batch(&self.plan[index], &mut resizer);
            self.lock().ready.insert(index, loaded);
            self.changed.notify_all();
        }
    }
}

/// Counts a worker out however it ends, so that the consumer never waits for a dead thread.
struct CountOut<'a>(&'a Shared);

impl Drop for CountOut<'_> {
    fn drop(&mut self) {
        self.0.lock().running -= 1;
        self.0.changed.notify_all();
    }
}

/// Batches of one epoch, read ahead. Dropping it stops and joins its threads.
pub struct Loader {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
    resizer: Resizer,
}

impl Loader {
    /// Starts `workers` threads (0: batches are read when asked for) on `plan`, a list of batches
    /// of indices into the data set's samples. Each thread may be one batch ahead, plus one.
    pub fn new(dataset: Arc<Dataset>, plan: Vec<Vec<usize>>, workers: usize) -> Self {
        let workers = workers.min(plan.len());
        let resizer = dataset.resizer();
        let shared = Arc::new(Shared {
            dataset,
            plan,
            ahead: workers + 1,
            state: Mutex::new(State {
                next: 0,
                taken: 0,
                ready: BTreeMap::new(),
                running: 0,
                stop: false,
            }),
            changed: Condvar::new(),
        });
        let mut threads = Vec::new();
        for number in 0..workers {
            let worker = Arc::clone(&shared);
            shared.lock().running += 1;
            let thread =
                std::thread::Builder::new().name(format!("decode-{number}")).spawn(move || {
                    let _count_out = CountOut(&worker);
                    worker.work();
                });
            match thread {
                Ok(thread) => threads.push(thread),
                Err(error) => {
                    // Fewer threads only make it slower.
                    shared.lock().running -= 1;
                    log::warn!("decoding thread {number} could not start: {error}");
                }
            }
        }
        Self { shared, workers: threads, resizer }
    }

    /// Number of batches in the plan.
    pub fn batches(&self) -> usize {
        self.shared.plan.len()
    }

    /// Next batch in the plan's order; batches of which nothing could be read are passed over.
    fn next_loaded(&mut self) -> Option<Result<Batch, DatasetError>> {
        loop {
            let loaded = if self.workers.is_empty() {
                let index = self.shared.lock().taken;
                let plan = self.shared.plan.get(index)?;
                let loaded = self.shared.dataset.read_batch(plan, &mut self.resizer);
                self.shared.lock().taken += 1;
                loaded
            } else {
                self.await_turn()?
            };
            match loaded {
                Ok(None) => continue,
                Ok(Some(batch)) => return Some(Ok(batch)),
                Err(error) => return Some(Err(error)),
            }
        }
    }

    /// The next batch if it has been read already: asking costs no waiting. `None` says nothing
    /// about the end of the plan.
    pub fn ready(&mut self) -> Result<Option<Batch>, DatasetError> {
        loop {
            let mut state = self.shared.lock();
            let turn = state.taken;
            let Some(loaded) = state.ready.remove(&turn) else {
                return Ok(None);
            };
            state.taken += 1;
            self.shared.changed.notify_all();
            if let Some(batch) = loaded? {
                return Ok(Some(batch));
            }
        }
    }

    fn await_turn(&self) -> Option<Loaded> {
        let mut state = self.shared.lock();
        loop {
            if state.taken >= self.shared.plan.len() {
                return None;
            }
            let turn = state.taken;
            if let Some(loaded) = state.ready.remove(&turn) {
                state.taken += 1;
                self.shared.changed.notify_all();
                return Some(loaded);
            }
            if state.running == 0 {
                return Some(Err(DatasetError::Worker));
            }
            state = self.shared.wait(state);
        }
    }
}

impl Iterator for Loader {
    type Item = Result<Batch, DatasetError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.next_loaded()
    }
}

impl Drop for Loader {
    fn drop(&mut self) {
        self.shared.lock().stop = true;
        self.shared.changed.notify_all();
        for worker in self.workers.drain(..) {
            // A panic in a worker was already told by `DatasetError::Worker`.
            let _ = worker.join();
        }
    }
}
