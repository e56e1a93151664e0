//! The products of `conv_gather.wgsl` by matrix units, and by each invocation of the same tiles.

use super::gather::{multiply, zeros};
use super::{Lines, line};
use crate::conv::wgsl::form::Form;
use crate::conv::wgsl::tile::Tile;
use crate::conv::wgsl::units::{PADDING, Share};
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

/// What differs from products by each invocation in f32.
pub(super) fn units(tile: Tile, form: Form, units: MatrixUnits) -> [(&'static str, String); 6] {
    let [subgroup, more, sums, multiply, collect] = match units.emulated {
        true => emulated(tile, form),
        false => by_units(tile, form, units),
    };
    let [padding, _] = PADDING;
    let values = [("padding", padding.to_string()), ("more", more)];
    [
        ("packed", Storage::F16.element(true).to_owned()),
        ("tiles", fill(include_str!("../../../../shaders/include/conv_units.wgsl"), &values)),
        ("subgroup", subgroup),
        ("sums", sums),
        ("multiply", multiply),
        ("collect", collect),
    ]
}

/// Each invocation multiplies what the matrix units would.
fn emulated(tile: Tile, form: Form) -> [String; 5] {
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
    let x = |k: u32, i: u32| format!("load_a(base + {k}u, ty + {i}u * TY)");
    let y = |k: u32, j: u32| format!("load_b(base + {k}u, tx + {j}u * TX)");
    let mut lines = Lines::default();
    line!(lines, "let base = ((step - first) & 1u) * BK;");
    [
        String::new(),
        four("a") + &four("b"),
        zeros(tile),
        lines.0 + &multiply(tile, form.terms(), x, y),
        String::new(),
    ]
}

fn by_units(tile: Tile, form: Form, units: MatrixUnits) -> [String; 5] {
    let MatrixUnits { size, lanes, .. } = units;
    let share = Share::of(tile, units).expect("a plan takes tiles that can be divided");
    let Share { grid: [below, beside], matrices: [rows, columns], in_part } = share;
    let [_, padding] = PADDING;
    let subgroup =
        "\n@builtin(subgroup_id) subgroup: u32,\n@builtin(num_subgroups) subgroups: u32,";
    let matrix = |scalar: &str, role: &str| format!("coop_mat{size}x{size}<{scalar}, {role}>");
    let more = format!(
        "// Sums of four rows and four columns of every invocation.\n\
         const SUMS_PITCH: u32 = 4u * TX + {padding}u;\n\
         var<workgroup> sums: array<f32, 4u * TY * SUMS_PITCH>;\n"
    );

    let mut declare = Lines::default();
    line!(declare, "// The subgroups lie in a grid and take turns at the tile's matrices.");
    line!(declare, "let below = subgroup / {beside}u % {below}u * {size}u;");
    line!(declare, "let beside = subgroup % {beside}u * {size}u;");
    for (i, j) in (0..rows).flat_map(|i| (0..columns).map(move |j| (i, j))) {
        line!(declare, "var m{i}_{j} = {}();", matrix("f32", "C"));
    }

    let mut multiply = Lines::default();
    line!(multiply, "let base = ((step - first) & 1u) * BK;");
    for k in (0..form.terms()).step_by(size as usize) {
        line!(multiply, "{{");
        line!(multiply, "let a_row = (base + {k}u) * A_PITCH + below;");
        line!(multiply, "let b_row = (base + {k}u) * B_PITCH + beside;");
        for j in 0..columns {
            line!(multiply, "let b_at{j} = b_row + {}u;", j * beside * size);
            let ty = matrix("f16", "B");
            line!(multiply, "let y{j} = coopLoadT<{ty}>(&b_tile[b_at{j}], B_PITCH);");
        }
        for i in 0..rows {
            line!(multiply, "let a_at{i} = a_row + {}u;", i * below * size);
            let ty = matrix("f16", "A");
            line!(multiply, "let x{i} = coopLoad<{ty}>(&a_tile[a_at{i}], A_PITCH);");
            for j in 0..columns {
                line!(multiply, "m{i}_{j} = coopMultiplyAdd(x{i}, y{j}, m{i}_{j});");
            }
        }
        line!(multiply, "}}");
    }

    let mut collect = Lines::default();
    line!(collect, "// With larger subgroups than planned for, some sums are nobody's: no number.");
    let expected = tile.threads() / lanes;
    line!(collect, "let whole = subgroups >= {expected}u;");
    line!(collect, "let missing = vec4(bitcast<f32>(select(0x7fc00000u, 0u, whole)));");
    for (q, j) in (0..tile.tm / 4).flat_map(|q| (0..tile.tn / 4).map(move |j| (q, j))) {
        for (r, c) in (0..in_part[0]).flat_map(|r| (0..in_part[1]).map(move |c| (r, c))) {
            let [row, column] = [r * below * size, c * beside * size];
            let name = format!("{q}_{j}_{r}_{c}");
            line!(collect, "let to{name} = ({row}u + below) * SUMS_PITCH + {column}u + beside;");
            let from = format!("m{}_{}", q * in_part[0] + r, j * in_part[1] + c);
            line!(collect, "coopStoreT({from}, &sums[to{name}], SUMS_PITCH);");
        }
        line!(collect, "workgroupBarrier();");
        for e in 0..4 {
            let at = format!("at{}_{j}", 4 * q + e);
            line!(collect, "let {at} = (4u * ty + {e}u) * SUMS_PITCH + 4u * tx;");
            let values = (0..4).map(|f| format!("sums[{at} + {f}u]")).collect::<Vec<_>>();
            line!(collect, "let c{}_{j} = vec4({}) + missing;", 4 * q + e, values.join(", "));
        }
        line!(collect, "workgroupBarrier();");
    }
    [subgroup.to_owned(), more, declare.0, multiply.0, collect.0]
}
