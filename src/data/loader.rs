//! Prefetches batches for the training loop in several threads, which share the work clip by clip.
//! Order and content depend on the plan alone, never on the number of threads.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;

use bytes::{Bytes, BytesMut};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use super::clip::ClipError;
use super::dataset::{Batch, Dataset, DatasetError};
use super::place::Reading;
use super::plan::Plan;
use super::reading::ClipIndex;
use super::resize::Resizer;

/// The batches of a training epoch: indices in an order determined by `(seed, epoch)`, in batches of
/// `batch_size`. The last batch may be smaller.
pub fn shuffled(count: usize, batch_size: usize, seed: u64, epoch: usize) -> Vec<Vec<usize>> {
    let mut order: Vec<usize> = (0..count).collect();
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(epoch as u64 + 1);
    order.shuffle(&mut rng);
    order.chunks(batch_size.max(1)).map(<[usize]>::to_vec).collect()
}

/// The batches of a validation pass: indices in annotation order.
pub fn in_order(count: usize, batch_size: usize) -> Vec<Vec<usize>> {
    let order: Vec<usize> = (0..count).collect();
    order.chunks(batch_size.max(1)).map(<[usize]>::to_vec).collect()
}

/// How far a loader reads ahead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ahead {
    /// Number of decoding threads; with 0, each batch is read when it is asked for.
    pub workers: usize,
    /// Maximum number of batches that are read or being read.
    pub batches: usize,
    /// Maximum size of their frames, bytes; a single batch may be larger.
    pub bytes: u64,
}

impl Ahead {
    /// `workers` threads, with the default limits.
    pub fn with_workers(workers: usize) -> Self {
        Self { workers, batches: 4, bytes: 2 << 30 }
    }
}

type Loaded = Result<Batch, DatasetError>;

/// A batch whose clips are being read.
struct Assembly {
    index: usize,
    /// Its clips, each with the memory for its frames: pieces of one allocation.
    clips: Vec<(ClipIndex, BytesMut)>,
    results: Vec<Option<Result<(), ClipError>>>,
    /// First clip that no thread has started on.
    next: usize,
    /// Number of clips not read yet.
    missing: usize,
}

impl Assembly {
    /// `spare` is memory of the right size to be reused.
    fn new(index: usize, dataset: &Dataset, lanes: &Lanes, spare: Option<Vec<u8>>) -> Self {
        let indices = dataset.clips(&lanes.concat());
        let bytes = dataset.clip_bytes();
        let spare = spare.and_then(|spare| Bytes::from(spare).try_into_mut().ok());
        let mut frames = spare.unwrap_or_else(|| BytesMut::zeroed(indices.len() * bytes));
        let clips: Vec<_> =
            indices.into_iter().map(|clip| (clip, frames.split_to(bytes))).collect();
        let count = clips.len();
        Self { index, results: vec![None; count], clips, next: 0, missing: count }
    }

    /// The batch, once every clip is read. Joining adjacent pieces does not copy.
    fn finish(self, dataset: &Dataset, lanes: &Lanes) -> Loaded {
        let mut frames = BytesMut::new();
        for (_, piece) in self.clips {
            frames.unsplit(piece);
        }
        let result = |result: Option<_>| result.expect("`missing` counts the clips without one");
        dataset.assemble(lanes, self.results.into_iter().map(result).collect(), frames.into())
    }
}

/// The actions of each lane of a batch.
type Lanes = [Vec<usize>];

struct State {
    /// Next batch to begin.
    next: usize,
    /// Number of batches handed out so far.
    taken: usize,
    /// Batches being read, in order.
    open: VecDeque<Assembly>,
    /// Batches that are read and wait for their turn.
    ready: BTreeMap<usize, Loaded>,
    /// Frames of a recycled batch. New memory would have to be zeroed first.
    spare: Option<Vec<u8>>,
    /// Bytes of frames in all three.
    held: u64,
    /// Peak of `held`.
    most_held: u64,
    /// A thread has panicked: its clip will never arrive.
    died: bool,
    stop: bool,
}

impl State {
    /// Bytes that a batch of `bytes` adds to `held`: none if it fits the spare memory exactly.
    /// Otherwise spare memory is freed where the limit of `most` requires it.
    fn need(&mut self, bytes: u64, most: u64) -> u64 {
        let spare = self.spare.as_ref().map_or(0, |spare| spare.len() as u64);
        if spare == bytes {
            return 0;
        }
        if self.held + bytes > most {
            self.spare = None;
            self.held -= spare;
        }
        bytes
    }
}

