//! How much each stage of the backbone would move, frozen ones included.

use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::{Device, Tensor};

use super::step::Step;
use super::{Objective, StepMemory, TrainError, plain_clips_of};
use crate::data::Batch;
use crate::model::{MultiViewNet, STAGES, StageSet, stage_of};

/// Root mean square of each stage's gradient on one batch: what gradient-guided freezing decides
/// by. Nothing is updated, no statistics move, nothing is dropped or augmented. `device` must
/// have automatic differentiation on.
pub fn stage_gradients(
    net: &MultiViewNet,
    batch: &Batch,
    objective: &Objective,
    memory: StepMemory,
    device: &Device,
) -> Result<[f64; STAGES.len()], TrainError> {
    // Frozen first, which stops all statistics; then gradients alone are switched on.
    let net = net.clone().with_trainable(StageSet::NONE).set_require_grad(true);
    let clips = |range| Ok(plain_clips_of(batch, range, device)?);
    let grads = Step { net: &net, objective, batch, clips: &clips, memory }
        .queue(None)?
        .finish(device)?
        .grads;
    let mut squares = Squares { grads: &grads, path: Vec::new(), sums: Default::default() };
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

/// Sums of squares with the number of values, by stage.
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
