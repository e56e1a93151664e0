// y = relu?((x − mean)·scale + β (+ residual)) with scale = γ / √(var + ε), reading each value
// once.
//
// With the batch's statistics, mean and variance come as parts, which every invocation merges (Chan
// et al.): there are few, and a separate launch would cost more. The values that the backward pass
// needs are kept: mean, variance, scale and β in one row each and, with a residual, the mask of the
// ReLU, one bit per value.
//
// Template: `element` is f32 or vec4<f32>, `lanes` its width, `bits` the type of its bits and
// `truth` that of a comparison; `stored` and `result` are the element types of x and y, `x` and
// `write` read and write an element, `functions` are the functions that they call; `statistics`
// declares the bindings of the parts and of what is kept, or of given statistics,
// `channel_statistics` reads them and `keep` stores them; `residual` declares its binding and `add`
// adds its value; `relu` tells whether a ReLU follows; `positive_bits`, `begin`, `collect` and
// `mask` store its mask; `params` is the number of the last binding.

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
{{ channel_statistics }}
// Whether the value is -0 or less, judged by its bits, because compilers may assume that there is
// no NaN. NaN is not, so it is kept, and a network that diverged is noticed; the maximum of NaN and
// 0 may be 0.
fn is_below(value: Element) -> {{ truth }} {
    return bitcast<{{ bits }}>(value) - {{ bits }}(0x80000000u) <= {{ bits }}(0x7f800000u);
}
{{ positive_bits }}
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
    let statistics = channel_statistics(channel);
    let mean = Element(statistics.x);
    let scale = gamma[channel] / sqrt(statistics.y + params.epsilon);
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
