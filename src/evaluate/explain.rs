//! Which time and place decided a prediction: Grad-CAM (Selvaraju et al. 2017) on the backbone's last
//! stage.

use burn::module::Module;
use burn::tensor::activation::relu;
use burn::tensor::{Device, Tensor};

use super::EvaluateError;
use crate::data::Batch;
use crate::device::MemoryWatch;
use crate::half;
use crate::model::{MultiViewNet, STAGES, ViewLayout, plain_clips};

/// How much each region of a clip contributes to a class, at the resolution of the last stage.
#[derive(Debug, Clone, PartialEq)]
pub struct Saliency {
    /// Resolution `[t, h, w]`.
    pub size: [usize; 3],
    /// Contributions `[t, h, w]` from 0 to 1; 1 is the largest value over all clips of the action.
    pub values: Vec<f32>,
}

impl Saliency {
    /// Returns the value at a position given as fractions of the clip's length, height and width,
    /// interpolated between the neighbouring values.
    pub fn at(&self, place: [f64; 3]) -> f32 {
        let near: Vec<[(usize, f32); 2]> = place
            .iter()
            .zip(self.size)
            .map(|(share, size)| {
                // Values belong to the centres of their cells.
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

    /// Returns the time with the largest sum, as a fraction of the clip's length.
    pub fn moment(&self) -> f64 {
        let [length, height, width] = self.size;
        let sums = self.values.chunks(height * width).map(|frame| frame.iter().sum::<f32>());
        let best = sums.enumerate().max_by(|a, b| a.1.total_cmp(&b.1)).map_or(0, |(t, _)| t);
        (best as f64 + 0.5) / length as f64
    }
}

/// Computes how much the regions of each clip of one action, given as a batch, contribute to a class of a
/// task. The network must have automatic differentiation, `device` must not. `annotated` is as for
/// [`MultiViewNet::predict`].
///
/// # Errors
/// If the device fails or cannot hold the batch.
pub fn saliency(
    net: &MultiViewNet,
    batch: &Batch,
    annotated: &[Vec<usize>],
    [task, class]: [usize; 2],
    device: &Device,
) -> Result<Vec<Saliency>, EvaluateError> {
    let mut watch = MemoryWatch::start(device);
    let clips = plain_clips(batch, device)?;
    let (contributions, size) = contributions(net, clips, batch, annotated, [task, class]);
    let values = relu(contributions).try_into_vec_as::<f32>();
    if watch.out_of_memory() {
        watch.recover();
        return Err(EvaluateError::OutOfMemory);
    }
    let values = values?;
    watch.intact()?;
    let most = values.iter().copied().fold(0.0, f32::max);
    let scale = if most > 0.0 { 1.0 / most } else { 0.0 };
    let of_clip =
        |clip: &[f32]| Saliency { size, values: clip.iter().map(|value| value * scale).collect() };
    Ok(values.chunks(size.iter().product()).map(of_clip).collect())
}

/// Returns the contribution of each position in the last stage's output to a logit, `[N, t·h·w]`, and
/// `[t, h, w]`. It is the sum of the channels, each weighted by the mean gradient of the logit.
fn contributions(
    net: &MultiViewNet,
    clips: Tensor<5>,
    batch: &Batch,
    annotated: &[Vec<usize>],
    [task, class]: [usize; 2],
) -> (Tensor<2>, [usize; 3]) {
    let backbone = net.valid().backbone;
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
    let weights: Tensor<3> = gradient.reshape([n, features, t * h * w]).mean_dim(2);
    let weighted = last.reshape([n, features, t * h * w]).mul(weights);
    (weighted.sum_dim(1).reshape([n, t * h * w]), [t, h, w])
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::model::{BackboneKind, ModelConfig};
    use crate::schema::Schema;

    #[test]
    fn contributions_add_up_to_the_logits_slope() {
        let schema = Schema::mvfoul().unwrap();
        let (device, size) = (Device::flex(), [4, 32, 40]);
        let net =
            ModelConfig::new(BackboneKind::R3dTiny, &schema).init(3, &device.clone().autodiff());
        let bytes = 2 * size.iter().product::<usize>() * 3;
        let batch = Batch {
            actions: vec!["0".to_owned()],
            earlier: vec![0],
            view_counts: vec![2],
            views: vec![0, 1],
            frames: (0..bytes).map(|n| (n * n % 251) as u8).collect(),
            size,
            ..Batch::default()
        };
        let plain = net.valid();
        let features = plain.backbone.forward(plain_clips(&batch, &device).unwrap());
        // Scaling the features is the same as scaling all values of the last stage.
        let logit = |growth: f64| {
            let grown = features.clone().mul_scalar(1.0 + growth);
            let logits = plain.classify(grown, &ViewLayout::new(vec![2]), &[], None).logits;
            f64::from(logits[1].clone().slice([0..1, 5..6]).into_scalar::<f32>())
        };
        let slope = (logit(1e-2) - logit(-1e-2)) / 2e-2;
        let clips = plain_clips(&batch, &device).unwrap();
        let (parts, [t, h, w]) = contributions(&net, clips, &batch, &[], [1, 5]);
        assert_eq!(parts.dims(), [2, t * h * w]);
        let sum = f64::from(parts.sum().into_scalar::<f32>());
        assert!((sum - slope).abs() < 1e-2 * slope.abs().max(0.05), "{sum} {slope}");
        let all = saliency(&net, &batch, &[], [1, 5], &device).unwrap();
        assert_eq!(all.len(), 2);
        let values = || all.iter().flat_map(|clip| &clip.values);
        assert!(values().all(|value| (0.0..=1.0).contains(value)));
    }

    #[test]
    fn values_lie_in_the_centres_of_their_cells() {
        let saliency = Saliency { size: [2, 1, 2], values: vec![0.0, 0.4, 0.8, 1.0] };
        assert!((saliency.at([0.25, 0.5, 0.75]) - 0.4).abs() < 1e-6);
        assert!((saliency.at([0.5, 0.5, 0.5]) - 0.55).abs() < 1e-6);
        assert_eq!(saliency.at([0.0, 0.0, 0.0]), 0.0);
        assert_eq!(saliency.at([1.0, 1.0, 1.0]), 1.0);
        assert_eq!(saliency.moment(), 0.75);
    }
}
