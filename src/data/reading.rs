//! Reading a data set's clips: from its cache or by decoding, cut and resized, put together to
//! batches.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::MutexGuard;
use std::sync::atomic::Ordering;

use super::cache::Key;
use super::clip::{ClipError, ClipInfo};
use super::dataset::{Batch, Dataset, DatasetError};
use super::resize::Resizer;
use super::video;

/// More than this share of unreadable views ends the run: what remains is another data set.
const MAX_UNREADABLE: f64 = 0.2;

/// A clip by its place in a data set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ClipPlace {
    /// Index into [`Dataset::samples`].
    pub sample: usize,
    /// Which of its views.
    pub view: usize,
}

impl Dataset {
    /// What a thread that reads clips needs for itself.
    pub fn resizer(&self) -> Resizer {
        let [height, width] = self.size;
        Resizer::new(height, width)
    }

    /// Bytes of one clip's frames, T·H·W·3.
    pub fn clip_bytes(&self) -> usize {
        self.window.frames_per_clip * self.size.iter().product::<usize>() * 3
    }

    /// The clips of the actions at `indices`, in the order in which they lie in a batch.
    pub(super) fn places(&self, indices: &[usize]) -> Vec<ClipPlace> {
        let of = |&sample: &usize| {
            (0..self.samples[sample].views.len()).map(move |view| ClipPlace { sample, view })
        };
        indices.iter().flat_map(of).collect()
    }

    /// Reads the actions at `indices` (into [`Dataset::samples`]). A view that cannot be read is
    /// left out and remembered; an action without any readable view is left out of the batch.
    /// `None` when nothing of the batch could be read.
    pub fn read_batch(
        &self,
        indices: &[usize],
        resizer: &mut Resizer,
    ) -> Result<Option<Batch>, DatasetError> {
        let places = self.places(indices);
        let mut frames = vec![0; places.len() * self.clip_bytes()];
        let slots = frames.chunks_exact_mut(self.clip_bytes());
        let results =
            places.iter().zip(slots).map(|(place, slot)| self.read_clip(*place, resizer, slot));
        let results = results.collect();
        self.assemble(indices, results, frames)
    }

    /// Reads view `view` of the action at `index`, as a batch of one clip.
    pub fn read_one(
        &self,
        index: usize,
        view: usize,
        resizer: &mut Resizer,
    ) -> Result<Batch, ClipError> {
        let mut frames = vec![0; self.clip_bytes()];
        self.read_clip(ClipPlace { sample: index, view }, resizer, &mut frames)?;
        let mut batch = self.empty_batch(frames);
        self.push(&mut batch, index, &[view]);
        Ok(batch)
    }

    /// Fills `out` with one clip's `[T, H, W, 3]`; on error `out` holds anything.
    pub(super) fn read_clip(
        &self,
        place: ClipPlace,
        resizer: &mut Resizer,
        out: &mut [u8],
    ) -> Result<(), ClipError> {
        let path = video::resolve_clip(&self.samples[place.sample].views[place.view])?;
        let Some(cache) = &self.cache else {
            return self.decode(&path, resizer, out);
        };
        // Named before it is decoded: a file that changes meanwhile must not be kept as it was.
        let key = Key::new(&path, &self.window, self.size);
        if key.is_some_and(|key| cache.read(&key, out)) {
            return Ok(());
        }
        self.decode(&path, resizer, out)?;
        if let Some(key) = key {
            cache.write(&key, out);
        }
        Ok(())
    }

    fn decode(&self, path: &Path, resizer: &mut Resizer, out: &mut [u8]) -> Result<(), ClipError> {
        video::read_resized(path, |info| self.pick(path, info), resizer, out).map(|_| ())
    }

