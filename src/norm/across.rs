//! Batch normalisation over a batch that is split across lanes. The lanes exchange their statistics
//! in the forward pass and, in the backward pass, the sums that the gradient of x needs; each lane
//! computes the rest for itself.

use std::sync::Arc;

use burn::backend::Dispatch;
use burn::tensor::{Tensor, TensorData};

use super::exchange::{Batch, Exchange, merged, on_host};
use super::op::{ByBatch, NormOps, Source};
use super::{Affine, After, Moments, Normalised, is_fused};
use crate::half;

/// One lane's share of a batch, normalised by the statistics of the whole batch.
#[derive(Debug)]
pub struct Across {
    /// Output for the share, statistics of the whole batch.
    pub normalised: Normalised,
    /// Number of values per channel in the whole batch.
    pub values: usize,
    /// Whether this lane is the first of those that have a share.
    pub leads: bool,
}

/// Normalises `x [N, C, T, H, W]`, one lane's share of a batch, by the statistics of the whole
/// batch. Otherwise like [`super::by_batch`].
pub fn across_lanes(
    x: Tensor<5>,
    moments: Option<Moments>,
    affine: Affine,
    after: After,
    exchange: &Arc<dyn Exchange>,
) -> Across {
    let Affine { gamma, beta, epsilon } = affine;
    let spec = after.spec(epsilon);
    if !is_fused(&x, spec) {
        return by_burn(x, Affine { gamma, beta, epsilon }, after, exchange);
    }
    let [n, channels, t, h, w] = x.dims();
    let count = n * t * h * w;
    let slice = moments.as_ref().map(|moments| moments.slice);
    let parts = moments.map_or_else(|| gamma.clone(), |moments| moments.parts);
    let local =
        Dispatch::norm_statistics(x.clone().into_dispatch(), parts.into_dispatch(), slice, spec);
    let local = Tensor::<1>::from_dispatch(local).inner().try_into_data();
    let mut own = vec![count as f64];
    own.extend(on_host(local, 2 * channels, exchange.as_ref()).into_iter().map(f64::from));
    let shares = exchange.all(own);
    let (values, statistics) = merged(&shares, channels);
    let rstd = statistics.iter().map(|[_, squares]| 1.0 / (squares / values + epsilon).sqrt());
    let batch =
        Batch { exchange: Arc::clone(exchange), values: values as usize, rstd: rstd.collect() };
    let parts: Vec<f32> = statistics.as_flattened().iter().map(|&value| value as f32).collect();
    let parts = Tensor::<1>::from_data(TensorData::from(&parts[..]), &x.device());
    let is_half = half::is_half(&x);
    let residual = after.residual().map(|residual| half::stored(residual, is_half));
    let residual = residual.unwrap_or_else(|| x.clone());
    let (values, leads) = (batch.values, shares.own == 0);
    let (output, mean, variance, _) = Dispatch::norm_by_batch(
        x.into_dispatch(),
        gamma.into_dispatch(),
        beta.into_dispatch(),
        residual.into_dispatch(),
        parts.into_dispatch(),
        ByBatch { source: Source::Batch(Arc::new(batch)), sums: None },
        spec,
    );
    let normalised = Normalised {
        output: Tensor::from_dispatch(output),
        mean: Tensor::from_dispatch(mean),
        variance: Tensor::from_dispatch(variance),
        producer: None,
    };
    Across { normalised, values, leads }
}

/// Does the same with Burn's own operations, with statistics in f32.
fn by_burn(x: Tensor<5>, affine: Affine, after: After, exchange: &Arc<dyn Exchange>) -> Across {
    let Affine { gamma, beta, epsilon } = affine;
    let is_half = half::is_half(&x);
    let x = half::to_float(x);
    let [n, channels, t, h, w] = x.dims();
    let shares = exchange.all(vec![(n * t * h * w) as f64]);
    let values: f64 = shares.values.iter().flatten().sum();
    let broadcast = |of: Tensor<1>| of.reshape([1, channels, 1, 1, 1]);
    // Averages each channel of this lane's `[N, C, T, H, W]` values and those of the other lanes.
    let mean_of = |of: Tensor<5>| {
        let rows = of.swap_dims(0, 1).reshape([channels, n * t * h * w]);
        let sum = rows.sum_dim(1).reshape([channels]).into_dispatch();
        let sum = Dispatch::sum_across_lanes(sum, Arc::clone(exchange));
        Tensor::<1>::from_dispatch(sum).div_scalar(values)
    };
    let mean = mean_of(x.clone());
    let centred = x.sub(broadcast(mean.clone()));
    let variance = mean_of(centred.clone().square());
    let scale = gamma.div(variance.clone().add_scalar(epsilon).sqrt());
    let output = after.apply(centred.mul(broadcast(scale)).add(broadcast(beta)));
    let normalised = Normalised {
        output: half::stored(output, is_half),
        mean: mean.detach(),
        variance: variance.detach(),
        producer: None,
    };
    Across { normalised, values: values as usize, leads: shares.own == 0 }
}
