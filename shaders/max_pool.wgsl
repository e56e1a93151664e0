// Max pooling of every `[T, H, W]` volume of a tensor with a 3×3×3 window, stride 2 and padding 1.
// An invocation computes four neighbouring values of the result; past the last one it writes zeros.
//
// Template: `source` and `stored` are the element types of x and y, `load` and `store` the
// functions that read and write an element, `read` and `write` their calls.

struct Params {
    // Number of values in the result.
    values: u32,
    from_t: u32,
    from_h: u32,
    from_w: u32,
    to_t: u32,
    to_h: u32,
    to_w: u32,
}

@group(0) @binding(0) var<storage, read_write> x: array<{{ source }}>;
@group(0) @binding(1) var<storage, read_write> y: array<{{ stored }}>;
@group(0) @binding(2) var<storage, read> params: Params;

{{ load }}
{{ store }}
// Returns the first and last position of the window around `2 * index` along an axis of length
// `size`.
fn window(index: u32, size: u32) -> vec2<u32> {
    return vec2(max(2u * index, 1u) - 1u, min(2u * index + 1u, size - 1u));
}

fn value(at: u32) -> f32 {
    if (at >= params.values) {
        return 0.0;
    }
    let row = at / params.to_w;
    let plane = row / params.to_h;
    let volume = plane / params.to_t;
    let t = window(plane % params.to_t, params.from_t);
    let h = window(row % params.to_h, params.from_h);
    let w = window(at % params.to_w, params.from_w);
    var most = -3.4028234e38;
    for (var i = t.x; i <= t.y; i++) {
        for (var j = h.x; j <= h.y; j++) {
            let line = ((volume * params.from_t + i) * params.from_h + j) * params.from_w;
            for (var k = w.x; k <= w.y; k++) {
                let index = line + k;
                most = max(most, {{ read }});
            }
        }
    }
    return most;
}

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let at = (group.x + group.y * groups.x) * 64u + local;
    let first = 4u * at;
    if (first >= params.values) {
        return;
    }
    let four = vec4(value(first), value(first + 1u), value(first + 2u), value(first + 3u));
    {{ write }}
}
