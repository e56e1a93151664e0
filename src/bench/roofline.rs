//! What a training step takes at best on some cards, by arithmetic alone: nothing is run.
//!
//! A pass takes at least its operations over the card's peak and at least its bytes over the
//! memory's bandwidth (Williams, Waterman, Patterson 2009). Operations are counted without those on
//! the padding's zeros; bytes are f32, each operand read once, each result written once. So the sum
//! is a bound for kernels without matrix units that are cut as polyview's are; what is measured
//! over it is what tiling, caches and launches cost.

use serde::Serialize;

use super::{BenchConfig, BenchError, describe, distinct, gflop};
use crate::conv::ConvShape;
use crate::model::BackboneKind;

/// What a card's maker says of it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Card {
    /// Its name.
    pub name: &'static str,
    /// 10⁹ f32 operations per second of its vector units.
    pub gflop_per_s: f64,
    /// 10⁹ bytes per second of its memory.
    pub gb_per_s: f64,
}

/// The cards, with boost clocks:
///
/// * NVIDIA's Ada architecture whitepaper: 82.6 TFLOP/s, 1008 GB/s.
/// * AMD's product page: 61.4 TFLOP/s, 960 GB/s. That peak is with two instructions at once, which
///   compilers find for part of the code only.
/// * Apple gives 400 GB/s and no rate; 40 cores of 128 lanes at 1.39 GHz make 14.2 TFLOP/s (public
///   tables have 14.1 to 16.4).
pub const CARDS: [Card; 3] = [
    Card { name: "RTX 4090", gflop_per_s: 82_600.0, gb_per_s: 1008.0 },
    Card { name: "RX 7900 XTX", gflop_per_s: 61_400.0, gb_per_s: 960.0 },
    Card { name: "M3 Max", gflop_per_s: 14_200.0, gb_per_s: 400.0 },
];

/// What bounds a pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Bound {
    /// The units that multiply and add.
    Arithmetic,
    /// The memory.
    Bandwidth,
}

/// One convolution of the network in a training step.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LayerWork {
    /// `N×C×T×H×W → K, kernel, stride`.
    pub shape: String,
    /// How often the network has it.
    pub count: usize,
    /// 3: forward, input gradient, weight gradient. 2 for the first one: nobody asks for the
    /// gradient of the clips.
    pub passes: usize,
    /// 10⁹ operations of all its passes.
    pub gflop: f64,
    /// 10⁶ bytes of all its passes.
    pub mb: f64,
    /// Arithmetic intensity.
    pub flop_per_byte: f64,
    /// Milliseconds of all its passes on each of [`CARDS`].
    pub ms: [f64; 3],
    /// What bounds it on each of [`CARDS`].
    pub bound: [Bound; 3],
}

/// A part of the step, or all of it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Part {
    /// 10⁹ operations; 0 where they do not count.
    pub gflop: f64,
    /// 10⁶ bytes.
    pub mb: f64,
    /// Milliseconds on each of [`CARDS`].
    pub ms: [f64; 3],
}

/// A training step as far as it can be computed.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Roofline {
    /// What the times are for, in order.
    pub cards: [Card; 3],
    /// Each distinct convolution.
    pub layers: Vec<LayerWork>,
    /// All convolutions, each as often as it occurs.
    pub convolutions: Part,
    /// Batch normalisation, ReLU and residual sums with their gradients.
    pub normalisation: Part,
    /// AdamW: reads parameter, gradient and two moments, writes three of them.
    pub optimizer: Part,
    /// All of it.
    pub step: Part,
    /// Clips per second of training that this comes to.
    pub clips_per_s: [f64; 3],
}

impl Part {
    fn of_bytes(bytes: usize) -> Self {
        let mb = bytes as f64 / 1e6;
        Self { gflop: 0.0, mb, ms: CARDS.map(|card| mb / card.gb_per_s) }
    }

