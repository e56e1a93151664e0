//! The shaders' variants and their source.

use super::params::{BlendLayer, BlendParams, CollectParams, EachParams, ReduceParams};
use crate::kernels::layout::{Layout, Record};
use crate::kernels::plan::{Access, Shader, element_values, fill};

/// Where the sums of the backward pass take the ReLU's mask from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Mask {
    /// There is no ReLU.
    None,
    /// It follows from x.
    FromX,
    /// It was kept; the masked gradient is written.
    Kept,
}

/// Which shader, in which variant. `wide` ones take four elements at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum NormKernel {
    /// Parts of the statistics.
    Stats { wide: bool },
    /// Parts that came with a convolution, merged to one for each channel.
    Collect,
    /// The normalisation itself, by the batch's statistics or by given ones.
    Apply { wide: bool, residual: bool, relu: bool, given: bool },
    /// Parts of the gradient's sums.
    Grads { wide: bool, mask: Mask },
    /// Gradient of x, γ and β; with `relu` the mask follows from x.
    Input { wide: bool, relu: bool },
    /// Gradient of x and of the residual by given statistics.
    Frozen { wide: bool, relu: bool, residual: bool },
    /// Running statistics of some layers after a batch.
    Blend { layers: u32 },
}

impl NormKernel {
    /// How it uses each of its bindings, the parameters left out.
    pub(super) fn access(&self) -> Vec<Access> {
        use Access::{Read, Write};
        let residual = |present: bool, access: Access| present.then_some(access);
        match *self {
            Self::Stats { .. } | Self::Collect => vec![Read, Write],
            Self::Apply { residual: added, given, .. } => {
                let statistics = if given { [Read, Read] } else { [Read, Write] };
                let mut access = vec![Read, Read, Read, Write];
                access.extend(statistics);
                access.extend(residual(added, Read));
                access
            }
            Self::Grads { mask, .. } => {
                let mut access = vec![Read, Read, Read, Write];
                access.extend(residual(mask == Mask::Kept, Write));
                access
            }
            Self::Input { .. } => vec![Read, Read, Read, Read, Write, Write, Write],
            Self::Frozen { relu, residual: added, .. } => {
                let mut access = vec![Read, Read, Read, Write];
                access.extend(residual(relu, Read));
                access.extend(residual(added, Write));
                access
            }
            Self::Blend { layers } => {
                let mut access = vec![Read; 4 * layers as usize];
                access.push(Write);
                access
            }
        }
    }
}

impl NormKernel {
    /// Every variant; of the blends the least, the usual and the most.
    pub(crate) fn variants() -> Vec<Self> {
        const BOTH: [bool; 2] = [false, true];
        let mut variants: Vec<_> =
            [1, 2, super::blend::MOST_LAYERS].map(|layers| Self::Blend { layers }).into();
        variants.push(Self::Collect);
        for wide in BOTH {
            variants.push(Self::Stats { wide });
            variants.extend(
                [Mask::None, Mask::FromX, Mask::Kept].map(|mask| Self::Grads { wide, mask }),
            );
            for relu in BOTH {
                variants.push(Self::Input { wide, relu });
                variants.push(Self::Frozen { wide, relu, residual: false });
                for residual in BOTH {
                    variants.extend(BOTH.map(|given| Self::Apply { wide, residual, relu, given }));
                }
            }
            variants.push(Self::Frozen { wide, relu: true, residual: true });
        }
        variants
    }
}

/// A binding of whole elements.
fn binding(number: usize, name: &str) -> String {
    bound(number, name, "Element")
}

fn bound(number: usize, name: &str, element: &str) -> String {
    format!("@group(0) @binding({number}) var<storage, read_write> {name}: array<{element}>;")
}

/// The text if it is wanted.
fn optional(wanted: bool, text: impl Into<String>) -> String {
    if wanted { text.into() } else { String::new() }
}

/// One row of what is kept, as an element for a channel.
fn kept(row: u32) -> String {
    format!("Element(bitcast<f32>(kept[{row}u * params.row + channel]))")
}

/// g where the mask follows from x; in the words of norm_apply.wgsl, so that it is the same.
const MASKED_BY_X: &str = "select(Element(0.0), dy[at], fma(apart, scale, shift) > Element(0.0))";

