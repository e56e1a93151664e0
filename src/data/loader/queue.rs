//! The state that a loader's threads share: the batches being read, clip by clip, and the finished
//! ones that have not been handed out yet.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};

use bytes::{Bytes, BytesMut};

use super::super::clip::ClipError;
use super::super::dataset::{Batch, Dataset, DatasetError};
use super::super::place::Reading;
use super::super::plan::{Pick, Plan};
use super::super::reading::ClipIndex;
use super::super::resize::Resizer;
use super::Prefetch;

pub(super) type Loaded = Result<Batch, DatasetError>;

/// A batch whose clips are being read.
struct Assembly {
    index: usize,
    /// The clips, each with the memory for its frames: slices of one allocation.
    clips: Vec<(ClipIndex, BytesMut)>,
    results: Vec<Option<Result<(), ClipError>>>,
    /// First clip that no thread has started on.
    next: usize,
    /// Number of clips not read yet.
    missing: usize,
}

impl Assembly {
    /// Allocates memory for the frames, or reuses `spare`, which must have the right size.
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

    /// Returns the batch after every clip has been read. Joining adjacent slices does not copy.
    fn finish(self, dataset: &Dataset, lanes: &Lanes) -> Loaded {
        let mut frames = BytesMut::new();
        for (_, piece) in self.clips {
            frames.unsplit(piece);
        }
        let result =
            |result: Option<_>| result.expect("`missing` counts the clips without a result");
        dataset.assemble(lanes, self.results.into_iter().map(result).collect(), frames.into())
    }
}

/// The actions of each lane of a batch.
type Lanes = [Vec<Pick>];

struct State {
    /// Next batch to start reading.
    next: usize,
    /// Number of batches handed out so far.
    taken: usize,
    /// Batches being read, in order.
    open: VecDeque<Assembly>,
    /// Batches that have been read but not handed out.
    ready: BTreeMap<usize, Loaded>,
    /// Memory of a recycled batch. New memory would have to be zeroed first.
    spare: Option<Vec<u8>>,
    /// Total size of the frames in `open`, `ready` and `spare`, bytes.
    held: u64,
    /// Peak of `held`.
    peak_bytes: u64,
    /// Whether a thread has panicked: its clip will never arrive.
    died: bool,
    stop: bool,
}

impl State {
    /// Returns the bytes that a batch of `bytes` adds to `held`: none if it fits the spare memory
    /// exactly. Otherwise, frees the spare memory if the limit of `most` bytes requires it.
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
    /// Memory for the frames of the clip.
    frames: BytesMut,
}

/// The batches of an epoch on their way from the files to the training loop.
pub(super) struct Queue {
    dataset: Arc<Dataset>,
    /// The lanes of each batch.
    plan: Vec<Vec<Vec<Pick>>>,
    reading: Reading,
    /// Whether batches without any readable clip are handed out: other processes may have read
    /// parts of them.
    keeps_empty: bool,
    ahead: Prefetch,
    state: Mutex<State>,
    changed: Condvar,
}

impl Queue {
    pub(super) fn new(dataset: Arc<Dataset>, plan: Plan, ahead: Prefetch) -> Self {
        let Plan { batches: plan, partial: keeps_empty, reading } = plan;
        let state = State {
            next: 0,
            taken: 0,
            open: VecDeque::new(),
            ready: BTreeMap::new(),
            spare: None,
            held: 0,
            peak_bytes: 0,
            died: false,
            stop: false,
        };
        let (state, changed) = (Mutex::new(state), Condvar::new());
        Self { dataset, plan, reading, keeps_empty, ahead, state, changed }
    }

    /// Returns the number of batches in the plan.
    pub(super) fn batches(&self) -> usize {
        self.plan.len()
    }

    /// Returns the number of batches handed out, including those without any readable clip.
    pub(super) fn taken(&self) -> usize {
        self.lock().taken
    }

