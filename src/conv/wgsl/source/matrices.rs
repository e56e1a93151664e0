//! The products of a step from tiles of f16 in workgroup memory, by matrix units or by each
//! invocation.

use super::gather;
use super::{Lines, PARTS, line};
use crate::conv::wgsl::tile::Tile;
use crate::conv::wgsl::units::Share;
use crate::conv::wgsl::weight::WeightLoads;
use crate::kernels::MatrixUnits;

/// The order of the values in the tiles.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TileOrder {
    /// For the forward pass and the input gradient. In the first tile, a line is a row, of which an
    /// invocation stores four terms; in the second tile, a line is a term, of which it stores four
    /// columns.
    Weights,
    /// A line is a term, and an invocation stores one row (column) of four lines.
    Ones,
    /// A line is a term, of which an invocation stores four rows (columns).
    Fours,
}

/// The layout of the tiles.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tiles {
    pub order: TileOrder,
    /// Whether an element is a single value rather than four values of a line.
    scalars: bool,
}

impl Tiles {
    /// Returns the layout for the forward pass and the input gradient.
    pub(super) fn of_weights(units: MatrixUnits) -> Self {
        Self { order: TileOrder::Weights, scalars: units.scalars }
    }

    /// Returns the layout for a weight gradient: with wide loads, the four values belong to one
    /// row.
    pub(super) fn of(loads: WeightLoads, units: MatrixUnits) -> Self {
        match loads.is_wide() {
            true => Self { order: TileOrder::Ones, scalars: true },
            false => Self { order: TileOrder::Fours, scalars: units.scalars },
        }
    }

    /// Returns the number of values per element.
    pub(super) fn together(self) -> u32 {
        if self.scalars { 1 } else { 4 }
    }

    /// Returns the type of an element.
    pub(super) fn element(self) -> &'static str {
        if self.scalars { "f16" } else { "vec4<f16>" }
    }

    /// Returns the text that stores the `quad`-th group of four values of a line.
    pub(super) fn store_four(self, name: &str, line: &str, quad: &str) -> String {
        let pitch = format!("{}_PITCH", name.to_uppercase());
        if !self.scalars {
            return format!("{name}_tile[{line} * {pitch} + {quad}] = value;");
        }
        let mut lines = Lines::default();
        line!(lines, "let at = {line} * {pitch} + 4u * {quad};");
        for (n, part) in PARTS.iter().enumerate() {
            line!(lines, "{name}_tile[at + {n}u] = value.{part};");
        }
        lines.0
    }

    /// Returns the functions that load four rows or columns of a term.
    pub(super) fn load_fours(self) -> String {
        let four = |name: &str| {
            let pitch = format!("{}_PITCH", name.to_uppercase());
            let [at, values] = match (self.order, self.scalars) {
                (TileOrder::Weights, scalars) if name == "a" => {
                    let (within, part) = match scalars {
                        true => ("term % BK", ""),
                        false => ("term % BK / 4u", "[term % 4u]"),
                    };
                    let value = |n: u32| format!("f32(a_tile[at + {n}u * {pitch}]{part})");
                    [
                        format!("(term / BK * BM + 4u * quad) * {pitch} + {within}"),
                        format!("vec4({})", [0, 1, 2, 3].map(value).join(", ")),
                    ]
                }
                (_, true) => {
                    let value = |n: u32| format!("f32({name}_tile[at + {n}u])");
                    [
                        format!("term * {pitch} + 4u * quad"),
                        format!("vec4({})", [0, 1, 2, 3].map(value).join(", ")),
                    ]
                }
                (_, false) => {
                    [format!("term * {pitch} + quad"), format!("vec4<f32>({name}_tile[at])")]
                }
            };
            format!(
                "fn load_{name}(term: u32, quad: u32) -> vec4<f32> {{\n    \
                     let at = {at};\n    return {values};\n}}\n"
            )
        };
        four("a") + &four("b")
    }
}

/// Returns the products of a step of `terms` terms, multiplied by each invocation. For each sum,
/// whose name ends in `suffix`, `factors` says how many terms earlier its rows and its columns are
/// taken.
pub(super) fn multiply(
    tile: Tile,
    terms: u32,
    factors: &[(u32, u32)],
    suffix: impl Fn(usize) -> String,
) -> String {
    let products = factors.iter().enumerate().map(|(number, (a, b))| {
        let x = |k, i| format!("load_a(base + {k}u - {a}u, ty + {i}u * TY)");
        let y = |k, j| format!("load_b(base + {k}u - {b}u, tx + {j}u * TX)");
        gather::multiply(tile, terms, &suffix(number), x, y)
    });
    products.collect()
}

/// The matrices of a subgroup.
pub(super) struct Matrices {
    share: Share,
    size: u32,
    /// Number of subgroups that a workgroup is planned to have.
    subgroups: u32,
}

impl Matrices {
    pub(super) fn of(tile: Tile, units: MatrixUnits) -> Self {
        let share = Share::of(tile, units).expect("a plan takes tiles that can be divided");
        Self { share, size: units.size, subgroups: tile.threads() / units.lanes }
    }