impl Shader for NormKernel {
    fn file(&self) -> &'static str {
        match self {
            Self::Stats { .. } => "norm_stats.wgsl",
            Self::Collect => "norm_collect.wgsl",
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
        match *self {
            Self::Stats { wide } => {
                let mut values = element_values(wide);
                values.extend([reduce(), pairs()]);
                fill(include_str!("../../../shaders/norm_stats.wgsl"), &values)
            }
            Self::Collect => fill(include_str!("../../../shaders/norm_collect.wgsl"), &[pairs()]),
            Self::Apply { wide, residual, relu, given } => {
                let masks = self.keeps_mask();
                let (statistics, find) = match given {
                    true => (
                        [bound(4, "given_mean", "f32"), bound(5, "given_variance", "f32")],
                        include_str!("../../../shaders/include/norm_given.wgsl"),
                    ),
                    false => (
                        [bound(4, "parts", "f32"), bound(5, "kept", "u32")],
                        include_str!("../../../shaders/include/norm_merge.wgsl"),
                    ),
                };
                let mut values = element_values(wide);
                values.extend([
                    each(),
                    ("statistics", statistics.join("\n")),
                    ("find", find.to_owned()),
                    ("keep", optional(!given, KEEP)),
                    ("residual", optional(residual, binding(6, "residual"))),
                    ("add", optional(residual, " + residual[at]")),
                    ("relu", relu.to_string()),
                    ("open", optional(masks, open(wide))),
                    ("begin", optional(masks, "var bits = 0u;")),
                    ("collect", optional(masks, "bits |= open(value) << (step * LANES);")),
                    ("mask", optional(masks, "kept[share.word] = bits;")),
                    ("params", (6 + usize::from(residual)).to_string()),
                ]);
                fill(include_str!("../../../shaders/norm_apply.wgsl"), &values)
            }
            Self::Grads { wide, mask } => {
                let writes = mask == Mask::Kept;
                let (layer, gradient) = match mask {
                    Mask::None => (String::new(), "dy[at]"),
                    Mask::FromX => {
                        (format!("let scale = {};\nlet shift = {};", kept(2), kept(3)), MASKED_BY_X)
                    }
                    Mask::Kept => {
                        (String::new(), "select(Element(0.0), dy[at], opened(at_plane, inner))")
                    }
                };
                let mut values = element_values(wide);
                values.extend([
                    reduce(),
                    ("masked", optional(writes, binding(4, "masked"))),
                    ("opened", optional(writes, opened(wide))),
                    ("layer", layer),
                    ("gradient", gradient.to_owned()),
                    ("write", optional(writes, "masked[at] = gradient;")),
                    ("params", (4 + usize::from(writes)).to_string()),
                ]);
                fill(include_str!("../../../shaders/norm_grads.wgsl"), &values)
            }
            Self::Input { wide, relu } => {
                let mut values = element_values(wide);
                values.extend([
                    each(),
                    ("layer", optional(relu, format!("let shift = {};", kept(3)))),
                    ("gradient", if relu { MASKED_BY_X } else { "dy[at]" }.to_owned()),
                ]);
                fill(include_str!("../../../shaders/norm_input.wgsl"), &values)
            }
            Self::Frozen { wide, relu, residual } => {
                let masked = 4 + usize::from(relu);
                let gradient = match relu {
                    true => "select(Element(0.0), dy[at], y[at] > Element(0.0))",
                    false => "dy[at]",
                };
                let mut values = element_values(wide);
                values.extend([
                    each(),
                    ("output", optional(relu, binding(4, "y"))),
                    ("masked", optional(residual, binding(masked, "masked"))),
                    ("gradient", gradient.to_owned()),
                    ("write", optional(residual, "masked[at] = gradient;")),
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
        }
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
    /// Whether the forward pass keeps the mask of its ReLU: where x alone does not say it.
    fn keeps_mask(&self) -> bool {
        matches!(self, Self::Apply { residual: true, relu: true, given: false, .. })
    }
}

/// What the forward pass keeps of a channel.
const KEEP: &str = "if (share.leads) {
        kept[channel] = bitcast<u32>(found.x);
        kept[params.row + channel] = bitcast<u32>(found.y);
        kept[2u * params.row + channel] = bitcast<u32>(scale);
        kept[3u * params.row + channel] = bitcast<u32>(shift);
    }";

/// One bit for each value above 0.
fn open(wide: bool) -> String {
    let bits = match wide {
        true => {
            "let bits = select(vec4(0u), vec4(1u, 2u, 4u, 8u), value > Element(0.0));
    return (bits.x | bits.y) | (bits.z | bits.w);"
        }
        false => "return select(0u, 1u, value > Element(0.0));",
    };
    format!(
        "// One bit for each value above 0.\nfn open(value: Element) -> u32 {{\n    {bits}\n}}\n"
    )
}

/// The same bits read again.
fn opened(wide: bool) -> String {
    let (ty, test) = match wide {
        true => ("vec4<bool>", "(vec4(bits) & vec4(1u, 2u, 4u, 8u)) != vec4(0u)"),
        false => ("bool", "(bits & 1u) != 0u"),
    };
    let text = include_str!("../../../shaders/include/norm_opened.wgsl");
    fill(text, &[("bool", ty.to_owned()), ("test", test.to_owned())])
}

/// Invocations of a workgroup of the passes over elements.
pub(super) const THREADS: usize = 256;
/// Invocations of a workgroup of the blends, one for each channel.
pub(super) const PER_CHANNEL: u32 = 64;
