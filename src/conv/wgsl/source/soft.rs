//! The kernels in registers.

use super::{Lines, PARTS, four, index, line, phase};
use crate::conv::wgsl::tile::SoftTile;
use crate::kernels::plan::fill;
use crate::kernels::storage::Storage;

fn tensor() -> (&'static str, String) {
    ("conv_tensor.wgsl", include_str!("../../../../shaders/include/conv_tensor.wgsl").to_owned())
}

/// Returns the bindings and the function that pack the n-th tensor, which is stored as `stored`.
fn pack_tensor(n: u32, stored: Storage) -> String {
    let source = format!("src{n}");
    let read = |at: &str| stored.read(&source, at);
    let values = [
        ("n", n.to_string()),
        ("from", (2 * n).to_string()),
        ("to", (2 * n + 1).to_string()),
        ("element", stored.element(false).to_owned()),
        ("load", stored.load(&source, false)),
        ("x", read("first")),
        ("y", read("first + pitch")),
        ("z", read("first + 2u * pitch")),
        ("w", read("first + 3u * pitch")),
    ];
    fill(include_str!("../../../../shaders/include/conv_soft_tensor.wgsl"), &values)
}

/// Returns the source of `conv_soft_pack.wgsl`; the first tensor is stored as `first`, a second one
/// like its gradient.
pub(in crate::conv::wgsl) fn soft_pack(tensors: u32, first: Storage) -> String {
    let mut cases = Lines::default();
    for n in (0..tensors).rev() {
        line!(cases, "if (number >= params.first_group[{n}u]) {{");
        line!(cases, "let at = (number - params.first_group[{n}u]) * 64u + local;");
        line!(cases, "pack{n}(at, params.tensors[{n}u]);");
        line!(cases, "return;");
        line!(cases, "}}");
    }
    let tensor_text = |n| pack_tensor(n, if n == 0 { first } else { first.gradient() });
    let values = [
        tensor(),
        ("tensors", (0..tensors).map(tensor_text).collect()),
        ("cases", cases.0),
        ("params", (2 * tensors).to_string()),
    ];
    first.directive().to_owned()
        + &fill(include_str!("../../../../shaders/conv_soft_pack.wgsl"), &values)
}

/// Returns the source of `conv_soft_gather.wgsl`.
pub(in crate::conv::wgsl) fn soft_gather(tile: SoftTile, in_place: bool) -> String {
    let SoftTile { tm, tn, lanes } = tile;
    let mut declare = Lines::default();
    let mut multiply = Lines::default();
    let mut write = Lines::default();
    for j in 0..tn {
        line!(declare, "let s{j} = src_of(min(column0 + {j}u, last), phase);");
        line!(multiply, "let y{j} = src[s{j} + b_at];");
        line!(write, "if (column0 + {j}u < columns) {{");
        line!(write, "let to = dst_of(column0 + {j}u, phase) + row0 * plane;");
        for i in 0..tm {
            line!(write, "if (row0 + {i}u < rows) {{ dst[to + {i}u * plane] = c{i}_{j}; }}");
        }
        line!(write, "}}");
    }
    // Rows past the last repeat the last row. Each invocation loads every `lanes`-th row.
    for i in 0..tm.div_ceil(lanes) {
        let row = format!("row0 + lane + {}u", i * lanes);
        match in_place {
            true => {
                line!(declare, "let r{i} = min({row}, rows - 1u) * row_step;");
                line!(multiply, "let f{i} = r{i} + a_at + 4u * k * channel_step;");
                let part = |e: u32| {
                    format!("packed[f{i} + min({e}u, top - min(4u * k, top)) * channel_step]")
                };
                line!(
                    multiply,
                    "let z{i} = vec4({}, {}, {}, {});",
                    part(0),
                    part(1),
                    part(2),
                    part(3)
                );
            }
            false => {
                line!(declare, "let r{i} = ({row}) * row_step;");
                line!(multiply, "let z{i} = packed[r{i} + a_at + k * channel_step];");
            }
        }
    }
    if in_place {
        line!(
            declare,
            "// Past the last channel the source is 0, so that any existing weight will do."
        );
        line!(declare, "let top = params.channels - 1u;");
    }
    for i in 0..tm {
        line!(multiply, "let x{i} = subgroupBroadcast(z{}, {}u);", i / lanes, i % lanes);
        for j in 0..tn {
            line!(declare, "var c{i}_{j} = 0.0;");
            line!(multiply, "{}", four(i, j));
        }
    }
    let mut values = soft_values(tile);
    values.extend([
        phase(),
        index(),
        ("packed", if in_place { "f32" } else { "vec4<f32>" }.to_owned()),
        ("declare", declare.0),
        ("multiply", multiply.0),
        ("write", write.0),
    ]);
    fill(include_str!("../../../../shaders/conv_soft_gather.wgsl"), &values)
}

/// Returns the source of `conv_soft_weight.wgsl`.
pub(in crate::conv::wgsl) fn soft_weight(tile: SoftTile) -> String {
    let SoftTile { tm, tn, lanes } = tile;
    let mut declare = Lines::default();
    let mut multiply = Lines::default();
    let mut write = Lines::default();
    for j in 0..tn / 4 {
        line!(multiply, "let y{j} = x[b_at + {j}u * x_pitch];");
    }
    let quarter = tm / 4;
    for i in 0..quarter.div_ceil(lanes) {
        // The last load may not need all lanes.
        line!(declare, "let r{i} = min(lane + {}u, {}u) * dy_pitch;", i * lanes, quarter - 1);
        line!(multiply, "let z{i} = dy[a_at + r{i}];");
    }
    for i in 0..tm {
        let (of, a) = (i / 4, PARTS[i as usize % 4]);
        if i % 4 == 0 {
            line!(multiply, "let x{of} = subgroupBroadcast(z{}, {}u);", of / lanes, of % lanes);
        }
        line!(write, "if (row0 + {i}u < rows) {{");
        line!(write, "let to = ((row0 + {i}u) * channels + channel0) * taps + tap;");
        for j in 0..tn {
            let b = PARTS[j as usize % 4];
            line!(declare, "var c{i}_{j} = 0.0;");
            line!(multiply, "c{i}_{j} = fma(x{of}.{a}, y{}.{b}, c{i}_{j});", j / 4);
            line!(write, "if (channel0 + {j}u < channels) {{ dst[to + {j}u * taps] = c{i}_{j}; }}");
        }
        line!(write, "}}");
    }
    let mut values = soft_values(tile);
    values.extend([("declare", declare.0), ("multiply", multiply.0), ("write", write.0)]);
    fill(include_str!("../../../../shaders/conv_soft_weight.wgsl"), &values)
}

fn soft_values(tile: SoftTile) -> Vec<(&'static str, String)> {
    vec![
        ("tm", tile.tm.to_string()),
        ("tn", tile.tn.to_string()),
        ("lanes", tile.lanes.to_string()),
    ]
}
