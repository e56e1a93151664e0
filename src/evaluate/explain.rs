//! Which moment and place decided: Grad-CAM (Selvaraju et al. 2017) on the backbone's last stage.

use burn::module::Module;
use burn::tensor::activation::relu;
use burn::tensor::{Device, Tensor};

use super::EvaluateError;
use crate::data::Batch;
use crate::half;
use crate::model::{MultiViewNet, STAGES, ViewLayout, plain_clips};

/// How much each part of a clip speaks for a class, coarse as the last stage is.
#[derive(Debug, Clone, PartialEq)]
pub struct Saliency {
    /// `[t, h, w]`.
    pub size: [usize; 3],
    /// From 0 to 1, which is the largest value of all clips of the action; `[t, h, w]`.
    pub values: Vec<f32>,
}

impl Saliency {
    /// The value at a place given as shares of the clip's length, height and width, between the neighbouring
    /// parts' values.
    pub fn at(&self, place: [f64; 3]) -> f32 {
        let near: Vec<[(usize, f32); 2]> = place
            .iter()
            .zip(self.size)
            .map(|(share, size)| {
                // Values belong to the middle of their parts.
                let position = (share * size as f64 - 0.5).clamp(0.0, (size - 1) as f64);
                let (below, rest) = (position.floor() as usize, position.fract() as f32);
                [(below, 1.0 - rest), ((below + 1).min(size - 1), rest)]
            })
            .collect();
        let [_, height, width] = self.size;
        let mut sum = 0.0;
        for (t, a) in near[0] {
            for (y, b) in near[1] {
                for (x, c) in near[2] {
                    sum += a * b * c * self.values[(t * height + y) * width + x];
                }
            }
        }
        sum
    }

    /// The moment with the largest sum, as a share of the clip's length.
    pub fn moment(&self) -> f64 {
        let [length, height, width] = self.size;
        let sums = self.values.chunks(height * width).map(|frame| frame.iter().sum::<f32>());
        let best = sums.enumerate().max_by(|a, b| a.1.total_cmp(&b.1)).map_or(0, |(t, _)| t);
        (best as f64 + 0.5) / length as f64
    }
}

/// What of each clip of a batch of one action speaks for a class of a task. The network must have automatic
/// differentiation, `device` must not. `annotated` is as for [`MultiViewNet::predict`].
///
/// # Errors
/// A batch that the device cannot hold, a device that fails.
pub fn saliency(
    net: &MultiViewNet,
    batch: &Batch,
    annotated: &[Vec<usize>],
    [task, class]: [usize; 2],
    device: &Device,
) -> Result<Vec<Saliency>, EvaluateError> {
    let backbone = net.valid().backbone;
    let clips = plain_clips(batch, device)?;
    let last = (0..STAGES.len()).fold(clips, |x, stage| backbone.forward_stage(stage, x));
    let last = half::to_float(last);
    let [n, features, t, h, w] = last.dims();
    let tracked = last.clone().autodiff().require_grad();
    let mean = tracked.clone().reshape([n, features, t * h * w]).mean_dim(2);
    let views = ViewLayout::new(batch.view_counts.clone());
    let prediction = net.classify(mean.reshape([n, features]), &views, annotated, None);
    let logits = prediction.logits[task].clone();
    let grads = logits.slice([0..1, class..class + 1]).sum().backward();
    let gradient = tracked.grad(&grads).expect("the logit depends on the last stage");
    // One weight per channel: its mean gradient.
    let weights = gradient.reshape([n, features, t * h * w]).mean_dim(2);
    let weighted: Tensor<3> = last.reshape([n, features, t * h * w]).mul(weights);
    let values = relu(weighted.sum_dim(1)).try_into_vec_as::<f32>()?;
    let most = values.iter().copied().fold(0.0, f32::max);
    let scale = if most > 0.0 { 1.0 / most } else { 0.0 };
    let of_clip = |clip: &[f32]| Saliency {
        size: [t, h, w],
        values: clip.iter().map(|value| value * scale).collect(),
    };
    Ok(values.chunks(t * h * w).map(of_clip).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_lie_in_the_middle_of_their_parts() {
        let saliency = Saliency { size: [2, 1, 2], values: vec![0.0, 0.4, 0.8, 1.0] };
        assert!((saliency.at([0.25, 0.5, 0.75]) - 0.4).abs() < 1e-6);
        assert!((saliency.at([0.5, 0.5, 0.5]) - 0.55).abs() < 1e-6);
        assert_eq!(saliency.at([0.0, 0.0, 0.0]), 0.0);
        assert_eq!(saliency.at([1.0, 1.0, 1.0]), 1.0);
        assert_eq!(saliency.moment(), 0.75);
    }
}