    fn name(&self, scalar: &str, role: &str) -> String {
        format!("coop_mat{0}x{0}<{scalar}, {role}>", self.size)
    }

    /// Declares the sums, starting at 0: `sums` for each matrix of the tile.
    pub(super) fn zeros(&self, sums: u32) -> String {
        let Share { grid: [grid_rows, grid_columns], matrices: [rows, columns], .. } = self.share;
        let (size, name) = (self.size, self.name("f32", "C"));
        let mut lines = Lines::default();
        line!(
            lines,
            "// The subgroups form a grid, which is repeated over the matrices of the tile."
        );
        line!(lines, "let subgroup_row = subgroup / {grid_columns}u % {grid_rows}u * {size}u;");
        line!(lines, "let subgroup_column = subgroup % {grid_columns}u * {size}u;");
        for (i, j) in (0..rows).flat_map(|i| (0..columns).map(move |j| (i, j))) {
            for sum in 0..sums {
                line!(lines, "var m{i}_{j}_{sum} = {name}();");
            }
        }
        lines.0
    }

    /// Returns the products of a step of `terms` terms, which start at `base`. For each sum,
    /// `factors` says how many terms earlier its rows and its columns are taken.
    pub(super) fn multiply(&self, tiles: Tiles, terms: u32, factors: &[(u32, u32)]) -> String {
        let Share { grid: [grid_rows, grid_columns], matrices: [rows, columns], .. } = self.share;
        let (size, together) = (self.size, tiles.together());
        let [a, b] = ["A", "B"].map(|role| self.name("f16", role));
        let before = 0..=u32::from(factors.len() > 1);
        let mut lines = Lines::default();
        for k in (0..terms).step_by(size as usize) {
            line!(lines, "{{");
            for s in before.clone() {
                let line = format!("(base + {k}u - {s}u)");
                let a_row = match tiles.order {
                    TileOrder::Weights => {
                        format!("(base / BK * BM + subgroup_row) * A_PITCH + {}u", k / together)
                    }
                    _ => format!("{line} * A_PITCH + subgroup_row / {together}u"),
                };
                line!(lines, "let a_row{s} = {a_row};");
                line!(lines, "let b_row{s} = {line} * B_PITCH + subgroup_column / {together}u;");
                for j in 0..columns {
                    let at = format!("b_at{j}_{s}");
                    let column = j * grid_columns * size;
                    line!(lines, "let {at} = b_row{s} + {}u;", column / together);
                    line!(lines, "let y{j}_{s} = coopLoadT<{b}>(&b_tile[{at}], B_PITCH);");
                }
            }
            for i in 0..rows {
                for s in before.clone() {
                    let at = format!("a_at{i}_{s}");
                    let row = i * grid_rows * size;
                    let (to_row, load) = match tiles.order {
                        TileOrder::Weights => (format!("{row}u * A_PITCH"), "coopLoadT"),
                        _ => (format!("{}u", row / together), "coopLoad"),
                    };
                    line!(lines, "let {at} = a_row{s} + {to_row};");
                    line!(lines, "let x{i}_{s} = {load}<{a}>(&a_tile[{at}], A_PITCH);");
                }
                for j in 0..columns {
                    for ((x, y), sum) in factors.iter().zip(0..) {
                        let m = format!("m{i}_{j}_{sum}");
                        line!(lines, "{m} = coopMultiplyAdd(x{i}_{x}, y{j}_{y}, {m});");
                    }
                }
            }
            line!(lines, "}}");
        }
        lines.0
    }

    /// Returns the text that defines `missing`: NaN if some sums are not computed, else 0.
    pub(super) fn missing(&self) -> String {
        format!(
            "// If subgroups are larger than planned, some sums are not computed: all become NaN.\n\
             let complete = subgroups >= {}u;\n\
             let missing = bitcast<f32>(select(0x7fc00000u, 0u, complete));\n",
            self.subgroups
        )
    }

    /// Stores one of the sums for the part of the tile in row `q` and column `j` of its parts.
    pub(super) fn store(&self, lines: &mut Lines, [q, j]: [u32; 2], sum: u32) {
        let Share { grid: [grid_rows, grid_columns], in_part, .. } = self.share;
        let size = self.size;
        for (r, c) in (0..in_part[0]).flat_map(|r| (0..in_part[1]).map(move |c| (r, c))) {
            let [row, column] = [r * grid_rows * size, c * grid_columns * size];
            let to = format!("to{q}_{j}_{r}_{c}_{sum}");
            let to_row = format!("({row}u + subgroup_row) * SUMS_PITCH");
            line!(lines, "let {to} = {to_row} + {column}u + subgroup_column;");
            let from = format!("m{}_{}_{sum}", q * in_part[0] + r, j * in_part[1] + c);
            line!(lines, "coopStoreT({from}, &sums[{to}], SUMS_PITCH);");
        }
    }
}
