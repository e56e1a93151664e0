//! The clip normalisation that Hara et al.'s weights expect.

use burn::tensor::{Tensor, TensorData};

use super::kind::{BackboneKind, Family};
use crate::augment::{MEAN, STD};

/// Mean and standard deviation of Kinetics, which 3D-ResNets-PyTorch normalises with (its mean.py).
const HARA_MEAN: [f32; 3] = [0.4345, 0.4051, 0.3775];
const HARA_STD: [f32; 3] = [0.2768, 0.2713, 0.2737];

/// Returns the mean and standard deviation per channel with which a backbone's clips are normalised.
pub(super) fn statistics(kind: BackboneKind) -> [[f32; 3]; 2] {
    match kind.spec().family {
        Family::Torchvision => [MEAN, STD],
        Family::Hara => [HARA_MEAN, HARA_STD],
    }
}

/// Converts clips `[N, 3, T, H, W]` from polyview's normalisation, which is torchvision's, to Hara et
/// al.'s. Without the conversion, frozen stages would see contrasts a quarter stronger than those they
/// were trained on.
pub(super) fn as_hara(clips: Tensor<5>) -> Tensor<5> {
    let device = clips.device();
    let channels = |value: fn(usize) -> f32| {
        let values: Vec<f32> = (0..3).map(value).collect();
        Tensor::<5>::from_data(TensorData::new(values, [1, 3, 1, 1, 1]), &device)
    };
    let scale = channels(|c| STD[c] / HARA_STD[c]);
    let shift = channels(|c| (MEAN[c] - HARA_MEAN[c]) / HARA_STD[c]);
    clips.mul(scale).add(shift)
}
