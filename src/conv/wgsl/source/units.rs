//! Products on matrix units, and the emulation by invocations from the same tiles.

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

/// Returns the directives at the start of a shader.
pub(super) fn directives(units: MatrixUnits) -> &'static str {
    match units.emulated {
        true => "enable f16;\n",
        false => "enable f16;\nenable wgpu_cooperative_matrix;\n",
    }
}

/// Returns the arguments of the entry point that only matrix units need.
fn subgroup(units: MatrixUnits) -> &'static str {
    match units.emulated {
        true => "",
        false => "\n@builtin(subgroup_id) subgroup: u32,\n@builtin(num_subgroups) subgroups: u32,",
    }
}

/// Returns the template values of `conv_gather.wgsl` that differ from products by invocations in
/// f32.
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

/// The template values of `conv_weight.wgsl` that differ: the texts that declare the tiles, declare
/// the sums, multiply and write, and the additional arguments.
pub(super) struct Weight {
    pub tiles: String,
    pub subgroup: &'static str,
    pub sums: String,
    pub multiply: String,
    pub write: String,
}

impl Weight {
    pub(super) fn of(tile: Tile, loads: WeightLoads, units: MatrixUnits) -> Self {
        // Tap 0 pairs dy with x one position earlier, tap 2 with x one position later.
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
                [PLACE_CONSECUTIVE.to_owned(), stores(store)]
            }
            _ => [PLACE_QUARTERS.to_owned(), stores(|name| tiles.store_four(name, "line", "item"))],
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

/// The result of `place` if the rows (columns) of a vec4 are consecutive in the tile.
const PLACE_CONSECUTIVE: &str = "vec2(n, 4u * first + n)";
/// The result of `place` if the rows (columns) of a vec4 are a quarter of the tile apart.
const PLACE_QUARTERS: &str =
    "vec2(n % count * 4u + n / count, n / count * quarter + first + n % count)";

/// Returns the functions that store to a weight gradient's tiles, of which a line has the rows
/// (columns) of one position. An invocation stores four rows of one position with
/// [`TileOrder::Fours`], four positions of one row with [`TileOrder::Ones`].
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

/// Declares the workgroup memory for the sums of a part of the tile.
fn declare_sums() -> String {
    let [_, padding] = PADDING;
    format!(
        "// Sums of four rows and four columns of every invocation.\n\
         const SUMS_PITCH: u32 = 4u * TX + {padding}u;\n\
         var<workgroup> sums: array<f32, 4u * TY * SUMS_PITCH>;\n"
    )
}

/// Iterates over the parts of a tile, by their row and column.
fn parts(tile: Tile) -> impl Iterator<Item = [u32; 2]> {
    (0..tile.tm / 4).flat_map(move |q| (0..tile.tn / 4).map(move |j| [q, j]))
}

/// Returns the text that distributes the sums of subgroups to their invocations.
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

/// Returns the text that writes the sums, `sums` per row and column, to the weight gradient.
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
