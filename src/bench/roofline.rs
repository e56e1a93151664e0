//! A lower bound of a training step's time on some cards, by arithmetic alone: nothing is run.
//!
//! A pass takes at least its operations divided by the card's peak, and at least its bytes divided
//! by the memory's bandwidth (Williams, Waterman, Patterson 2009). Operations on the padding's
//! zeros are not counted; bytes are f32, or f16 for activations in half precision and their
//! gradients, each operand read once and each result written once: by every pass of a convolution,
//! and by every launch of polyview's plans for batch normalisation. So the sum is a bound for
//! kernels without matrix units that are split into launches as polyview's are; any time measured
//! beyond it is the cost of tiling, caches and launches.

use serde::Serialize;

use super::{BenchConfig, BenchError, describe, distinct, gflop};
use crate::conv::{ConvPass, ConvShape, slice_of_parts};
use crate::kernels::storage::Storage;
use crate::kernels::{DeviceLimits, PlanError};
use crate::model::PartShapes;
use crate::norm;

/// Specifications of a card, according to its vendor.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Card {
    /// Name of the card.
    pub name: &'static str,
    /// 10⁹ f32 operations per second of its vector units.
    pub gflop_per_s: f64,
    /// 10⁹ bytes per second of its memory.
    pub gb_per_s: f64,
}

/// The cards, with boost clocks:
///
/// * NVIDIA's Ada architecture whitepaper: 82.6 TFLOP/s, 1008 GB/s.
/// * AMD's product page: 61.4 TFLOP/s, 960 GB/s. That peak assumes that two instructions are issued
///   at once, which compilers achieve in part of the code only.
/// * Apple states 400 GB/s and no rate; 40 cores of 128 lanes at 1.39 GHz make 14.2 TFLOP/s (public
///   tables have 14.1 to 16.4).
pub const CARDS: [Card; 3] = [
    Card { name: "RTX 4090", gflop_per_s: 82_600.0, gb_per_s: 1008.0 },
    Card { name: "RX 7900 XTX", gflop_per_s: 61_400.0, gb_per_s: 960.0 },
    Card { name: "M3 Max", gflop_per_s: 14_200.0, gb_per_s: 400.0 },
];

/// The resource that bounds a pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Bound {
    /// Units that multiply and add.
    Arithmetic,
    /// Memory bandwidth.
    Bandwidth,
}

/// Work of one convolution of the network in a training step.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LayerWork {
    /// `N×C×T×H×W → K, kernel, stride`.
    pub shape: String,
    /// Number of times that it occurs in the network.
    pub count: usize,
    /// Number of passes: 3 (forward, input gradient, weight gradient), or 2 for the first
    /// convolution, as the gradient of the clips is not needed.
    pub passes: usize,
    /// 10⁹ operations of all its passes.
    pub gflop: f64,
    /// 10⁶ bytes of all its passes.
    pub mb: f64,
    /// Arithmetic intensity: operations per byte.
    pub flop_per_byte: f64,
    /// Milliseconds of all its passes on each of [`CARDS`].
    pub ms: [f64; 3],
    /// Resource that bounds it on each of [`CARDS`].
    pub bound: [Bound; 3],
}

/// Work of a part of the step, or of the whole step.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Part {
    /// 10⁹ operations; 0 where they are not counted.
    pub gflop: f64,
    /// 10⁶ bytes.
    pub mb: f64,
    /// Milliseconds on each of [`CARDS`].
    pub ms: [f64; 3],
}

/// Work of the batch normalisations of a network that are followed by the same operations.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct NormWork {
    /// Operations in the same launches, if any.
    pub form: &'static str,
    /// Number of them in the network.
    pub count: usize,
    /// Number of values that they normalise.
    pub values: usize,
    /// 10⁶ bytes that their launches read and write, forward and backward.
    pub mb: f64,
    /// Bytes per value.
    pub bytes_per_value: f64,
}

/// Lower bounds of a training step.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Roofline {
    /// Cards that the times are for, in order.
    pub cards: [Card; 3],
    /// Each distinct convolution.
    pub layers: Vec<LayerWork>,
    /// All convolutions, each counted as often as it occurs.
    pub convolutions: Part,
    /// Batch normalisations by what follows them; kinds that the network lacks are left out.
    pub normalisations: Vec<NormWork>,
    /// All batch normalisations, with the sums of the gradients of two branches.
    pub normalisation: Part,
    /// Max pooling, where the network has it.
    pub pooling: Part,
    /// AdamW: reads parameter, gradient and two moments, writes three of them.
    pub optimizer: Part,
    /// The whole step.
    pub step: Part,
    /// Resulting clips per second of training.
    pub clips_per_s: [f64; 3],
}

impl Part {
    fn of_bytes(bytes: usize) -> Self {
        Self::of_mb(bytes as f64 / 1e6)
    }

