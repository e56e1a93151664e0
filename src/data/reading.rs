//! Reads a data set's clips, from its cache or by decoding and resizing them, and assembles
//! batches.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::MutexGuard;
use std::sync::atomic::Ordering;

use super::cache::Key;
use super::clip::{ClipError, ClipInfo};
use super::dataset::{Batch, Dataset, DatasetError};
use super::place::Reading;
use super::plan::Pick;
use super::resize::{Cover, Resizer};
use super::sampling::WindowPick;
use super::video;
use super::window::Window;
use crate::units::plural;

/// Identifies a clip of a data set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ClipIndex {
    /// Index into [`Dataset::samples`].
    pub sample: usize,
    /// Index into [`Sample::views`](super::Sample::views).
    pub view: usize,
    /// Number of times that the pass has already read the clip's action.
    earlier: usize,
}

impl Dataset {
    /// Creates a resizer to the network's input size; each thread that reads clips needs its own.
    pub fn resizer(&self) -> Resizer {
        let [height, width] = self.size;
        Resizer::new(height, width)
    }

    /// Returns the size of a clip's frames in bytes, T·H·W·3.
    pub fn clip_bytes(&self) -> usize {
        self.window.frames_per_clip * self.size.iter().product::<usize>() * 3
    }

    /// Returns the clips of actions, in batch order.
    pub(super) fn clips(&self, picks: &[Pick]) -> Vec<ClipIndex> {
        let of = |&Pick { sample, earlier }: &Pick| {
            let views = 0..self.samples[sample].views.len();
            views.map(move |view| ClipIndex { sample, view, earlier })
        };
        picks.iter().flat_map(of).collect()
    }

    /// Reads the actions at `indices` (into [`Dataset::samples`]). Unreadable views are left out
    /// and recorded; an action without a readable view is left out of the batch. Returns `None` if
    /// no clip of the batch could be read.
    ///
    /// # Errors
    /// [`DatasetError::TooManyUnreadable`].
    pub fn read_batch(
        &self,
        indices: &[usize],
        reading: &Reading,
        resizer: &mut Resizer,
    ) -> Result<Option<Batch>, DatasetError> {
        let picks: Vec<Pick> = indices.iter().copied().map(Pick::once).collect();
        let clips = self.clips(&picks);
        let mut frames = vec![0; clips.len() * self.clip_bytes()];
        let slots = frames.chunks_exact_mut(self.clip_bytes());
        let read = |(clip, slot): (&ClipIndex, _)| self.read_clip(*clip, reading, resizer, slot);
        let results = clips.iter().zip(slots).map(read).collect();
        let batch = self.assemble(&[picks], results, frames)?;
        Ok((!batch.actions.is_empty()).then_some(batch))
    }

    /// Reads view `view` of the action at `index` as a batch of one clip.
    ///
    /// # Errors
    /// [`ClipError`].
    pub fn read_one(
        &self,
        index: usize,
        view: usize,
        reading: &Reading,
        resizer: &mut Resizer,
    ) -> Result<Batch, ClipError> {
        let mut frames = vec![0; self.clip_bytes()];
        let clip = ClipIndex { sample: index, view, earlier: 0 };
        self.read_clip(clip, reading, resizer, &mut frames)?;
        let mut batch = self.empty_batch(frames);
        self.push(&mut batch, Pick::once(index), &[view]);
        batch.lanes.push(0..1);
        Ok(batch)
    }

    /// Fills `out` with one clip, `[T, H, W, 3]`; after an error its content is undefined.
    pub(super) fn read_clip(
        &self,
        clip: ClipIndex,
        reading: &Reading,
        resizer: &mut Resizer,
        out: &mut [u8],
    ) -> Result<(), ClipError> {
        let sample = &self.samples[clip.sample];
        let reading = &reading.after(clip.earlier);
        let path = video::resolve_clip(&sample.views[clip.view])?;
        let Some(cache) = &self.cache else {
            return self.decode(&path, &sample.action, reading, resizer, out);
        };
        // Created before decoding: the frames of a file that changes meanwhile must not get the new
        // key.
        let key = Key::reading(&path, &self.window, reading, self.size);
        if key.is_some_and(|key| cache.read(&key, out)) {
            // Entries do not record whether they were cropped.
            self.findings.cropped.store(true, Ordering::Relaxed);
            return Ok(());
        }
        self.decode(&path, &sample.action, reading, resizer, out)?;
        if let Some(key) = key {
            cache.write(&key, out);
        }
        Ok(())
    }

