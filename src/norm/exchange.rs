//! What lanes that normalise together tell each other.

use std::fmt;
use std::sync::Arc;

use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, TensorMetadata};
use burn::tensor::{ExecutionError, TensorData, read_sync};

use crate::kernels::host;

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

/// What the backward pass needs to know of the batch.
#[derive(Debug)]
pub(crate) struct Batch {
    pub exchange: Arc<dyn Exchange>,
    /// Values of a channel.
    pub values: usize,
    /// 1 / √(variance + ε) of each channel.
    pub rstd: Vec<f64>,
}

/// The values that a device was asked for; NaN if it failed.
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

/// Values of a channel in all shares; mean and sum of squared deviations of each channel, by those of the
/// shares: a count, and both of each channel (Chan, Golub and LeVeque 1979, eq. 2.1).
pub(super) fn merged(shares: &Shares, channels: usize) -> (f64, Vec<[f64; 2]>) {
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

/// Σ g and Σ g·(x − mean) of each channel: this lane's, and those of the whole batch.
pub(super) struct Sums {
    pub own: Vec<[f64; 2]>,
    pub all: Vec<[f64; 2]>,
}

impl Batch {
    /// The sums of the backward pass, from this lane's on its device: `[C·parts·2]`, a channel's parts one
    /// after the other.
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
