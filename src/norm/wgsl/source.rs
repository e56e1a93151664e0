//! The shaders' source: one function per kernel, which fills its template under `shaders/`.

use super::kernel::{Mask, written};
use crate::kernels::plan::{element_values, fill};
use crate::kernels::storage::Storage;

/// A name in a template and the text that replaces it.
type Value = (&'static str, String);

/// Numbers the bindings that a variant adds to those in its template.
struct Bindings {
    next: usize,
}

impl Bindings {
    /// Starts after the bindings that the template numbers itself.
    fn after(template: &str) -> Self {
        let is_used = |number: &usize| template.contains(&format!("@binding({number})"));
        Self { next: (0..).take_while(is_used).count() }
    }

    /// Takes the next number.
    fn number(&mut self) -> usize {
        let number = self.next;
        self.next += 1;
        number
    }

    /// Returns the declaration of the next binding.
    fn declare(&mut self, name: &str, element: &str) -> String {
        let number = self.number();
        format!("@group(0) @binding({number}) var<storage, read_write> {name}: array<{element}>;")
    }

    /// Returns the declaration of the next binding if it is wanted, otherwise an empty text.
    fn declare_if(&mut self, wanted: bool, name: &str, element: &str) -> String {
        if wanted { self.declare(name, element) } else { String::new() }
    }

    /// Returns the number of the parameters, which follow last.
    fn params(self) -> Value {
        ("params", self.next.to_string())
    }
}

fn each() -> Value {
    ("norm_each.wgsl", include_str!("../../../shaders/include/norm_each.wgsl").to_owned())
}

fn reduce() -> Value {
    ("norm_reduce.wgsl", include_str!("../../../shaders/include/norm_reduce.wgsl").to_owned())
}

fn pairs() -> Value {
    ("norm_pairs.wgsl", include_str!("../../../shaders/include/norm_pairs.wgsl").to_owned())
}

/// Returns the text if it is wanted, otherwise an empty one.
fn optional(wanted: bool, text: impl Into<String>) -> String {
    if wanted { text.into() } else { String::new() }
}

/// Returns the expression for a channel's value in one row of `kept`, as an element.
fn kept(row: u32) -> String {
    format!("Element(bitcast<f32>(kept[{row}u * params.row + channel]))")
}

/// Returns the type of a stored element.
fn stored(storage: Storage, wide: bool) -> &'static str {
    if storage.is_half() { storage.element(wide) } else { "Element" }
}

/// Returns the expression for g where the mask is recomputed from x. It repeats the expression in
/// norm_apply.wgsl, so that both give the same bits.
fn masked_by_x(dy: &str) -> String {
    format!("select(Element(0.0), {dy}, fma(deviation, scale, shift) > Element(0.0))")
}

/// Returns the source of `norm_stats.wgsl`.
pub(super) fn stats(wide: bool, x: Storage) -> String {
    let mut values = element_values(wide);
    let place = "(image * channels + channel) * plane + inner";
    values.extend([reduce(), pairs(), ("value", x.read("x", place))]);
    values.extend([("stored", stored(x, wide).to_owned()), ("load", x.load("x", wide))]);
    fill(include_str!("../../../shaders/norm_stats.wgsl"), &values)
}

/// Returns the source of `norm_collect.wgsl`.
pub(super) fn collect() -> String {
    fill(include_str!("../../../shaders/norm_collect.wgsl"), &[pairs()])
}

/// Returns the source of `norm_collect_sums.wgsl`.
pub(super) fn collect_sums() -> String {
    include_str!("../../../shaders/norm_collect_sums.wgsl").to_owned()
}

