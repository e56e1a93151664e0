// Second stage of the statistics: the chunks of a channel merged in their order. Writes mean,
// biased variance, and what the normalisation needs:
//     y = (x − mean)·scale + β,  scale = γ / √(var + ε).

struct Params {
    channels: u32,
    // Chunks of a channel.
    chunks: u32,
    epsilon: f32,
}

@group(0) @binding(0) var<storage, read_write> parts: array<f32>;
@group(0) @binding(1) var<storage, read_write> gamma: array<f32>;
@group(0) @binding(2) var<storage, read_write> beta: array<f32>;
@group(0) @binding(3) var<storage, read_write> mean: array<f32>;
@group(0) @binding(4) var<storage, read_write> variance: array<f32>;
@group(0) @binding(5) var<storage, read_write> factors: array<f32>;
@group(0) @binding(6) var<storage, read> params: Params;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let channel = id.x;
    let chunks = params.chunks;
    if (channel >= params.channels) {
        return;
    }
    var count = 0.0;
    var middle = 0.0;
    var squares = 0.0;
    for (var chunk = 0u; chunk < chunks; chunk++) {
        let at = 3u * (channel * chunks + chunk);
        let more = parts[at];
        let share = more / max(count + more, 1.0);
        let apart = parts[at + 1u] - middle;
        middle += apart * share;
        squares += parts[at + 2u] + apart * apart * count * share;
        count += more;
    }
    let biased = squares / count;
    mean[channel] = middle;
    variance[channel] = biased;
    factors[3u * channel] = middle;
    factors[3u * channel + 1u] = gamma[channel] / sqrt(biased + params.epsilon);
    factors[3u * channel + 2u] = beta[channel];
}
