//! Results of lanes on the host, and how they are joined to the outcome of a step.

use burn::tensor::{Device, Tensor, TensorData, TensorReadError};
use serde::{Deserialize, Serialize};

use super::gradients::HostGradients;
use crate::device::MemoryWatch;
use crate::model::{BatchStatistics, HostStatistics, MultiViewNet, Prediction};
use crate::train::error::TrainError;
use crate::train::objective::{BatchResult, Cost, KnownLogits, Losses};
use crate::train::step::Gradients;

/// Result of a lane's forward and backward pass, or of its forward pass alone.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(in crate::train) struct LaneResult {
    losses: Losses,
    /// Logits of each task, a row for each action.
    logits: Vec<Rows>,
    /// Logits and classes of each auxiliary head, for the actions with a known value.
    auxiliary: Vec<Option<(Rows, Vec<Option<usize>>)>>,
    /// View weights `[B, V]`, of a prediction only.
    view_weights: Rows,
    statistics: HostStatistics,
}

/// The results of all lanes and the sum of their gradients.
#[derive(Debug)]
pub(in crate::train) struct Joined {
    pub lanes: Vec<LaneResult>,
    pub gradients: HostGradients,
}

/// A matrix.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Rows {
    width: usize,
    values: Vec<f32>,
}

impl Rows {
    fn read(tensor: Tensor<2>) -> Result<Self, TensorReadError> {
        let width = tensor.dims()[1];
        Ok(Self { width, values: tensor.try_into_vec_as::<f32>()? })
    }

    /// Concatenates all rows on `device`; narrower rows are padded with zeros.
    fn join<'a>(all: impl Iterator<Item = &'a Self> + Clone, device: &Device) -> Tensor<2> {
        let width = all.clone().map(|rows| rows.width).max().unwrap_or(0);
        let mut values = Vec::new();
        for rows in all.filter(|rows| rows.width > 0) {
            for row in rows.values.chunks_exact(rows.width) {
                values.extend_from_slice(row);
                values.resize(values.len() + width - row.len(), 0.0);
            }
        }
        let height = values.len() / width.max(1);
        Tensor::from_data(TensorData::new(values, [height, width]), device)
    }
}

impl LaneResult {
    /// Reads back the results of a step on a copy of `net`, except its gradients.
    pub(super) fn of_step(
        statistics: BatchStatistics,
        result: BatchResult,
        net: &MultiViewNet,
    ) -> Result<Self, TrainError> {
        Ok(Self { statistics: statistics.read(&net.backbone)?, ..Self::of_batch(result)? })
    }

    /// Reads back a prediction and its losses.
    pub(super) fn of_prediction(
        prediction: Prediction,
        cost: Cost,
        watch: &MemoryWatch,
    ) -> Result<Self, TrainError> {
        let losses = cost.read();
        if watch.out_of_memory() {
            return Err(TrainError::OutOfMemory);
        }
        let losses = losses?;
        watch.intact()?;
        let Prediction { logits, view_weights, .. } = prediction;
        let result = BatchResult::new(losses, logits, cost.auxiliary);
        Ok(Self { view_weights: Rows::read(view_weights)?, ..Self::of_batch(result)? })
    }

    fn of_batch(result: BatchResult) -> Result<Self, TensorReadError> {
        let BatchResult { losses, logits, auxiliary } = result;
        let known = |head: Option<KnownLogits>| {
            head.map(|known| Ok((Rows::read(known.logits)?, known.labels))).transpose()
        };
        let auxiliary: Result<_, TensorReadError> = auxiliary.into_iter().map(known).collect();
        let logits: Result<_, TensorReadError> = logits.into_iter().map(Rows::read).collect();
        Ok(Self { losses, logits: logits?, auxiliary: auxiliary?, ..Self::default() })
    }
}

/// Joins the results of a step's lanes, in their order. `net` is the network that their networks
/// are copies of.
pub(in crate::train) fn join(
    Joined { mut lanes, gradients }: Joined,
    net: &MultiViewNet,
    device: &Device,
) -> Gradients {
    let result = batch_result(&mut lanes, device);
    let mut statistics = BatchStatistics::default();
    for lane in &mut lanes {
        statistics.add_host(std::mem::take(&mut lane.statistics), &net.backbone);
    }
    Gradients { grads: gradients.upload(net), statistics, result }
}

/// Joins the predictions of a batch's lanes. The logits of auxiliary heads are only in the
/// [`BatchResult`].
pub(in crate::train) fn prediction(
    Joined { mut lanes, .. }: Joined,
    device: &Device,
) -> (Prediction, BatchResult) {
    let result = batch_result(&mut lanes, device);
    let weights = Rows::join(lanes.iter().map(|lane| &lane.view_weights), device);
    let logits = result.logits.clone();
    (Prediction { logits, auxiliary: Vec::new(), view_weights: weights }, result)
}

fn batch_result(lanes: &mut [LaneResult], device: &Device) -> BatchResult {
    let device = &device.clone().without_autodiff();
    let mut losses = Losses::default();
    lanes.iter().for_each(|lane| losses.add(&lane.losses));
    let most = |count: &dyn Fn(&LaneResult) -> usize| lanes.iter().map(count).max().unwrap_or(0);
    let logits = (0..most(&|lane| lane.logits.len()))
        .map(|task| Rows::join(lanes.iter().filter_map(|lane| lane.logits.get(task)), device));
    let auxiliary = (0..most(&|lane| lane.auxiliary.len())).map(|head| {
        let known = || lanes.iter().filter_map(|lane| lane.auxiliary.get(head)?.as_ref());
        let labels: Vec<_> = known().flat_map(|(_, labels)| labels).copied().collect();
        let logits = || Rows::join(known().map(|(rows, _)| rows), device);
        (!labels.is_empty()).then(|| KnownLogits { logits: logits(), labels })
    });
    let (logits, auxiliary) = (logits.collect(), auxiliary.collect());
    BatchResult { losses, logits, auxiliary }
}
