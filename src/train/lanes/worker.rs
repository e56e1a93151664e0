//! A thread that computes lanes on a device of its own, with a copy of the network.

use std::cell::RefCell;
use std::ops::Range;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use burn::module::Module;
use burn::tensor::Device;

use super::job::{LaneJob, Replica, Work};
use super::result::LaneResult;
use super::weights::Weights;
use crate::device::MemoryWatch;
use crate::model::{ModelConfig, MultiViewNet};
use crate::train::error::TrainError;

/// What it is sent.
enum Order {
    Take(Arc<Weights>),
    Compute(Arc<LaneJob>, Range<usize>),
}

/// The thread, as the trainer sees it. Dropping it ends the thread.
#[derive(Debug)]
pub(super) struct Worker {
    device: String,
    orders: Option<Sender<Order>>,
    results: Receiver<Result<Vec<LaneResult>, TrainError>>,
    thread: Option<JoinHandle<()>>,
}

impl Worker {
    /// Starts one on `device`.
    pub(super) fn start(
        device: &Device,
        model: ModelConfig,
        half: bool,
    ) -> Result<Self, TrainError> {
        let name = format!("{device:?}");
        let (orders, inbox) = channel();
        let (outbox, results) = channel();
        let device = device.clone().without_autodiff().autodiff();
        let thread = std::thread::Builder::new()
            .name("lanes".to_owned())
            .spawn(move || work(&device, &model, half, &inbox, &outbox))
            .map_err(|error| TrainError::Worker {
                device: name.clone(),
                reason: error.to_string(),
            })?;
        Ok(Self { device: name, orders: Some(orders), results, thread: Some(thread) })
    }

    /// Makes its network a copy of the one with these weights.
    pub(super) fn take(&self, weights: Arc<Weights>) -> Result<(), TrainError> {
        self.send(Order::Take(weights))
    }

    /// Starts a job; its [`Worker::result`] must be taken before the next one.
    pub(super) fn compute(&self, job: Arc<LaneJob>, lanes: Range<usize>) -> Result<(), TrainError> {
        self.send(Order::Compute(job, lanes))
    }

    /// Waits for the job.
    pub(super) fn result(&self) -> Result<Vec<LaneResult>, TrainError> {
        self.results.recv().map_err(|_| self.died())?
    }

    fn send(&self, order: Order) -> Result<(), TrainError> {
        let orders = self.orders.as_ref().expect("it is only absent while it is dropped");
        orders.send(order).map_err(|_| self.died())
    }

    fn died(&self) -> TrainError {
        let reason = "its thread panicked".to_owned();
        TrainError::Worker { device: self.device.clone(), reason }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.orders = None;
        if let Some(thread) = self.thread.take() {
            // A panic has been reported where its result was missed.
            let _ = thread.join();
        }
    }
}

/// Follows orders until there is nobody to give them.
fn work(
    device: &Device,
    model: &ModelConfig,
    half: bool,
    inbox: &Receiver<Order>,
    outbox: &Sender<Result<Vec<LaneResult>, TrainError>>,
) {
    // Any seed: the trainer's weights replace all of its values.
    let mut net = model.init(0, device).with_half(half);
    let mut watch = MemoryWatch::start(device);
    for order in inbox {
        match order {
            Order::Take(weights) => net = weights.load(net),
            Order::Compute(job, lanes) => {
                let result = compute(&net, &job, lanes, device);
                // Before the answer: nobody may hold the batch when the trainer goes on.
                drop(job);
                if result.as_ref().is_err_and(TrainError::is_out_of_memory) {
                    watch.recover();
                }
                if outbox.send(result).is_err() {
                    return;
                }
            }
        }
    }
}

fn compute(
    net: &MultiViewNet,
    job: &LaneJob,
    lanes: Range<usize>,
    device: &Device,
) -> Result<Vec<LaneResult>, TrainError> {
    let evaluated = matches!(job.work, Work::Validate).then(|| net.clone().valid());
    let net = evaluated.as_ref().unwrap_or(net);
    job.run(Replica { net, device }, lanes, &RefCell::new(None), &mut || Ok(()))
}
