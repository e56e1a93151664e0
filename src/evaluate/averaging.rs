//! Test-time averaging: predictions for several readings of each action are averaged.

use std::collections::BTreeMap;

use super::ActionPrediction;
use crate::data::resize::Crop;
use crate::data::{Dataset, Place, Reading};

/// Number and kind of the readings of an action that are predicted. Probabilities and view shares are
/// averaged over all combinations, like MMAction2's `average_clips='prob'`. Within a combination, all
/// views of an action are read in the same way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Averaging {
    /// Number of windows, evenly spread over the clip; more than one makes sense only if the window
    /// [varies](crate::data::Window::varies).
    pub clips: usize,
    /// Whether frames longer than the network's input are also cropped at both ends, not only in the
    /// middle.
    pub three_crops: bool,
    /// Whether each clip is also predicted flipped horizontally.
    pub flip: bool,
}

impl Averaging {
    /// A single reading, of the middle.
    pub const NONE: Self = Self { clips: 1, three_crops: false, flip: false };

    /// Returns the readings of the clips, each of which takes a pass over the data. Those that crop at an
    /// end come last.
    pub(super) fn readings(&self) -> Vec<Reading> {
        let crops: &[Crop] = if self.three_crops {
            &[Crop::Middle, Crop::Start, Crop::End]
        } else {
            &[Crop::Middle]
        };
        let of = self.clips.max(1);
        let places =
            |&crop| (0..of).map(move |index| Reading { place: Place::Even { index, of }, crop });
        crops.iter().flat_map(places).collect()
    }

    /// Returns the maximum number of predictions that are averaged. It is smaller if the three crops of all
    /// clips are identical.
    pub fn most(&self) -> usize {
        self.passes() * if self.flip { 2 } else { 1 }
    }

    /// Returns the number of passes over the data.
    pub fn passes(&self) -> usize {
        self.readings().len()
    }
}

/// Sums of the predictions for each action of a data set.
pub(super) struct Sums<'a> {
    dataset: &'a Dataset,
    sums: Vec<Option<Sum>>,
}

struct Sum {
    /// The first prediction, with sums of probabilities.
    prediction: ActionPrediction,
    /// Sum of each view's shares; a view has no share in the readings in which it could not be read.
    shares: BTreeMap<usize, f64>,
}

impl<'a> Sums<'a> {
    pub(super) fn new(dataset: &'a Dataset) -> Self {
        Self { dataset, sums: dataset.samples.iter().map(|_| None).collect() }
    }

    /// Adds predictions of one pass, in the data set's order, for actions from index `from` on. Returns
    /// the index after the last one.
    pub(super) fn add(&mut self, mut from: usize, predictions: Vec<ActionPrediction>) -> usize {
        for prediction in predictions {
            let rest = &self.dataset.samples[from..];
            let offset = rest.iter().position(|sample| sample.action == prediction.action);
            from += offset.expect("a pass predicts actions of the data set, in its order");
            let shares = prediction.views.iter().copied().zip(prediction.shares.iter().copied());
            match &mut self.sums[from] {
                Some(sum) => {
                    let sums = sum.prediction.probabilities.iter_mut().flatten();
                    sums.zip(prediction.probabilities.iter().flatten()).for_each(|(a, b)| *a += b);
                    shares
                        .for_each(|(view, share)| *sum.shares.entry(view).or_insert(0.0) += share);
                    sum.prediction.averaged += prediction.averaged;
                }
                none => *none = Some(Sum { shares: shares.collect(), prediction }),
            }
            from += 1;
        }
        from
    }

    /// Returns the means, without actions that had no readable view.
    pub(super) fn means(self) -> Vec<ActionPrediction> {
        self.sums.into_iter().flatten().map(Sum::mean).collect()
    }
}

impl Sum {
    fn mean(self) -> ActionPrediction {
        let Self { mut prediction, shares } = self;
        let count = prediction.averaged as f64;
        prediction.probabilities.iter_mut().flatten().for_each(|sum| *sum /= count);
        prediction.views = shares.keys().copied().collect();
        prediction.shares = shares.values().map(|sum| sum / count).collect();
        prediction
    }
}