/// A clip to read.
struct Job {
    /// Index of the batch.
    batch: usize,
    /// Position of the clip in the batch.
    position: usize,
    clip: ClipIndex,
    /// Where its frames go.
    frames: BytesMut,
}

struct Shared {
    dataset: Arc<Dataset>,
    /// The lanes of each batch.
    plan: Vec<Vec<Vec<usize>>>,
    reading: Reading,
    /// Batches of which nothing could be read are handed out: other processes may have read some of
    /// them.
    keeps_empty: bool,
    ahead: Ahead,
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

    /// Size of a batch's frames, bytes.
    fn bytes(&self, index: usize) -> u64 {
        let views = |&sample: &usize| self.dataset.samples[sample].views.len();
        let clips: usize = self.plan[index].iter().flatten().map(views).sum();
        clips as u64 * self.dataset.clip_bytes() as u64
    }

    fn work(&self) {
        let mut resizer = self.dataset.resizer();
        while let Some(mut job) = self.take_job() {
            let (clip, frames) = (job.clip, &mut job.frames);
            let result = self.dataset.read_clip(clip, &self.reading, &mut resizer, frames);
            self.put_back(job, result);
        }
    }

    /// The next clip to read, in plan order; waits while the loader is far enough ahead. `None` when
    /// there is nothing left to read.
    fn take_job(&self) -> Option<Job> {
        let mut state = self.lock();
        loop {
            if state.stop || state.died {
                return None;
            }
            let unread = state.open.iter_mut().find(|batch| batch.next < batch.clips.len());
            if let Some(batch) = unread {
                let position = batch.next;
                batch.next += 1;
                let (clip, frames) = &mut batch.clips[position];
                let frames = std::mem::take(frames);
                return Some(Job { batch: batch.index, position, clip: *clip, frames });
            }
            if state.next >= self.plan.len() {
                return None;
            }
            let bytes = self.bytes(state.next);
            let count = state.next - state.taken;
            let need = state.need(bytes, self.ahead.bytes);
            let fits = count < self.ahead.batches && state.held + need <= self.ahead.bytes;
            // One batch is always read, however large, or the consumer would wait for ever.
            if count == 0 || fits {
                let index = state.next;
                state.next += 1;
                let spare = if need == 0 { state.spare.take() } else { None };
                state.held += need;
                state.most_held = state.most_held.max(state.held);
                let batch = Assembly::new(index, &self.dataset, &self.plan[index], spare);
                if batch.clips.is_empty() {
                    state.ready.insert(index, batch.finish(&self.dataset, &self.plan[index]));
                } else {
                    state.open.push_back(batch);
                }
                self.changed.notify_all();
            } else {
                state = self.wait(state);
            }
        }
    }

    fn put_back(&self, job: Job, result: Result<(), ClipError>) {
        let mut state = self.lock();
        let at = state.open.iter().position(|batch| batch.index == job.batch);
        let at = at.expect("a batch stays open until its last clip is read");
        let batch = &mut state.open[at];
        batch.clips[job.position].1 = job.frames;
        batch.results[job.position] = Some(result);
        batch.missing -= 1;
        if batch.missing > 0 {
            return;
        }
        let batch = state.open.remove(at).expect("`at` is the position of this batch");
        drop(state);
        let index = batch.index;
        let loaded = batch.finish(&self.dataset, &self.plan[index]);
        self.lock().ready.insert(index, loaded);
        self.changed.notify_all();
    }

    /// What is handed out of it.
    fn wanted(&self, loaded: Loaded) -> Option<Loaded> {
        let empty = loaded.as_ref().is_ok_and(|batch| batch.actions.is_empty());
        (self.keeps_empty || !empty).then_some(loaded)
    }

    /// Hands out the next batch if it has been read.
    fn take_ready(&self, state: &mut State) -> Option<Loaded> {
        let turn = state.taken;
        let loaded = state.ready.remove(&turn)?;
        state.taken += 1;
        state.held -= self.bytes(turn);
        self.changed.notify_all();
        Some(loaded)
    }
}

/// Reports a panic of a worker, so that the consumer does not wait for it for ever.
struct PanicGuard<'a>(&'a Shared);

impl Drop for PanicGuard<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.lock().died = true;
            self.0.changed.notify_all();
        }
    }
}

/// Prefetches the batches of one epoch. Dropping it stops and joins its threads.
pub struct Loader {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
    resizer: Resizer,
}

