// Gradient of batch normalisation, its sums: Σ g and Σ g·(x − mean) of one chunk of one channel per
// workgroup, where g is dy, and 0 where the ReLU was closed.
//
// Without a residual the mask of the ReLU follows from x, by what the forward pass computed, bit
// for bit. With one it is read from `kept`, and g is written: it is the residual's gradient, and
// the pass that follows takes it in the place of dy.
//
// Template: `element` is f32, or vec4<f32> where S is a multiple of 4, `lanes` its width; `masked`
// declares the binding of g, `gradient` is its value and `write` writes it; `params` is the number
// of the last binding; `stored`, `dy_stored` and `masked_stored` are elements as x, dy and g are held,
// `functions` load and store them where that is not in f32, `x` is the value of x.

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
var<workgroup> found: array<vec2<f32>, THREADS>;

fn sum(value: Element) -> f32 {
    return {{ sum }};
}

{{ opened }}
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
    var straight = Element(0.0);
    var along = Element(0.0);
    for (; step < end; step += THREADS) {
        let at_plane = image * channels + channel;
        let at = at_plane * plane + inner;
        let apart = {{ x }} - mean;
        let gradient = {{ gradient }};
        {{ write }}
        straight += gradient;
        along += gradient * apart;
        image += params.image_step;
        inner += params.plane_step;
        if (inner >= plane) {
            inner -= plane;
            image++;
        }
    }
    found[local] = vec2(sum(straight), sum(along));
    for (var half = THREADS / 2u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if (local < half) {
            found[local] += found[local + half];
        }
    }
    if (local == 0u) {
        let to = 2u * (channel * groups.x + group.x);
        parts[to] = found[0].x;
        parts[to + 1u] = found[0].y;
    }
}