    fn sum<'a>(parts: impl IntoIterator<Item = &'a Self>) -> Self {
        let mut all = Self { gflop: 0.0, mb: 0.0, ms: [0.0; 3] };
        for part in parts {
            all.gflop += part.gflop;
            all.mb += part.mb;
            all.ms = std::array::from_fn(|card| all.ms[card] + part.ms[card]);
        }
        all
    }
}

impl LayerWork {
    fn new(shape: &ConvShape, count: usize, passes: usize) -> Self {
        let numbers = shape.input_len() + shape.weight_len() + shape.output_len();
        let (gflop, mb) = (gflop(shape), 4.0 * numbers as f64 / 1e6);
        let times = CARDS.map(|card| [gflop * 1e3 / card.gflop_per_s, mb / card.gb_per_s]);
        Self {
            shape: describe(shape),
            count,
            passes,
            gflop: gflop * passes as f64,
            mb: mb * passes as f64,
            flop_per_byte: gflop * 1e3 / mb,
            ms: times.map(|[arithmetic, memory]| arithmetic.max(memory) * passes as f64),
            bound: times.map(|[arithmetic, memory]| match memory > arithmetic {
                true => Bound::Bandwidth,
                false => Bound::Arithmetic,
            }),
        }
    }

    fn in_all(&self) -> Part {
        let count = self.count as f64;
        Part { gflop: self.gflop * count, mb: self.mb * count, ms: self.ms.map(|ms| ms * count) }
    }
}

impl BenchConfig {
    /// The bounds of a training step. Runs nothing.
    pub fn roofline(&self) -> Result<Roofline, BenchError> {
        let shapes = self.planned_convolutions()?;
        let norm_numbers = norm_numbers(self.backbone, &shapes);
        let parameters: usize = shapes.iter().map(parameters).sum();
        let layers: Vec<LayerWork> = distinct(shapes)
            .iter()
            .enumerate()
            .map(|(index, (shape, count))| {
                // Nothing else has as few channels as the clips, so the first one stands alone.
                LayerWork::new(shape, *count, if index == 0 { 2 } else { 3 })
            })
            .collect();
        let convolutions = Part::sum(&layers.iter().map(LayerWork::in_all).collect::<Vec<_>>());
        let normalisation = Part::of_bytes(4 * norm_numbers);
        let optimizer = Part::of_bytes(4 * 7 * parameters);
        let step = Part::sum([&convolutions, &normalisation, &optimizer]);
        let clips_per_s = step.ms.map(|ms| self.clips as f64 * 1e3 / ms);
        Ok(Roofline {
            cards: CARDS,
            layers,
            convolutions,
            normalisation,
            optimizer,
            step,
            clips_per_s,
        })
    }
}

/// Weights of a convolution, and scale and shift of the normalisation behind it.
fn parameters(shape: &ConvShape) -> usize {
    shape.weight_len() + 2 * shape.out_channels
}

/// Numbers that batch normalisation, ReLU and residual sums read and write in a step. Forward: the
/// statistics' pass reads x, the other reads x (and the residual) and writes y. Backward: both
/// passes read x and dy, and y where a ReLU was; the second writes dx, and the residual's gradient.
/// At the start of a block the gradients of its two branches are added.
fn norm_numbers(kind: BackboneKind, shapes: &[ConvShape]) -> usize {
    const PLAIN: usize = 3 + 2 + 3;
    const RELU: usize = 3 + 3 + 4;
    const RESIDUAL: usize = 4 + 3 + 5;
    const SUM: usize = 3;
    let factors = if kind == BackboneKind::R2plus1d18 { 2 } else { 1 };
    let mut numbers = 0;
    let mut position = 0;
    for (index, shape) in shapes.iter().enumerate() {
        let per_output = if index < factors {
            RELU
        } else if shape.kernel == [1; 3] {
            // The shortcut of a strided block; all other kernels have more than one tap.
            PLAIN
        } else {
            position = position % (2 * factors) + 1;
            if position == 1 {
                numbers += SUM * shape.input_len();
            }
            if position == 2 * factors { RESIDUAL } else { RELU }
        };
        numbers += per_output * shape.output_len();
    }
    numbers
}
