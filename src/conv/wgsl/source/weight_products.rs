//! The weight gradient's products if each invocation multiplies in f32.

use super::weight::Text;
use super::{PARTS, line};
use crate::conv::wgsl::tile::Tile;
use crate::conv::wgsl::weight::WeightLoads;

/// The declaration of the tiles.
pub(super) const TILES: &str = "var<workgroup> a_tile: array<vec4<f32>, 2u * STEP * A_PITCH>;
var<workgroup> b_tile: array<vec4<f32>, 2u * STEP * B_PITCH>;";
const BASES: &str = "let a_base = (step & 1u) * STEP * A_PITCH + ty;
            let b_base = (step & 1u) * STEP * B_PITCH + tx;
            ";

/// Adds the products of a step, and the text that writes the sums.
pub(super) fn multiply(text: &mut Text, tile: Tile, loads: WeightLoads, step: u32) {
    text.multiply.0 += BASES;
    match loads.is_wide() {
        true => {
            multiply_wide(text, tile, loads, step);
            write_wide(text, tile, loads);
        }
        false => {
            multiply_narrow(text, tile, loads, step);
            write_narrow(text, tile, loads);
        }
    }
}

fn multiply_narrow(text: &mut Text, tile: Tile, loads: WeightLoads, step: u32) {
    let Text { declare, multiply, .. } = text;
    for i in 0..tile.tm {
        for (j, sum) in pairs(tile.tn / 4, loads.sums()) {
            line!(declare, "var c{i}_{j}_{sum} = vec4(0.0);");
        }
    }
    for k in 0..step {
        let (now, before) = (k.to_string(), k.checked_sub(1).map(|k| k.to_string()));
        let before = before.unwrap_or("before".to_owned());
        for j in 0..tile.tn / 4 {
            line!(multiply, "let y{j}_{now} = b_tile[b_base + {k}u * B_PITCH + {j}u * TX];");
        }
        for i in 0..tile.tm / 4 {
            line!(multiply, "let x{i}_{now} = a_tile[a_base + {k}u * A_PITCH + {i}u * TY];");
        }
        // Tap 0 pairs dy with x one position earlier, tap 2 with x one position later.
        let factors = match loads {
            WeightLoads::Row => vec![(&now, &before), (&now, &now), (&before, &now)],
            _ => vec![(&now, &now)],
        };
        for row in 0..tile.tm {
            let (i, part) = (row / 4, PARTS[row as usize % 4]);
            for j in 0..tile.tn / 4 {
                for ((x, y), sum) in factors.iter().zip(0..) {
                    let c = format!("c{row}_{j}_{sum}");
                    line!(multiply, "{c} = fma(vec4(x{i}_{x}.{part}), y{j}_{y}, {c});");
                }
            }
        }
    }
    if loads == WeightLoads::Row {
        for (name, vectors) in [("x", tile.tm / 4), ("y", tile.tn / 4)] {
            for i in 0..vectors {
                // A part starts at the start of a row.
                line!(declare, "var {name}{i}_before = vec4(0.0);");
                line!(multiply, "{name}{i}_before = {name}{i}_{};", step - 1);
            }
        }
    }
}

fn write_narrow(text: &mut Text, tile: Tile, loads: WeightLoads) {
    for row in 0..tile.tm {
        let row_index = format!("row0 + ty + {}u * TY + {}u * MQ", row / 4, row % 4);
        line!(text.write, "if ({row_index} < rows) {{");
        line!(text.write, "let to = dst_first + ({row_index}) * params.row_step;");
        for j in 0..tile.tn / 4 {
            for (part, f) in PARTS.into_iter().zip(0..) {
                let column = format!("column0 + tx + {j}u * TX + {f}u * NQ");
                line!(text.write, "if ({column} < columns) {{");
                line!(text.write, "let at = to + ({column}) * params.column_step;");
                for sum in 0..loads.sums() {
                    let c = format!("c{row}_{j}_{sum}.{part}");
                    line!(text.write, "dst[at + {sum}u * params.tap_step] = {c};");
                }
                line!(text.write, "}}");
            }
        }
        line!(text.write, "}}");
    }
}

