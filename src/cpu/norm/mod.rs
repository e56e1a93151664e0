//! Batch normalisation on the CPU over `[N, C, S]` (S = T·H·W), fused with the ReLU and the
//! residual sum that follow it in a residual network. Each channel is one task: its values are read
//! once from memory for the statistics and then again from cache.
//!
//! Every sum is computed in a fixed order, so the results are bitwise independent of the number of
//! threads.

mod lines;

use crate::simd::dispatch;
use rayon::prelude::*;

use lines::{Apply, Centred, Masked, Reduce, Sum};

/// Values that are summed in f32 before being added to an f64 sum; few enough to stay in the
/// first-level cache between two passes.
const BLOCK: usize = 2048;

/// Sizes of a tensor `[N, C, S]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NormShape {
    /// N, the number of clips.
    pub batch: usize,
    /// C, the number of channels.
    pub channels: usize,
    /// S = T·H·W, the number of positions.
    pub space: usize,
}

impl NormShape {
    /// Number of values in the tensor.
    pub fn len(&self) -> usize {
        self.batch * self.channels * self.space
    }

    /// Whether the tensor has no values.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A batch-norm layer with its parameters, and whether a ReLU follows it.
#[derive(Debug, Clone, Copy)]
pub struct Norm<'a> {
    /// Sizes of x, y and residual.
    pub shape: NormShape,
    /// Scale γ, `[C]`.
    pub gamma: &'a [f32],
    /// Shift β, `[C]`.
    pub beta: &'a [f32],
    /// ε, added to the variance.
    pub epsilon: f64,
    /// Whether a ReLU is applied to the result.
    pub relu: bool,
}

/// Statistics of one batch per channel.
#[derive(Debug, Clone, PartialEq)]
pub struct BatchStatistics {
    /// Mean over N and S, `[C]`.
    pub mean: Vec<f32>,
    /// Biased variance (divided by N·S), `[C]`.
    pub variance: Vec<f32>,
    /// 1/√(variance + ε), `[C]`.
    pub rstd: Vec<f32>,
}

/// Which statistics normalised the forward pass. The batch's own depend on x, which adds terms to
/// its gradient.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Normalised {
    /// Normalised by the batch's own statistics.
    ByBatch,
    /// Normalised by running statistics, which are constants.
    ByRunning,
}

/// Outputs of the backward pass.
#[derive(Debug)]
pub struct Gradients<'a> {
    /// Gradient of x, `[N, C, S]`.
    pub dx: &'a mut [f32],
    /// Gradient of γ, `[C]`.
    pub gamma: &'a mut [f32],
    /// Gradient of β, `[C]`.
    pub beta: &'a mut [f32],
    /// Gradient of the residual, `[N, C, S]`: dy, but 0 where the ReLU's output was 0.
    pub residual: Option<&'a mut [f32]>,
}

