// Updates the running statistics of several layers after a batch, per channel:
//     mean ← (1 − momentum)·mean + momentum·(batch's mean),
//     variance ← (1 − momentum)·variance + momentum·unbiased·(batch's variance).
//
// Template: `layers` declares four bindings per layer, the running mean and variance and the
// batch's, and `read` reads those of the workgroup's layer; `next` and `params` are the numbers of
// the last bindings.

struct Layer {
    channels: u32,
    // Where the layer's next mean and variance start in `next`.
    mean: u32,
    variance: u32,
    // momentum·unbiased.
    variance_share: f32,
}

struct Params {
    // 1 − momentum, momentum.
    keep: f32,
    mean_share: f32,
    layers: array<Layer>,
}

{{ layers }}
@group(0) @binding({{ next }}) var<storage, read_write> next: array<f32>;
@group(0) @binding({{ params }}) var<storage, read> params: Params;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(global_invocation_id) id: vec3<u32>,
) {
    let layer = params.layers[group.y];
    let channel = id.x;
    if (channel >= layer.channels) {
        return;
    }
    // Mean and variance.
    var running = vec2(0.0);
    var batch = vec2(0.0);
    switch (group.y) {
        {{ read }}
        default: {}
    }
    let next_both = running * params.keep + batch * vec2(params.mean_share, layer.variance_share);
    next[layer.mean + channel] = next_both.x;
    next[layer.variance + channel] = next_both.y;
}
