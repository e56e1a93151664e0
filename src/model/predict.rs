//! A network's predictions for batches of decoded frames.

use std::ops::Range;

use burn::tensor::{Device, Tensor};

use super::{MultiViewNet, Prediction, ViewLayout};
use crate::augment::{self, AugmentError, Frames, Normalisation};
use crate::data::Batch;

/// A batch's clips, normalised and not augmented: `[N, 3, T, H, W]`, (x/255 − mean)/std.
///
/// # Errors
/// A batch that the device cannot hold.
pub fn plain_clips(batch: &Batch, device: &Device) -> Result<Tensor<5>, AugmentError> {
    plain_clips_of(batch, 0..batch.clips(), device)
}

/// The same for some clips of a batch, numbered in the batch's order.
///
/// # Errors
/// As [`plain_clips`].
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
    /// The prediction for a batch, with at most `max_clips` clips per forward pass of the backbone;
    /// no graph, dropout or augmentation. `annotated[input][action]` is the index of an annotated
    /// property that is an input of the network, 0 where unknown; empty if it has none. `device`
    /// must have automatic differentiation off.
    ///
    /// # Errors
    /// A batch that the device cannot hold.
    pub fn predict(
        &self,
        batch: &Batch,
        annotated: &[Vec<usize>],
        max_clips: usize,
        device: &Device,
    ) -> Result<Prediction, AugmentError> {
        self.predict_some(batch, 0..batch.actions.len(), annotated, max_clips, device)
    }

    /// The same for clips that are flipped horizontally.
    ///
    /// # Errors
    /// As [`MultiViewNet::predict`].
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

    /// [`MultiViewNet::predict`] for some of the batch's actions.
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

    /// The same for what `clips` makes of a range of clips, `[N, 3, T, H, W]`.
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

/// Cuts a range into chunks of at most `most`, as even as they can be: batch normalisation should
/// not meet a last chunk of a single clip without need.
pub(crate) fn even_chunks(clips: &Range<usize>, most: usize) -> Vec<Range<usize>> {
    let count = clips.len().div_ceil(most.max(1)).max(1);
    let cut = |chunk: usize| clips.start + clips.len() * chunk / count;
    (0..count).map(|chunk| cut(chunk)..cut(chunk + 1)).collect()
}
