//! The tiled kernels of the forward pass and the input gradient.

use super::{Lines, PARTS, epilogue, index, line, mask, phase, tile_values, units};
use crate::conv::wgsl::form::{Form, Load};
use crate::conv::wgsl::kernel::Epilogue;
use crate::conv::wgsl::tile::Tile;
use crate::kernels::plan::fill;
use crate::kernels::storage::Storage;

/// Returns the source of `conv_gather.wgsl`; `source` and `result` say how these are stored.
pub(in crate::conv::wgsl) fn gather(
    tile: Tile,
    form: Form,
    epilogue: Epilogue,
    [source, result]: [Storage; 2],
) -> String {
    let Form { load, one_tap, wide_store, units, buffers } = form;
    let table = load == Load::Table;
    let bindings = if table { 4 } else { 3 };
    // Matrix units take f16 without conversion.
    let functions = match units {
        None => source.load("src", load.is_wide()),
        Some(_) => String::new(),
    };
    let mut values = tile_values(tile);
    values.extend([
        ("epilogue_declarations", epilogue::declarations(tile, form, epilogue, bindings)),
        ("epilogue", epilogue::text(tile, form, epilogue)),
        ("load_functions", load_functions(form, source)),
        ("storage", functions + &result.store(&["dst"])),
        phase(),
        index(),
        mask(),
        ("bk", form.terms().to_string()),
        ("row_divisor", if units.is_some() { "" } else { " / 4u" }.to_owned()),
        ("buffers", buffers.to_string()),
        ("free", free(buffers).to_owned()),
        ("step_channels", form.channels().to_string()),
        ("steps", steps(load)),
        ("one_tap", one_tap.to_string()),
        ("element", source.element(load.is_wide()).to_owned()),
        ("result", result.element(wide_store).to_owned()),
        ("params", (bindings + epilogue.bindings()).to_string()),
        ("write", write(tile, wide_store, result)),
    ]);
    values.extend(movement(tile, form));
    values.extend(match units {
        None => invocations(tile, form),
        Some(units) => units::gather(tile, form, units),
    });
    let directives = match (units, epilogue) {
        (Some(units), _) => units::directives(units),
        (None, Epilogue::GradientSums { x }) => x.directive(),
        (None, _) => source.directive(),
    };
    directives.to_owned() + &fill(include_str!("../../../../shaders/conv_gather.wgsl"), &values)
}

/// Returns the text before a half of the tiles is overwritten: a comment that says why it may be,
/// or a barrier after which it may be.
fn free(buffers: u32) -> &'static str {
    match buffers {
        1 => {
            "// There is only one half, which the products have read.\n        workgroupBarrier();"
        }
        _ => "// This half was last read in the previous iteration, before its barrier.",
    }
}

/// Returns the number of steps of a phase.
fn steps(load: Load) -> String {
    match load {
        Load::Table => "params.tap_steps".to_owned(),
        _ => format!("phase.tap_count / {}u * params.tap_steps", load.taps()),
    }
}

/// The columns of a vec4 if its values are loaded and written one at a time: the index of a column,
/// and a comment.
const COLUMNS_QUARTERS: [&str; 2] = [
    "quad + part * NQ",
    "The columns of a vec4 are a quarter of\n// the tile apart, so that neighbouring invocations load \
     neighbouring columns.",
];
/// The columns of a vec4 if its values are written together.
const COLUMNS_CONSECUTIVE: [&str; 2] = [
    "4u * quad + part",
    "The columns of a vec4 are consecutive,\n// since they are written together.",
];

/// Returns the functions that load from the source, which is stored as `source`.
fn load_functions(Form { load, wide_store, units, .. }: Form, source: Storage) -> String {
    let text = match load {
        Load::Table => include_str!("../../../../shaders/include/conv_load_table.wgsl"),
        Load::Single => include_str!("../../../../shaders/include/conv_load_single.wgsl"),
        Load::Planes => include_str!("../../../../shaders/include/conv_load_planes.wgsl"),
        Load::Rows => include_str!("../../../../shaders/include/conv_load_rows.wgsl"),
    };
    let columns = include_str!("../../../../shaders/include/conv_columns.wgsl");
    let wide = include_str!("../../../../shaders/include/conv_columns_wide.wgsl");
    let [column, order] = if wide_store { COLUMNS_CONSECUTIVE } else { COLUMNS_QUARTERS };
    let read = |index: &str| match units {
        None => source.read("src", index),
        Some(_) => format!("src[{index}]"),
    };
    let read_as = if units.is_some() { source } else { Storage::F32 };
    let one = |part: &str| match load {
        Load::Table => read(&format!("at.{part}")),
        _ => read(&format!("source.at.{part} + channel")),
    };
    let whole = if load == Load::Rows { "at" } else { "source.at + channel" };
    let mut values = vec![
        ("conv_columns.wgsl", columns.to_owned()),
        ("conv_columns_wide.wgsl", wide.to_owned()),
        ("column", column.to_owned()),
        ("columns", order.to_owned()),
        ("one", read_as.element(false).to_owned()),
        ("four", read_as.element(true).to_owned()),
        ("values", read(whole)),
        ("left", read("at - source.left")),
        ("right", read("at + source.right")),
    ];
    values.extend(PARTS.map(|part| (part, one(part))));
    fill(text, &values)
}

