//! The tiles of the weight gradient.

use super::{Lines, PARTS, index, line, mask, tile_values};
use crate::conv::wgsl::tile::Tile;
use crate::conv::wgsl::weight::{WeightLoads, pitches, step};
use crate::kernels::plan::fill;
use crate::kernels::storage::Storage;

/// What the template is filled with.
struct Text {
    /// How x and dy are stored.
    x: Storage,
    dy: Storage,
    declare: Lines,
    load: Lines,
    store: Lines,
    multiply: Lines,
    write: Lines,
}

/// `conv_weight.wgsl`, with x as it is stored and dy as its gradient.
pub(in crate::conv::wgsl) fn weight(tile: Tile, loads: WeightLoads, x: Storage) -> String {
    let step = step(loads);
    let mut text = Text::new(x);
    let dy = text.dy;
    match loads.is_wide() {
        true => wide(&mut text, tile, loads, step),
        false => narrow(&mut text, tile, loads, step),
    }
    let helpers = match loads {
        WeightLoads::Mixed => {
            mask().1 + include_str!("../../../../shaders/include/conv_weight_columns.wgsl")
        }
        _ => String::new(),
    };
    let advance = include_str!("../../../../shaders/include/conv_advance.wgsl");
    let [a_pitch, b_pitch] = pitches(tile, loads);
    let mut values = tile_values(tile);
    values.extend([
        index(),
        ("helpers", helpers),
        ("conv_advance.wgsl", advance.to_owned()),
        ("step", step.to_string()),
        ("sums", loads.sums().to_string()),
        ("loads", format!("{loads:?}")),
        ("x_element", x.element(loads.is_wide()).to_owned()),
        ("loads_from", x.load("x", loads.is_wide()) + &dy.load("dy", loads.is_wide())),
        ("dy_element", dy.element(loads.is_wide()).to_owned()),
        ("a_pitch", a_pitch.to_string()),
        ("b_pitch", b_pitch.to_string()),
        ("declare", text.declare.0),
        ("load", text.load.0),
        ("multiply", text.multiply.0),
        ("store", text.store.0),
        ("write", text.write.0),
    ]);
    x.directive().to_owned() + &fill(include_str!("../../../../shaders/conv_weight.wgsl"), &values)
}

impl Text {
    fn new(x: Storage) -> Self {
        let [declare, load, store, multiply, write] = [(); 5].map(|()| Lines::default());
        Self { x, dy: x.gradient(), declare, load, store, multiply, write }
    }
}

