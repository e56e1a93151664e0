//! The exchange between lanes that normalise one batch together.

use std::fmt;
use std::sync::Arc;

use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, TensorMetadata};
use burn::tensor::{ExecutionError, TensorData, read_sync};

use crate::kernels::host;

/// Collects the values that the lanes have computed, each from its share of a batch. Each lane runs
/// in a thread of its own and holds its own end of the exchange.
pub trait Exchange: fmt::Debug + Send + Sync {
    /// Waits for all participating lanes and returns the values of each. Every lane must pass the
    /// same number of values.
    fn all(&self, own: Vec<f64>) -> Shares;

    /// Reports that this lane's device failed, so its values are meaningless. The lane must keep
    /// exchanging values all the same, as the others would otherwise wait for it in vain.
    fn failed(&self, error: ExecutionError);
}

/// The values of all lanes.
#[derive(Debug, Clone)]
pub struct Shares {
    /// Values of each lane, in the order of the lanes.
    pub values: Arc<Vec<Vec<f64>>>,
    /// Index of this lane's values.
    pub own: usize,
}

/// Information about the whole batch that the backward pass needs.
#[derive(Debug)]
pub(crate) struct Batch {
    pub exchange: Arc<dyn Exchange>,
    /// Number of values per channel in the whole batch.
    pub values: usize,
    /// 1 / √(variance + ε) of each channel.
    pub rstd: Vec<f64>,
}

/// Returns the values read from a device. If it failed, reports that to the exchange and returns
/// NaNs.
pub(super) fn on_host(
    data: Result<TensorData, impl Into<ExecutionError>>,
    count: usize,
    exchange: &dyn Exchange,
) -> Vec<f32> {
    match data {
        Ok(data) => host::floats(&data),
        Err(error) => {
            exchange.failed(error.into());
            vec![f32::NAN; count]
        }
    }
}

/// Merges the statistics of all shares. Each share is its number of values per channel, then the
/// mean and the sum of squared deviations of each channel; returns the same for the whole batch
/// (Chan, Golub and LeVeque 1979, eq. 2.1).
pub(super) fn merged(shares: &Shares, channels: usize) -> (f64, Vec<[f64; 2]>) {
    let mut count = 0.0;
    let mut all = vec![[0.0; 2]; channels];
    for share in shares.values.iter() {
        let more = share[0];
        let part = more / (count + more);
        for ([mean, squares], other) in all.iter_mut().zip(share[1..].as_chunks::<2>().0) {
            let delta = other[0] - *mean;
            *mean += delta * part;
            *squares += other[1] + delta * delta * count * part;
        }
        count += more;
    }
    (count, all)
}

/// Σ g and Σ g·(x − mean) of each channel, over this lane's share and over the whole batch.
pub(super) struct Sums {
    pub own: Vec<[f64; 2]>,
    pub all: Vec<[f64; 2]>,
}

impl Batch {
    /// Returns the sums of the backward pass, given this lane's partial sums on its device:
    /// `[C·parts·2]`, with each channel's parts next to each other.
    pub(super) fn sums<B: Backend>(&self, parts: FloatTensor<B>) -> Sums {
        let channels = self.rstd.len();
        let parts = read_sync(B::float_into_data(parts));
        let parts = on_host(parts, 2 * channels, self.exchange.as_ref());
        let of_channel = |channel: &[f32]| {
            [0, 1].map(|which| channel[which..].iter().step_by(2).copied().map(f64::from).sum())
        };
        let own: Vec<[f64; 2]> = parts.chunks(parts.len() / channels).map(of_channel).collect();
        let shares = self.exchange.all(own.as_flattened().to_vec());
        let mut all = vec![[0.0; 2]; channels];
        for share in shares.values.iter() {
            let pairs = all.as_flattened_mut().iter_mut().zip(share);
            pairs.for_each(|(all, more)| *all += more);
        }
        Sums { own, all }
    }
}

/// Adds up the values of all lanes, element by element.
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
