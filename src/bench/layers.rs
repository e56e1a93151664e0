//! Times of each convolution of the network on its own.

use std::time::Instant;

use burn::tensor::{Device, Distribution, Tensor};
use serde::Serialize;

use super::{BenchConfig, BenchError, Counted, describe, distinct, gflop, wait};
use crate::conv::{ConvShape, conv3d};
use crate::device::MemoryWatch;
use crate::half::stored;
use crate::kernels::{limits, with_stock};
use crate::model::{parameter_count, with_gradient};
use crate::timing::{at_full_clock, median, milliseconds};

/// Times of one convolution of the network. Arrays hold forward, input gradient, weight gradient.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LayerTimes {
    /// `N×C×T×H×W → K, kernel, stride`.
    pub shape: String,
    /// Number of times that it occurs in the network.
    pub count: usize,
    /// 10⁹ floating-point operations of one pass, excluding those on the padding's zeros.
    pub gflop: f64,
    /// Median time in milliseconds.
    pub ms: [f64; 3],
    /// 10⁹ operations per second.
    pub gflop_per_s: [f64; 3],
    /// Fraction of the device's peak, if that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub of_peak: Option<[f64; 3]>,
    /// Times of Burn's own operations, if they are timed as well.
    #[serde(flatten)]
    pub stock: Option<StockTimes>,
}

/// Times of Burn's own convolution, interleaved with ours.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StockTimes {
    /// Median time in milliseconds.
    pub stock_ms: [f64; 3],
    /// Ratio of these times to ours.
    pub stock_over_ours: [f64; 3],
}

impl BenchConfig {
    /// Times each convolution of the network on its own on `device`, whose automatic
    /// differentiation is off; with `against_stock`, Burn's own interleaved with ours. `peak` is
    /// the device's in GFLOP/s. `done` is called after each convolution, with their total number.
    pub fn layers(
        &self,
        device: &Device,
        peak: Option<f64>,
        against_stock: bool,
        mut done: impl FnMut(usize),
    ) -> Result<Vec<LayerTimes>, BenchError> {
        let net = self.sketch();
        let needs = self.memory_needs(&net, parameter_count(&net))?;
        self.check_memory(&needs, std::slice::from_ref(device))?;
        let found = distinct(self.convolutions(&net)?);
        let all = found.len();
        let time = |layer: Counted| {
            let times = self.layer(layer, device, peak, against_stock)?;
            done(all);
            Ok(times)
        };
        found.into_iter().map(time).collect()
    }

    fn layer(
        &self,
        (shape, count): Counted,
        device: &Device,
        peak: Option<f64>,
        against_stock: bool,
    ) -> Result<LayerTimes, BenchError> {
        let (mut ms, mut stock_ms) = ([0.0; 3], [0.0; 3]);
        for pass in 0..3 {
            let timed = TimedPass::new(pass, shape, self.half, device);
            let (mut ours, mut stock) = (Vec::new(), Vec::new());
            let time = |launches| timed.milliseconds(device, launches);
            let own = |launches| {
                if self.stock { with_stock(|| time(launches)) } else { time(launches) }
            };
            // The first launch compiles the kernel.
            own(1)?;
            let launches = launches(own(1)?);
            if against_stock {
                with_stock(|| time(1))?;
            }
            if limits(device).is_some_and(|limits| !limits.software) {
                at_full_clock(|| own(launches))?;
            }
            for _ in 0..self.steps {
                ours.push(own(launches)?);
                if against_stock {
                    stock.push(with_stock(|| time(launches))?);
                }
            }
            (ms[pass], stock_ms[pass]) = (median(ours), median(stock));
        }
        let gflop = gflop(&shape);
        let gflop_per_s = ms.map(|ms| gflop / ms * 1e3);
        let stock_over_ours = std::array::from_fn(|pass| stock_ms[pass] / ms[pass]);
        Ok(LayerTimes {
            shape: describe(&shape),
            count,
            gflop,
            ms,
            gflop_per_s,
            of_peak: peak.map(|peak| gflop_per_s.map(|rate| rate / peak)),
            stock: against_stock.then_some(StockTimes { stock_ms, stock_over_ours }),
        })
    }
}

/// Minimum duration of a measurement in milliseconds, so that the cost of waiting for a GPU (some
/// 0.2 ms) does not count.
const MIN_MILLISECONDS: f64 = 5.0;
/// Maximum number of launches per measurement: backward passes keep a result of the forward pass
/// for each.
const MAX_LAUNCHES: f64 = 16.0;

/// Returns the number of launches per measurement if a launch takes `ms`.
fn launches(ms: f64) -> usize {
    (MIN_MILLISECONDS / ms).ceil().clamp(1.0, MAX_LAUNCHES) as usize
}

/// One pass of one convolution with its operands.
struct TimedPass {
    shape: ConvShape,
    x: Tensor<5>,
    w: Tensor<5>,
    /// Gradient of the output, for the backward passes.
    dy: Option<Tensor<5>>,
    watch: MemoryWatch,
}

impl TimedPass {
    /// Prepares a pass. `pass` is 0, 1, 2: forward, input gradient, weight gradient.
    fn new(pass: usize, shape: ConvShape, half: bool, device: &Device) -> Self {
        let watch = MemoryWatch::start(device);
        let device = if pass == 0 { device.clone() } else { device.clone().autodiff() };
        let random =
            |size: [usize; 5]| Tensor::random(size, Distribution::Uniform(-1.0, 1.0), &device);
        let (x, w) = (stored(random(shape.x()), half), random(shape.w()));
        let dy = (pass > 0).then(|| stored(random(shape.y()), half));
        let (x, w) = match pass {
            0 => (x, w),
            1 => (x.require_grad(), w),
            _ => (x, w.require_grad()),
        };
        Self { shape, x, w, dy, watch }
    }

    /// Returns the milliseconds of a launch, the mean of `launches`.
    fn milliseconds(&self, device: &Device, launches: usize) -> Result<f64, BenchError> {
        let (stride, padding) = (self.shape.stride, self.shape.padding);
        let forward = || conv3d(self.x.clone(), self.w.clone(), stride, padding);
        wait(device, &self.watch)?;
        let mut start = Instant::now();
        if let Some(dy) = &self.dy {
            // The backward pass of such a graph computes this one gradient and nothing else.
            let values: Vec<_> =
                (0..launches).map(|_| with_gradient(forward(), dy.clone())).collect();
            wait(device, &self.watch)?;
            start = Instant::now();
            for value in values {
                drop(value.backward());
            }
        } else {
            for _ in 0..launches {
                drop(forward());
            }
        }
        wait(device, &self.watch)?;
        Ok(milliseconds(start) / launches as f64)
    }
}
