//! The epilogues of `conv_gather.wgsl`: additional output for each row of a tile, computed from the
//! sums in registers, for the adjacent normalisation.

use super::{Lines, PARTS, line};
use crate::conv::wgsl::form::Form;
use crate::conv::wgsl::kernel::Epilogue;
use crate::conv::wgsl::tile::Tile;
use crate::kernels::plan::fill;
use crate::kernels::storage::Storage;
use crate::norm::wgsl::ROW;

/// Returns the text that follows after the sums have been written.
pub(super) fn text(tile: Tile, form: Form, epilogue: Epilogue) -> String {
    let scratch = scratch(form);
    match epilogue {
        Epilogue::Nothing => String::new(),
        Epilogue::Moments => moments(tile, scratch),
        Epilogue::GradientSums { x } => gradient_sums(tile, form, x, scratch),
    }
}

/// Returns the declarations of an epilogue; its bindings start at `first`.
pub(super) fn declarations(tile: Tile, form: Form, epilogue: Epilogue, first: u32) -> String {
    let bound = |n: u32, name: &str, ty: &str| {
        let binding = first + n;
        format!("@group(0) @binding({binding}) var<storage, read_write> {name}: array<{ty}>;\n")
    };
    let declared = match epilogue {
        Epilogue::Nothing => return String::new(),
        Epilogue::Moments => bound(0, "moments", "f32") + MOMENTS,
        Epilogue::GradientSums { x } => {
            bound(0, "gradient_sums", "f32")
                + &bound(1, "norm_x", x.element(form.wide_store))
                + &bound(2, "kept", "u32")
                + &x.load("norm_x", form.wide_store)
        }
    };
    let own = match form.units {
        Some(_) => "var<workgroup> scratch: array<vec4<f32>, ROW_QUADS * THREADS>;\n",
        None => "",
    };
    let values =
        [("row_quads", tile.tm.div_ceil(4).to_string()), ("scratch", scratch(form).to_owned())];
    let row_sum = fill(include_str!("../../../../shaders/include/conv_row_sums.wgsl"), &values);
    declared + own + &row_sum
}

/// Returns the bytes of workgroup memory that an epilogue needs in addition to the tiles; `None` if
/// the tile does not support epilogues.
pub(in crate::conv::wgsl) fn memory(tile: Tile, form: Form) -> Option<usize> {
    let scratch = (tile.tm.div_ceil(4) * tile.threads()) as usize * 16;
    // Without matrix units, both buffers of the tile of columns are reused.
    let columns = 8 * (form.terms() * tile.columns()) as usize;
    let more = if form.units.is_some() { scratch } else { 0 };
    (scratch <= columns.max(more) && tile.rows() <= tile.threads())
        .then(|| more + 4 * tile.rows() as usize)
}

/// Returns the name of the workgroup memory for intermediate sums: `ROW_QUADS` vec4 per invocation.
fn scratch(form: Form) -> &'static str {
    if form.units.is_some() { "scratch" } else { "b_tile" }
}

/// Returns the row within the tile of an invocation's row i.
fn row(i: u32) -> String {
    format!("4u * (ty + {}u * TY) + {}u", i / 4, i % 4)
}

/// Returns the statements that write a term of each of an invocation's rows to `scratch`, four per
/// vec4.
fn write_scratch(tile: Tile, scratch: &str, term: impl Fn(u32) -> String) -> String {
    let mut lines = Lines::default();
    for quad in 0..tile.tm.div_ceil(4) {
        let of = |i: u32| if i < tile.tm { term(i) } else { "0.0".to_owned() };
        let rows = [0, 1, 2, 3].map(|e| of(4 * quad + e)).join(", ");
        line!(lines, "{scratch}[(tx * ROW_QUADS + {quad}u) * TY + ty] = vec4({rows});");
    }
    lines.0
}

const MOMENTS: &str = "var<workgroup> row_means: array<f32, BM>;
fn square(value: f32, mean: f32, valid: bool) -> f32 {
    let deviation = select(0.0, value - mean, valid);
    return deviation * deviation;
}
";

