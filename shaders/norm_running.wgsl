// What normalisation with given statistics multiplies and adds, per channel: for the forward pass
//     (mean, γ / √(var + ε), β),
// and for its gradient, which does not reach the statistics,
//     (mean, γ / √(var + ε), 0, 0).

@group(0) @binding(0) var<storage, read_write> gamma: array<f32>;
@group(0) @binding(1) var<storage, read_write> beta: array<f32>;
@group(0) @binding(2) var<storage, read_write> mean: array<f32>;
@group(0) @binding(3) var<storage, read_write> variance: array<f32>;
@group(0) @binding(4) var<storage, read_write> factors: array<f32>;
@group(0) @binding(5) var<storage, read_write> params: array<u32>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let channel = id.x;
    let words = params[2];
    if (channel >= params[0]) {
        return;
    }
    let at = words * channel;
    factors[at] = mean[channel];
    factors[at + 1u] = gamma[channel] / sqrt(variance[channel] + bitcast<f32>(params[1]));
    if (words == 3u) {
        factors[at + 2u] = beta[channel];
    } else {
        factors[at + 2u] = 0.0;
        factors[at + 3u] = 0.0;
    }
}
