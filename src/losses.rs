//! Losses over the logits of one task, with PyTorch's definitions.

use burn::tensor::activation::log_softmax;
use burn::tensor::{Int, Tensor, TensorData};

/// Mean cross-entropy of logits `[B, C]` against class indices, with label smoothing s in [0, 1]
/// and optional class weights w:
///
/// ce_i = (1 − s)·w_y·(−log p_y) + s/C·Σ_c w_c·(−log p_c), loss = Σ ce_i / Σ w_{y_i}
///
/// (torch.nn.functional.cross_entropy). Returns a scalar as `[1]`.
pub fn cross_entropy(
    logits: Tensor<2>,
    targets: &[usize],
    class_weights: Option<&[f32]>,
    label_smoothing: f64,
) -> Tensor<1> {
    let [b, c] = logits.dims();
    let weight = |class: usize| class_weights.map_or(1.0, |w| w[class]);
    // One constant matrix holds smoothing, weights and the divisor, so the device multiplies once.
    let divisor: f32 = targets.iter().map(|&y| weight(y)).sum();
    let smooth = label_smoothing as f32;
    let mut factors = vec![0.0_f32; b * c];
    for (row, &y) in factors.chunks_mut(c).zip(targets) {
        for (class, factor) in row.iter_mut().enumerate() {
            let target = if class == y { 1.0 - smooth } else { 0.0 };
            *factor = -(target + smooth / c as f32) * weight(class) / divisor;
        }
    }
    let factors = Tensor::<2>::from_data(TensorData::new(factors, [b, c]), &logits.device());
    log_softmax(logits, 1).mul(factors).sum()
}

/// Class of the largest logit for each row of `[B, C]`.
pub fn argmax(logits: Tensor<2>) -> Tensor<1, Int> {
    let [b, _] = logits.dims();
    logits.argmax(1).reshape([b])
}