/// Returns the source of `norm_apply.wgsl`; with `masks` it stores the mask of its ReLU.
pub(super) fn apply(
    wide: bool,
    [residual, relu, given]: [bool; 3],
    masks: bool,
    x: Storage,
) -> String {
    let template = include_str!("../../../shaders/norm_apply.wgsl");
    let mut bindings = Bindings::after(template);
    let [statistics, channel_statistics] = statistics(given, &mut bindings);
    let added = bindings.declare_if(residual, "residual", stored(x, wide));
    let y = written(x, wide);
    let mut functions = x.load("x", wide) + &y.store(&["y"]);
    if residual {
        functions += &x.load("residual", wide);
    }
    let [bits, truth] = match wide {
        true => ["vec4<u32>", "vec4<bool>"],
        false => ["u32", "bool"],
    };
    let mut values = element_values(wide);
    values.extend([
        each(),
        ("bits", bits.to_owned()),
        ("truth", truth.to_owned()),
        ("stored", stored(x, wide).to_owned()),
        ("result", stored(y, wide).to_owned()),
        ("functions", functions),
        ("x", x.read("x", "at")),
        ("write", y.write("y", "at", "value")),
        statistics,
        channel_statistics,
        ("keep", optional(!given, KEEP)),
        ("residual", added),
        ("add", optional(residual, format!(" + {}", x.read("residual", "at")))),
        ("relu", relu.to_string()),
    ]);
    values.extend(stored_mask(masks, wide));
    values.push(bindings.params());
    fill(template, &values)
}

/// Returns the bindings of the statistics and the function that reads them.
fn statistics(given: bool, bindings: &mut Bindings) -> [Value; 2] {
    let (declared, function) = match given {
        true => (
            [bindings.declare("given_mean", "f32"), bindings.declare("given_variance", "f32")],
            include_str!("../../../shaders/include/norm_given.wgsl"),
        ),
        false => (
            [bindings.declare("parts", "f32"), bindings.declare("kept", "u32")],
            include_str!("../../../shaders/include/norm_merge.wgsl"),
        ),
    };
    [("statistics", declared.join("\n")), ("channel_statistics", function.to_owned())]
}

/// Statement by which the forward pass stores a channel's values for the backward pass.
const KEEP: &str = "if (share.leads) {
        kept[channel] = bitcast<u32>(statistics.x);
        kept[params.row + channel] = bitcast<u32>(statistics.y);
        kept[2u * params.row + channel] = bitcast<u32>(scale);
        kept[3u * params.row + channel] = bitcast<u32>(shift);
    }";

/// Returns the texts that store the mask of the ReLU, which are empty unless it `masks`.
fn stored_mask(masks: bool, wide: bool) -> [Value; 4] {
    [
        ("positive_bits", optional(masks, positive_bits(wide))),
        ("begin", optional(masks, "var bits = 0u;")),
        ("collect", optional(masks, "bits |= positive_bits(value) << (step * LANES);")),
        ("mask", optional(masks, "kept[share.word] = bits;")),
    ]
}

/// Returns the function that computes one bit per value, set for values above 0.
fn positive_bits(wide: bool) -> String {
    let bits = match wide {
        true => {
            "let bits = select(vec4(0u), vec4(1u, 2u, 4u, 8u), value > Element(0.0));
    return (bits.x | bits.y) | (bits.z | bits.w);"
        }
        false => "return select(0u, 1u, value > Element(0.0));",
    };
    format!(
        "// One bit per value, set for values above 0.\n\
         fn positive_bits(value: Element) -> u32 {{\n    {bits}\n}}\n"
    )
}

/// Returns the function that reads such a bit back.
fn is_positive(wide: bool) -> String {
    let (ty, test) = match wide {
        true => ("vec4<bool>", "(vec4(bits) & vec4(1u, 2u, 4u, 8u)) != vec4(0u)"),
        false => ("bool", "(bits & 1u) != 0u"),
    };
    let text = include_str!("../../../shaders/include/norm_opened.wgsl");
    fill(text, &[("bool", ty.to_owned()), ("test", test.to_owned())])
}

/// Returns the source of `norm_grads.wgsl`.
pub(super) fn grads(wide: bool, mask: Mask, x: Storage) -> String {
    let template = include_str!("../../../shaders/norm_grads.wgsl");
    let mut bindings = Bindings::after(template);
    let writes = mask == Mask::Kept;
    let dy = x.gradient();
    let masked = written(dy, wide);
    let declared = bindings.declare_if(writes, "masked", stored(masked, wide));
    let [layer, gradient] = masked_gradient(mask, dy.read("dy", "at"));
    let mut functions = x.load("x", wide) + &dy.load("dy", wide);
    if writes {
        functions += &masked.store(&["masked"]);
    }
    let mut values = element_values(wide);
    values.extend([
        ("stored", stored(x, wide).to_owned()),
        ("dy_stored", stored(dy, wide).to_owned()),
        ("functions", functions),
        ("x", x.read("x", "at")),
        reduce(),
        ("masked", declared),
        ("is_positive", optional(writes, is_positive(wide))),
        layer,
        gradient,
        ("write", optional(writes, masked.write("masked", "at", "gradient"))),
        bindings.params(),
    ]);
    fill(template, &values)
}

