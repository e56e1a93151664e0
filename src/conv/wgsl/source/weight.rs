//! The tiles of the weight gradient.

use super::{Lines, PARTS, index, line, mask, tile_values};
use crate::conv::wgsl::tile::Tile;
use crate::kernels::plan::fill;

/// `conv_weight.wgsl`.
pub(in crate::conv::wgsl) fn weight(tile: Tile) -> String {
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
    fill(include_str!("../../../../shaders/conv_weight.wgsl"), &values)
}
