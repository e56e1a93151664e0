//! The source of the products' shaders: templates filled with sizes and unrolled loops.

use std::fmt::Write;

use super::tile::{SoftTile, Tile};
use crate::kernels::plan::fill;

const PARTS: [&str; 4] = ["x", "y", "z", "w"];

/// Lines of an unrolled loop. Not every shader compiler unrolls every loop over an array of
/// registers; where one does not, the array ends up in memory.
#[derive(Default)]
struct Lines(String);

impl Lines {
    fn push(&mut self, line: std::fmt::Arguments) {
        // Writing to a string does not fail.
        let _ = writeln!(self.0, "{line}");
    }
}

macro_rules! line {
    ($lines:expr, $($text:tt)*) => { $lines.push(format_args!($($text)*)) };
}

fn phase() -> (&'static str, String) {
    ("conv_phase.wgsl", include_str!("../../../shaders/include/conv_phase.wgsl").to_owned())
}

fn index() -> (&'static str, String) {
    ("conv_index.wgsl", include_str!("../../../shaders/include/conv_index.wgsl").to_owned())
}

fn mask() -> (&'static str, String) {
    ("conv_mask.wgsl", include_str!("../../../shaders/include/conv_mask.wgsl").to_owned())
}

fn tile_values(tile: Tile) -> Vec<(&'static str, String)> {
    vec![
        ("bm", tile.rows().to_string()),
        ("bn", tile.columns().to_string()),
        ("tm", tile.tm.to_string()),
        ("tn", tile.tn.to_string()),
        ("tx", tile.tx.to_string()),
        ("ty", tile.ty.to_string()),
        ("threads", tile.threads().to_string()),
    ]
}

/// `conv_gather.wgsl`.
pub(super) fn gather(tile: Tile, flat: bool) -> String {
    let Tile { tm, tn, .. } = tile;
    let (bm, bn, threads) = (tile.rows(), tile.columns(), tile.threads());
    let mut declare = Lines::default();
    let mut load = Lines::default();
    let mut multiply = Lines::default();
    let mut store = Lines::default();
    let mut write = Lines::default();
    for i in 0..(2 * bm).div_ceil(threads) {
        let at = i * threads;
        let guard = if at + threads > 2 * bm {
            format!("if (local + {at}u < KQ * BM) ")
        } else {
            String::new()
        };
        line!(declare, "var a{i}: vec4<f32>;");
        line!(
            load,
            "{guard}{{ a{i} = packed[a_first + (step * KQ + (local + {at}u) / BM) * padded_rows \
             + (local + {at}u) % BM]; }}"
        );
        line!(store, "{guard}{{ a_tile[half * KQ * BM + local + {at}u] = a{i}; }}");
    }
    for i in 0..(2 * bn).div_ceil(threads) {
        let at = i * threads;
        line!(declare, "var b{i}: vec4<f32>;");
        line!(load, "b{i} = fetch(source, 8u * block + 4u * ((local + {at}u) / BN));");
        line!(store, "b_tile[half * KQ * BN + local + {at}u] = b{i};");
    }
    for j in 0..tn {
        line!(multiply, "let y{j} = b_tile[b_base + kq * BN + {j}u * TX];");
    }
    for i in 0..tm {
        line!(multiply, "let x{i} = a_tile[a_base + kq * BM + {i}u * TY];");
        for j in 0..tn {
            line!(declare, "var c{i}_{j} = 0.0;");
            line!(multiply, "{}", four(i, j));
        }
    }
    for j in 0..tn {
        line!(write, "if (column0 + tx + {j}u * TX < columns) {{");
        line!(write, "let to = dst_first + dst_of(column0 + tx + {j}u * TX, phase);");
        for i in 0..tm {
            line!(write, "if (row0 + ty + {i}u * TY < rows) {{");
            line!(write, "dst[to + (row0 + ty + {i}u * TY) * dst_plane] = c{i}_{j}; }}");
        }
        line!(write, "}}");
    }
    let (fetch, params) = match flat {
        true => (include_str!("../../../shaders/include/conv_fetch_flat.wgsl"), 4),
        false => (include_str!("../../../shaders/include/conv_fetch_tap.wgsl"), 3),
    };
    let mut values = tile_values(tile);
    values.extend([
        phase(),
        index(),
        mask(),
        ("fetch", fetch.to_owned()),
        ("params", params.to_string()),
        ("flat", flat.to_string()),
        ("declare", declare.0),
        ("load", load.0),
        ("multiply", multiply.0),
        ("store", store.0),
        ("write", write.0),
    ]);
    fill(include_str!("../../../shaders/conv_gather.wgsl"), &values)
}

