//! Testing with several readings of each action, whose predictions are averaged.

use std::collections::BTreeMap;

use super::ActionPrediction;
use crate::data::resize::Crop;
use crate::data::{Dataset, Place, Reading};

/// How often an action is read and predicted. Probabilities and view shares are averaged over all
/// combinations, as MMAction2's `average_clips='prob'` does. In each of them all views of an action are
/// read alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Averaging {
    /// Number of windows, evenly spread over the clip; more than one makes sense where the window
    /// [varies](crate::data::Window::varies).
    pub clips: usize,
    /// Both ends of a frame that is longer than the network's input, beside its middle.
    pub three_crops: bool,
    /// Each clip flipped horizontally too.
    pub flip: bool,
}

impl Averaging {
    /// One reading, in the middle.
    pub const NONE: Self = Self { clips: 1, three_crops: false, flip: false };

    /// Where clips are read, a pass over the data each. Those with a crop at an end come last.
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

    /// Number of predictions of which one is the mean; fewer where the crops of all clips are the same.
    pub fn most(&self) -> usize {
        self.passes() * if self.flip { 2 } else { 1 }
    }

    /// Number of passes over the data.
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
    /// Sum of each view's shares: a view that cannot be read everywhere has none elsewhere.
    shares: BTreeMap<usize, f64>,
}

impl<'a> Sums<'a> {
    pub(super) fn new(dataset: &'a Dataset) -> Self {
        Self { dataset, sums: dataset.samples.iter().map(|_| None).collect() }
    }

    /// Adds predictions of one pass, in the data set's order, of actions from number `from` on. Returns
    /// the number after the last one's.
    pub(super) fn add(&mut self, mut from: usize, predictions: Vec<ActionPrediction>) -> usize {
        for prediction in predictions {
            let rest = &self.dataset.samples[from..];
            let place = rest.iter().position(|sample| sample.action == prediction.action);
            from += place.expect("a pass predicts actions of the data set, in its order");
            let shares = prediction.views.iter().copied().zip(prediction.shares.iter().copied());
            match &mut self.sums[from] {
                Some(sum) => {
                    let ours = sum.prediction.probabilities.iter_mut().flatten();
                    ours.zip(prediction.probabilities.iter().flatten()).for_each(|(a, b)| *a += b);
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

    /// The means, without actions of which nothing could be read.
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