    /// Makes a batch of the clips of the actions at `indices`: `frames` holds them all, `results`
    /// says which are worth something.
    pub(super) fn assemble(
        &self,
        indices: &[usize],
        results: Vec<Result<(), ClipError>>,
        mut frames: Vec<u8>,
    ) -> Result<Option<Batch>, DatasetError> {
        let clip = self.clip_bytes();
        if results.iter().any(Result::is_err) {
            let mut kept = 0;
            for (place, _) in results.iter().enumerate().filter(|(_, result)| result.is_ok()) {
                frames.copy_within(place * clip..(place + 1) * clip, kept * clip);
                kept += 1;
            }
            frames.truncate(kept * clip);
        }
        let mut batch = self.empty_batch(frames);
        let mut results = results.into_iter();
        for &index in indices {
            let sample = &self.samples[index];
            let mut readable = Vec::new();
            let mut news = false;
            for (view, result) in results.by_ref().take(sample.views.len()).enumerate() {
                match result {
                    Ok(()) => readable.push(view),
                    Err(error) => news |= self.note_unreadable(&sample.views[view], error)?,
                }
            }
            if !readable.is_empty() {
                self.push(&mut batch, index, &readable);
            } else if news {
                log::warn!(
                    "{} split: action {} has no readable view and is left out",
                    self.split,
                    sample.action
                );
            }
        }
        Ok((!batch.actions.is_empty()).then_some(batch))
    }

    fn empty_batch(&self, frames: Vec<u8>) -> Batch {
        let [height, width] = self.size;
        let (tasks, properties) =
            self.samples.first().map_or((0, 0), |s| (s.labels.len(), s.properties.len()));
        Batch {
            actions: Vec::new(),
            view_counts: Vec::new(),
            views: Vec::new(),
            labels: vec![Vec::new(); tasks],
            properties: vec![Vec::new(); properties],
            frames,
            size: [self.window.frames_per_clip, height, width],
        }
    }

    /// Adds an action with these of its views; its frames are there already.
    fn push(&self, batch: &mut Batch, index: usize, views: &[usize]) {
        let sample = &self.samples[index];
        batch.actions.push(sample.action.clone());
        batch.view_counts.push(views.len());
        batch.views.extend(views);
        for (labels, &label) in batch.labels.iter_mut().zip(&sample.labels) {
            labels.push(label);
        }
        for (indices, &index) in batch.properties.iter_mut().zip(&sample.properties) {
            indices.push(index);
        }
    }

    fn pick(&self, path: &Path, info: &ClipInfo) -> Vec<usize> {
        let pick = self.window.window_indices(info);
        if pick.past_end && !self.news.told_short.swap(true, Ordering::Relaxed) {
            log::info!(
                "{} split: some clips end before frame {}; their last frame is repeated",
                self.split,
                self.window.end_frame
            );
        }
        if pick.past_end {
            log::debug!("{}: {} frames, the last one is repeated", path.display(), info.frames);
        }
        let wanted = self.window.frames_per_clip;
        if pick.distinct < wanted
            && !pick.past_end
            && !self.news.told_repeats.swap(true, Ordering::Relaxed)
        {
            log::info!(
                "{} split: frames {} to {} hold {} frames at {} fps, {wanted} are wanted: some \
                 repeat (--target-fps {} takes every frame of the file)",
                self.split,
                self.window.start_frame,
                self.window.end_frame,
                pick.distinct,
                self.window.target_fps,
                info.fps
            );
        }
        pick.indices
    }

    /// Remembers an unreadable view; whether it was news.
    fn note_unreadable(&self, path: &Path, error: ClipError) -> Result<bool, DatasetError> {
        let mut unreadable = self.lock_unreadable();
        let news = !unreadable.contains_key(path);
        if news {
            log::warn!("{} split: view left out: {error}", self.split);
            unreadable.insert(path.to_owned(), error);
        }
        if unreadable.len() as f64 > MAX_UNREADABLE * self.views() as f64 {
            return Err(DatasetError::TooManyUnreadable {
                split: self.split.clone(),
                views: self.views(),
                errors: unreadable.values().cloned().collect(),
            });
        }
        Ok(news)
    }

    /// The clips that could not be read so far, with the reason.
    pub fn unreadable(&self) -> Vec<ClipError> {
        self.lock_unreadable().values().cloned().collect()
    }

    fn lock_unreadable(&self) -> MutexGuard<'_, BTreeMap<PathBuf, ClipError>> {
        self.news.unreadable.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}
