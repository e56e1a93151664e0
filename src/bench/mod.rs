//! Benchmarks: the times of a training step on a device and of each convolution in it, the device's
//! peak rate of multiply-adds, and a lower bound of a step's time on some cards.

mod layers;
mod peak;
mod roofline;
mod scaling;
mod several;
mod steps;

use burn::tensor::{Device, ExecutionError, TensorReadError};

use crate::conv::ConvShape;
use crate::device::{MemoryWatch, cube_device, in_one_line, main_memory};
use crate::kernels::PlanError;
use crate::model::{
    Backbone, BackboneKind, Init, MemoryEstimate, PartShapes, StageSet, parameter_count,
};
use crate::train::TrainError;
use crate::tuning::{self, TuningPass};

pub use layers::{LayerTimes, StockTimes};
pub(crate) use peak::PeakKernel;
pub use peak::{PeakError, chains_on_wgpu, peak};
pub use roofline::{Bound, CARDS, Card, LayerWork, NormWork, Part, Roofline};
pub use scaling::{LINKS, Link, Scaled, exchange, simulate};
pub use several::MultiDeviceTimes;
pub(crate) use several::device_counts;
pub use steps::{StepMemory, StepTimes};

/// Configuration of a benchmark.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BenchConfig {
    /// The network; a linear classifier follows it.
    pub backbone: BackboneKind,
    /// Number of clips, N.
    pub clips: usize,
    /// Size of a clip: T, H, W.
    pub size: [usize; 3],
    /// Number of timed steps, and of timed forward passes.
    pub steps: usize,
    /// Whether Burn's own operations are used instead of ours.
    pub stock: bool,
    /// Whether activations are in half precision.
    pub half: bool,
}