/// `conv_weight.wgsl`.
pub(super) fn weight(tile: Tile) -> String {
    let (mq, nq) = (tile.rows() / 4, tile.columns() / 4);
    let share = tile.threads() / 16;
    let mut declare = Lines::default();
    let mut load = Lines::default();
    let mut multiply = Lines::default();
    let mut store = Lines::default();
    let mut write = Lines::default();
    for (name, quarter, pitch) in [("a", mq, "A_PITCH"), ("b", nq, "B_PITCH")] {
        for i in 0..quarter.div_ceil(share) {
            let at = i * share;
            let guard = if at + share > quarter {
                format!("if (share + {at}u < {quarter}u) ")
            } else {
                String::new()
            };
            let first = if name == "a" { "row0" } else { "0u" };
            line!(declare, "var {name}{i}: vec4<f32>;");
            line!(load, "{guard}{{ {name}{i} = {name}_fetch(source, {first} + share + {at}u); }}");
            line!(store, "{guard}{{ {name}_tile[lane * {pitch} + share + {at}u] = {name}{i}; }}");
        }
    }
    for j in 0..tile.tn / 4 {
        line!(multiply, "let y{j} = b_tile[b_base + {j}u * TX];");
    }
    for i in 0..tile.tm / 4 {
        line!(multiply, "let x{i} = a_tile[a_base + {i}u * TY];");
        for (part, e) in PARTS.into_iter().zip(0..) {
            for j in 0..tile.tn / 4 {
                let c = format!("c{}_{j}", 4 * i + e);
                line!(declare, "var {c} = vec4(0.0);");
                line!(multiply, "{c} = fma(vec4(x{i}.{part}), y{j}, {c});");
            }
        }
    }
    for i in 0..tile.tm / 4 {
        for e in 0..4 {
            let c = 4 * i + e;
            line!(write, "if (row0 + ty + {i}u * TY + {e}u * MQ < rows) {{");
            line!(write, "let to = dst_first + (row0 + ty + {i}u * TY + {e}u * MQ) * columns;");
            for j in 0..tile.tn / 4 {
                for (part, f) in PARTS.into_iter().zip(0..) {
                    let column = format!("column0 + tx + {j}u * TX + {f}u * NQ");
                    line!(
                        write,
                        "if ({column} < columns) {{ dst[to + {column}] = c{c}_{j}.{part}; }}"
                    );
                }
            }
            line!(write, "}}");
        }
    }
    let mut values = tile_values(tile);
    values.extend([
        index(),
        mask(),
        ("declare", declare.0),
        ("load", load.0),
        ("multiply", multiply.0),
        ("store", store.0),
        ("write", write.0),
    ]);
    fill(include_str!("../../../shaders/conv_weight.wgsl"), &values)
}

/// `conv_soft_gather.wgsl`.
pub(super) fn soft_gather(tile: SoftTile, in_place: bool) -> String {
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
    // Rows past the last repeat it. Each invocation loads every `lanes`-th row.
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
        line!(declare, "// Past the last channel the source is 0; any weight that exists will do.");
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
    fill(include_str!("../../../shaders/conv_soft_gather.wgsl"), &values)
}

/// `conv_soft_weight.wgsl`.
pub(super) fn soft_weight(tile: SoftTile) -> String {
    let SoftTile { tm, tn, lanes } = tile;
    let mut declare = Lines::default();
    let mut multiply = Lines::default();
    let mut write = Lines::default();
    for j in 0..tn / 4 {
        line!(multiply, "let y{j} = x[b_at + {j}u * x_pitch];");
    }
    let quarter = tm / 4;
    for i in 0..quarter.div_ceil(lanes) {
        // The last load may be for fewer than all lanes.
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
    fill(include_str!("../../../shaders/conv_soft_weight.wgsl"), &values)
}

fn soft_values(tile: SoftTile) -> Vec<(&'static str, String)> {
    vec![
        ("tm", tile.tm.to_string()),
        ("tn", tile.tn.to_string()),
        ("lanes", tile.lanes.to_string()),
    ]
}

/// Element (i, j) of a product over four channels.
fn four(i: u32, j: u32) -> String {
    let sum = PARTS
        .iter()
        .fold(format!("c{i}_{j}"), |sum, part| format!("fma(x{i}.{part}, y{j}.{part}, {sum})"));
    format!("c{i}_{j} = {sum};")
}
