// Second stage of the sums: dβ = Σ g, dγ = Σ g·(x − mean) / √(var + ε), and the factors of
//     dx = γ / √(var + ε) · (g − dβ / count − x̂·dγ / count).

struct Params {
    channels: u32,
    // Chunks of a channel.
    chunks: u32,
    epsilon: f32,
    // Values of a channel.
    count: f32,
}

@group(0) @binding(0) var<storage, read_write> parts: array<f32>;
@group(0) @binding(1) var<storage, read_write> gamma: array<f32>;
@group(0) @binding(2) var<storage, read_write> mean: array<f32>;
@group(0) @binding(3) var<storage, read_write> variance: array<f32>;
@group(0) @binding(4) var<storage, read_write> d_gamma: array<f32>;
@group(0) @binding(5) var<storage, read_write> d_beta: array<f32>;
@group(0) @binding(6) var<storage, read_write> factors: array<f32>;
@group(0) @binding(7) var<storage, read> params: Params;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let channel = id.x;
    let chunks = params.chunks;
    if (channel >= params.channels) {
        return;
    }
    var straight = 0.0;
    var along = 0.0;
    for (var chunk = 0u; chunk < chunks; chunk++) {
        let at = 2u * (channel * chunks + chunk);
        straight += parts[at];
        along += parts[at + 1u];
    }
    let rstd = 1.0 / sqrt(variance[channel] + params.epsilon);
    let scale = gamma[channel] * rstd;
    d_gamma[channel] = along * rstd;
    d_beta[channel] = straight;
    factors[4u * channel] = mean[channel];
    factors[4u * channel + 1u] = scale;
    factors[4u * channel + 2u] = straight / params.count;
    factors[4u * channel + 3u] = along * rstd * rstd / params.count;
}