/// A vec4 in the tiles is one position of four rows (columns).
fn narrow(text: &mut Text, tile: Tile, loads: WeightLoads, step: u32) {
    let Text { declare, load, .. } = text;
    line!(declare, "let quarter = local / STEP;");
    // Where one factor is made 0, the other may be any element of its operand.
    match loads {
        WeightLoads::Row => {
            line!(load, "let row_ok = i32(lane) < left && u32(seen.z) < size.z;");
            line!(load, "let ok = row_ok && all(vec2<u32>(seen.xy) < size.xy);");
            line!(load, "let a = select(0u, a_at, row_ok);");
        }
        WeightLoads::Mixed => {
            line!(load, "let here = i32(lane) < left;");
            line!(load, "let taps = select(0u, inside_mask(seen, params.window, size), here);");
            line!(load, "let a = select(0u, a_at, here);");
        }
        _ => {
            line!(load, "let ok = i32(lane) < left && all(vec3<u32>(seen) < size);");
            line!(load, "let a = select(0u, a_at, ok);");
        }
    }
    let shares = tile.threads() / step;
    each_quarter(text, "a", tile.rows() / 4, shares, |text, i, at| {
        line!(
            text.declare,
            "let a_offset{i} = min(vec4(row0 + quarter + {at}u) + vec4(0u, 1u, 2u, 3u) * MQ, \
             vec4(rows - 1u)) * params.out_plane;"
        );
        let at = PARTS.map(|part| format!("a + a_offset{i}.{part}"));
        let values = at.map(|at| text.dy.read("dy", &at)).join(", ");
        line!(text.load, "let a{i} = vec4({values});");
        match loads {
            WeightLoads::Row => format!("select(vec4(0.0), a{i}, row_ok)"),
            _ => format!("a{i}"),
        }
    });
    if loads != WeightLoads::Mixed {
        line!(text.load, "let b = select(0u, b_at, ok);");
    }
    each_quarter(text, "b", tile.columns() / 4, shares, |text, i, at| {
        if loads == WeightLoads::Mixed {
            mixed_columns(text, i, at);
            return format!("select(vec4(0.0), b{i}, ok{i})");
        }
        line!(
            text.declare,
            "let b_offset{i} = min(vec4(column0 + quarter + {at}u) + vec4(0u, 1u, 2u, 3u) * NQ, \
             vec4(columns - 1u)) * params.in_plane;"
        );
        let at = PARTS.map(|part| format!("b + b_offset{i}.{part}"));
        let values = at.map(|at| text.x.read("x", &at)).join(", ");
        line!(text.load, "let b{i} = vec4({values});");
        format!("select(vec4(0.0), b{i}, ok)")
    });
    for i in 0..tile.tm {
        for (j, sum) in pairs(tile.tn / 4, loads.sums()) {
            line!(text.declare, "var c{i}_{j}_{sum} = vec4(0.0);");
        }
    }
    multiply_narrow(text, tile, loads, step);
    for row in 0..tile.tm {
        let place = format!("row0 + ty + {}u * TY + {}u * MQ", row / 4, row % 4);
        line!(text.write, "if ({place} < rows) {{");
        line!(text.write, "let to = dst_first + ({place}) * params.row_step;");
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

/// The vec4 of an operand that an invocation stores: `value` says what, given the number of the vec4
/// and its distance from the first one. Past the last row (column) they are those of the last one.
fn each_quarter(
    text: &mut Text,
    name: &str,
    quarters: u32,
    shares: u32,
    mut value: impl FnMut(&mut Text, u32, u32) -> String,
) {
    let pitch = format!("{}_PITCH", name.to_uppercase());
    for i in 0..quarters.div_ceil(shares) {
        let at = i * shares;
        let value = value(text, i, at);
        let to = format!("(half * STEP + lane) * {pitch} + quarter + {at}u");
        line!(text.store, "{name}_tile[{to}] = {value};");
    }
}

/// Four columns of any channels and taps, which have offsets and tap bits of their own.
fn mixed_columns(text: &mut Text, i: u32, at: u32) {
    line!(text.declare, "var b_offset{i}: vec4<u32>;");
    line!(text.declare, "var b_bits{i}: vec4<u32>;");
    for (part, f) in PARTS.into_iter().zip(0..) {
        let (column, tap) = (format!("column{i}_{f}"), format!("tap{i}_{f}"));
        line!(text.declare, "let {column} = column0 + quarter + {at}u + {f}u * NQ;");
        line!(text.declare, "let {tap} = decompose({column}, params.window);");
        line!(text.declare, "b_offset{i}.{part} = tap_offset({tap});");
        // Bit 31 is in no mask: columns past the last are 0.
        let bits = format!("select(1u << 31u, tap_bits({tap}), {column} < columns)");
        line!(text.declare, "b_bits{i}.{part} = {bits};");
    }
    line!(text.load, "let ok{i} = (b_bits{i} & vec4(taps)) == b_bits{i};");
    line!(text.load, "let at{i} = select(vec4(0u), vec4(b_at) + b_offset{i}, ok{i});");
    let values = PARTS.map(|part| text.x.read("x", &format!("at{i}.{part}"))).join(", ");
    line!(text.load, "let b{i} = vec4({values});");
}

fn multiply_narrow(text: &mut Text, tile: Tile, loads: WeightLoads, step: u32) {
    let Text { declare, multiply, .. } = text;
    for k in 0..step {
        let (now, before) = (k.to_string(), k.checked_sub(1).map(|k| k.to_string()));
        let before = before.unwrap_or("before".to_owned());
        for j in 0..tile.tn / 4 {
            line!(multiply, "let y{j}_{now} = b_tile[b_base + {k}u * B_PITCH + {j}u * TX];");
        }
        for i in 0..tile.tm / 4 {
            line!(multiply, "let x{i}_{now} = a_tile[a_base + {k}u * A_PITCH + {i}u * TY];");
        }
        // Tap 0 meets x one position before that of dy, tap 2 one after.
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
                // A part starts with a row.
                line!(declare, "var {name}{i}_before = vec4(0.0);");
                line!(multiply, "{name}{i}_before = {name}{i}_{};", step - 1);
            }
        }
    }
}

/// A vec4 in the tiles is four positions of one row (column).
fn wide(text: &mut Text, tile: Tile, loads: WeightLoads, step: u32) {
    let Text { declare, load, store, x, dy, .. } = text;
    let (x, dy) = (*x, *dy);
    let Tile { tm, tn, .. } = tile;
    line!(declare, "let item = local / STEP;");
    line!(load, "let ok = i32(lane) < left && all(vec3<u32>(seen) < size);");
    line!(load, "let a = select(0u, a_at, ok);");
    line!(load, "let b = select(0u, b_at, ok);");
    let shares = tile.threads() / step;
    for (name, count) in [("a", tile.rows()), ("b", tile.columns())] {
        let (operand, stored, plane, first, all, pitch) = match name {
            "a" => ("dy", dy, "params.out_plane", "row0", "rows", "A_PITCH"),
            _ => ("x", x, "params.in_plane", "column0", "columns", "B_PITCH"),
        };
        for i in 0..count.div_ceil(shares) {
            let item = format!("item + {}u", i * shares);
            // Past the last one the last one is loaded again.
            line!(declare, "let {name}_offset{i} = min({first} + {item}, {all} - 1u) * {plane};");
            let at = format!("{name} + {name}_offset{i}");
            line!(load, "let {name}{i} = {};", stored.read(operand, &at));
            let value = match name {
                "a" => format!("a{i}"),
                _ => format!("select(vec4(0.0), b{i}, ok)"),
            };
            let to = format!("(half * STEP + lane) * {pitch} + {item}");
            line!(store, "{name}_tile[{to}] = {value};");
        }
    }
    multiply_wide(text, tile, loads, step);
    let Text { write, .. } = text;
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

/// The values of a few columns stay in registers, those of the rows come one by one.
fn multiply_wide(text: &mut Text, tile: Tile, loads: WeightLoads, step: u32) {
    let Text { declare, multiply, .. } = text;
    let Tile { tm, tn, .. } = tile;
    for (i, j) in pairs(tm, tn) {
        for sum in 0..loads.sums() {
            line!(declare, "var c{i}_{j}_{sum} = 0.0;");
        }
    }
    let is_row = loads.is_row();
    // The values of the position before: none at the start of a row.
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
