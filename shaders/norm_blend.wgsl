// Running statistics after a batch, per channel:
//     mean ← (1 − momentum)·mean + momentum·(batch's mean),
//     variance ← (1 − momentum)·variance + momentum·unbiased·(batch's variance).

struct Params {
    channels: u32,
    // 1 − momentum, momentum, momentum·unbiased.
    keep: f32,
    mean_share: f32,
    variance_share: f32,
}

@group(0) @binding(0) var<storage, read_write> running_mean: array<f32>;
@group(0) @binding(1) var<storage, read_write> running_variance: array<f32>;
@group(0) @binding(2) var<storage, read_write> mean: array<f32>;
@group(0) @binding(3) var<storage, read_write> variance: array<f32>;
@group(0) @binding(4) var<storage, read_write> next_mean: array<f32>;
@group(0) @binding(5) var<storage, read_write> next_variance: array<f32>;
@group(0) @binding(6) var<storage, read> params: Params;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let channel = id.x;
    if (channel >= params.channels) {
        return;
    }
    next_mean[channel] = running_mean[channel] * params.keep + mean[channel] * params.mean_share;
    next_variance[channel] =
        running_variance[channel] * params.keep + variance[channel] * params.variance_share;
}
