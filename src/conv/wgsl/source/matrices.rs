//! The products of a step, from tiles of f16 in workgroup memory: by matrix units, or by each invocation.

use super::gather;
use super::{Lines, PARTS, line};
use crate::conv::wgsl::tile::Tile;
use crate::conv::wgsl::units::Share;
use crate::conv::wgsl::weight::WeightLoads;
use crate::kernels::MatrixUnits;

/// In which order the values of the tiles lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TileOrder {
    /// For forward and input gradient: in the first tile a line is a row, and an invocation stores four
    /// of its terms; in the second one a line is a term, and it stores four columns.
    Weights,
    /// A line is a term, and an invocation stores a row (column) of four of them.
    Ones,
    /// A line is a term, and an invocation stores four of its rows (columns).
    Fours,
}

/// How the tiles lie.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tiles {
    pub order: TileOrder,
    /// Whether their elements are single values; else four of a line.
    scalars: bool,
}

impl Tiles {
    /// Those of forward and input gradient.
    pub(super) fn of_weights(units: MatrixUnits) -> Self {
        Self { order: TileOrder::Weights, scalars: units.scalars }
    }

    /// Those of a weight gradient: in wide loads four values are of one row.
    pub(super) fn of(loads: WeightLoads, units: MatrixUnits) -> Self {
        match loads.is_wide() {
            true => Self { order: TileOrder::Ones, scalars: true },
            false => Self { order: TileOrder::Fours, scalars: units.scalars },
        }
    }

    /// Values of an element.
    pub(super) fn together(self) -> u32 {
        if self.scalars { 1 } else { 4 }
    }

    /// The type of an element.
    pub(super) fn element(self) -> &'static str {
        if self.scalars { "f16" } else { "vec4<f16>" }
    }

    /// Stores the `quad`-th four values of a line.
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

    /// Functions that load four rows or columns of a term.
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

/// The products of a step of so many terms by each invocation. For each sum, whose name `sum` ends,
/// `factors` says how many terms before that its rows and columns are.
pub(super) fn multiply(
    tile: Tile,
    terms: u32,
    factors: &[(u32, u32)],
    sum: impl Fn(usize) -> String,
) -> String {
    let products = factors.iter().enumerate().map(|(number, (a, b))| {
        let x = |k, i| format!("load_a(base + {k}u - {a}u, ty + {i}u * TY)");
        let y = |k, j| format!("load_b(base + {k}u - {b}u, tx + {j}u * TX)");
        gather::multiply(tile, terms, &sum(number), x, y)
    });
    products.collect()
}

/// The matrices of a subgroup.
pub(super) struct Matrices {
    share: Share,
    size: u32,
    /// Subgroups that a workgroup should have.
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

    /// The sums, from 0: so many of each matrix.
    pub(super) fn zeros(&self, sums: u32) -> String {
        let Share { grid: [below, beside], matrices: [rows, columns], .. } = self.share;
        let (size, name) = (self.size, self.name("f32", "C"));
        let mut lines = Lines::default();
        line!(lines, "// The subgroups lie in a grid and take turns at the tile's matrices.");
        line!(lines, "let below = subgroup / {beside}u % {below}u * {size}u;");
        line!(lines, "let beside = subgroup % {beside}u * {size}u;");
        for (i, j) in (0..rows).flat_map(|i| (0..columns).map(move |j| (i, j))) {
            for sum in 0..sums {
                line!(lines, "var m{i}_{j}_{sum} = {name}();");
            }
        }
        lines.0
    }

    /// The products of a step of so many terms, which begin at `base`. For each sum, `factors` says how
    /// many terms before that its rows and columns are.
    pub(super) fn multiply(&self, tiles: Tiles, terms: u32, factors: &[(u32, u32)]) -> String {
        let Share { grid: [below, beside], matrices: [rows, columns], .. } = self.share;
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
                        format!("(base / BK * BM + below) * A_PITCH + {}u", k / together)
                    }
                    _ => format!("{line} * A_PITCH + below / {together}u"),
                };
                line!(lines, "let a_row{s} = {a_row};");
                line!(lines, "let b_row{s} = {line} * B_PITCH + beside / {together}u;");
                for j in 0..columns {
                    let at = format!("b_at{j}_{s}");
                    line!(lines, "let {at} = b_row{s} + {}u;", j * beside * size / together);
                    line!(lines, "let y{j}_{s} = coopLoadT<{b}>(&b_tile[{at}], B_PITCH);");
                }
            }
            for i in 0..rows {
                for s in before.clone() {
                    let at = format!("a_at{i}_{s}");
                    let row = i * below * size;
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

    /// Tells whether some sums are nobody's.
    pub(super) fn missing(&self) -> String {
        format!(
            "// With larger subgroups than planned for, some sums are nobody's: no number.\n\
             let whole = subgroups >= {}u;\n\
             let missing = bitcast<f32>(select(0x7fc00000u, 0u, whole));\n",
            self.subgroups
        )
    }

    /// Stores one of the sums in a part of the tile, `q` of its parts from the top and `j` from the left.
    pub(super) fn store(&self, lines: &mut Lines, [q, j]: [u32; 2], sum: u32) {
        let Share { grid: [below, beside], in_part, .. } = self.share;
        let size = self.size;
        for (r, c) in (0..in_part[0]).flat_map(|r| (0..in_part[1]).map(move |c| (r, c))) {
            let [row, column] = [r * below * size, c * beside * size];
            let to = format!("to{q}_{j}_{r}_{c}_{sum}");
            line!(lines, "let {to} = ({row}u + below) * SUMS_PITCH + {column}u + beside;");
            let from = format!("m{}_{}_{sum}", q * in_part[0] + r, j * in_part[1] + c);
            line!(lines, "coopStoreT({from}, &sums[{to}], SUMS_PITCH);");
        }
    }
}