/// Returns g for the sums of the backward pass, and what it reads once per channel; `dy` is the
/// expression for dy.
fn masked_gradient(mask: Mask, dy: String) -> [Value; 2] {
    let (layer, gradient) = match mask {
        Mask::None => (String::new(), dy),
        Mask::FromX => {
            (format!("let scale = {};\nlet shift = {};", kept(2), kept(3)), masked_by_x(&dy))
        }
        Mask::Kept => {
            let test = "is_positive(at_plane, inner)";
            (String::new(), format!("select(Element(0.0), {dy}, {test})"))
        }
    };
    [("layer", layer), ("gradient", gradient)]
}

/// Returns the source of `norm_input.wgsl`.
pub(super) fn input(wide: bool, relu: bool, x: Storage, dy: Storage) -> String {
    let (dx, value) = (written(x.gradient(), wide), dy.read("dy", "at"));
    let functions = x.load("x", wide) + &dy.load("dy", wide) + &dx.store(&["dx"]);
    let result = "(gradient - mean_gradient - deviation * slope) * scale";
    let mut values = element_values(wide);
    values.extend([
        ("stored", stored(x, wide).to_owned()),
        ("dy_stored", stored(dy, wide).to_owned()),
        ("dx_stored", stored(dx, wide).to_owned()),
        ("functions", functions),
        ("x", x.read("x", "at")),
        each(),
        ("layer", optional(relu, format!("let shift = {};", kept(3)))),
        ("gradient", if relu { masked_by_x(&value) } else { value }),
        ("write", dx.write("dx", "at", result)),
    ]);
    fill(include_str!("../../../shaders/norm_input.wgsl"), &values)
}

/// Returns the source of `norm_frozen.wgsl`.
pub(super) fn frozen(wide: bool, relu: bool, residual: bool, y: Storage) -> String {
    let template = include_str!("../../../shaders/norm_frozen.wgsl");
    let mut bindings = Bindings::after(template);
    let dy = y.gradient();
    let (dx, value) = (written(dy, wide), dy.read("dy", "at"));
    let output = bindings.declare_if(relu, "y", stored(y, wide));
    let masked = bindings.declare_if(residual, "masked", stored(dx, wide));
    let gradient = match relu {
        true => {
            let output = y.read("y", "at");
            format!("select(Element(0.0), {value}, {output} > Element(0.0))")
        }
        false => value,
    };
    let results: &[&str] = if residual { &["dx", "masked"] } else { &["dx"] };
    let mut functions = dy.load("dy", wide) + &dx.store(results);
    if relu {
        functions += &y.load("y", wide);
    }
    let mut values = element_values(wide);
    values.extend([
        each(),
        ("output", output),
        ("functions", functions),
        ("dy_stored", stored(dy, wide).to_owned()),
        ("dx_stored", stored(dx, wide).to_owned()),
        ("write_dx", dx.write("dx", "at", "gradient * scale")),
        ("masked", masked),
        ("gradient", gradient),
        ("write", optional(residual, dx.write("masked", "at", "gradient"))),
        bindings.params(),
    ]);
    fill(template, &values)
}

/// Returns the source of `norm_blend.wgsl`.
pub(super) fn blend(layers: u32) -> String {
    const NAMES: [&str; 4] = ["running_mean", "running_variance", "batch_mean", "batch_variance"];
    let template = include_str!("../../../shaders/norm_blend.wgsl");
    let mut bindings = Bindings::after(template);
    let names = (0..layers).flat_map(|layer| NAMES.map(|name| format!("{name}_{layer}")));
    let declared: Vec<_> = names.map(|name| bindings.declare(&name, "f32")).collect();
    let read = (0..layers).map(|layer| {
        let [a, b, c, d] = NAMES.map(|name| format!("{name}_{layer}[channel]"));
        format!("case {layer}u: {{ running = vec2({a}, {b}); batch = vec2({c}, {d}); }}")
    });
    let values = [
        ("layers", declared.join("\n")),
        ("read", read.collect::<Vec<_>>().join("\n        ")),
        ("next", bindings.number().to_string()),
        bindings.params(),
    ];
    fill(template, &values)
}
