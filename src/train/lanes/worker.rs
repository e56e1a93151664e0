//! Threads that each compute lanes on their own device, with a copy of the network.

use std::cell::RefCell;
use std::ops::Range;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use burn::module::Module;
use burn::tensor::Device;

use super::job::{LaneJob, Replica, Unfinished, Work};
use super::result::LaneResult;
use super::weights::Weights;
use crate::device::MemoryWatch;
use crate::model::{ModelConfig, MultiViewNet};
use crate::train::error::TrainError;

/// A message to a worker.
enum Order {
    Load(Arc<Weights>),
    /// Wrapped in [`Unfinished`], as the order may be lost if the thread ends.
    Compute(Unfinished<Arc<LaneJob>>, Range<usize>),
}

/// Handle of a worker thread. Dropping it ends the thread.
#[derive(Debug)]
pub(super) struct Worker {
    device: String,
    orders: Option<Sender<Order>>,
    results: Receiver<Result<Vec<LaneResult>, TrainError>>,
    thread: Option<JoinHandle<()>>,
}

impl Worker {
    /// Starts a worker on `device`.
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

    /// Loads these weights into the worker's network.
    pub(super) fn load(&self, weights: Arc<Weights>) -> Result<(), TrainError> {
        self.send(Order::Load(weights))
    }

    /// Starts a job; its [`Worker::result`] must be received before the next one is started.
    pub(super) fn compute(&self, job: Arc<LaneJob>, lanes: Range<usize>) -> Result<(), TrainError> {
        self.send(Order::Compute(Unfinished::new(job), lanes))
    }

    /// Waits for the job and returns its results.
    pub(super) fn result(&self) -> Result<Vec<LaneResult>, TrainError> {
        self.results.recv().map_err(|_| self.died())?
    }

    fn send(&self, order: Order) -> Result<(), TrainError> {
        let orders = self.orders.as_ref().expect("the sender is only absent during drop");
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
            // A panic has already been reported as a missing result.
            let _ = thread.join();
        }
    }
}

/// Processes orders until the sender is dropped.
fn work(
    device: &Device,
    model: &ModelConfig,
    half: bool,
    inbox: &Receiver<Order>,
    outbox: &Sender<Result<Vec<LaneResult>, TrainError>>,
) {
    // Any seed will do: the trainer's weights replace all values.
    let mut net = model.init(0, device).with_half(half);
    let mut watch = MemoryWatch::start(device);
    for order in inbox {
        match order {
            Order::Load(weights) => net = weights.load(net),
            Order::Compute(job, lanes) => {
                let result = compute(&net, job.job(), lanes, device);
                // Drop the job before sending the result: the trainer takes back the batch, so no
                // reference to it may remain. If the lanes failed, the job has already been failed.
                job.finished();
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::gathering::Gathering;
    use super::super::groups::{Group, Layout};
    use super::super::sync_norm::SyncNorm;
    use super::*;
    use crate::data::Batch;
    use crate::model::BackboneKind;
    use crate::schema::Schema;
    use crate::train::memory::StepMemory;
    use crate::train::objective::Objective;

    /// Creates a step with one lane that is never computed.
    fn job(schema: &Schema) -> LaneJob {
        let batch = Batch { size: [1, 1, 1], ..Batch::default() };
        let layout = Layout { sizes: Vec::new(), groups: vec![Group::default()] };
        LaneJob {
            batch: Arc::new(batch),
            objective: Arc::new(Objective::plain(schema)),
            memory: StepMemory::default(),
            work: Work::Train { augmenter: None, seed: 0, epoch: 0, step: 0, loss_scale: 1.0 },
            gathering: Some(Arc::new(Gathering::new(layout, 0..1, |_| true))),
            sync_norm: Some(Arc::new(SyncNorm::new(0, [true].into_iter()))),
        }
    }

    #[test]
    fn an_order_lost_with_its_thread_is_not_waited_for() {
        let (schema, device) = (Schema::mvfoul().unwrap(), Device::flex());
        let model = ModelConfig::new(BackboneKind::R3dTiny, &schema);
        let weights = Weights::read(&model.init(0, &device), true).unwrap().incomplete();
        let job = Arc::new(job(&schema));
        let worker = Worker::start(&device, model, false).unwrap();
        worker.load(Arc::new(weights)).unwrap();
        // The thread has already panicked, or will before it gets to this order.
        let _ = worker.compute(Arc::clone(&job), 0..1);
        let (done, ends) = channel();
        let waits = Arc::clone(&job);
        std::thread::spawn(move || {
            let served = waits.sync_norm.as_ref().unwrap().serve(None);
            let gathered = waits.gathering.as_ref().unwrap().take(0);
            done.send((served.is_ok(), gathered.is_none())).unwrap();
        });
        assert_eq!(ends.recv_timeout(Duration::from_secs(120)), Ok((true, true)));
        assert!(matches!(worker.result(), Err(TrainError::Worker { .. })));
    }
}