    fn decode(
        &self,
        path: &Path,
        action: &str,
        reading: &Reading,
        resizer: &mut Resizer,
        out: &mut [u8],
    ) -> Result<(), ClipError> {
        resizer.crop = reading.crop;
        let select = |info: &ClipInfo| {
            let pick = self.window.pick(info, reading.place, action);
            self.report(path, info, &pick);
            pick.indices
        };
        let mut read = || video::read_resized(path, select, resizer, out);
        let info = match &self.cancel {
            Some(cancel) => cancel.reading(path, read)?,
            None => read()?,
        };
        let [height, width] = self.size;
        let cover = Cover::new(info.height, info.width, height, width);
        if cover.surplus(height, width) != [0, 0] {
            self.findings.cropped.store(true, Ordering::Relaxed);
        }
        if let Some(complaint) = &info.complaint {
            let first = !self.findings.reported_complaint.swap(true, Ordering::Relaxed);
            let level = if first { log::Level::Warn } else { log::Level::Debug };
            log::log!(
                level,
                "{} split: {} was decoded despite errors ({complaint}); `check-data` lists all such \
                 clips",
                self.split,
                path.display()
            );
        }
        Ok(())
    }

    /// Assembles a batch from the clips of the lanes' actions. `frames` contains all clips,
    /// including unreadable ones; `results` says which could be read. The batch may be empty.
    pub(super) fn assemble(
        &self,
        lanes: &[Vec<Pick>],
        results: Vec<Result<(), ClipError>>,
        mut frames: Vec<u8>,
    ) -> Result<Batch, DatasetError> {
        let clip = self.clip_bytes();
        if results.iter().any(Result::is_err) {
            let mut kept = 0;
            for (index, _) in results.iter().enumerate().filter(|(_, result)| result.is_ok()) {
                frames.copy_within(index * clip..(index + 1) * clip, kept * clip);
                kept += 1;
            }
            frames.truncate(kept * clip);
        }
        let mut batch = self.empty_batch(frames);
        let mut results = results.into_iter();
        for lane in lanes {
            let first = batch.actions.len();
            for &pick in lane {
                let results = results.by_ref().take(self.samples[pick.sample].views.len());
                self.add_readable(&mut batch, pick, results)?;
            }
            batch.lanes.push(first..batch.actions.len());
        }
        Ok(batch)
    }

    /// Adds an action with its readable views; an action without readable views is left out.
    fn add_readable(
        &self,
        batch: &mut Batch,
        pick: Pick,
        results: impl Iterator<Item = Result<(), ClipError>>,
    ) -> Result<(), DatasetError> {
        let sample = &self.samples[pick.sample];
        let mut readable = Vec::new();
        let mut first_time = false;
        for (view, result) in results.enumerate() {
            match result {
                Ok(()) => readable.push(view),
                Err(error) => first_time |= self.add_unreadable(&sample.views[view], error)?,
            }
        }
        if !readable.is_empty() {
            self.push(batch, pick, &readable);
        } else if first_time {
            log::warn!(
                "{}: action {} has no readable view and is left out",
                self.title(),
                sample.action
            );
        }
        Ok(())
    }

    fn empty_batch(&self, frames: Vec<u8>) -> Batch {
        let [height, width] = self.size;
        let (tasks, properties) =
            self.samples.first().map_or((0, 0), |s| (s.labels.len(), s.properties.len()));
        Batch {
            labels: vec![Vec::new(); tasks],
            properties: vec![Vec::new(); properties],
            frames,
            size: [self.window.frames_per_clip, height, width],
            ..Batch::default()
        }
    }

