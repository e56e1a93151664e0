// Second stage of the sums: dβ = Σ g, dγ = Σ g·(x − mean) / √(var + ε), and the factors of
//     dx = γ / √(var + ε) · (g − dβ / count − x̂·dγ / count).

@group(0) @binding(0) var<storage, read_write> parts: array<f32>;
@group(0) @binding(1) var<storage, read_write> gamma: array<f32>;
@group(0) @binding(2) var<storage, read_write> mean: array<f32>;
@group(0) @binding(3) var<storage, read_write> variance: array<f32>;
@group(0) @binding(4) var<storage, read_write> d_gamma: array<f32>;
@group(0) @binding(5) var<storage, read_write> d_beta: array<f32>;
@group(0) @binding(6) var<storage, read_write> factors: array<f32>;
@group(0) @binding(7) var<storage, read_write> params: array<u32>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let channel = id.x;
    let chunks = params[1];
    if (channel >= params[0]) {
        return;
    }
    var straight = 0.0;
    var along = 0.0;
    for (var chunk = 0u; chunk < chunks; chunk++) {
        let at = 2u * (channel * chunks + chunk);
        straight += parts[at];
        along += parts[at + 1u];
    }
    let rstd = 1.0 / sqrt(variance[channel] + bitcast<f32>(params[2]));
    let count = bitcast<f32>(params[3]);
    let scale = gamma[channel] * rstd;
    d_gamma[channel] = along * rstd;
    d_beta[channel] = straight;
    factors[4u * channel] = mean[channel];
    factors[4u * channel + 1u] = scale;
    factors[4u * channel + 2u] = straight / count;
    factors[4u * channel + 3u] = along * rstd * rstd / count;
}
