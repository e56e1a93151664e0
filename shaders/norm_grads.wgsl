// Sums for the gradient of batch normalisation: Σ g and Σ g·(x − mean) of one chunk of one channel
// per workgroup, where g is dy, set to 0 where the ReLU's output was 0.
//
// Without a residual the mask of the ReLU is recomputed from x, bit for bit as in the forward pass.
// With a residual it is read from `kept`, and g is written: it is the residual's gradient, and the
// next pass reads it instead of dy.
//
// Template: `element` is f32, or vec4<f32> where S is a multiple of 4, `lanes` its width; `masked`
// declares the binding of g, `gradient` is its value and `write` writes it; `layer` loads what the
// mask is recomputed from and `is_positive` reads a stored mask; `params` is the number of the last
// binding; `stored` and `dy_stored` are the element types of x and dy, `functions` load and store
// elements that are not f32, `x` is the value of x.

alias Element = {{ element }};
const LANES: u32 = {{ lanes }}u;
const THREADS: u32 = 256u;

{{ norm_reduce.wgsl }}
@group(0) @binding(0) var<storage, read_write> x: array<{{ stored }}>;
@group(0) @binding(1) var<storage, read_write> dy: array<{{ dy_stored }}>;
@group(0) @binding(2) var<storage, read_write> kept: array<u32>;
@group(0) @binding(3) var<storage, read_write> parts: array<f32>;
{{ masked }}
@group(0) @binding({{ params }}) var<storage, read> params: Params;

{{ functions }}
var<workgroup> partials: array<vec2<f32>, THREADS>;

fn sum(value: Element) -> f32 {
    return {{ sum }};
}

{{ is_positive }}
@compute @workgroup_size(THREADS)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let channels = params.channels;
    let plane = params.plane;
    let channel = group.y;
    let mean = Element(bitcast<f32>(kept[channel]));
    {{ layer }}
    let end = min((group.x + 1u) * params.chunk, params.elements);
    var step = group.x * params.chunk + local;
    var image = step / plane;
    var inner = step - image * plane;
    var sum_g = Element(0.0);
    var sum_gx = Element(0.0);
    for (; step < end; step += THREADS) {
        let at_plane = image * channels + channel;
        let at = at_plane * plane + inner;
        let deviation = {{ x }} - mean;
        let gradient = {{ gradient }};
        {{ write }}
        sum_g += gradient;
        sum_gx += gradient * deviation;
        image += params.image_step;
        inner += params.plane_step;
        if (inner >= plane) {
            inner -= plane;
            image++;
        }
    }
    partials[local] = vec2(sum(sum_g), sum(sum_gx));
    for (var half = THREADS / 2u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if (local < half) {
            partials[local] += partials[local + half];
        }
    }
    if (local == 0u) {
        let to = 2u * (channel * groups.x + group.x);
        parts[to] = partials[0].x;
        parts[to + 1u] = partials[0].y;
    }
}