    /// Adds an action with the given views, whose frames are already in the batch.
    fn push(&self, batch: &mut Batch, pick: Pick, views: &[usize]) {
        let sample = &self.samples[pick.sample];
        batch.actions.push(sample.action.clone());
        batch.earlier.push(pick.earlier);
        batch.view_counts.push(views.len());
        batch.views.extend(views);
        for (labels, &label) in batch.labels.iter_mut().zip(&sample.labels) {
            labels.push(label);
        }
        for (indices, &index) in batch.properties.iter_mut().zip(&sample.properties) {
            indices.push(index);
        }
    }

    /// Returns whether any clip read so far was cropped, i.e. had another aspect ratio than the
    /// network's input. Otherwise all crops are identical. Clips from the cache count as cropped.
    pub(crate) fn has_cropped(&self) -> bool {
        self.findings.cropped.load(Ordering::Relaxed)
    }

    /// Reports clips that are shorter than the window and repeated frames, each only once.
    fn report(&self, path: &Path, info: &ClipInfo, pick: &WindowPick) {
        let (title, [start, end]) = (self.title(), pick.window);
        if start >= info.frames && !self.findings.reported_beyond.swap(true, Ordering::Relaxed) {
            log::warn!(
                "{title}: some clips end before the window begins, such as {} with {} (the window \
                 begins at frame {start}): only their last frame is used",
                path.display(),
                plural(info.frames, "frame")
            );
        }
        if pick.past_end {
            if !self.findings.reported_short.swap(true, Ordering::Relaxed) {
                let what = match self.window.window {
                    Window::Frames { .. } | Window::Seconds { .. } => {
                        format!("end before frame {end}")
                    }
                    _ => {
                        // At a target rate near 0 the end of the window saturates.
                        let length = end.saturating_sub(start).saturating_add(1);
                        format!("have fewer than the {length} frames of the window")
                    }
                };
                log::info!("{title}: some clips {what}; their last frame is repeated");
            }
            log::debug!("{}: {} frames, the last one is repeated", path.display(), info.frames);
        }
        let wanted = self.window.frames_per_clip;
        if pick.distinct < wanted
            && !pick.past_end
            && !self.findings.reported_repeats.swap(true, Ordering::Relaxed)
        {
            let (distinct, target, fps) = (pick.distinct, self.window.target_fps, info.fps);
            if self.window.window.has_rate() {
                log::info!(
                    "{title}: the window from frame {start} to {end} has {distinct} frames at {target} \
                     fps, fewer than the {wanted} per clip: some repeat (a target of {fps} fps would \
                     use every frame)"
                );
            } else {
                log::info!(
                    "{title}: some clips have fewer than the {wanted} frames per clip, such as {} with \
                     {}: some repeat",
                    path.display(),
                    info.frames
                );
            }
        }
    }

    /// Records an unreadable view. Returns whether this is the first time.
    fn add_unreadable(&self, path: &Path, error: ClipError) -> Result<bool, DatasetError> {
        let mut unreadable = self.lock_unreadable();
        let first_time = !unreadable.contains_key(path);
        if first_time {
            log::warn!("{}: view left out: {error}", self.title());
            unreadable.insert(path.to_owned(), error);
        }
        if unreadable.len() as f64 > self.max_unreadable * self.views() as f64 {
            return Err(DatasetError::TooManyUnreadable {
                split: self.split.clone(),
                views: self.views(),
                errors: unreadable.values().cloned().collect(),
            });
        }
        Ok(first_time)
    }

    /// Returns the error of an unreadable view; `None` for other views.
    pub fn why_unreadable(&self, path: &Path) -> Option<ClipError> {
        self.lock_unreadable().get(path).cloned()
    }

    /// Returns the errors of the clips that could not be read so far.
    pub fn unreadable(&self) -> Vec<ClipError> {
        self.lock_unreadable().values().cloned().collect()
    }

    fn lock_unreadable(&self) -> MutexGuard<'_, BTreeMap<PathBuf, ClipError>> {
        self.findings.unreadable.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}
