//! The shaders' variants and their source.

use super::params::{
    BlendLayer, BlendParams, CollectParams, CollectSumsParams, EachParams, ReduceParams,
};
use crate::kernels::layout::{Layout, Record};
use crate::kernels::plan::{Shader, element_values, fill};
use crate::kernels::storage::Storage;

/// Source of the ReLU's mask for the sums of the backward pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Mask {
    /// There is no ReLU.
    None,
    /// The mask is recomputed from x.
    FromX,
    /// The forward pass stored the mask; the masked gradient is written.
    Kept,
}

/// A shader in one variant. Those that are `wide` process four elements at a time; `x` is how x, y
/// and the residual are stored, and their gradients accordingly. Variants in half precision that
/// are not `wide` write results in f32, because one of the two values in a word cannot be written
/// alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum NormKernel {
    /// Partial statistics.
    Stats { wide: bool, x: Storage },
    /// Merges the partial statistics that a convolution computed into one part per channel.
    Collect,
    /// Merges the partial gradient sums that a convolution computed.
    CollectSums,
    /// The normalisation itself, by the batch's statistics or by given ones.
    Apply { wide: bool, residual: bool, relu: bool, given: bool, x: Storage },
    /// Partial gradient sums.
    Grads { wide: bool, mask: Mask, x: Storage },
    /// Gradients of x, γ and β; with `relu` the mask is recomputed from x. `dy` may be in f32
    /// although x is not, if [`Self::Grads`] wrote it.
    Input { wide: bool, relu: bool, x: Storage, dy: Storage },
    /// Gradients of x and of the residual with given statistics; without a ReLU y is not read.
    Frozen { wide: bool, relu: bool, residual: bool, y: Storage },
    /// Updates the running statistics of some layers after a batch.
    Blend { layers: u32 },
}

impl NormKernel {
    /// Returns every variant; of the blends only those with 1, 2 and the maximum number of layers.
    pub(crate) fn variants() -> Vec<Self> {
        const BOTH: [bool; 2] = [false, true];
        let mut variants: Vec<_> =
            [1, 2, super::blend::MAX_LAYERS].map(|layers| Self::Blend { layers }).into();
        variants.extend([Self::Collect, Self::CollectSums]);
        let storages = [Storage::F32].into_iter().chain(Storage::HALVES);
        for (x, wide) in storages.flat_map(|x| BOTH.map(|wide| (x, wide))) {
            variants.push(Self::Stats { wide, x });
            variants.extend([Mask::None, Mask::FromX, Mask::Kept].map(|mask| Self::Grads {
                wide,
                mask,
                x,
            }));
            for relu in BOTH {
                variants.push(Self::Input { wide, relu, x, dy: x.gradient() });
                // Without a ReLU y is not read, so both forms of half precision give the same text.
                if relu || x != Storage::F16 {
                    variants.push(Self::Frozen { wide, relu, residual: false, y: x });
                }
                for residual in BOTH {
                    let apply = |given| Self::Apply { wide, residual, relu, given, x };
                    variants.extend(BOTH.map(apply));
                }
            }
            variants.push(Self::Frozen { wide, relu: true, residual: true, y: x });
            if x.is_half() && !wide {
                variants.push(Self::Input { wide, relu: false, x, dy: Storage::F32 });
            }
        }
        variants
    }
}

fn bound(number: usize, name: &str, element: &str) -> String {
    format!("@group(0) @binding({number}) var<storage, read_write> {name}: array<{element}>;")
}

/// Returns the text if it is wanted, otherwise an empty one.
fn optional(wanted: bool, text: impl Into<String>) -> String {
    if wanted { text.into() } else { String::new() }
}

/// Returns the expression for a channel's value in one row of `kept`, as an element.
fn kept(row: u32) -> String {
    format!("Element(bitcast<f32>(kept[{row}u * params.row + channel]))")
}

