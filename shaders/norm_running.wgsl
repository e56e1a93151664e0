// Per-channel factors of normalisation with given statistics: for the forward pass
//     (mean, γ / √(var + ε), β),
// and for its gradient, in which the statistics are constants,
//     (mean, γ / √(var + ε), 0, 0).

struct Params {
    channels: u32,
    epsilon: f32,
    // Factors of a channel: 3 forward, 4 for the gradient.
    factors: u32,
}

@group(0) @binding(0) var<storage, read_write> gamma: array<f32>;
@group(0) @binding(1) var<storage, read_write> beta: array<f32>;
@group(0) @binding(2) var<storage, read_write> mean: array<f32>;
@group(0) @binding(3) var<storage, read_write> variance: array<f32>;
@group(0) @binding(4) var<storage, read_write> factors: array<f32>;
@group(0) @binding(5) var<storage, read> params: Params;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let channel = id.x;
    if (channel >= params.channels) {
        return;
    }
    let at = params.factors * channel;
    factors[at] = mean[channel];
    factors[at + 1u] = gamma[channel] / sqrt(variance[channel] + params.epsilon);
    if (params.factors == 3u) {
        factors[at + 2u] = beta[channel];
    } else {
        factors[at + 2u] = 0.0;
        factors[at + 3u] = 0.0;
    }
}
