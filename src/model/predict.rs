//! A network's predictions for batches of decoded frames.

use std::ops::Range;

use burn::tensor::{Device, Tensor};

use super::{MultiViewNet, Prediction, ViewLayout};
use crate::augment::{self, AugmentError, Frames, Normalisation};
use crate::data::Batch;

/// Returns a batch's clips, normalised and not augmented: `[N, 3, T, H, W]`, (x/255 − mean)/std.
///
/// # Errors
/// If the device cannot hold the batch.
pub fn plain_clips(batch: &Batch, device: &Device) -> Result<Tensor<5>, AugmentError> {
    plain_clips_of(batch, 0..batch.clips(), device)
}

/// Like [`plain_clips`], for a range of the batch's clips.
///
/// # Errors
/// Same as [`plain_clips`].
pub fn plain_clips_of(
    batch: &Batch,
    range: Range<usize>,
    device: &Device,
) -> Result<Tensor<5>, AugmentError> {
    let [_, h, w] = batch.size;
    let (count, frames) = (range.len(), Frames::U8(batch.frames_of(range)));
    augment::plain(frames, count, batch.size, [h, w], &Normalisation::default(), device)
}

impl MultiViewNet {
    /// Predicts a batch, with at most `max_clips` clips per forward pass of the backbone; no graph,
    /// dropout or augmentation. `annotated[input][action]` is the index of an annotated property that
    /// is an input of the network, 0 where unknown; empty if the network has no such inputs. `device`
    /// must have automatic differentiation off.
    ///
    /// # Errors
    /// If the device cannot hold the batch.
    pub fn predict(
        &self,
        batch: &Batch,
        annotated: &[Vec<usize>],
        max_clips: usize,
        device: &Device,
    ) -> Result<Prediction, AugmentError> {
        self.predict_some(batch, 0..batch.actions.len(), annotated, max_clips, device)
    }

    /// Like [`MultiViewNet::predict`], with the clips flipped horizontally.
    ///
    /// # Errors
    /// Same as [`MultiViewNet::predict`].
    pub fn predict_flipped(
        &self,
        batch: &Batch,
        annotated: &[Vec<usize>],
        max_clips: usize,
        device: &Device,
    ) -> Result<Prediction, AugmentError> {
        let clips = |range| Ok(plain_clips_of(batch, range, device)?.flip([4]));
        self.predict_clips(batch, 0..batch.actions.len(), annotated, max_clips, clips)
    }

    /// Like [`MultiViewNet::predict`], for some of the batch's actions.
    pub(crate) fn predict_some(
        &self,
        batch: &Batch,
        actions: Range<usize>,
        annotated: &[Vec<usize>],
        max_clips: usize,
        device: &Device,
    ) -> Result<Prediction, AugmentError> {
        let clips = |range| plain_clips_of(batch, range, device);
        self.predict_clips(batch, actions, annotated, max_clips, clips)
    }

    /// Like [`MultiViewNet::predict_some`], where `clips` returns the input `[N, 3, T, H, W]` for a range
    /// of the batch's clips.
    fn predict_clips(
        &self,
        batch: &Batch,
        actions: Range<usize>,
        annotated: &[Vec<usize>],
        max_clips: usize,
        clips: impl Fn(Range<usize>) -> Result<Tensor<5>, AugmentError>,
    ) -> Result<Prediction, AugmentError> {
        let features =
            |range| -> Result<Tensor<2>, AugmentError> { Ok(self.backbone.forward(clips(range)?)) };
        let chunks = even_chunks(&batch.clips_of(&actions), max_clips).into_iter();
        let features = Tensor::cat(chunks.map(features).collect::<Result<Vec<_>, _>>()?, 0);
        let views = ViewLayout::new(batch.view_counts[actions].to_vec());
        Ok(self.classify(features, &views, annotated, None))
    }
}

/// Splits a range into chunks of at most `most`, as even as possible, so that batch normalisation does
/// not get a last chunk of a single clip unless it must.
pub(crate) fn even_chunks(clips: &Range<usize>, most: usize) -> Vec<Range<usize>> {
    let count = clips.len().div_ceil(most.max(1)).max(1);
    let cut = |chunk: usize| clips.start + clips.len() * chunk / count;
    (0..count).map(|chunk| cut(chunk)..cut(chunk + 1)).collect()
}
