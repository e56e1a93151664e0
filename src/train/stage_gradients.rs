//! Measures the gradients of the backbone's stages, including frozen ones.

use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::{Device, Tensor};

use super::error::TrainError;
use super::loss_scale::LossScale;
use super::memory::StepMemory;
use super::objective::Objective;
use super::step::{Attempt, Gradients, Step};
use crate::data::Batch;
use crate::device::MemoryWatch;
use crate::model::{MultiViewNet, STAGES, StageSet, plain_clips_of, stage_of};

/// Computes the root mean square of each stage's gradient on one batch, which gradient-guided
/// freezing uses to decide. There are no updates, dropout or augmentation. `device` must have
/// automatic differentiation enabled. Returns `None` if the device is out of memory with a single
/// clip: the gradients of all stages may need more memory than those of the stages that the run
/// trains.
///
/// # Errors
/// A device that fails.
pub(super) fn stage_gradients(
    net: &MultiViewNet,
    batch: &Batch,
    objective: &Objective,
    mut memory: StepMemory,
    mut loss_scale: Option<LossScale>,
    device: &Device,
) -> Result<Option<[f64; STAGES.len()]>, TrainError> {
    // Freeze everything first, so that batch norm uses its running statistics; then enable gradients
    // only.
    let net = net.clone().with_trainable(StageSet::NONE).set_require_grad(true);
    let clips = |range| Ok(plain_clips_of(batch, range, device)?);
    loop {
        let factor = loss_scale.map_or(1.0, |scale| scale.factor());
        let step = Step {
            net: &net,
            objective,
            batch,
            actions: 0..batch.actions.len(),
            clips: &clips,
            memory,
            loss_scale: factor,
            lane_sync: None,
            gradient_sink: None,
        };
        let mut watch = MemoryWatch::start(device);
        let Attempt::Done(Gradients { grads, .. }) = Attempt::finish(step.queue(None), &mut watch)?
        else {
            watch.recover();
            if memory.halve(batch.clips()) {
                continue;
            }
            log::warn!(
                "the device is out of memory with the gradients of all stages, which the freezing \
                 strategy needs: if it unfreezes a stage after this epoch, it takes the next one in order"
            );
            return Ok(None);
        };
        let scaled = root_mean_squares(&net, &grads)?;
        // The gradients of stages that the run does not train may need a smaller loss scale.
        if scaled.iter().all(|value| value.is_finite())
            || !loss_scale.as_mut().is_some_and(LossScale::overflowed)
        {
            return Ok(Some(scaled.map(|value| value / factor)));
        }
    }
}

/// Returns the root mean square of each stage's gradient.
fn root_mean_squares(
    net: &MultiViewNet,
    grads: &GradientsParams,
) -> Result<[f64; STAGES.len()], TrainError> {
    let mut squares = Squares { grads, path: Vec::new(), sums: Default::default() };
    net.visit(&mut squares);
    let mut result = [0.0; STAGES.len()];
    for (result, (sums, count)) in result.iter_mut().zip(squares.sums) {
        if !sums.is_empty() {
            let sum = Tensor::cat(sums, 0).sum().try_into_scalar::<f32>()?;
            *result = (f64::from(sum) / count.max(1) as f64).sqrt();
        }
    }
    Ok(result)
}

/// Collects the sums of squares and the number of values of each stage's gradients.
struct Squares<'a> {
    grads: &'a GradientsParams,
    path: Vec<String>,
    sums: [(Vec<Tensor<1>>, usize); STAGES.len()],
}

impl ModuleVisitor for Squares<'_> {
    fn enter_module(&mut self, name: &str, _: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let stage = stage_of(&self.path.join("."));
        if let (Some(stage), Some(grad)) = (stage, self.grads.get::<D>(param.id)) {
            let (sums, count) = &mut self.sums[stage];
            *count += grad.shape().num_elements();
            sums.push(grad.square().sum());
        }
    }
}
