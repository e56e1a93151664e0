//! Dropout, with masks that depend on the action alone.

use std::ops::Range;

use burn::tensor::{Tensor, TensorData};
use rand::RngExt;

use crate::keyed;

/// The source of dropout masks for some actions in one training step. Masks are drawn on the host, for
/// each action separately: a step drops the same units on every device and however its batch is split,
/// and a resumed run drops the same units as an uninterrupted one.
#[derive(Debug, Clone)]
pub struct DropoutMasks {
    seed: u64,
    step: u64,
    actions: Vec<Action>,
}

#[derive(Debug, Clone, Copy)]
struct Action {
    number: u64,
    /// Number of times the pass has read the action before, so that each time drops other units.
    earlier: u64,
}

impl DropoutMasks {
    /// Creates the source for a whole batch. `seed` identifies the run, `step` the training step within
    /// it; `earlier` is how often the pass has read each action before (see
    /// [`Batch`](crate::data::Batch), whose order lanes change).
    pub fn new(seed: u64, step: u64, actions: &[String], earlier: &[usize]) -> Self {
        assert_eq!(actions.len(), earlier.len(), "one count per action");
        let actions = actions.iter().zip(earlier);
        let actions = actions.map(|(name, &earlier)| Action {
            number: keyed::number_of(name),
            earlier: earlier as u64,
        });
        Self { seed, step, actions: actions.collect() }
    }

    /// Returns the source for some of the actions.
    #[must_use]
    pub fn of(&self, actions: Range<usize>) -> Self {
        Self { actions: self.actions[actions].to_vec(), ..*self }
    }

    /// Draws a mask of `width` values for each row of a layer.
    fn draw(&self, layer: DropoutLayer, rows: &[usize], width: usize, keep: f64) -> Vec<f32> {
        let scale = if keep > 0.0 { (1.0 / keep) as f32 } else { 0.0 };
        let mut mask = Vec::with_capacity(rows.iter().sum::<usize>() * width);
        for (action, &rows) in self.actions.iter().zip(rows) {
            // Larger than any view number, which augmentation passes here: the two never share a stream.
            let part = (layer.0 + 1) << 48 | action.earlier << 32;
            for row in 0..rows as u64 {
                let mut rng = keyed::generator(self.seed, self.step, action.number, part | row);
                let value = |_| if rng.random::<f64>() < keep { scale } else { 0.0 };
                mask.extend((0..width).map(value));
            }
        }
        mask
    }
}

/// Number of a dropout layer: 0 for the features, then one per head.
#[derive(Debug, Clone, Copy)]
pub struct DropoutLayer(pub u64);

/// Applies inverted dropout to `[N, F]`, where `rows` is the number of rows of each action: each value
/// is zeroed with `probability`, the others are scaled by 1 / (1 − probability). Without a source of
/// masks (evaluation) the input passes unchanged.
pub fn dropout(
    input: Tensor<2>,
    probability: f64,
    layer: DropoutLayer,
    rows: &[usize],
    masks: Option<&DropoutMasks>,
) -> Tensor<2> {
    let Some(masks) = masks.filter(|_| probability > 0.0) else {
        return input;
    };
    let shape = input.dims();
    let mask = masks.draw(layer, rows, shape[1], 1.0 - probability);
    let mask = Tensor::from_data(TensorData::new(mask, shape), &input.device());
    input.mul(mask)
}
