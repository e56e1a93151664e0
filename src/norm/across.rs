//! Batch normalisation over a batch of which several lanes have a share each. They exchange what their
//! statistics are made of, and in the backward pass the sums that the gradient of x needs; the rest each
//! computes for itself.

use std::fmt;
use std::sync::Arc;

use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, Dispatch, TensorMetadata};
use burn::tensor::{DType, ExecutionError, Tensor, TensorData, read_sync};

use super::op::{Gradients, NormKernels, NormOps, Source};
use super::{Affine, After, Moments, Normalised, Spec, is_fused};
use crate::half;

/// Brings together what lanes have found, each of its share of a batch. Each lane computes in a thread
/// of its own and holds its own end of the exchange.
pub trait Exchange: fmt::Debug + Send + Sync {
    /// The values of all lanes that take part, of which each gives as many. Waits for them.
    fn all(&self, own: Vec<f64>) -> Shares;

    /// This lane's device failed: its values mean nothing. The others must not wait for it in vain, so
    /// it goes on.
    fn failed(&self, error: ExecutionError);
}

/// What all lanes have found.
#[derive(Debug, Clone)]
pub struct Shares {
    /// In the order of the lanes.
    pub values: Arc<Vec<Vec<f64>>>,
    /// Which of them are this lane's.
    pub own: usize,
}

/// A share of a batch that is normalised by the statistics of the whole.
#[derive(Debug)]
pub struct Across {
    /// Output of the share, statistics of the batch.
    pub normalised: Normalised,
    /// Values of a channel in the batch.
    pub values: usize,
    /// Whether this is the first of the lanes that have a share.
    pub leads: bool,
}

/// What the backward pass needs to know of the batch.
#[derive(Debug)]
pub(crate) struct Batch {
    exchange: Arc<dyn Exchange>,
    /// Values of a channel.
    pub values: usize,
    /// 1 / √(variance + ε) of each channel.
    rstd: Vec<f64>,
}

/// Normalises `x [N, C, T, H, W]` by the statistics of the batch that it is a share of. Otherwise like
/// [`super::by_batch`].
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
    let source = moments.as_ref().map_or(Source::Input, |moments| Source::Parts(moments.slice));
    let parts = moments.map_or_else(|| gamma.clone(), |moments| moments.parts);
    let found =
        Dispatch::norm_statistics(x.clone().into_dispatch(), parts.into_dispatch(), source, spec);
    let found = Tensor::<1>::from_dispatch(found).inner().try_into_data();
    let mut own = vec![count as f64];
    own.extend(on_host(found, 2 * channels, exchange.as_ref()).into_iter().map(f64::from));
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
        Source::Batch(Arc::new(batch)),
        spec,
    );
    let normalised = Normalised {
        output: Tensor::from_dispatch(output),
        mean: Tensor::from_dispatch(mean),
        variance: Tensor::from_dispatch(variance),
    };
    Across { normalised, values, leads }
}

/// The values that a device was asked for; NaN if it failed.
fn on_host(
    data: Result<TensorData, impl Into<ExecutionError>>,
    count: usize,
    exchange: &dyn Exchange,
) -> Vec<f32> {
    match data {
        Ok(data) => {
            assert_eq!(data.dtype(), DType::F32, "statistics are f32");
            bytemuck::pod_collect_to_vec(data.as_bytes())
        }
        Err(error) => {
            exchange.failed(error.into());
            vec![f32::NAN; count]
        }
    }
}

/// Values of a channel in all shares; mean and sum of squared deviations of each channel, by those of the
/// shares: a count, and both of each channel (Chan, Golub and LeVeque 1979, eq. 2.1).
fn merged(shares: &Shares, channels: usize) -> (f64, Vec<[f64; 2]>) {
    let mut count = 0.0;
    let mut all = vec![[0.0; 2]; channels];
    for share in shares.values.iter() {
        let more = share[0];
        let part = more / (count + more);
        for ([mean, squares], found) in all.iter_mut().zip(share[1..].as_chunks::<2>().0) {
            let apart = found[0] - *mean;
            *mean += apart * part;
            *squares += found[1] + apart * apart * count * part;
        }
        count += more;
    }
    (count, all)
}

