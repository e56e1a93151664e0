//! Statistics of the rows of `conv_gather.wgsl`'s tiles, from the sums in registers.

use super::{Lines, line};
use crate::conv::wgsl::form::Form;
use crate::conv::wgsl::tile::Tile;
use crate::kernels::plan::fill;

/// How the sums lie.
pub(super) struct Sums {
    /// The variable of an invocation's row i, column j.
    pub value: fn(u32, u32) -> String,
    /// Column j of an invocation.
    pub column: fn(u32) -> String,
    /// Row i of an invocation, within the tile.
    pub row: fn(u32) -> String,
    /// Of row `local` of the tile: the `ty` of the invocations that have it, and which four of
    /// their rows it is in, and where among these.
    pub owner: &'static str,
    pub quad: &'static str,
    pub part: &'static str,
    /// Workgroup memory that is free: vec4, `ROW_QUADS` for each invocation.
    pub scratch: &'static str,
}

/// The text after the sums have been written.
pub(super) fn moments(tile: Tile, of: &Sums) -> String {
    let [mut sums, mut squares] = [Lines::default(), Lines::default()];
    for j in 0..tile.tn {
        line!(sums, "let here{j} = {} < columns;", (of.column)(j));
    }
    let zero = || "0.0".to_owned();
    for quad in 0..tile.tm.div_ceil(4) {
        let rows = |term: &dyn Fn(u32, u32) -> String| {
            let row = |i: u32| {
                let terms: Vec<_> = (0..tile.tn).map(|j| term(i, j)).collect();
                if i < tile.tm { terms.join(" + ") } else { zero() }
            };
            [0, 1, 2, 3].map(|e| row(4 * quad + e)).join(", ")
        };
        let at = format!("{}[(tx * ROW_QUADS + {quad}u) * TY + ty]", of.scratch);
        // A column that is not there repeats another.
        let value = |i: u32, j: u32| format!("select(0.0, {}, here{j})", (of.value)(i, j));
        line!(sums, "{at} = vec4({});", rows(&value));
        for i in 4 * quad..tile.tm.min(4 * quad + 4) {
            line!(squares, "let mean{i} = row_means[{}];", (of.row)(i));
        }
        let square = |i: u32, j: u32| format!("square({}, mean{i}, here{j})", (of.value)(i, j));
        line!(squares, "{at} = vec4({});", rows(&square));
    }
    let values = [
        ("sums", sums.0),
        ("squares", squares.0),
        ("owner", of.owner.to_owned()),
        ("quad", of.quad.to_owned()),
        ("part", of.part.to_owned()),
        ("scratch", of.scratch.to_owned()),
    ];
    fill(include_str!("../../../../shaders/include/conv_moments.wgsl"), &values)
}

/// What it declares: its binding, the rows' means, and how rows lie in the tile's memory.
pub(super) fn bindings(tile: Tile, form: Form, binding: u32) -> String {
    let scratch = match form.units {
        Some(_) => "var<workgroup> scratch: array<vec4<f32>, ROW_QUADS * THREADS>;\n",
        None => "",
    };
    scratch.to_owned()
        + &format!(
            "@group(0) @binding({binding}) var<storage, read_write> moments: array<f32>;\n\
         var<workgroup> row_means: array<f32, BM>;\n\
         const ROW_QUADS: u32 = {}u;\n\
         fn square(value: f32, mean: f32, here: bool) -> f32 {{\n    \
             let apart = select(0.0, value - mean, here);\n    \
             return apart * apart;\n\
         }}\n",
            tile.tm.div_ceil(4)
        )
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
