//! Optimizer steps of many parameters, which share launches on a GPU.

use burn::backend::Flex;
use burn::backend::flex::FlexTensor;
use burn::backend::wgpu::{CubeBackend, CubeTensor};
use burn::tensor::Tensor;
use cubecl::server::Handle;
use polyview_cpu::adam::{self, Factors};

use super::{Step, wgsl};
use crate::kernels::{DeviceLimits, Implementation, host, launch};

/// Executes all the steps that `work` pushes. The tensors that [`Steps::push`] returns may be read
/// only after this function has returned.
pub fn together<R>(work: impl FnOnce(&mut Steps) -> R) -> R {
    let mut steps = Steps { queues: Vec::new() };
    let result = work(&mut steps);
    steps.queues.into_iter().for_each(Queue::launch);
    result
}

/// The steps that are pushed within [`together`].
#[derive(Debug)]
pub struct Steps {
    queues: Vec<Queue>,
}

impl Steps {
    /// Adds the step of a parameter, see [`Step::apply`].
    pub fn push(
        &mut self,
        step: &Step,
        value: Tensor<1>,
        grad: Tensor<1>,
        moments: [Tensor<1>; 2],
    ) -> (Tensor<1>, [Tensor<1>; 2]) {
        match Implementation::of_tensor(&value) {
            Implementation::Cpu => on_cpu(step.factors(), value, grad, moments),
            Implementation::Wgsl(limits) if wgsl::fits_step(value.dims()[0], &limits) => {
                self.queue(step.factors(), value, grad, moments, limits)
            }
            _ => step.by_burn(value, grad, moments),
        }
    }

    fn queue(
        &mut self,
        factors: Factors,
        value: Tensor<1>,
        grad: Tensor<1>,
        [first, second]: [Tensor<1>; 2],
        limits: DeviceLimits,
    ) -> (Tensor<1>, [Tensor<1>; 2]) {
        let cube = |tensor: Tensor<1>| {
            let tensor = tensor.try_into_primitive::<CubeBackend>();
            launch::contiguous(tensor.expect("the tensors of a step share a backend"))
        };
        let (old, grad) = ([value, first, second].map(cube), cube(grad));
        let len = grad.meta.num_elements();
        let in_place = old.iter().all(|tensor| tensor.handle.can_mut());
        let new = match in_place {
            true => old.clone(),
            false => old.each_ref().map(|old| launch::empty(old, [len])),
        };
        let [p, m, v] = &old;
        let mut buffers = [p, &grad, m, v].map(|tensor| tensor.handle.clone()).to_vec();
        if !in_place {
            buffers.extend(new.each_ref().map(|tensor| tensor.handle.clone()));
        }
        let kind = Kind { wide: len.is_multiple_of(4), in_place };
        let matches = |queue: &&mut Queue| queue.kind == kind && queue.like.device == p.device;
        let queue = match self.queues.iter_mut().find(matches) {
            Some(queue) => queue,
            None => {
                let queue = Queue { kind, like: p.clone(), limits, steps: Vec::new() };
                self.queues.push(queue);
                self.queues.last_mut().expect("one was just added")
            }
        };
        queue.steps.push((factors, len, buffers));
        let [p, m, v] = new.map(Tensor::from_primitive::<CubeBackend>);
        (p, [m, v])
    }
}

/// Properties that steps must have in common to share a launch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Kind {
    wide: bool,
    in_place: bool,
}

/// Steps of one kind on one device.
#[derive(Debug)]
struct Queue {
    kind: Kind,
    like: CubeTensor,
    limits: DeviceLimits,
    steps: Vec<(Factors, usize, Vec<Handle>)>,
}

impl Queue {
    fn launch(self) {
        let Self { kind, like, limits, steps } = self;
        let (alone, shared): (Vec<_>, Vec<_>) =
            steps.into_iter().partition(|&(_, len, _)| wgsl::steps_alone(len, &limits));
        let most = wgsl::max_steps(kind.in_place, &limits);
        for steps in alone.chunks(1).chain(shared.chunks(most)) {
            let each: Vec<_> = steps.iter().map(|&(factors, len, _)| (factors, len)).collect();
            let plan = wgsl::steps(&each, kind.in_place, &limits)
                .expect("steps are queued for devices and sizes that their kernel takes");
            let operands: Vec<&Handle> = steps.iter().flat_map(|(.., buffers)| buffers).collect();
            launch::run(&like.client, &plan, &operands);
        }
    }
}

/// Executes a step on Burn's CPU backend.
fn on_cpu(
    factors: Factors,
    value: Tensor<1>,
    grad: Tensor<1>,
    [first, second]: [Tensor<1>; 2],
) -> (Tensor<1>, [Tensor<1>; 2]) {
    let flex = |tensor: Tensor<1>| {
        let tensor = tensor.try_into_primitive::<Flex>();
        tensor.expect("the tensors of a step share a backend")
    };
    let [mut value, mut first, mut second] =
        [value, first, second].map(|tensor| host::whole(flex(tensor)));
    let grad = flex(grad);
    let grad = host::values(&grad);
    let [p, m, v] = [&mut value, &mut first, &mut second].map(FlexTensor::storage_mut::<f32>);
    adam::update(factors, p, &grad, m, v);
    let [p, m, v] = [value, first, second].map(Tensor::from_primitive::<Flex>);
    (p, [m, v])
}