/// Why a benchmark failed.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// The device failed.
    #[error("the device failed: {}", in_one_line(.0))]
    Device(#[from] ExecutionError),
    /// The device failed when a result was read.
    #[error("the device failed: {}", in_one_line(.0))]
    Read(#[from] TensorReadError),
    /// The clips leave nothing for the last stage to convolve.
    #[error("clips of {0:?} are too small for the network")]
    TooSmall([usize; 3]),
    /// No kernel can normalise this many clips at once.
    #[error("batch normalisation of this many clips: {0}")]
    Norm(#[from] PlanError),
    /// A device cannot hold this many clips.
    #[error("a device is out of memory")]
    OutOfMemory,
    /// A step on several devices failed.
    #[error(transparent)]
    Train(TrainError),
}

impl From<TrainError> for BenchError {
    fn from(error: TrainError) -> Self {
        match error {
            TrainError::OutOfMemory => Self::OutOfMemory,
            error => Self::Train(error),
        }
    }
}

/// Waits for the timed work on a device. Work that runs out of memory ends early, and its time is
/// meaningless.
fn wait(device: &Device, watch: &MemoryWatch) -> Result<(), BenchError> {
    let waited = device.sync();
    if watch.out_of_memory() {
        watch.clone().recover();
        return Err(BenchError::OutOfMemory);
    }
    waited?;
    Ok(watch.intact()?)
}

/// Numbers of devices that are simulated.
const DEVICES: [usize; 7] = [1, 2, 4, 8, 16, 32, 64];

/// A convolution of the network, and the number of times that it occurs.
type Counted = (ConvShape, usize);

impl BenchConfig {
    /// Returns `[N, 3, T, H, W]`.
    pub fn shape(&self) -> [usize; 5] {
        let [t, h, w] = self.size;
        [self.clips, 3, t, h, w]
    }

    /// Returns the network's convolutions in order.
    fn convolutions(&self, net: &Backbone) -> Result<Vec<ConvShape>, BenchError> {
        net.convolutions(self.shape()).ok_or(BenchError::TooSmall(self.size))
    }

    /// Returns the network's convolutions by its parts, without running anything.
    fn planned_parts(&self) -> Result<Vec<PartShapes>, BenchError> {
        self.sketch().convolutions_by_part(self.shape()).ok_or(BenchError::TooSmall(self.size))
    }

    /// Estimates the memory that training steps of a network with this backbone and this many
    /// parameters need.
    fn memory_needs(
        &self,
        net: &Backbone,
        parameters: usize,
    ) -> Result<MemoryEstimate, BenchError> {
        MemoryEstimate::training(net, parameters, self.size, StageSet::ALL, false)
            .ok_or(BenchError::TooSmall(self.size))
    }

    /// Refuses clips that main memory cannot hold, if any of these devices compute there: an
    /// allocation that fails there ends the program.
    fn check_memory(&self, needs: &MemoryEstimate, devices: &[Device]) -> Result<(), BenchError> {
        let sharing = devices.iter().filter(|device| cube_device(device).is_none()).count() as u64;
        let share = main_memory().total.checked_div(sharing);
        match share.is_none() || needs.clips(share, None) >= self.clips as u64 {
            true => Ok(()),
            false => Err(BenchError::OutOfMemory),
        }
    }

    /// Builds the network on the CPU, for its sizes.
    fn sketch(&self) -> Backbone {
        Backbone::new(&mut Init::new(1, &Device::flex()), self.backbone)
    }

    /// Simulates several devices whose steps take these times, in milliseconds.
    pub fn scaling(&self, steps_ms: &[f64]) -> Vec<Scaled> {
        simulate(steps_ms, self.clips, self.gradient_bytes(), &DEVICES)
    }

    /// Returns the bytes of the network's gradients.
    pub fn gradient_bytes(&self) -> u64 {
        let device = Device::flex().autodiff();
        4 * parameter_count(&Backbone::new(&mut Init::new(1, &device), self.backbone)) as u64
    }

    /// Returns the passes to tune for these steps.
    pub fn jobs(&self) -> Result<Vec<TuningPass>, BenchError> {
        tuning::jobs(&self.sketch(), self.shape(), StageSet::ALL)
            .ok_or(BenchError::TooSmall(self.size))
    }
}

/// Returns each distinct convolution once, in the order of first appearance.
fn distinct(shapes: Vec<ConvShape>) -> Vec<Counted> {
    let mut found: Vec<Counted> = Vec::new();
    for shape in shapes {
        match found.iter_mut().find(|(known, _)| *known == shape) {
            Some((_, count)) => *count += 1,
            None => found.push((shape, 1)),
        }
    }
    found
}

/// Returns `N×C×T×H×W → K, kernel, stride`.
fn describe(shape: &ConvShape) -> String {
    let by = |sizes: &[usize]| sizes.iter().map(usize::to_string).collect::<Vec<_>>().join("×");
    let stride = if shape.stride == [1; 3] {
        String::new()
    } else {
        format!(", stride {}", by(&shape.stride))
    };
    format!("{} → {}, {}{stride}", by(&shape.x()), shape.out_channels, by(&shape.kernel))
}

/// Returns the floating-point operations of one pass in units of 10⁹, two for each multiply-add,
/// excluding those on the padding's zeros.
fn gflop(shape: &ConvShape) -> f64 {
    2.0 * shape.useful_multiply_adds() as f64 / 1e9
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::device;

    #[test]
    fn work_without_memory_is_not_timed() {
        let Some(device) = device::unshared() else { return };
        let config = BenchConfig {
            backbone: BackboneKind::R3dTiny,
            clips: 1,
            size: [2, 16, 16],
            steps: 1,
            stock: false,
            half: false,
        };
        let out_of_memory = |result: Result<(), BenchError>| {
            assert!(matches!(result, Err(BenchError::OutOfMemory)), "{result:?}");
        };
        device::simulate_out_of_memory(&device);
        out_of_memory(config.steps(&device, || ()).map(|_| ()));
        device::simulate_out_of_memory(&device);
        out_of_memory(config.layers(&device, None, false, |_| ()).map(|_| ()));
        // The device has recovered.
        config.steps(&device, || ()).unwrap();
    }
}