/// Returns how a result that should be stored this way is actually written.
pub(super) fn written(storage: Storage, wide: bool) -> Storage {
    if wide { storage } else { Storage::F32 }
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

impl Shader for NormKernel {
    fn file(&self) -> &'static str {
        match self {
            Self::Stats { .. } => "norm_stats.wgsl",
            Self::Collect => "norm_collect.wgsl",
            Self::CollectSums => "norm_collect_sums.wgsl",
            Self::Apply { .. } => "norm_apply.wgsl",
            Self::Grads { .. } => "norm_grads.wgsl",
            Self::Input { .. } => "norm_input.wgsl",
            Self::Frozen { .. } => "norm_frozen.wgsl",
            Self::Blend { .. } => "norm_blend.wgsl",
        }
    }

    fn source(&self) -> String {
        let each =
            || ("norm_each.wgsl", include_str!("../../../shaders/include/norm_each.wgsl").into());
        let reduce = || {
            ("norm_reduce.wgsl", include_str!("../../../shaders/include/norm_reduce.wgsl").into())
        };
        let pairs =
            || ("norm_pairs.wgsl", include_str!("../../../shaders/include/norm_pairs.wgsl").into());
        let text = match *self {
            Self::Stats { wide, x } => {
                let mut values = element_values(wide);
                let place = "(image * channels + channel) * plane + inner";
                values.extend([reduce(), pairs(), ("value", x.read("x", place))]);
                values
                    .extend([("stored", stored(x, wide).to_owned()), ("load", x.load("x", wide))]);
                fill(include_str!("../../../shaders/norm_stats.wgsl"), &values)
            }
            Self::Collect => fill(include_str!("../../../shaders/norm_collect.wgsl"), &[pairs()]),
            Self::CollectSums => include_str!("../../../shaders/norm_collect_sums.wgsl").to_owned(),
            Self::Apply { wide, residual, relu, given, x } => {
                let masks = self.keeps_mask();
                let (statistics, channel_statistics) = match given {
                    true => (
                        [bound(4, "given_mean", "f32"), bound(5, "given_variance", "f32")],
                        include_str!("../../../shaders/include/norm_given.wgsl"),
                    ),
                    false => (
                        [bound(4, "parts", "f32"), bound(5, "kept", "u32")],
                        include_str!("../../../shaders/include/norm_merge.wgsl"),
                    ),
                };
                let y = written(x, wide);
                let added = bound(6, "residual", stored(x, wide));
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
                    ("statistics", statistics.join("\n")),
                    ("channel_statistics", channel_statistics.to_owned()),
                    ("keep", optional(!given, KEEP)),
                    ("residual", optional(residual, added)),
                    ("add", optional(residual, format!(" + {}", x.read("residual", "at")))),
                    ("relu", relu.to_string()),
                    ("positive_bits", optional(masks, positive_bits(wide))),
                    ("begin", optional(masks, "var bits = 0u;")),
                    ("collect", optional(masks, "bits |= positive_bits(value) << (step * LANES);")),
                    ("mask", optional(masks, "kept[share.word] = bits;")),
                    ("params", (6 + usize::from(residual)).to_string()),
                ]);
                fill(include_str!("../../../shaders/norm_apply.wgsl"), &values)
            }
            Self::Grads { wide, mask, x } => {
                let writes = mask == Mask::Kept;
                let dy = x.gradient();
                let (masked, value) = (written(dy, wide), dy.read("dy", "at"));
                let (layer, gradient) = match mask {
                    Mask::None => (String::new(), value),
                    Mask::FromX => (
                        format!("let scale = {};\nlet shift = {};", kept(2), kept(3)),
                        masked_by_x(&value),
                    ),
                    Mask::Kept => {
                        let test = "is_positive(at_plane, inner)";
                        (String::new(), format!("select(Element(0.0), {value}, {test})"))
                    }
                };
                let mut functions = x.load("x", wide) + &dy.load("dy", wide);
                if writes {
                    functions += &masked.store(&["masked"]);
                }
                let declared = bound(4, "masked", stored(masked, wide));
                let mut values = element_values(wide);
                values.extend([
                    ("stored", stored(x, wide).to_owned()),
                    ("dy_stored", stored(dy, wide).to_owned()),
                    ("functions", functions),
                    ("x", x.read("x", "at")),
                    reduce(),
                    ("masked", optional(writes, declared)),
                    ("is_positive", optional(writes, is_positive(wide))),
                    ("layer", layer),
                    ("gradient", gradient),
                    ("write", optional(writes, masked.write("masked", "at", "gradient"))),
                    ("params", (4 + usize::from(writes)).to_string()),
                ]);
                fill(include_str!("../../../shaders/norm_grads.wgsl"), &values)
            }
            Self::Input { wide, relu, x, dy } => {
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
            Self::Frozen { wide, relu, residual, y } => {
                let masked = 4 + usize::from(relu);
                let dy = y.gradient();
                let (dx, value) = (written(dy, wide), dy.read("dy", "at"));
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
                let declared = bound(masked, "masked", stored(dx, wide));
                let mut values = element_values(wide);
                values.extend([
                    each(),
                    ("output", optional(relu, bound(4, "y", stored(y, wide)))),
                    ("functions", functions),
                    ("dy_stored", stored(dy, wide).to_owned()),
                    ("dx_stored", stored(dx, wide).to_owned()),
                    ("write_dx", dx.write("dx", "at", "gradient * scale")),
                    ("masked", optional(residual, declared)),
                    ("gradient", gradient),
                    ("write", optional(residual, dx.write("masked", "at", "gradient"))),
                    ("params", (masked + usize::from(residual)).to_string()),
                ]);
                fill(include_str!("../../../shaders/norm_frozen.wgsl"), &values)
            }
            Self::Blend { layers } => {
                const NAMES: [&str; 4] =
                    ["running_mean", "running_variance", "batch_mean", "batch_variance"];
                let all = 0..layers as usize;
                let declare = all.clone().flat_map(|layer| {
                    (0..).zip(NAMES).map(move |(n, name)| {
                        bound(4 * layer + n, &format!("{name}_{layer}"), "f32")
                    })
                });
                let read = all.map(|layer| {
                    let [a, b, c, d] = NAMES.map(|name| format!("{name}_{layer}[channel]"));
                    format!(
                        "case {layer}u: {{ running = vec2({a}, {b}); batch = vec2({c}, {d}); }}"
                    )
                });
                let values = [
                    ("layers", declare.collect::<Vec<_>>().join("\n")),
                    ("read", read.collect::<Vec<_>>().join("\n        ")),
                    ("next", (4 * layers).to_string()),
                    ("params", (4 * layers + 1).to_string()),
                ];
                fill(include_str!("../../../shaders/norm_blend.wgsl"), &values)
            }
        };
        self.storage().directive().to_owned() + &text
    }

    fn workgroup_size(&self) -> u32 {
        match self {
            Self::Blend { .. } => PER_CHANNEL,
            _ => THREADS as u32,
        }
    }

    fn params(&self) -> &'static Layout {
        match self {
            Self::Stats { .. } | Self::Grads { .. } => ReduceParams::LAYOUT,
            Self::Collect => CollectParams::LAYOUT,
            Self::CollectSums => CollectSumsParams::LAYOUT,
            Self::Apply { .. } | Self::Input { .. } | Self::Frozen { .. } => EachParams::LAYOUT,
            Self::Blend { .. } => BlendParams::LAYOUT,
        }
    }

    fn records(&self) -> &'static [&'static Layout] {
        match self {
            Self::Blend { .. } => &[BlendLayer::LAYOUT],
            _ => &[],
        }
    }
}

impl NormKernel {
    /// Returns how its activations are stored.
    fn storage(&self) -> Storage {
        match *self {
            Self::Stats { x, .. }
            | Self::Apply { x, .. }
            | Self::Grads { x, .. }
            | Self::Input { x, .. } => x,
            Self::Frozen { y, .. } => y,
            Self::Collect | Self::CollectSums | Self::Blend { .. } => Storage::F32,
        }
    }

    /// Whether the forward pass stores the mask of its ReLU, which it does where the mask does not
    /// follow from x alone.
    fn keeps_mask(&self) -> bool {
        matches!(self, Self::Apply { residual: true, relu: true, given: false, .. })
    }
}

/// Statement by which the forward pass stores a channel's values for the backward pass.
const KEEP: &str = "if (share.leads) {
        kept[channel] = bitcast<u32>(statistics.x);
        kept[params.row + channel] = bitcast<u32>(statistics.y);
        kept[2u * params.row + channel] = bitcast<u32>(scale);
        kept[3u * params.row + channel] = bitcast<u32>(shift);
    }";

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

/// Invocations per workgroup in the passes over elements.
pub(super) const THREADS: usize = 256;
/// Invocations per workgroup in the blends, one per channel.
pub(super) const PER_CHANNEL: u32 = 64;
