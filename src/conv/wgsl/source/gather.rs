//! The tiles of forward and input gradient.

use super::moments::{self, Sums};
use super::{Lines, four, index, line, mask, phase, tile_values};
use crate::conv::wgsl::tile::Tile;
use crate::kernels::plan::fill;

/// `conv_gather.wgsl`.
pub(in crate::conv::wgsl) fn gather(tile: Tile, flat: bool, moments: bool) -> String {
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
        true => (include_str!("../../../../shaders/include/conv_fetch_flat.wgsl"), 4),
        false => (include_str!("../../../../shaders/include/conv_fetch_tap.wgsl"), 3),
    };
    let sums = Sums {
        value: &|i, j| format!("c{i}_{j}"),
        column: &|j| format!("column0 + tx + {j}u * TX"),
        row: &|i| format!("ty + {i}u * TY"),
        owner: "local % TY",
        quad: "local / TY / 4u",
        part: "local / TY % 4u",
    };
    let [declared, text] = match moments {
        true => [moments::bindings(tile, params), moments::moments(tile, &sums)],
        false => [const { String::new() }; 2],
    };
    let mut values = tile_values(tile);
    values.extend([
        phase(),
        index(),
        mask(),
        ("fetch", fetch.to_owned()),
        ("moments_bindings", declared),
        ("moments", text),
        ("params", (params + u32::from(moments)).to_string()),
        ("flat", flat.to_string()),
        ("declare", declare.0),
        ("load", load.0),
        ("multiply", multiply.0),
        ("store", store.0),
        ("write", write.0),
    ]);
    fill(include_str!("../../../../shaders/conv_gather.wgsl"), &values)
}
