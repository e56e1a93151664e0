// Σ x² of one chunk per workgroup, into one element of a buffer that gathers the chunks of many.
//
// Template: `element` is f32, or vec4<f32> where the length is a multiple of 4.

alias Element = {{ element }};
const THREADS: u32 = 256u;

struct Params {
    // Elements in all, and of a chunk.
    elements: u32,
    chunk: u32,
    // Number of chunks, and where the first one's sum goes.
    chunks: u32,
    first: u32,
}

@group(0) @binding(0) var<storage, read_write> x: array<Element>;
@group(0) @binding(1) var<storage, read_write> parts: array<f32>;
@group(0) @binding(2) var<storage, read> params: Params;

var<workgroup> found: array<f32, THREADS>;

fn sum(value: Element) -> f32 {
    return {{ sum }};
}

@compute @workgroup_size(THREADS)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let chunk = group.x + group.y * groups.x;
    let end = min((chunk + 1u) * params.chunk, params.elements);
    var squares = Element(0.0);
    for (var at = chunk * params.chunk + local; at < end; at += THREADS) {
        squares += x[at] * x[at];
    }
    found[local] = sum(squares);
    for (var half = THREADS / 2u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if (local < half) {
            found[local] += found[local + half];
        }
    }
    if (local == 0u && chunk < params.chunks) {
        parts[params.first + chunk] = found[0];
    }
}
