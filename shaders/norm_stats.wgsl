// Statistics of batch normalisation of [N, C, S]: mean and sum of squared deviations of one chunk
// of one channel per workgroup. Welford's recurrence within an invocation, merged pairwise (Chan et
// al.), so that a mean far from zero costs no precision.
//
// Template: `element` is f32, or vec4<f32> where S is a multiple of 4; `lanes` is its width;
// `stored` is the element type of x, `load` the function that loads an element that is not f32,
// `value` its call.

alias Element = {{ element }};
const LANES: f32 = {{ lanes }}.0;
const THREADS: u32 = 256u;

{{ norm_reduce.wgsl }}
@group(0) @binding(0) var<storage, read_write> x: array<{{ stored }}>;
@group(0) @binding(1) var<storage, read_write> parts: array<f32>;
@group(0) @binding(2) var<storage, read> params: Params;

{{ load }}
// Count, mean, sum of squared deviations.
var<workgroup> partials: array<vec3<f32>, THREADS>;

fn sum(value: Element) -> f32 {
    return {{ sum }};
}

{{ norm_pairs.wgsl }}
@compute @workgroup_size(THREADS)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let channels = params.channels;
    let plane = params.plane;
    let channel = group.y;
    let end = min((group.x + 1u) * params.chunk, params.elements);
    var at = group.x * params.chunk + local;
    var image = at / plane;
    var inner = at - image * plane;
    var count = 0.0;
    var mean = Element(0.0);
    var squares = Element(0.0);
    for (; at < end; at += THREADS) {
        let value = {{ value }};
        count += 1.0;
        let before = value - mean;
        mean += before / count;
        squares += before * (value - mean);
        image += params.image_step;
        inner += params.plane_step;
        if (inner >= plane) {
            inner -= plane;
            image++;
        }
    }
    let middle = sum(mean) / LANES;
    let offset = mean - middle;
    partials[local] = vec3(count * LANES, middle, sum(squares) + count * sum(offset * offset));
    for (var half = THREADS / 2u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if (local < half) {
            partials[local] = merge(partials[local], partials[local + half]);
        }
    }
    if (local == 0u) {
        let to = 2u * (channel * groups.x + group.x);
        parts[to] = partials[0].y;
        parts[to + 1u] = partials[0].z;
    }
}