impl Batch {
    /// All gradients of a share.
    pub(super) fn backward<B: NormKernels>(
        &self,
        x: FloatTensor<B>,
        gamma: FloatTensor<B>,
        kept: [FloatTensor<B>; 3],
        dy: FloatTensor<B>,
        spec: &Spec,
    ) -> Gradients<B> {
        let channels = self.rstd.len();
        let (parts, masked) = B::by_batch_sums(x.clone(), kept.clone(), dy.clone(), spec);
        let device = parts.device();
        let parts = read_sync(B::float_into_data(parts));
        let parts = on_host(parts, 2 * channels, self.exchange.as_ref());
        // A channel's parts follow each other.
        let own: Vec<f64> = parts
            .chunks(parts.len() / channels)
            .flat_map(|channel| {
                let of = |which: usize| channel[which..].iter().step_by(2).copied().map(f64::from);
                [of(0).sum(), of(1).sum()]
            })
            .collect();
        let shares = self.exchange.all(own);
        let mut all = vec![0.0; 2 * channels];
        for share in shares.values.iter() {
            all.iter_mut().zip(share).for_each(|(all, more)| *all += more);
        }
        let tensor = |values: Vec<f64>| {
            let values: Vec<f32> = values.into_iter().map(|value| value as f32).collect();
            B::float_from_data(TensorData::from(&values[..]), &device)
        };
        // The lanes' gradients of γ and β are added up later, like all others.
        let own = shares.values[shares.own].as_chunks::<2>().0;
        let d_gamma = own.iter().zip(&self.rstd).map(|([_, along], rstd)| along * rstd).collect();
        let d_beta = own.iter().map(|[straight, _]| *straight).collect();
        let sums = tensor(all);
        let [dx, residual] =
            B::by_batch_input(x, gamma, kept, [dy, masked], (sums, self.values), spec);
        Gradients { x: dx, gamma: tensor(d_gamma), beta: tensor(d_beta), residual }
    }
}

/// By Burn's own operations, with the same statistics in f32.
fn by_burn(x: Tensor<5>, affine: Affine, after: After, exchange: &Arc<dyn Exchange>) -> Across {
    let Affine { gamma, beta, epsilon } = affine;
    let is_half = half::is_half(&x);
    let x = half::to_float(x);
    let [n, channels, t, h, w] = x.dims();
    let shares = exchange.all(vec![(n * t * h * w) as f64]);
    let values: f64 = shares.values.iter().flatten().sum();
    let wide = |of: Tensor<1>| of.reshape([1, channels, 1, 1, 1]);
    // The mean over the batch of values that are `[N, C, T, H, W]` here.
    let mean_of = |of: Tensor<5>| {
        let rows = of.swap_dims(0, 1).reshape([channels, n * t * h * w]);
        let sum = rows.sum_dim(1).reshape([channels]).into_dispatch();
        let sum = Dispatch::sum_across_lanes(sum, Arc::clone(exchange));
        Tensor::<1>::from_dispatch(sum).div_scalar(values)
    };
    let mean = mean_of(x.clone());
    let apart = x.sub(wide(mean.clone()));
    let variance = mean_of(apart.clone().square());
    let scale = gamma.div(variance.clone().add_scalar(epsilon).sqrt());
    let output = after.apply(apart.mul(wide(scale)).add(wide(beta)));
    let normalised = Normalised {
        output: half::stored(output, is_half),
        mean: mean.detach(),
        variance: variance.detach(),
    };
    Across { normalised, values: values as usize, leads: shares.own == 0 }
}

/// The sum of these values over all lanes.
pub(super) fn sum<B: Backend>(own: FloatTensor<B>, exchange: &dyn Exchange) -> FloatTensor<B> {
    let device = own.device();
    let data = read_sync(B::float_into_data(own.clone()));
    let count = own.shape().num_elements();
    let own = on_host(data, count, exchange).into_iter().map(f64::from).collect();
    let shares = exchange.all(own);
    let total = |at: usize| shares.values.iter().map(|share| share[at]).sum::<f64>() as f32;
    let values: Vec<f32> = (0..count).map(total).collect();
    B::float_from_data(TensorData::from(&values[..]), &device)
}
