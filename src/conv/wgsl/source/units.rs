//! Products by matrix units, and by each invocation of the same tiles.

use super::gather::zeros;
use super::matrices::{Matrices, TileOrder, Tiles, multiply};
use super::{Lines, line};
use crate::conv::wgsl::form::Form;
use crate::conv::wgsl::tile::Tile;
use crate::conv::wgsl::units::PADDING;
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
    let (terms, tiles) = (form.terms(), Tiles::of_weights(units));
    let base = "let base = (step - first) % BUFFERS * BK;\n";
    let [more, sums, products, collect] = match units.emulated {
        true => [
            tiles.load_fours(),
            zeros(tile, ""),
            multiply(tile, terms, &[(0, 0)], |_| String::new()),
            String::new(),
        ],
        false => {
            let matrices = Matrices::of(tile, units);
            [
                declare_sums(),
                matrices.zeros(1),
                matrices.multiply(tiles, terms, &[(0, 0)]),
                collect(tile, &matrices),
            ]
        }
    };
    let [padding, _] = PADDING;
    let values = [
        ("padding", padding.to_string()),
        ("together", tiles.together().to_string()),
        ("element", tiles.element().to_owned()),
        ("store_a", tiles.store_four("a", "row", "four")),
        ("store_b", tiles.store_four("b", "term", "quad")),
        ("more", more),
    ];
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
        let tiles = Tiles::of(loads, units);
        let [more, sums, products] = match units.emulated {
            true => {
                let name = |sum: usize| format!("_{sum}");
                let zeros = (0..factors.len()).map(|sum| zeros(tile, &name(sum))).collect();
                [tiles.load_fours(), zeros, multiply(tile, 16, factors, name)]
            }
            false => {
                let matrices = Matrices::of(tile, units);
                let zeros = matrices.zeros(factors.len() as u32);
                [String::new(), zeros, matrices.multiply(tiles, 16, factors)]
            }
        };
        let [place, stores] = match tiles.order {
            TileOrder::Ones => {
                let store = |name: &str| {
                    let pitch = format!("{}_PITCH", name.to_uppercase());
                    let mut lines = Lines(format!("let at = line * {pitch} + item;\n"));
                    for (n, part) in super::PARTS.iter().enumerate() {
                        line!(lines, "{name}_tile[at + {n}u * {pitch}] = value.{part};");
                    }
                    lines.0
                };
                [TOGETHER.to_owned(), stores(store)]
            }
            _ => [QUARTERS.to_owned(), stores(|name| tiles.store_four(name, "line", "item"))],
        };
        let values = [
            ("before", u32::from(loads.is_row()).to_string()),
            ("element", tiles.element().to_owned()),
            ("stores", stores),
            ("place", place),
            ("more", declare_sums() + &more),
        ];
        Self {
            tiles: fill(
                include_str!("../../../../shaders/include/conv_weight_units.wgsl"),
                &values,
            ),
            subgroup: subgroup(units),
            sums,
            multiply: "let base = (step & 1u) * HALF + BEFORE;\n".to_owned() + &products,
            write: write(tile, units, factors.len() as u32),
        }
    }
}

/// The place of a row (column) where those of a vec4 lie beside each other in the tile, and where they are
/// a quarter of it apart.
const TOGETHER: &str = "vec2(n, 4u * first + n)";
const QUARTERS: &str = "vec2(n % count * 4u + n / count, n / count * quarter + first + n % count)";

/// A line of a weight gradient's tiles has the rows (columns) of a position. With [`TileOrder::Fours`]
/// an invocation has four rows of one position, with [`TileOrder::Ones`] four positions of one row.
fn stores(of: impl Fn(&str) -> String) -> String {
    let text = |(name, operand): (&str, &str)| {
        format!(
            "// Four values of {operand}.\n\
             fn store_{name}(line: u32, item: u32, value: vec4<f16>) {{\n{}\n}}\n\n",
            of(name).trim_end()
        )
    };
    [("a", "dy"), ("b", "x")].map(text).concat()
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
        let to = format!("dst_first + {sum}u * params.tap_step");
        let tile = "vec2(row0, column0)";
        line!(lines, "write_part({tile}, vec2({q}u, {j}u), {to}, local, missing);");
        line!(lines, "workgroupBarrier();");
    }
    lines.0
}