    fn of_mb(mb: f64) -> Self {
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
    /// Computes the work with activations and their gradients stored this way.
    fn new(shape: &ConvShape, count: usize, passes: usize, stored: Storage) -> Self {
        let activations = stored.bytes(shape.input_len()) + stored.bytes(shape.output_len());
        let bytes = activations + 4 * shape.weight_len();
        let (gflop, mb) = (gflop(shape), bytes as f64 / 1e6);
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
    /// Computes the bounds of a training step. Runs nothing.
    pub fn roofline(&self) -> Result<Roofline, BenchError> {
        let parts = self.planned_parts()?;
        // The bytes are the same however a device's shaders access f16.
        let stored = if self.half { Storage::Packed } else { Storage::F32 };
        let layers = norms(&parts);
        let normalisations = norm_works(&layers, stored)?;
        let norm_mb: f64 = normalisations.iter().map(|work| work.mb).sum();
        let sums = Part::of_bytes(stored.bytes(sum_numbers(&layers)));
        let pooling = Part::of_bytes(parts.iter().map(|part| pooling_bytes(part, self.half)).sum());
        let shapes: Vec<ConvShape> = parts.into_iter().flat_map(|part| part.convolutions).collect();
        let parameters: usize = shapes.iter().map(parameters).sum();
        let layers: Vec<LayerWork> = distinct(shapes)
            .iter()
            .enumerate()
            .map(|(index, (shape, count))| {
                // No other convolution has as few channels as the clips, so none is merged with the
                // first.
                LayerWork::new(shape, *count, if index == 0 { 2 } else { 3 }, stored)
            })
            .collect();
        let convolutions = Part::sum(&layers.iter().map(LayerWork::in_all).collect::<Vec<_>>());
        let normalisation = Part::sum([&Part::of_mb(norm_mb), &sums]);
        let optimizer = Part::of_bytes(4 * 7 * parameters);
        let step = Part::sum([&convolutions, &normalisation, &pooling, &optimizer]);
        let clips_per_s = step.ms.map(|ms| self.clips as f64 * 1e3 / ms);
        Ok(Roofline {
            cards: CARDS,
            layers,
            convolutions,
            normalisations,
            normalisation,
            pooling,
            optimizer,
            step,
            clips_per_s,
        })
    }
}

/// Returns the number of weights of a convolution, and of scales and shifts of the normalisation
/// after it.
fn parameters(shape: &ConvShape) -> usize {
    shape.weight_len() + 2 * shape.out_channels
}

/// Operations that follow a normalisation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Then {
    Nothing,
    Relu,
    ResidualRelu,
}

impl Then {
    const ALL: [Self; 3] = [Self::Nothing, Self::Relu, Self::ResidualRelu];

    fn form(self) -> &'static str {
        match self {
            Self::Nothing => "alone",
            Self::Relu => "with ReLU",
            Self::ResidualRelu => "with residual, ReLU",
        }
    }
}

/// A normalisation of the network.
struct NormLayer {
    /// Operations that follow it.
    then: Then,
    /// Convolution before it.
    conv: ConvShape,
    /// Convolution that is the only reader of its result, if there is one.
    next: Option<ConvShape>,
    /// Number of values in the sum of two branches' gradients if `conv` starts a block, else 0.
    branches: usize,
}

/// Returns the normalisations of the network, one after each convolution.
fn norms(parts: &[PartShapes]) -> Vec<NormLayer> {
    let layers = |part: &PartShapes| {
        let (is_block, convolutions) = (part.stage > 0, part.convolutions.clone());
        let units = convolutions.len() - usize::from(part.has_shortcut);
        convolutions.clone().into_iter().enumerate().map(move |(index, conv)| {
            let then = if index >= units {
                Then::Nothing
            } else if is_block && index + 1 == units {
                Then::ResidualRelu
            } else {
                Then::Relu
            };
            let branches = if is_block && index == 0 { conv.input_len() } else { 0 };
            let next = (index + 1 < units).then(|| convolutions[index + 1]);
            NormLayer { then, conv, next, branches }
        })
    };
    parts.iter().flat_map(layers).collect()
}

/// Computes the memory traffic of the normalisations, by the plans for a device that binds whatever
/// the kernels can address.
fn norm_works(layers: &[NormLayer], stored: Storage) -> Result<Vec<NormWork>, PlanError> {
    let limits = DeviceLimits { max_binding_bytes: usize::MAX, ..DeviceLimits::WEBGPU };
    let mut works = Vec::new();
    for then in Then::ALL {
        let (mut count, mut values, mut bytes) = (0, 0, 0);
        for layer in layers.iter().filter(|layer| layer.then == then) {
            let (relu, residual) = (then != Then::Nothing, then == Then::ResidualRelu);
            let slice = |pass, of: &ConvShape| slice_of_parts(pass, of, stored, &limits);
            let conv = &layer.conv;
            let slices = [
                slice(ConvPass::Forward, conv),
                layer.next.as_ref().and_then(|next| slice(ConvPass::InputGradient, next)),
            ];
            let shape = [conv.batch, conv.out_channels, conv.output().iter().product()];
            count += 1;
            values += conv.output_len();
            bytes += norm::training_bytes(shape, slices, [residual, relu], stored, &limits)?;
        }
        if count > 0 {
            let bytes_per_value = bytes as f64 / values as f64;
            let mb = bytes as f64 / 1e6;
            works.push(NormWork { form: then.form(), count, values, mb, bytes_per_value });
        }
    }
    Ok(works)
}

/// Returns how many numbers the sums of two branches' gradients read and write: three per value.
fn sum_numbers(layers: &[NormLayer]) -> usize {
    3 * layers.iter().map(|layer| layer.branches).sum::<usize>()
}

/// Returns the bytes of a part's max pooling, forward and backward: two steps in f32, each of which
/// writes and reads the positions of its maxima, between conversions if activations are in half
/// precision.
fn pooling_bytes(part: &PartShapes, half: bool) -> usize {
    let Some(sizes) = part.pooling else { return 0 };
    let [input, plane, time] = sizes.map(|size| size.iter().product::<usize>());
    let steps = 4 * (2 * input + 6 * plane + 4 * time);
    steps + if half { 2 * (4 + 2) * (input + time) } else { 0 }
}
