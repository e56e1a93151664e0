// y = relu?((x − mean)·scale + β (+ residual)), each value once, with scale = γ / √(var + ε).
//
// By the batch's statistics, mean and variance come as parts, which every invocation merges by
// itself (Chan et al.): they are few, and a launch of its own would cost more. What the backward
// pass needs is kept: mean, variance, scale and β in a row each, and with a residual the mask of
// the ReLU, one bit for each value.
//
// Template: `element` is f32 or vec4<f32>, `lanes` its width, `bits` and `truth` its bits and what is
// true of it; `stored` and `result` are elements as x
// and y hold them, `x` and `write` read and write one, `functions` is what they call; `statistics` declares the bindings
// of the parts and of what is kept, or of given statistics, `find` reads them and `keep` keeps
// them; `residual` declares its binding and `add` adds its value; `relu` is whether a ReLU follows;
// `open`, `collect` and `mask` keep its mask; `params` is the number of the last binding.

alias Element = {{ element }};
const LANES: u32 = {{ lanes }}u;
const RELU: bool = {{ relu }};
const THREADS: u32 = 256u;

{{ norm_each.wgsl }}
@group(0) @binding(0) var<storage, read_write> x: array<{{ stored }}>;
@group(0) @binding(1) var<storage, read_write> gamma: array<f32>;
@group(0) @binding(2) var<storage, read_write> beta: array<f32>;
@group(0) @binding(3) var<storage, read_write> y: array<{{ result }}>;
{{ statistics }}
{{ residual }}
@group(0) @binding({{ params }}) var<storage, read> params: Params;

{{ functions }}
{{ find }}
// Whether it is -0 or less, told by its bits, whatever a compiler assumes of numbers: NaN is not, and
// stays, so that a network that went wrong is noticed. The maximum of NaN and 0 may be 0.
fn is_below(value: Element) -> {{ truth }} {
    return bitcast<{{ bits }}>(value) - {{ bits }}(0x80000000u) <= {{ bits }}(0x7f800000u);
}
{{ open }}
@compute @workgroup_size(THREADS)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let share = share_of(group, groups, local);
    if (share.plane >= params.planes) {
        return;
    }
    let channel = share.channel;
    // Mean and variance.
    let found = find(channel);
    let mean = Element(found.x);
    let scale = gamma[channel] / sqrt(found.y + params.epsilon);
    let shift = beta[channel];
    {{ keep }}
    {{ begin }}
    for (var step = 0u; step < STEPS; step++) {
        let inner = share.first + step * share.lanes;
        if (inner >= params.plane) {
            break;
        }
        let at = share.start + inner;
        var value = fma({{ x }} - mean, Element(scale), Element(shift)){{ add }};
        if (RELU) {
            value = select(value, Element(0.0), is_below(value));
        }
        {{ write }}
        {{ collect }}
    }
    {{ mask }}
}