fn moments(tile: Tile, scratch: &str) -> String {
    let [mut sums, mut squares] = [Lines::default(), Lines::default()];
    for j in 0..tile.tn {
        line!(
            sums,
            "let valid{j} = column0 + column_of(tx + {}u * TX, {}u) < columns;",
            j / 4,
            j % 4
        );
    }
    // All columns of a row. Columns past the last hold repeated values.
    let all = |term: &dyn Fn(u32) -> String| (0..tile.tn).map(term).collect::<Vec<_>>().join(" + ");
    let value = |i: u32, j: u32| format!("c{i}_{}.{}", j / 4, PARTS[j as usize % 4]);
    sums.0 += &write_scratch(tile, scratch, |i| {
        all(&|j| format!("select(0.0, {}, valid{j})", value(i, j)))
    });
    for i in 0..tile.tm {
        line!(squares, "let mean{i} = row_means[{}];", row(i));
    }
    squares.0 += &write_scratch(tile, scratch, |i| {
        all(&|j| format!("square({}, mean{i}, valid{j})", value(i, j)))
    });
    let values = [("sums", sums.0), ("squares", squares.0)];
    fill(include_str!("../../../../shaders/include/conv_moments.wgsl"), &values)
}

/// Returns the epilogue for a normalisation whose input is stored as `x`.
fn gradient_sums(tile: Tile, form: Form, x: Storage, scratch: &str) -> String {
    let [mut positions, mut rows] = [Lines::default(), Lines::default()];
    let quads = || 0..tile.tn / 4;
    // Columns past the last read the positions of the last ones instead.
    for j in quads() {
        let column = |part: u32| format!("column0 + column_of(tx + {j}u * TX, {part}u)");
        if form.wide_store {
            line!(positions, "let valid{j} = vec4({} < columns);", column(0));
            line!(positions, "let at{j} = dst_of(min({}, columns - 4u), phase) / 4u;", column(0));
        } else {
            let of = |text: &dyn Fn(u32) -> String| [0, 1, 2, 3].map(text).join(", ");
            line!(positions, "let valid{j} = vec4({}) < vec4(columns);", of(&column));
            let at = |part: u32| format!("dst_of(min({}, columns - 1u), phase)", column(part));
            line!(positions, "let at{j} = vec4({});", of(&at));
        }
    }
    let plane = if form.wide_store { "dst_plane / 4u" } else { "dst_plane" };
    for i in 0..tile.tm {
        line!(rows, "let channel{i} = min(row0 + {}, rows - 1u);", row(i));
        line!(rows, "let mean{i} = bitcast<f32>(kept[channel{i}]);");
        line!(rows, "let scale{i} = bitcast<f32>(kept[2u * kept_row + channel{i}]);");
        line!(rows, "let shift{i} = bitcast<f32>(kept[3u * kept_row + channel{i}]);");
        line!(rows, "let start{i} = channel{i} * ({plane});");
        for j in quads() {
            let value = match form.wide_store {
                true => x.read("norm_x", &format!("at{j} + start{i}")),
                false => {
                    let one = |part| x.read("norm_x", &format!("at{j}.{part} + start{i}"));
                    format!("vec4({})", PARTS.map(one).join(", "))
                }
            };
            line!(rows, "let deviation{i}_{j} = {value} - vec4(mean{i});");
            line!(
                rows,
                "let positive{i}_{j} = \
                 fma(deviation{i}_{j}, vec4(scale{i}), vec4(shift{i})) > vec4(0.0);"
            );
            line!(
                rows,
                "let g{i}_{j} = \
                 select(vec4(0.0), select(vec4(0.0), c{i}_{j}, positive{i}_{j}), valid{j});"
            );
        }
        // Add up right away, so that few values stay live.
        let all = |term: &dyn Fn(u32) -> String| quads().map(term).collect::<Vec<_>>().join(" + ");
        line!(rows, "let sum_g{i} = dot({}, vec4(1.0));", all(&|j| format!("g{i}_{j}")));
        line!(rows, "let sum_gd{i} = {};", all(&|j| format!("dot(g{i}_{j}, deviation{i}_{j})")));
    }
    let write_g = write_scratch(tile, scratch, |i| format!("sum_g{i}"));
    let write_gd = write_scratch(tile, scratch, |i| format!("sum_gd{i}"));
    let values = [
        ("row", ROW.to_string()),
        ("positions", positions.0),
        ("rows", rows.0),
        ("write_g", write_g),
        ("write_gd", write_gd),
    ];
    fill(include_str!("../../../../shaders/include/conv_gradient_sums.wgsl"), &values)
}
