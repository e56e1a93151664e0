//! uint8 frames from the host to normalised f32 clips on the device.

use burn::tensor::{Device, Int, Tensor, TensorData};

pub use crate::augment::{MEAN, STD};
use crate::data::Batch;

/// Sends a batch and normalises it: `[N, 3, T, H, W]`, (x/255 − mean)/std.
///
/// A quarter of the bytes of f32 cross the bus. Four uint8 travel in one 32-bit word, since WGSL
/// has no smaller type, and are taken apart on the device.
pub fn to_clips(batch: &Batch, device: &Device) -> Tensor<5> {
    let [t, h, w] = batch.size;
    let n = batch.clips();
    let count = batch.frames.len();
    let words: Vec<i32> = batch
        .frames
        .chunks(4)
        .map(|bytes| {
            let mut word = [0; 4];
            word[..bytes.len()].copy_from_slice(bytes);
            i32::from_le_bytes(word)
        })
        .collect();
    let len = words.len();
    let words = Tensor::<2, Int>::from_data(TensorData::new(words, [len, 1]), device);
    let bytes = (0..4)
        .map(|byte| words.clone().bitwise_right_shift_scalar(8 * byte).bitwise_and_scalar(255))
        .collect();
    let pixels = Tensor::cat(bytes, 1).reshape([len * 4]).narrow(0, 0, count).float();
    let constant =
        |values: [f32; 3]| Tensor::<2>::from_data(TensorData::new(values.to_vec(), [1, 3]), device);
    let scale = constant(STD.map(|std| 1.0 / (255.0 * std)));
    let shift = constant([0, 1, 2].map(|c| MEAN[c] / STD[c]));
    let pixels = pixels.reshape([count / 3, 3]).mul(scale).sub(shift);
    pixels.reshape([n, t, h, w, 3]).permute([0, 4, 1, 2, 3])
}
