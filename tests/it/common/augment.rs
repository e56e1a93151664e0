//! The two executions of an augmentation.

use burn::tensor::Device;
use polyview::augment::{AugmentError, AugmentJob, Normalisation, host, wgsl};
use polyview::kernels::Implementation;

use super::adapter;
use super::tensors::values;

/// One way to execute a job, with its name.
pub struct Execution {
    pub name: &'static str,
    device: Option<Device>,
}

impl Execution {
    /// Returns the host's execution, and the shader's if there is an adapter.
    pub fn all() -> Vec<Self> {
        let host = Self { name: "host", device: None };
        let shader = adapter::device().map(|device| {
            let shaders = matches!(Implementation::of(&device), Implementation::Wgsl(_));
            assert!(shaders, "this build's wgpu devices take WGSL");
            Self { name: "shader", device: Some(device) }
        });
        [Some(host), shader].into_iter().flatten().collect()
    }

    pub fn run(&self, job: &AugmentJob) -> Result<Vec<f32>, AugmentError> {
        match &self.device {
            None => Ok(host::execute(job)),
            Some(device) => {
                let tensor = wgsl::execute(job, device).expect("the device takes WGSL")?;
                assert_eq!(tensor.dims(), job.out_shape());
                Ok(values(tensor))
            }
        }
    }
}

/// No normalisation.
pub const BARE: Normalisation = Normalisation { mean: [0.0; 3], std: [1.0; 3] };
