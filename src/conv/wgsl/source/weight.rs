//! The tiled kernels of the weight gradient.

use super::matrices::Tiles;
use super::units::{self, Weight};
use super::weight_products::{TILES, multiply};
use super::{Lines, PARTS, index, line, mask, tile_values};
use crate::conv::wgsl::tile::Tile;
use crate::conv::wgsl::units::PADDING;
use crate::conv::wgsl::weight::{WeightLoads, pitches, step};
use crate::kernels::MatrixUnits;
use crate::kernels::plan::fill;
use crate::kernels::storage::Storage;

/// The texts that the template is filled with.
pub(super) struct Text {
    /// How x is stored.
    pub x: Storage,
    /// How dy is stored.
    pub dy: Storage,
    /// Whether matrix units multiply, real or emulated.
    pub by_units: bool,
    pub declare: Lines,
    pub load: Lines,
    pub store: Lines,
    pub multiply: Lines,
    pub write: Lines,
}

/// Returns the source of `conv_weight.wgsl`, with x stored as `x` and dy like its gradient. Of its
/// template values, `pitch_unit` is the element of the tiles, `tiles` declares both tiles, and
/// `subgroup` is the arguments that only matrix units need.
pub(in crate::conv::wgsl) fn weight(
    tile: Tile,
    loads: WeightLoads,
    units: Option<MatrixUnits>,
    x: Storage,
) -> String {
    let step = step(loads, units);
    let mut text = Text::new(x, units.is_some());
    match loads.is_wide() {
        true => load_wide(&mut text, tile, loads, step),
        false => load_narrow(&mut text, tile, loads, step),
    }
    let directives = match units {
        Some(units) => units::directives(units),
        None => x.directive(),
    };
    let (pitch_unit, pitches, tiles, subgroup) = match units {
        Some(units) => {
            let [padding, _] = PADDING;
            let Weight { tiles, subgroup, sums, multiply, write } = Weight::of(tile, loads, units);
            text.declare.0 += &sums;
            (text.multiply, text.write) = (Lines(multiply), Lines(write));
            let layout = Tiles::of(loads, units);
            let pitches = [tile.rows(), tile.columns()].map(|count| count + padding);
            let pitches = pitches.map(|pitch| pitch / layout.together());
            (layout.element(), pitches, tiles, subgroup)
        }
        None => {
            multiply(&mut text, tile, loads, step);
            ("vec4", pitches(tile, loads), TILES.to_owned(), "")
        }
    };
    let helpers = match loads {
        WeightLoads::Mixed => {
            mask().1 + include_str!("../../../../shaders/include/conv_weight_columns.wgsl")
        }
        _ => String::new(),
    };
    let advance = include_str!("../../../../shaders/include/conv_advance.wgsl");
    let [a_pitch, b_pitch] = pitches;
    let mut values = tile_values(tile);
    values.extend([
        index(),
        ("helpers", helpers),
        ("conv_advance.wgsl", advance.to_owned()),
        ("step", step.to_string()),
        ("sums", loads.sums().to_string()),
        ("loads", format!("{loads:?}")),
        ("x_element", x.element(loads.is_wide()).to_owned()),
        ("loads_from", text.load_functions(loads)),
        ("pitch_unit", pitch_unit.to_owned()),
        ("dy_element", text.dy.element(loads.is_wide()).to_owned()),
        ("a_pitch", a_pitch.to_string()),
        ("b_pitch", b_pitch.to_string()),
        ("tiles", tiles),
        ("subgroup", subgroup.to_owned()),
        ("declare", text.declare.0),
        ("load", text.load.0),
        ("multiply", text.multiply.0),
        ("store", text.store.0),
        ("write", text.write.0),
    ]);
    directives.to_owned() + &fill(include_str!("../../../../shaders/conv_weight.wgsl"), &values)
}

impl Text {
    fn new(x: Storage, by_units: bool) -> Self {
        let [declare, load, store, multiply, write] = [(); 5].map(|()| Lines::default());
        // Matrix units take f16 without conversion.
        let dy = if by_units { x } else { x.gradient() };
        Self { x, dy, by_units, declare, load, store, multiply, write }
    }

    /// Returns the expression for one or four values of an operand at `index`: f32, or f16 for
    /// matrix units.
    fn read(&self, operand: &str, index: &str) -> String {
        match (self.by_units, operand) {
            (true, _) => format!("{operand}[{index}]"),
            (false, "dy") => self.dy.read(operand, index),
            (false, _) => self.x.read(operand, index),
        }
    }