impl Loader {
    /// Starts `workers` threads (0: each batch is read when it is asked for) on `plan`, a list of
    /// batches of indices into the data set's samples.
    pub fn new(dataset: Arc<Dataset>, plan: impl Into<Plan>, workers: usize) -> Self {
        Self::reading_ahead(dataset, plan, Ahead::with_workers(workers))
    }

    /// [`Loader::new`] with other limits than the default ones.
    pub fn reading_ahead(dataset: Arc<Dataset>, plan: impl Into<Plan>, ahead: Ahead) -> Self {
        let Plan { batches: plan, partial: keeps_empty, reading } = plan.into();
        let resizer = dataset.resizer();
        let state = State {
            next: 0,
            taken: 0,
            open: VecDeque::new(),
            ready: BTreeMap::new(),
            spare: None,
            held: 0,
            most_held: 0,
            died: false,
            stop: false,
        };
        let (state, changed) = (Mutex::new(state), Condvar::new());
        let workers = if plan.is_empty() { 0 } else { ahead.workers };
        let shared =
            Arc::new(Shared { dataset, plan, reading, keeps_empty, ahead, state, changed });
        let mut threads = Vec::new();
        for number in 0..workers {
            let worker = Arc::clone(&shared);
            let name = format!("decode-{number}");
            let thread = std::thread::Builder::new().name(name).spawn(move || {
                let _guard = PanicGuard(&worker);
                worker.work();
            });
            match thread {
                Ok(thread) => threads.push(thread),
                // Fewer threads are only slower.
                Err(error) => log::warn!("decoding thread {number} could not start: {error}"),
            }
        }
        Self { shared, workers: threads, resizer }
    }

    /// Number of batches in the plan.
    pub fn batches(&self) -> usize {
        self.shared.plan.len()
    }

    /// Peak size of the frames in memory, bytes. For tests.
    #[doc(hidden)]
    pub fn most_held(&self) -> u64 {
        self.shared.lock().most_held
    }

    /// The next batch if it has been read already; does not wait. `None` does not mean the end of
    /// the plan.
    ///
    /// # Errors
    /// [`DatasetError`], as [`Iterator::next`].
    pub fn ready(&mut self) -> Result<Option<Batch>, DatasetError> {
        let mut state = self.shared.lock();
        while let Some(loaded) = self.shared.take_ready(&mut state) {
            if let Some(batch) = self.shared.wanted(loaded).transpose()? {
                return Ok(Some(batch));
            }
        }
        Ok(None)
    }

    /// Takes back a batch that is no longer needed: a later one is read into its memory.
    pub fn recycle(&self, batch: Batch) {
        let bytes = batch.frames.len() as u64;
        let mut state = self.shared.lock();
        let more_to_come = state.next < self.shared.plan.len();
        let fits = state.held + bytes <= self.shared.ahead.bytes;
        if more_to_come && fits && state.spare.is_none() && !self.workers.is_empty() {
            state.held += bytes;
            state.spare = Some(batch.frames);
        }
    }

    /// The next result in plan order; `None` at the end of the plan.
    fn next_loaded(&mut self) -> Option<Loaded> {
        let shared = &self.shared;
        let mut state = shared.lock();
        if self.workers.is_empty() {
            let lanes = shared.plan.get(state.taken)?;
            state.taken += 1;
            let mut batch = Assembly::new(state.taken, &shared.dataset, lanes, None);
            for ((clip, frames), result) in batch.clips.iter_mut().zip(&mut batch.results) {
                let (clip, reading) = (*clip, &shared.reading);
                let read = shared.dataset.read_clip(clip, reading, &mut self.resizer, frames);
                *result = Some(read);
            }
            return Some(batch.finish(&shared.dataset, lanes));
        }
        loop {
            if state.taken >= shared.plan.len() {
                return None;
            }
            if let Some(loaded) = shared.take_ready(&mut state) {
                return Some(loaded);
            }
            if state.died {
                return Some(Err(DatasetError::Worker));
            }
            state = shared.wait(state);
        }
    }
}

impl Iterator for Loader {
    type Item = Result<Batch, DatasetError>;

    /// The next batch in plan order. Batches of which nothing could be read are skipped, unless other
    /// processes read parts of them.
    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let loaded = self.next_loaded()?;
            if let Some(batch) = self.shared.wanted(loaded) {
                return Some(batch);
            }
        }
    }
}

impl Drop for Loader {
    fn drop(&mut self) {
        self.shared.lock().stop = true;
        self.shared.changed.notify_all();
        for worker in self.workers.drain(..) {
            // A panic in a worker was reported as `DatasetError::Worker`.
            let _ = worker.join();
        }
    }
}
