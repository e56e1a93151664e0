//! Products by matrix units, and by each invocation of the same tiles.

use super::gather::{multiply, zeros};
use super::{Lines, line};
use crate::conv::wgsl::form::Form;
use crate::conv::wgsl::tile::Tile;
use crate::conv::wgsl::units::{PADDING, Share};
use crate::conv::wgsl::weight::WeightLoads;
use crate::kernels::MatrixUnits;
use crate::kernels::plan::fill;
use crate::kernels::storage::Storage;

/// What a text begins with.
pub(super) fn directives(units: MatrixUnits) -> &'static str {
    match units.emulated {
        true => "enable f16;\n",
        false => "enable f16;\nenable wgpu_cooperative_matrix;\n",
    }
}

/// The arguments that a kernel needs besides those of all kernels.
fn subgroup(units: MatrixUnits) -> &'static str {
    match units.emulated {
        true => "",
        false => "\n@builtin(subgroup_id) subgroup: u32,\n@builtin(num_subgroups) subgroups: u32,",
    }
}

/// What differs in `conv_gather.wgsl` from products by each invocation in f32.
pub(super) fn gather(tile: Tile, form: Form, units: MatrixUnits) -> [(&'static str, String); 6] {
    let terms = form.terms();
    let base = "let base = ((step - first) & 1u) * BK;\n";
    let [more, sums, products, collect] = match units.emulated {
        true => [
            load_fours(),
            zeros(tile, ""),
            multiply(tile, terms, "", load_x("base"), load_y("base")),
            String::new(),
        ],
        false => {
            let matrices = Matrices::of(tile, units);
            [
                declare_sums(),
                matrices.zeros(1),
                matrices.multiply(terms, &[(0, 0)]),
                collect(tile, &matrices),
            ]
        }
    };
    let [padding, _] = PADDING;
    let values = [("padding", padding.to_string()), ("more", more)];
    [
        ("packed", Storage::F16.element(true).to_owned()),
        ("tiles", fill(include_str!("../../../../shaders/include/conv_units.wgsl"), &values)),
        ("subgroup", subgroup(units).to_owned()),
        ("sums", sums),
        ("multiply", base.to_owned() + &products),
        ("collect", collect),
    ]
}

/// What differs in `conv_weight.wgsl`: the declaration of the tiles, and what declares the sums,
/// multiplies and writes.
pub(super) struct Weight {
    pub tiles: String,
    pub subgroup: &'static str,
    pub sums: String,
    pub multiply: String,
    pub write: String,
}

impl Weight {
    pub(super) fn of(tile: Tile, loads: WeightLoads, units: MatrixUnits) -> Self {
        // Tap 0 meets x one position before that of dy, tap 2 one after.
        let factors: &[(u32, u32)] =
            if loads.is_row() { &[(0, 1), (0, 0), (1, 0)] } else { &[(0, 0)] };
        let base = "let base = (step & 1u) * HALF + BEFORE;\n".to_owned();
        let [more, sums, multiply] = match units.emulated {
            true => {
                let numbered = || factors.iter().zip(0..);
                let multiply = |(&(dy, x), sum)| {
                    let (dy, x) = (format!("base - {dy}u"), format!("base - {x}u"));
                    multiply(tile, 16, &format!("_{sum}"), load_x(&dy), load_y(&x))
                };
                [
                    load_fours(),
                    numbered().map(|(_, sum)| zeros(tile, &format!("_{sum}"))).collect(),
                    numbered().map(multiply).collect::<String>(),
                ]
            }
            false => {
                let matrices = Matrices::of(tile, units);
                let zeros = matrices.zeros(factors.len() as u32);
                [String::new(), zeros, matrices.multiply(16, factors)]
            }
        };
        let next =
            |quarter: &str, pitch: &str| if loads.is_wide() { pitch } else { quarter }.to_owned();
        let values = [
            ("before", u32::from(loads.is_row()).to_string()),
            ("positions", "16".to_owned()),
            ("a_next", next("MQ", "A_PITCH")),
            ("b_next", next("NQ", "B_PITCH")),
            ("more", declare_sums() + &more),
        ];
        Self {
            tiles: fill(
                include_str!("../../../../shaders/include/conv_weight_units.wgsl"),
                &values,
            ),
            subgroup: subgroup(units),
            sums,
            multiply: base + &multiply,
            write: write(tile, units, factors.len() as u32),
        }
    }
}

/// Functions that load four rows or columns of a term.
fn load_fours() -> String {
    let four = |name: &str| {
        let upper = name.to_uppercase();
        format!(
            "fn load_{name}(term: u32, quad: u32) -> vec4<f32> {{\n    \
                 let at = term * {upper}_PITCH + 4u * quad;\n    \
                 return vec4(f32({name}_tile[at]), f32({name}_tile[at + 1u]),\n        \
                     f32({name}_tile[at + 2u]), f32({name}_tile[at + 3u]));\n\
             }}\n"
        )
    };
    four("a") + &four("b")
}

fn load_x(base: &str) -> impl Fn(u32, u32) -> String {
    move |k, i| format!("load_a({base} + {k}u, ty + {i}u * TY)")
}

fn load_y(base: &str) -> impl Fn(u32, u32) -> String {
    move |k, j| format!("load_b({base} + {k}u, tx + {j}u * TX)")
}

/// Workgroup memory for the sums of a part of the tile.
fn declare_sums() -> String {
    let [_, padding] = PADDING;
    format!(
        "// Sums of four rows and four columns of every invocation.\n\
         const SUMS_PITCH: u32 = 4u * TX + {padding}u;\n\
         var<workgroup> sums: array<f32, 4u * TY * SUMS_PITCH>;\n"
    )
}

/// The matrices of a subgroup.
struct Matrices {
    share: Share,
    size: u32,
    /// Subgroups that a workgroup should have.
    subgroups: u32,
}

impl Matrices {
    fn of(tile: Tile, units: MatrixUnits) -> Self {
        let share = Share::of(tile, units).expect("a plan takes tiles that can be divided");
        Self { share, size: units.size, subgroups: tile.threads() / units.lanes }
    }

    fn name(&self, scalar: &str, role: &str) -> String {
        format!("coop_mat{0}x{0}<{scalar}, {role}>", self.size)
    }

    /// The sums, from 0: so many of each matrix.
    fn zeros(&self, sums: u32) -> String {
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
    fn multiply(&self, terms: u32, factors: &[(u32, u32)]) -> String {
        let Share { grid: [below, beside], matrices: [rows, columns], .. } = self.share;
        let size = self.size;
        let [a, b] = ["A", "B"].map(|role| self.name("f16", role));
        let before = 0..=u32::from(factors.len() > 1);
        let mut lines = Lines::default();
        for k in (0..terms).step_by(size as usize) {
            line!(lines, "{{");
            for s in before.clone() {
                line!(lines, "let a_row{s} = (base + {k}u - {s}u) * A_PITCH + below;");
                line!(lines, "let b_row{s} = (base + {k}u - {s}u) * B_PITCH + beside;");
                for j in 0..columns {
                    let at = format!("b_at{j}_{s}");
                    line!(lines, "let {at} = b_row{s} + {}u;", j * beside * size);
                    line!(lines, "let y{j}_{s} = coopLoadT<{b}>(&b_tile[{at}], B_PITCH);");
                }
            }
            for i in 0..rows {
                for s in before.clone() {
                    let at = format!("a_at{i}_{s}");
                    line!(lines, "let {at} = a_row{s} + {}u;", i * below * size);
                    line!(lines, "let x{i}_{s} = coopLoad<{a}>(&a_tile[{at}], A_PITCH);");
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
    fn missing(&self) -> String {
        format!(
            "// With larger subgroups than planned for, some sums are nobody's: no number.\n\
             let whole = subgroups >= {}u;\n\
             let missing = bitcast<f32>(select(0x7fc00000u, 0u, whole));\n",
            self.subgroups
        )
    }

    /// Stores one of the sums in a part of the tile, `q` of its parts from the top and `j` from the left.
    fn store(&self, lines: &mut Lines, [q, j]: [u32; 2], sum: u32) {
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

/// The parts of a tile, by their place from the top and from the left.
fn parts(tile: Tile) -> impl Iterator<Item = [u32; 2]> {
    (0..tile.tm / 4).flat_map(move |q| (0..tile.tn / 4).map(move |j| [q, j]))
}

/// From the sums of subgroups to those of invocations.
fn collect(tile: Tile, matrices: &Matrices) -> String {
    let mut lines = Lines(matrices.missing());
    for [q, j] in parts(tile) {
        matrices.store(&mut lines, [q, j], 0);
        line!(lines, "workgroupBarrier();");
        for e in 0..4 {
            let at = format!("at{}_{j}", 4 * q + e);
            line!(lines, "let {at} = (4u * ty + {e}u) * SUMS_PITCH + 4u * tx;");
            let values = (0..4).map(|f| format!("sums[{at} + {f}u]")).collect::<Vec<_>>();
            line!(lines, "let c{}_{j} = vec4({}) + missing;", 4 * q + e, values.join(", "));
        }
        line!(lines, "workgroupBarrier();");
    }
    lines.0
}

/// From the sums, so many of each row and column, to the weights' gradient.
fn write(tile: Tile, units: MatrixUnits, sums: u32) -> String {
    let matrices = (!units.emulated).then(|| Matrices::of(tile, units));
    let missing = matrices.as_ref().map(Matrices::missing);
    let mut lines = Lines(missing.unwrap_or_else(|| "let missing = 0.0;\n".to_owned()));
    for (part, sum) in parts(tile).flat_map(|part| (0..sums).map(move |sum| (part, sum))) {
        let [q, j] = part;
        match &matrices {
            Some(matrices) => matrices.store(&mut lines, part, sum),
            None => {
                for (e, f) in (0..4u32).flat_map(|e| (0..4usize).map(move |f| (e, f))) {
                    let c = format!("c{}_{j}_{sum}.{}", 4 * q + e, super::PARTS[f]);
                    line!(lines, "sums[(4u * ty + {e}u) * SUMS_PITCH + 4u * tx + {f}u] = {c};");
                }
            }
        }
        line!(lines, "workgroupBarrier();");
        let [row, column] = [format!("row0 + {q}u * 4u * TY"), format!("column0 + {j}u * 4u * TX")];
        let to = format!("dst_first + {sum}u * params.tap_step");
        line!(lines, "write_part({row}, {column}, {to}, local, missing);");
        line!(lines, "workgroupBarrier();");
    }
    lines.0
}