    /// Returns the functions that [`Self::read`] calls.
    fn load_functions(&self, loads: WeightLoads) -> String {
        match self.by_units {
            true => String::new(),
            false => self.x.load("x", loads.is_wide()) + &self.dy.load("dy", loads.is_wide()),
        }
    }

    /// Returns the expression for four zeros.
    fn zero(&self) -> &'static str {
        if self.by_units { "vec4<f16>()" } else { "vec4(0.0)" }
    }
}

/// Fills the texts for narrow loads: a vec4 in the tiles is one position of four rows (columns).
fn load_narrow(text: &mut Text, tile: Tile, loads: WeightLoads, step: u32) {
    let Text { declare, load, .. } = text;
    line!(declare, "let quarter = local / STEP;");
    // If one factor is set to 0, the other may be any element of its operand.
    match loads {
        WeightLoads::Row => {
            line!(load, "let row_ok = i32(lane) < remaining && u32(x_position.z) < size.z;");
            line!(load, "let ok = row_ok && all(vec2<u32>(x_position.xy) < size.xy);");
            line!(load, "let a = select(0u, a_at, row_ok);");
        }
        WeightLoads::Mixed => {
            line!(load, "let valid = i32(lane) < remaining;");
            line!(
                load,
                "let taps = select(0u, inside_mask(x_position, params.window, size), valid);"
            );
            line!(load, "let a = select(0u, a_at, valid);");
        }
        _ => {
            line!(load, "let ok = i32(lane) < remaining && all(vec3<u32>(x_position) < size);");
            line!(load, "let a = select(0u, a_at, ok);");
        }
    }
    let shares = tile.threads() / step;
    each_quarter(text, "a", loads, [tile.rows() / 4, shares], |text, i, at| {
        line!(
            text.declare,
            "let a_offset{i} = min(vec4(row0 + quarter + {at}u) + vec4(0u, 1u, 2u, 3u) * MQ, \
             vec4(rows - 1u)) * params.out_plane;"
        );
        let at = PARTS.map(|part| format!("a + a_offset{i}.{part}"));
        let values = at.map(|at| text.read("dy", &at)).join(", ");
        line!(text.load, "let a{i} = vec4({values});");
        match loads {
            WeightLoads::Row => format!("select({}, a{i}, row_ok)", text.zero()),
            _ => format!("a{i}"),
        }
    });
    if loads != WeightLoads::Mixed {
        line!(text.load, "let b = select(0u, b_at, ok);");
    }
    each_quarter(text, "b", loads, [tile.columns() / 4, shares], |text, i, at| {
        if loads == WeightLoads::Mixed {
            mixed_columns(text, i, at);
            return format!("select({}, b{i}, ok{i})", text.zero());
        }
        line!(
            text.declare,
            "let b_offset{i} = min(vec4(column0 + quarter + {at}u) + vec4(0u, 1u, 2u, 3u) * NQ, \
             vec4(columns - 1u)) * params.in_plane;"
        );
        let at = PARTS.map(|part| format!("b + b_offset{i}.{part}"));
        let values = at.map(|at| text.read("x", &at)).join(", ");
        line!(text.load, "let b{i} = vec4({values});");
        format!("select({}, b{i}, ok)", text.zero())
    });
}

/// Adds the stores of the vec4 of an operand that an invocation loads: `value` returns each of
/// them, given the number of the vec4 and its distance from the first one. Past the last row
/// (column), the values of the last one are repeated.
fn each_quarter(
    text: &mut Text,
    name: &str,
    loads: WeightLoads,
    [quarters, shares]: [u32; 2],
    mut value: impl FnMut(&mut Text, u32, u32) -> String,
) {
    let pitch = format!("{}_PITCH", name.to_uppercase());
    for i in 0..quarters.div_ceil(shares) {
        let at = i * shares;
        let value = value(text, i, at);
        if !text.by_units {
            let to = format!("(half * STEP + lane) * {pitch} + quarter + {at}u");
            line!(text.store, "{name}_tile[{to}] = {value};");
            continue;
        }
        let zero = text.zero();
        let (Text { declare, store, .. }, item) = (&mut *text, format!("quarter + {at}u"));
        let new = format!("{name}_new{i}");
        line!(store, "let {new} = {value};");
        line!(store, "store_{name}(half * HALF + BEFORE + lane, {item}, {new});");
        if loads.is_row() {
            line!(declare, "var {name}_old{i} = {zero};");
            store_before(store, |line| format!("store_{name}({line}, {item}, {name}_old{i});"));
            line!(store, "{name}_old{i} = {new};");
        }
    }
}