/// Returns the `if` before a store in this round, if the round has fewer than one of the `count`
/// items per invocation. Loads need no condition: surplus invocations load values that are not
/// used.
fn guard(tile: Tile, round: u32, count: u32) -> String {
    let at = round * tile.threads();
    match at + tile.threads() > count {
        true => format!("if (local + {at}u < {count}u) "),
        false => String::new(),
    }
}

/// Returns the texts that move values from memory through registers into the tiles.
fn movement(tile: Tile, form: Form) -> [(&'static str, String); 5] {
    let Form { load, one_tap, units, .. } = form;
    let threads = tile.threads();
    let [mut position, mut declare] = [Lines::default(), Lines::default()];
    let [mut loads, mut store, mut advance] =
        [Lines::default(), Lines::default(), Lines::default()];

    let count = form.terms() * tile.rows() / 4;
    for i in 0..count.div_ceil(threads) {
        let (at, guard) = (i * threads, guard(tile, i, count));
        // A vec4 is four rows of a term or, for matrix units, four terms of a row.
        match units {
            None => {
                line!(declare, "let w{i} = (local + {at}u) / MQ * quads + (local + {at}u) % MQ;");
                line!(store, "{guard}{{ a_tile[half * BK * MQ + local + {at}u] = a{i}; }}");
            }
            Some(_) => {
                let (four, row) =
                    (format!("(local + {at}u) / BM"), format!("(local + {at}u) % BM"));
                line!(declare, "let w{i} = {four} * 4u * quads + {row};");
                line!(store, "{guard}{{ store_a(half * BM + {row}, {four}, a{i}); }}");
            }
        }
        line!(loads, "let a{i} = packed[a_at + w{i}];");
    }
    line!(advance, "a_at += BK * quads;");

    let count = form.channels() * tile.columns() / 4;
    let rounds = count.div_ceil(threads);
    let row_step = threads / (tile.columns() / 4);
    let [mut next_channels, mut wrap] = [Lines::default(), Lines::default()];
    for i in 0..rounds {
        let (row, guard) = (format!("(share + {}u)", i * row_step), guard(tile, i, count));
        let to = |tap: u32, value: &str| match units {
            None => {
                let at = format!("(half * BK + {row} * {}u) * NQ + quad", load.taps());
                let next = ["", " + NQ", " + 2u * NQ"][tap as usize];
                format!("b_tile[{at}{next}] = {value};")
            }
            Some(_) => {
                format!("store_b(half * BK + {tap}u * CHANNELS + {row}, quad, {value});")
            }
        };
        if load == Load::Table {
            line!(declare, "var e{i} = table[first * BK + {row}];");
            line!(loads, "let b{i} = fetch(source, e{i});");
            line!(loads, "let n{i} = table[table_at + {row}];");
            line!(store, "{guard}{{ {} }}", to(0, &format!("masked(source, e{i}, b{i})")));
            line!(advance, "e{i} = n{i};");
            continue;
        }
        line!(declare, "let s{i} = min({row}, last) * plane;");
        line!(declare, "var p{i} = min(block * CHANNELS + {row}, last) * plane;");
        line!(loads, "let b{i} = fetch(source, p{i});");
        line!(next_channels, "p{i} = min(p{i} + CHANNELS * plane, last * plane);");
        line!(wrap, "p{i} = s{i};");
        match load {
            Load::Rows => {
                let masked = |(name, tap)| to(tap, &format!("masked_{name}(source, b{i})"));
                let stores = ["left", "middle", "right"].into_iter().zip(0..).map(masked);
                line!(store, "{guard}{{ {} }}", stores.collect::<Vec<_>>().join(" "));
            }
            _ => line!(store, "{guard}{{ {} }}", to(0, &format!("masked(source, b{i})"))),
        }
    }
    if load == Load::Table {
        line!(
            position,
            "// The next step's rows of the table, which ends with rows that are not used."
        );
        line!(position, "var table_at = (first + 1u) * BK;");
        line!(advance, "table_at += BK;");
    } else {
        let width = if load.is_wide() { "params.src_plane / 4u" } else { "params.src_plane" };
        line!(
            position,
            "// Past the last channel the weights are 0 and its values are loaded again,"
        );
        line!(position, "// which the column uses anyway.");
        line!(position, "let last = params.channels - 1u;");
        line!(position, "let plane = {width};");
        line!(position, "var block = first % params.tap_steps;");
        line!(position, "// A phase may have no taps at all.");
        let taps = if load == Load::Rows { "vec3(phase.taps.xy, 1u)" } else { "phase.taps" };
        line!(position, "let taps = {taps};");
        line!(position, "var tap = decompose(first / params.tap_steps, max(taps, vec3(1u))).yzw;");
        line!(position, "select_tap(&source, tap, taps);");
        line!(advance, "{}", next_channels.0);
        if !one_tap {
            line!(advance, "{}", fill(NEXT_TAP, &[("wrap", wrap.0)]));
        }
    }
    [
        ("position", position.0),
        ("declare", declare.0),
        ("load", loads.0),
        ("store", store.0),
        ("advance", advance.0),
    ]
}

/// After the last step of a tap, moves on to the next tap. The last tap is followed by the first
/// one, which is loaded once more but not used.
const NEXT_TAP: &str = "block++;
if (block == params.tap_steps) {
    block = 0u;
    {{ wrap }}
    tap.z++;
    if (tap.z == taps.z) {
        tap.z = 0u;
        tap.y++;
        if (tap.y == taps.y) {
            tap.y = 0u;
            tap.x++;
            if (tap.x == taps.x) {
                tap.x = 0u;
            }
        }
    }
    select_tap(&source, tap, taps);
}";

/// Declares the sums of each invocation, starting at 0; their names end in `suffix`.
pub(super) fn zeros(tile: Tile, suffix: &str) -> String {
    let mut lines = Lines::default();
    for (c, j) in (0..tile.tm).flat_map(|c| (0..tile.tn / 4).map(move |j| (c, j))) {
        line!(lines, "var c{c}_{j}{suffix} = vec4(0.0);");
    }
    lines.0
}

/// Returns the template values for products by each invocation in f32. `packed` is the element of
/// the weights, `tiles` declares the tiles and the functions that store to them, `subgroup` is the
/// arguments that only matrix units need, `sums` declares the sums, and `collect` distributes the
/// sums of subgroups to their invocations.
fn invocations(tile: Tile, form: Form) -> [(&'static str, String); 6] {
    let base = "let a = (step - first) % BUFFERS * BK * MQ + ty;\n        \
                let b = (step - first) % BUFFERS * BK * NQ + tx;\n        ";
    let x = |k: u32, i: u32| format!("a_tile[a + {k}u * MQ + {i}u * TY]");
    let y = |k: u32, j: u32| format!("b_tile[b + {k}u * NQ + {j}u * TX]");
    let tiles = "var<workgroup> a_tile: array<vec4<f32>, BUFFERS * BK * MQ>;\n\
                 var<workgroup> b_tile: array<vec4<f32>, BUFFERS * BK * NQ>;";
    [
        ("packed", Storage::F32.element(true).to_owned()),
        ("tiles", tiles.to_owned()),
        ("subgroup", String::new()),
        ("sums", zeros(tile, "")),
        ("multiply", base.to_owned() + &multiply(tile, form.terms(), "", x, y)),
        ("collect", String::new()),
    ]
}

/// Returns the products of a step of `terms` terms. The names of the sums end in `suffix`; `x`
/// returns four rows of a term, `y` four columns.
pub(super) fn multiply(
    tile: Tile,
    terms: u32,
    suffix: &str,
    x: impl Fn(u32, u32) -> String,
    y: impl Fn(u32, u32) -> String,
) -> String {
    let mut lines = Lines::default();
    for k in 0..terms {
        line!(lines, "{{");
        for j in 0..tile.tn / 4 {
            line!(lines, "let y{j} = {};", y(k, j));
        }
        for i in 0..tile.tm / 4 {
            line!(lines, "let x{i} = {};", x(k, i));
            for (part, e) in PARTS.into_iter().zip(0..) {
                for j in 0..tile.tn / 4 {
                    let c = format!("c{}_{j}{suffix}", 4 * i + e);
                    line!(lines, "{c} = fma(vec4(x{i}.{part}), y{j}, {c});");
                }
            }
        }
        line!(lines, "}}");
    }
    lines.0
}

/// Returns the text that writes the sums to the destination.
fn write(tile: Tile, wide: bool, result: Storage) -> String {
    let mut lines = Lines::default();
    let rows = || (0..tile.tm / 4).flat_map(|i| (0..4).map(move |e| (4 * i + e, i, e)));
    let row = |i: u32, e: u32| format!("(row0 + 4u * (ty + {i}u * TY) + {e}u)");
    for j in 0..tile.tn / 4 {
        let parts: &[&str] = if wide { &PARTS[..1] } else { &PARTS };
        for (part, f) in parts.iter().zip(0..) {
            line!(lines, "{{ let column = column0 + column_of(tx + {j}u * TX, {f}u);");
            line!(lines, "if (column < columns) {{");
            line!(lines, "let to = dst_first + dst_of(column, phase);");
            for (c, i, e) in rows() {
                let row = row(i, e);
                let write = match wide {
                    true => {
                        let at = format!("(to + {row} * dst_plane) / 4u");
                        result.write("dst", &at, &format!("c{c}_{j}"))
                    }
                    false => format!("dst[to + {row} * dst_plane] = c{c}_{j}.{part};"),
                };
                line!(lines, "if ({row} < rows) {{ {write} }}");
            }
            line!(lines, "}} }}");
        }
    }
    lines.0
}