    /// Returns the peak size of the frames in memory, bytes.
    pub(super) fn peak_bytes(&self) -> u64 {
        self.lock().peak_bytes
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn wait<'a>(&self, guard: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        self.changed.wait(guard).unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Returns the size of a batch's frames, bytes.
    fn bytes(&self, index: usize) -> u64 {
        let views = |pick: &Pick| self.dataset.samples[pick.sample].views.len();
        let clips: usize = self.plan[index].iter().flatten().map(views).sum();
        clips as u64 * self.dataset.clip_bytes() as u64
    }

    /// Reads clips until none are left; the body of a decoding thread.
    pub(super) fn work(&self) {
        let _guard = PanicGuard(self);
        let mut resizer = self.dataset.resizer();
        while let Some(mut job) = self.take_job() {
            let (clip, frames) = (job.clip, &mut job.frames);
            let result = self.dataset.read_clip(clip, &self.reading, &mut resizer, frames);
            self.put_back(job, result);
        }
    }

    /// Returns the next clip to read, in plan order; waits while the loader is far enough ahead.
    /// `None` if nothing is left to read.
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
            // One batch is always read, no matter how large, or the consumer would wait forever.
            if count == 0 || fits {
                let index = state.next;
                state.next += 1;
                let spare = if need == 0 { state.spare.take() } else { None };
                state.held += need;
                state.peak_bytes = state.peak_bytes.max(state.held);
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

    /// Filters out an empty batch, unless empty batches are handed out as well.
    pub(super) fn unless_empty(&self, loaded: Loaded) -> Option<Loaded> {
        let empty = loaded.as_ref().is_ok_and(|batch| batch.actions.is_empty());
        (self.keeps_empty || !empty).then_some(loaded)
    }

    /// Returns the next batch if it has been read; does not wait.
    pub(super) fn ready(&self) -> Option<Loaded> {
        self.take_ready(&mut self.lock())
    }

    fn take_ready(&self, state: &mut State) -> Option<Loaded> {
        let turn = state.taken;
        let loaded = state.ready.remove(&turn)?;
        state.taken += 1;
        state.held -= self.bytes(turn);
        self.changed.notify_all();
        Some(loaded)
    }

    /// Waits for the next batch in plan order; `None` at the end of the plan.
    pub(super) fn wait_for_next(&self) -> Option<Loaded> {
        let mut state = self.lock();
        loop {
            if state.taken >= self.plan.len() {
                return None;
            }
            if let Some(loaded) = self.take_ready(&mut state) {
                return Some(loaded);
            }
            if state.died {
                return Some(Err(DatasetError::Worker));
            }
            state = self.wait(state);
        }
    }

    /// Like [`Queue::wait_for_next`] without decoding threads: reads the batch in the calling
    /// thread.
    pub(super) fn read_next(&self, resizer: &mut Resizer) -> Option<Loaded> {
        let mut state = self.lock();
        let lanes = self.plan.get(state.taken)?;
        state.taken += 1;
        let mut batch = Assembly::new(state.taken, &self.dataset, lanes, None);
        for ((clip, frames), result) in batch.clips.iter_mut().zip(&mut batch.results) {
            *result = Some(self.dataset.read_clip(*clip, &self.reading, resizer, frames));
        }
        Some(batch.finish(&self.dataset, lanes))
    }

    /// Keeps a batch's memory for a later batch, if there is one.
    pub(super) fn recycle(&self, frames: Vec<u8>) {
        let bytes = frames.len() as u64;
        let mut state = self.lock();
        let more_to_come = state.next < self.plan.len();
        let fits = state.held + bytes <= self.ahead.bytes;
        if more_to_come && fits && state.spare.is_none() {
            state.held += bytes;
            state.spare = Some(frames);
        }
    }

    /// Makes the decoding threads stop.
    pub(super) fn stop(&self) {
        self.lock().stop = true;
        self.changed.notify_all();
    }
}

/// Reports a panic of a worker, so that the consumer does not wait for it forever.
struct PanicGuard<'a>(&'a Queue);

impl Drop for PanicGuard<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.lock().died = true;
            self.0.changed.notify_all();
        }
    }
}