/// Adds the load of four columns with any channels and taps; each has its own offset and tap bits.
fn mixed_columns(text: &mut Text, i: u32, at: u32) {
    line!(text.declare, "var b_offset{i}: vec4<u32>;");
    line!(text.declare, "var b_bits{i}: vec4<u32>;");
    for (part, f) in PARTS.into_iter().zip(0..) {
        let (column, tap) = (format!("column{i}_{f}"), format!("tap{i}_{f}"));
        line!(text.declare, "let {column} = column0 + quarter + {at}u + {f}u * NQ;");
        line!(text.declare, "let {tap} = decompose({column}, params.window);");
        line!(text.declare, "b_offset{i}.{part} = tap_offset({tap});");
        // Bit 31 is in no mask, so that columns past the last become 0.
        let bits = format!("select(1u << 31u, tap_bits({tap}), {column} < columns)");
        line!(text.declare, "b_bits{i}.{part} = {bits};");
    }
    line!(text.load, "let ok{i} = (b_bits{i} & vec4(taps)) == b_bits{i};");
    line!(text.load, "let at{i} = select(vec4(0u), vec4(b_at) + b_offset{i}, ok{i});");
    let values = PARTS.map(|part| text.read("x", &format!("at{i}.{part}"))).join(", ");
    line!(text.load, "let b{i} = vec4({values});");
}

/// Fills the texts for wide loads: a vec4 in the tiles is four positions of one row (column).
fn load_wide(text: &mut Text, tile: Tile, loads: WeightLoads, step: u32) {
    let by_units = text.by_units;
    let Text { declare, load, .. } = &mut *text;
    // Matrix products need both factors to be 0 between rows.
    let between = by_units && loads.is_row();
    line!(declare, "let item = local / STEP;");
    let a_ok = if between { "row_ok" } else { "ok" };
    if between {
        line!(load, "let row_ok = i32(lane) < remaining && u32(x_position.z) < size.z;");
        line!(load, "let ok = row_ok && all(vec2<u32>(x_position.xy) < size.xy);");
    } else {
        line!(load, "let ok = i32(lane) < remaining && all(vec3<u32>(x_position) < size);");
    }
    line!(load, "let a = select(0u, a_at, {a_ok});");
    line!(load, "let b = select(0u, b_at, ok);");
    let shares = tile.threads() / step;
    for (name, count) in [("a", tile.rows()), ("b", tile.columns())] {
        let (operand, plane, first, all, pitch) = match name {
            "a" => ("dy", "params.out_plane", "row0", "rows", "A_PITCH"),
            _ => ("x", "params.in_plane", "column0", "columns", "B_PITCH"),
        };
        for i in 0..count.div_ceil(shares) {
            let item = format!("item + {}u", i * shares);
            let value = match name {
                "a" if between => format!("select({}, a{i}, row_ok)", text.zero()),
                "a" => format!("a{i}"),
                _ => format!("select({}, b{i}, ok)", text.zero()),
            };
            let loaded = text.read(operand, &format!("{name} + {name}_offset{i}"));
            let Text { declare, load, store, .. } = &mut *text;
            // Past the last row (column), the last one is loaded again.
            line!(declare, "let {name}_offset{i} = min({first} + {item}, {all} - 1u) * {plane};");
            line!(load, "let {name}{i} = {loaded};");
            if !by_units {
                line!(store, "{name}_tile[(half * STEP + lane) * {pitch} + {item}] = {value};");
                continue;
            }
            let new = format!("{name}_new{i}");
            line!(store, "let {new} = {value};");
            line!(store, "store_{name}(half * HALF + BEFORE + 4u * lane, {item}, {new});");
            if between {
                line!(declare, "var {name}_old{i} = f16();");
                store_before(store, |half| {
                    format!("{name}_tile[{half} * {pitch} + {item}] = {name}_old{i};")
                });
                line!(store, "{name}_old{i} = {new}.w;");
            }
        }
    }
}

/// Adds the store of the position before a step, for taps along w: it is the last position of the
/// previous step, or 0 at the start of a part. `text` returns the store to the given line.
fn store_before(store: &mut Lines, text: impl Fn(&str) -> String) {
    line!(store, "if (lane == STEP - 1u) {{");
    line!(store, "{}", text("half * HALF"));
    line!(store, "}}");
}
