// Computes Σ x² of one chunk per workgroup over several tensors, one slot each, and writes it to a
// buffer of the chunks' sums.
//
// Template: `element` is f32, or vec4<f32> where every length is a multiple of 4; `slots` is the
// number of tensors; `bindings` declares them and `cases` adds up a chunk of one; `sums` and
// `params` are the numbers of the last bindings.

alias Element = {{ element }};
const SLOTS: u32 = {{ slots }}u;
const THREADS: u32 = 256u;

// One tensor.
struct Slot {
    // Number of elements, and its first chunk.
    elements: u32,
    first_chunk: u32,
}

struct Params {
    // Elements per chunk.
    chunk: u32,
    // Number of chunks of all slots, and index of the first chunk's sum.
    chunks: u32,
    first: u32,
    slots: array<Slot>,
}

{{ bindings }}
@group(0) @binding({{ sums }}) var<storage, read_write> parts: array<f32>;
@group(0) @binding({{ params }}) var<storage, read> params: Params;

var<workgroup> partials: array<f32, THREADS>;

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
    var index = 0u;
    for (var i = 1u; i < SLOTS; i++) {
        index = select(index, i, chunk >= params.slots[i].first_chunk);
    }
    let slot = params.slots[index];
    let start = (chunk - slot.first_chunk) * params.chunk;
    let end = min(start + params.chunk, slot.elements);
    var squares = Element(0.0);
    switch (index) {
        {{ cases }}
        default: {}
    }
    partials[local] = sum(squares);
    for (var half = THREADS / 2u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if (local < half) {
            partials[local] += partials[local + half];
        }
    }
    if (local == 0u && chunk < params.chunks) {
        parts[params.first + chunk] = partials[0];
    }
}