impl Norm<'_> {
    /// Computes y = γ·(x − mean)/√(variance + ε) + β (+ residual) (then ReLU) with the batch's own
    /// statistics, and returns these.
    ///
    /// # Panics
    /// If a slice's length does not fit the shape.
    pub fn forward(&self, x: &[f32], residual: Option<&[f32]>, y: &mut [f32]) -> BatchStatistics {
        self.check(&[x.len(), residual.map_or(x.len(), <[f32]>::len), y.len()]);
        let channels: Vec<(f64, f64, f64)> = rows_by_channel(&self.shape, y)
            .into_par_iter()
            .enumerate()
            .map(|(c, y)| {
                let (mean, variance) = self.moments(c, x);
                let rstd = 1.0 / (variance + self.epsilon).sqrt();
                self.apply(c, mean as f32, rstd as f32, x, residual, y);
                (mean, variance, rstd)
            })
            .collect();
        BatchStatistics {
            mean: channels.iter().map(|c| c.0 as f32).collect(),
            variance: channels.iter().map(|c| c.1 as f32).collect(),
            rstd: channels.iter().map(|c| c.2 as f32).collect(),
        }
    }

    /// Returns the mean and the biased variance of each channel of x.
    ///
    /// # Panics
    /// If x does not fit the shape.
    pub fn statistics(&self, x: &[f32]) -> Vec<[f64; 2]> {
        self.check(&[x.len()]);
        let of_channel = |c| <[f64; 2]>::from(self.moments(c, x));
        (0..self.shape.channels).into_par_iter().map(of_channel).collect()
    }

    /// Like [`Norm::forward`], but with given statistics, `[C]` each.
    ///
    /// # Panics
    /// If a slice's length does not fit the shape.
    pub fn infer(
        &self,
        mean: &[f32],
        variance: &[f32],
        x: &[f32],
        residual: Option<&[f32]>,
        y: &mut [f32],
    ) {
        self.check(&[x.len(), residual.map_or(x.len(), <[f32]>::len), y.len()]);
        assert_eq!([mean.len(), variance.len()], [self.shape.channels; 2], "statistics");
        rows_by_channel(&self.shape, y).into_par_iter().enumerate().for_each(|(c, y)| {
            let rstd = 1.0 / (variance[c] as f64 + self.epsilon).sqrt();
            self.apply(c, mean[c], rstd as f32, x, residual, y);
        });
    }

    /// Computes all gradients from dy. With g = dy where y > 0 (without ReLU, g = dy), x̂ = (x −
    /// mean)·rstd and M = N·S: dβ = Σ g, dγ = Σ g·x̂, and dx = γ·rstd·(g − dβ/M − x̂·dγ/M), without
    /// the last two terms if the statistics were constants. `y` is the forward pass's output, which
    /// is only read with ReLU.
    ///
    /// # Panics
    /// If a slice's length does not fit the shape.
    #[allow(clippy::too_many_arguments)]
    pub fn backward(
        &self,
        normalised: Normalised,
        mean: &[f32],
        rstd: &[f32],
        x: &[f32],
        y: &[f32],
        dy: &[f32],
        gradients: Gradients,
    ) {
        let Gradients { dx, gamma, beta, residual } = gradients;
        let masked = residual.as_ref().map_or(x.len(), |g| g.len());
        self.check(&[x.len(), dy.len(), dx.len(), masked]);
        assert!(!self.relu || y.len() == x.len(), "the length of y must fit the shape");
        let channels = self.shape.channels;
        let lengths = [mean.len(), rstd.len(), gamma.len(), beta.len()];
        assert_eq!(lengths, [channels; 4], "there must be one value per channel");
        let residual_rows = match residual {
            Some(residual) => rows_by_channel(&self.shape, residual),
            None => (0..channels).map(|_| Vec::new()).collect(),
        };
        rows_by_channel(&self.shape, dx)
            .into_par_iter()
            .zip(residual_rows)
            .zip(gamma.par_iter_mut().zip(beta))
            .enumerate()
            .for_each(|(c, ((mut dx, mut residual), (gamma, beta)))| {
                // The residual's gradient, or dx, holds the masked gradient until the sums are
                // known.
                let targets = if residual.is_empty() { &mut dx } else { &mut residual };
                let [sum, product] = self.channel_sums(c, mean[c], [x, y, dy], targets);
                let rstd = rstd[c] as f64;
                *beta = sum as f32;
                *gamma = (product * rstd) as f32;
                let count = (self.shape.batch * self.shape.space) as f64;
                let (shift, slope) = match normalised {
                    Normalised::ByBatch => (sum / count, product * rstd * rstd / count),
                    Normalised::ByRunning => (0.0, 0.0),
                };
                for (n, dx) in dx.iter_mut().enumerate() {
                    dispatch(Reduce {
                        x: &x[self.row(n, c)],
                        g: residual.get(n).map(|g| &**g),
                        mean: mean[c],
                        shift: shift as f32,
                        slope: slope as f32,
                        scale: (self.gamma[c] as f64 * rstd) as f32,
                        dx,
                    });
                }
            });
    }

    /// First half of [`Norm::backward`] where x is only a part of the batch: writes g and returns Σ
    /// g and Σ g·(x − mean) of each channel.
    ///
    /// # Panics
    /// If a slice's length does not fit the shape.
    pub fn gradient_sums(
        &self,
        mean: &[f32],
        x: &[f32],
        y: &[f32],
        dy: &[f32],
        g: &mut [f32],
    ) -> Vec<[f64; 2]> {
        self.check(&[x.len(), dy.len(), g.len()]);
        assert!(!self.relu || y.len() == x.len(), "the length of y must fit the shape");
        let rows = rows_by_channel(&self.shape, g).into_par_iter().enumerate();
        rows.map(|(c, mut g)| self.channel_sums(c, mean[c], [x, y, dy], &mut g)).collect()
    }

    /// Second half of [`Norm::backward`] where x is only a part of the batch: computes dx from g
    /// and the sums over the whole batch, which has `count` values per channel.
    ///
    /// # Panics
    /// If a slice's length does not fit the shape.
    #[allow(clippy::too_many_arguments)]
    pub fn gradient_input(
        &self,
        mean: &[f32],
        rstd: &[f32],
        x: &[f32],
        g: &[f32],
        sums: &[[f64; 2]],
        count: usize,
        dx: &mut [f32],
    ) {
        self.check(&[x.len(), g.len(), dx.len()]);
        rows_by_channel(&self.shape, dx).into_par_iter().enumerate().for_each(|(c, dx)| {
            let ([sum, product], rstd) = (sums[c], f64::from(rstd[c]));
            let count = count as f64;
            for (n, dx) in dx.into_iter().enumerate() {
                let row = self.row(n, c);
                dispatch(Reduce {
                    x: &x[row.clone()],
                    g: Some(&g[row]),
                    mean: mean[c],
                    shift: (sum / count) as f32,
                    slope: (product * rstd * rstd / count) as f32,
                    scale: (f64::from(self.gamma[c]) * rstd) as f32,
                    dx,
                });
            }
        });
    }

    /// Writes one channel's rows of g to `targets` and returns their Σ g and Σ g·(x − mean).
    fn channel_sums(
        &self,
        c: usize,
        mean: f32,
        [x, y, dy]: [&[f32]; 3],
        targets: &mut [&mut [f32]],
    ) -> [f64; 2] {
        let mut sums = [0.0; 2];
        for (n, target) in targets.iter_mut().enumerate() {
            let row = self.row(n, c);
            let y = self.relu.then(|| &y[row.clone()]);
            for (block, g) in target.chunks_mut(BLOCK).enumerate() {
                let range = block * BLOCK..block * BLOCK + g.len();
                let (sum, product) = dispatch(Masked {
                    dy: &dy[row.clone()][range.clone()],
                    y: y.map(|y| &y[range.clone()]),
                    x: &x[row.clone()][range],
                    mean,
                    g,
                });
                sums[0] += f64::from(sum);
                sums[1] += f64::from(product);
            }
        }
        sums
    }

    fn row(&self, n: usize, c: usize) -> std::ops::Range<usize> {
        let start = (n * self.shape.channels + c) * self.shape.space;
        start..start + self.shape.space
    }

    /// Returns the mean and the biased variance of one channel, computed exactly for each block and
    /// then combined (Chan, Golub and LeVeque 1979, eq. 2.1), which stays accurate where the mean
    /// is large.
    fn moments(&self, c: usize, x: &[f32]) -> (f64, f64) {
        let (mut count, mut mean, mut squares) = (0.0f64, 0.0f64, 0.0f64);
        for n in 0..self.shape.batch {
            for block in x[self.row(n, c)].chunks(BLOCK) {
                let size = block.len() as f64;
                // Sums again around the approximate mean, so that a large mean does not cost
                // precision.
                let centre = (dispatch(Sum { x: block }) as f64 / size) as f32;
                let (sum, square) = dispatch(Centred { x: block, centre });
                let rest = sum as f64 / size;
                let block_mean = centre as f64 + rest;
                let distance = block_mean - mean;
                let total = count + size;
                squares += square as f64 - rest * rest * size;
                squares += distance * distance * count * size / total;
                mean += distance * size / total;
                count = total;
            }
        }
        (mean, if count > 0.0 { (squares / count).max(0.0) } else { 0.0 })
    }

    fn apply(
        &self,
        c: usize,
        mean: f32,
        rstd: f32,
        x: &[f32],
        residual: Option<&[f32]>,
        y: Vec<&mut [f32]>,
    ) {
        for (n, y) in y.into_iter().enumerate() {
            dispatch(Apply {
                x: &x[self.row(n, c)],
                residual: residual.map(|r| &r[self.row(n, c)]),
                mean,
                scale: self.gamma[c] * rstd,
                shift: self.beta[c],
                relu: self.relu,
                y,
            });
        }
    }

    fn check(&self, lengths: &[usize]) {
        let channels = self.shape.channels;
        assert_eq!(
            [self.gamma.len(), self.beta.len()],
            [channels; 2],
            "there must be one value per channel"
        );
        assert!(
            lengths.iter().all(|&length| length == self.shape.len()),
            "the length of every tensor must fit the shape"
        );
    }
}

/// Splits `[N, C, S]` into rows of S values: per channel, one row per clip.
fn rows_by_channel<'a>(shape: &NormShape, data: &'a mut [f32]) -> Vec<Vec<&'a mut [f32]>> {
    let mut rows: Vec<Vec<&mut [f32]>> =
        (0..shape.channels).map(|_| Vec::with_capacity(shape.batch)).collect();
    for (index, row) in data.chunks_mut(shape.space.max(1)).enumerate() {
        rows[index % shape.channels].push(row);
    }
    rows
}