/// Adds the products for wide loads. The values of an invocation's columns stay in registers; those
/// of its rows are loaded one at a time.
fn multiply_wide(text: &mut Text, tile: Tile, loads: WeightLoads, step: u32) {
    let Text { declare, multiply, .. } = text;
    let Tile { tm, tn, .. } = tile;
    for (i, j) in pairs(tm, tn) {
        for sum in 0..loads.sums() {
            line!(declare, "var c{i}_{j}_{sum} = 0.0;");
        }
    }
    let is_row = loads.is_row();
    // The value of the previous position, or 0 at the start of a row.
    let before = |name: &str, i: u32, k: u32| match k {
        0 => format!("select({name}{i}_before, 0.0, starts{k})"),
        _ => format!("select({name}{i}_{}.w, 0.0, starts{k})", k - 1),
    };
    if is_row {
        line!(declare, "var row_at = 0u;");
        for (name, count) in [("x", tm), ("y", tn)] {
            for i in 0..count {
                line!(declare, "var {name}{i}_before = 0.0;");
            }
        }
    }
    for k in 0..step {
        if is_row {
            line!(multiply, "let starts{k} = row_at + {k}u == 0u || row_at + {k}u == size.z;");
        }
        for j in 0..tn {
            line!(multiply, "let y{j}_{k} = b_tile[b_base + {k}u * B_PITCH + {j}u * TX];");
            if is_row {
                line!(multiply, "let yb{j}_{k} = {};", before("y", j, k));
            }
        }
        for i in 0..tm {
            line!(multiply, "let x{i}_{k} = a_tile[a_base + {k}u * A_PITCH + {i}u * TY];");
            if is_row {
                line!(multiply, "let xb{i}_{k} = {};", before("x", i, k));
            }
            for e in 0..4usize {
                let x = format!("x{i}_{k}.{}", PARTS[e]);
                let x_before = match e {
                    0 => format!("xb{i}_{k}"),
                    _ => format!("x{i}_{k}.{}", PARTS[e - 1]),
                };
                for j in 0..tn {
                    let y = format!("y{j}_{k}.{}", PARTS[e]);
                    let y_before = match e {
                        0 => format!("yb{j}_{k}"),
                        _ => format!("y{j}_{k}.{}", PARTS[e - 1]),
                    };
                    let factors = match is_row {
                        true => vec![(&x, &y_before), (&x, &y), (&x_before, &y)],
                        false => vec![(&x, &y)],
                    };
                    for ((x, y), sum) in factors.into_iter().zip(0..) {
                        let c = format!("c{i}_{j}_{sum}");
                        line!(multiply, "{c} = fma({x}, {y}, {c});");
                    }
                }
            }
        }
    }
    if is_row {
        for (name, count) in [("x", tm), ("y", tn)] {
            for i in 0..count {
                line!(multiply, "{name}{i}_before = {name}{i}_{}.w;", step - 1);
            }
        }
        line!(multiply, "row_at += STEP;");
        line!(multiply, "row_at = select(row_at, row_at - size.z, row_at >= size.z);");
    }
}

fn pairs(a: u32, b: u32) -> impl Iterator<Item = (u32, u32)> {
    (0..a).flat_map(move |a| (0..b).map(move |b| (a, b)))
}

fn write_wide(text: &mut Text, tile: Tile, loads: WeightLoads) {
    let Text { write, .. } = text;
    let Tile { tm, tn, .. } = tile;
    for i in 0..tm {
        let row = format!("row0 + ty + {i}u * TY");
        line!(write, "if ({row} < rows) {{");
        line!(write, "let to = dst_first + ({row}) * params.row_step;");
        for j in 0..tn {
            let column = format!("column0 + tx + {j}u * TX");
            line!(write, "if ({column} < columns) {{");
            line!(write, "let at = to + ({column}) * params.column_step;");
            for sum in 0..loads.sums() {
                line!(write, "dst[at + {sum}u * params.tap_step] = c{i}_{j}_{sum};");
            }
            line!(write, "}}");
        }
        line!(write, "}}");
    }
}
