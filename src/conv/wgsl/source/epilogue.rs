//! What `conv_gather.wgsl` makes of the rows of its tiles besides writing them, from the sums in
//! registers, for the normalisation that comes next.

use super::{Lines, PARTS, line};
use crate::conv::wgsl::form::Form;
use crate::conv::wgsl::kernel::Epilogue;
use crate::conv::wgsl::tile::Tile;
use crate::kernels::plan::fill;
use crate::kernels::storage::Storage;
use crate::norm::wgsl::ROW;

/// The text after the sums have been written.
pub(super) fn text(tile: Tile, form: Form, epilogue: Epilogue) -> String {
    let scratch = scratch(form);
    match epilogue {
        Epilogue::Nothing => String::new(),
        Epilogue::Moments => moments(tile, scratch),
        Epilogue::GradientSums { x } => gradient_sums(tile, form, x, scratch),
    }
}

/// What it declares, its bindings from `first` on.
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

/// Bytes of workgroup memory that it needs besides the tiles; `None` where it cannot use them.
pub(in crate::conv::wgsl) fn memory(tile: Tile, form: Form) -> Option<usize> {
    let scratch = (tile.tm.div_ceil(4) * tile.threads()) as usize * 16;
    // Both halves of the tile of columns, except for matrix units.
    let columns = 8 * (form.terms() * tile.columns()) as usize;
    let more = if form.units.is_some() { scratch } else { 0 };
    (scratch <= columns.max(more) && tile.rows() <= tile.threads())
        .then(|| more + 4 * tile.rows() as usize)
}

/// Workgroup memory that is free: vec4, `ROW_QUADS` for each invocation.
fn scratch(form: Form) -> &'static str {
    if form.units.is_some() { "scratch" } else { "b_tile" }
}

/// Row i of an invocation, within the tile.
fn row(i: u32) -> String {
    format!("4u * (ty + {}u * TY) + {}u", i / 4, i % 4)
}

/// The statement that hands a term of each of an invocation's rows over, four to a vec4.
fn hand_over(tile: Tile, scratch: &str, term: impl Fn(u32) -> String) -> String {
    let mut lines = Lines::default();
    for quad in 0..tile.tm.div_ceil(4) {
        let of = |i: u32| if i < tile.tm { term(i) } else { "0.0".to_owned() };
        let rows = [0, 1, 2, 3].map(|e| of(4 * quad + e)).join(", ");
        line!(lines, "{scratch}[(tx * ROW_QUADS + {quad}u) * TY + ty] = vec4({rows});");
    }
    lines.0
}

const MOMENTS: &str = "var<workgroup> row_means: array<f32, BM>;
fn square(value: f32, mean: f32, here: bool) -> f32 {
    let apart = select(0.0, value - mean, here);
    return apart * apart;
}
";

fn moments(tile: Tile, scratch: &str) -> String {
    let [mut sums, mut squares] = [Lines::default(), Lines::default()];
    for j in 0..tile.tn {
        line!(
            sums,
            "let here{j} = column0 + column_of(tx + {}u * TX, {}u) < columns;",
            j / 4,
            j % 4
        );
    }
    // All columns of a row. One that is not there repeats another.
    let all = |term: &dyn Fn(u32) -> String| (0..tile.tn).map(term).collect::<Vec<_>>().join(" + ");
    let value = |i: u32, j: u32| format!("c{i}_{}.{}", j / 4, PARTS[j as usize % 4]);
    sums.0 +=
        &hand_over(tile, scratch, |i| all(&|j| format!("select(0.0, {}, here{j})", value(i, j))));
    for i in 0..tile.tm {
        line!(squares, "let mean{i} = row_means[{}];", row(i));
    }
    squares.0 += &hand_over(tile, scratch, |i| {
        all(&|j| format!("square({}, mean{i}, here{j})", value(i, j)))
    });
    let values = [("sums", sums.0), ("squares", squares.0)];
    fill(include_str!("../../../../shaders/include/conv_moments.wgsl"), &values)
}

/// For a normalisation whose x is stored this way.
fn gradient_sums(tile: Tile, form: Form, x: Storage, scratch: &str) -> String {
    let [mut places, mut rows] = [Lines::default(), Lines::default()];
    let quads = || 0..tile.tn / 4;
    // Columns that are not there take the place of the last ones that are.
    for j in quads() {
        let column = |part: u32| format!("column0 + column_of(tx + {j}u * TX, {part}u)");
        if form.wide_store {
            line!(places, "let here{j} = vec4({} < columns);", column(0));
            line!(places, "let at{j} = dst_of(min({}, columns - 4u), phase) / 4u;", column(0));
        } else {
            let of = |text: &dyn Fn(u32) -> String| [0, 1, 2, 3].map(text).join(", ");
            line!(places, "let here{j} = vec4({}) < vec4(columns);", of(&column));
            let at = |part: u32| format!("dst_of(min({}, columns - 1u), phase)", column(part));
            line!(places, "let at{j} = vec4({});", of(&at));
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
            line!(rows, "let apart{i}_{j} = {value} - vec4(mean{i});");
            line!(
                rows,
                "let open{i}_{j} = fma(apart{i}_{j}, vec4(scale{i}), vec4(shift{i})) > vec4(0.0);"
            );
            line!(
                rows,
                "let g{i}_{j} = select(vec4(0.0), select(vec4(0.0), c{i}_{j}, open{i}_{j}), here{j});"
            );
        }
        // At once, so that few values are kept.
        let all = |term: &dyn Fn(u32) -> String| quads().map(term).collect::<Vec<_>>().join(" + ");
        line!(rows, "let straight{i} = dot({}, vec4(1.0));", all(&|j| format!("g{i}_{j}")));
        line!(rows, "let along{i} = {};", all(&|j| format!("dot(g{i}_{j}, apart{i}_{j})")));
    }
    let straight = hand_over(tile, scratch, |i| format!("straight{i}"));
    let along = hand_over(tile, scratch, |i| format!("along{i}"));
    let values = [
        ("row", ROW.to_string()),
        ("places", places.0),
        ("rows", rows.0),
        ("straight", straight),
        ("along", along),
    ];
    fill(include_str!("../../../../shaders/include/conv_gradient_sums.wgsl"), &values)
}
