//! Plans for batch normalisation over N and S of contiguous f32 `[N, C, S]`, together with the
//! residual addition and the ReLU that follow it in a residual network.

use super::{Blend, Spec};
use crate::kernels::layout::{Layout, Record, wgsl_struct};
use crate::kernels::plan::{
    self, DeviceLimits, Launch, PlanError, Shader, Slot, element_values, fill, fits, fold,
};

/// A normalisation's launches.
pub(crate) type NormPlan = plan::Plan<NormKernel>;

/// Which shader, in which variant. `wide` ones take four elements at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum NormKernel {
    /// First stage of the statistics.
    Stats { wide: bool },
    /// Second stage of the statistics.
    StatsEnd,
    /// The normalisation itself.
    Apply { wide: bool, residual: bool, relu: bool },
    /// First stage of the gradient's sums.
    Grads { wide: bool, relu: bool },
    /// Second stage of the gradient's sums.
    GradsEnd,
    /// Factors from given statistics.
    Running,
    /// Gradient of x and of the residual.
    Input { wide: bool, relu: bool, residual: bool },
    /// Running statistics after a batch.
    Blend,
}

wgsl_struct! {
    /// Parameters of the passes over all elements.
    struct EachParams as "Params" {
        elements: u32,
        plane: u32,
        channels: u32,
    }
}

wgsl_struct! {
    /// Parameters of the reductions.
    struct ReduceParams as "Params" {
        channels: u32,
        plane: u32,
        elements: u32,
        chunk: u32,
        image_step: u32,
        plane_step: u32,
    }
}

wgsl_struct! {
    struct StatsEndParams as "Params" {
        channels: u32,
        chunks: u32,
        epsilon: f32,
    }
}

wgsl_struct! {
    struct GradsEndParams as "Params" {
        channels: u32,
        chunks: u32,
        epsilon: f32,
        count: f32,
    }
}

wgsl_struct! {
    struct RunningParams as "Params" {
        channels: u32,
        epsilon: f32,
        factors: u32,
    }
}

wgsl_struct! {
    struct BlendParams as "Params" {
        channels: u32,
        keep: f32,
        mean_share: f32,
        variance_share: f32,
    }
}

impl NormKernel {
    /// Every variant.
    pub(crate) fn variants() -> Vec<Self> {
        const BOTH: [bool; 2] = [false, true];
        let mut variants = vec![Self::StatsEnd, Self::GradsEnd, Self::Running, Self::Blend];
        for wide in BOTH {
            variants.push(Self::Stats { wide });
            for relu in BOTH {
                variants.push(Self::Grads { wide, relu });
                variants.extend(BOTH.map(|residual| Self::Apply { wide, residual, relu }));
            }
            variants.push(Self::Input { wide, relu: false, residual: false });
            variants.extend(BOTH.map(|residual| Self::Input { wide, relu: true, residual }));
        }
        variants
    }
}

impl Shader for NormKernel {
    fn file(&self) -> &'static str {
        match self {
            Self::Stats { .. } => "norm_stats.wgsl",
            Self::StatsEnd => "norm_stats_end.wgsl",
            Self::Apply { .. } => "norm_apply.wgsl",
            Self::Grads { .. } => "norm_grads.wgsl",
            Self::GradsEnd => "norm_grads_end.wgsl",
            Self::Running => "norm_running.wgsl",
            Self::Input { .. } => "norm_input.wgsl",
            Self::Blend => "norm_blend.wgsl",
        }
    }

    fn source(&self) -> String {
        let each =
            || ("norm_each.wgsl", include_str!("../../shaders/include/norm_each.wgsl").into());
        let reduce =
            || ("norm_reduce.wgsl", include_str!("../../shaders/include/norm_reduce.wgsl").into());
        let binding = |number: usize, name: &str| {
            format!("@group(0) @binding({number}) var<storage, read_write> {name}: array<Element>;")
        };
        let optional = |present: bool, text: String| if present { text } else { String::new() };
        let gradient = |relu: bool| match relu {
            true => "select(Element(0.0), dy[at], y[at] > Element(0.0))".to_owned(),
            false => "dy[at]".to_owned(),
        };
        match *self {
            Self::Stats { wide } => {
                let mut values = element_values(wide);
                values.push(reduce());
                fill(include_str!("../../shaders/norm_stats.wgsl"), &values)
            }
            Self::StatsEnd => include_str!("../../shaders/norm_stats_end.wgsl").to_owned(),
            Self::Apply { wide, residual, relu } => {
                let mut values = element_values(wide);
                values.extend([
                    each(),
                    ("relu", relu.to_string()),
                    ("residual", optional(residual, binding(3, "residual"))),
                    ("add", if residual { "residual[at]" } else { "0.0" }.to_owned()),
                    ("params", (3 + usize::from(residual)).to_string()),
                ]);
                fill(include_str!("../../shaders/norm_apply.wgsl"), &values)
            }
            Self::Grads { wide, relu } => {
                let mut values = element_values(wide);
                values.extend([
                    reduce(),
                    ("output", optional(relu, binding(4, "y"))),
                    ("gradient", gradient(relu)),
                    ("params", (4 + usize::from(relu)).to_string()),
                ]);
                fill(include_str!("../../shaders/norm_grads.wgsl"), &values)
            }
            Self::GradsEnd => include_str!("../../shaders/norm_grads_end.wgsl").to_owned(),
            Self::Running => include_str!("../../shaders/norm_running.wgsl").to_owned(),
            Self::Blend => include_str!("../../shaders/norm_blend.wgsl").to_owned(),
            Self::Input { wide, relu, residual } => {
                let masked = 4 + usize::from(relu);
                let mut values = element_values(wide);
                values.extend([
                    each(),
                    ("output", optional(relu, binding(4, "y"))),
                    ("masked", optional(residual, binding(masked, "masked"))),
                    ("gradient", gradient(relu)),
                    ("keep", optional(residual, "masked[at] = gradient;".to_owned())),
                    ("params", (masked + usize::from(residual)).to_string()),
                ]);
                fill(include_str!("../../shaders/norm_input.wgsl"), &values)
            }
        }
    }

    fn workgroup_size(&self) -> u32 {
        match self {
            Self::StatsEnd | Self::GradsEnd | Self::Running | Self::Blend => PER_CHANNEL,
            _ => THREADS as u32,
        }
    }

    fn params(&self) -> &'static Layout {
        match self {
            Self::Stats { .. } | Self::Grads { .. } => ReduceParams::LAYOUT,
            Self::StatsEnd => StatsEndParams::LAYOUT,
            Self::Apply { .. } | Self::Input { .. } => EachParams::LAYOUT,
            Self::GradsEnd => GradsEndParams::LAYOUT,
            Self::Running => RunningParams::LAYOUT,
            Self::Blend => BlendParams::LAYOUT,
        }
    }
}

/// Invocations of a workgroup of the passes over elements.
const THREADS: usize = 256;
/// Invocations of a workgroup of the kernels with one invocation per channel.
const PER_CHANNEL: u32 = 64;

/// Workgroups of a kernel with one invocation per channel.
fn per_channel(channels: usize, limits: &DeviceLimits) -> Result<[u32; 3], PlanError> {
    fold(channels.div_ceil(PER_CHANNEL as usize), 1, limits)
}

/// y = relu?((x − mean) / √(var + ε)·γ + β (+ residual)) over `[N, C, S]`, with mean and biased
/// variance of each channel over N and S; planned for one device, which can execute all of it.
#[derive(Debug)]
pub(super) struct BatchNorm {
    spec: Spec,
    /// Whether four values make an element.
    wide: bool,
    channels: usize,
    /// Elements of a channel in one image, and in all images.
    plane: usize,
    elements: usize,
    /// Chunks that a channel's elements are cut into, and elements of a chunk.
    chunks: usize,
    chunk: usize,
    /// Workgroups of the passes over all elements, and of those with one invocation per channel.
    each_groups: [u32; 3],
    channel_groups: [u32; 3],
}

impl BatchNorm {
    /// The normalisation of `[N, C, S]` = `shape`.
    pub(super) fn new(
        shape: [usize; 3],
        spec: Spec,
        limits: &DeviceLimits,
    ) -> Result<Self, PlanError> {
        let [batch, channels, plane] = shape;
        if shape.contains(&0) {
            return Err(PlanError::Shape);
        }
        fits(batch * channels * plane, limits)?;
        if channels > limits.max_workgroups_per_dim as usize {
            return Err(PlanError::TooManyGroups);
        }
        if limits.max_invocations < THREADS as u32 {
            return Err(PlanError::Device);
        }
        let wide = plane.is_multiple_of(4);
        let plane = if wide { plane / 4 } else { plane };
        let elements = batch * plane;
        // Enough workgroups to fill a device, but eight elements for each invocation.
        let chunks = 1024usize.div_ceil(channels).min(elements.div_ceil(8 * THREADS)).max(1);
        let chunk = elements.div_ceil(chunks);
        let chunks = elements.div_ceil(chunk);
        fits(PARTS_FORWARD.max(PARTS_BACKWARD) * channels * chunks, limits)?;
        fits(FACTORS_FORWARD.max(FACTORS_BACKWARD) * channels, limits)?;
        Ok(Self {
            spec,
            wide,
            channels,
            plane,
            elements,
            chunks,
            chunk,
            each_groups: fold((elements * channels).div_ceil(THREADS), 1, limits)?,
            channel_groups: per_channel(channels, limits)?,
        })
    }

    /// Operands: 0 `x`, 1 `γ [C]`, 2 `β [C]`; written: 3 `y`, 4 mean `[C]`, 5 biased variance
    /// `[C]`; with a residual: 6 the residual.
    pub(super) fn forward(&self) -> NormPlan {
        let mut plan = NormPlan::new();
        let parts = self.scratch(&mut plan, PARTS_FORWARD * self.chunks);
        let factors = self.scratch(&mut plan, FACTORS_FORWARD);
        let [gamma, beta, mean, variance] = [1, 2, 4, 5].map(Slot::Operand);
        let stats = NormKernel::Stats { wide: self.wide };
        plan.launches.push(self.reduce(stats, vec![Slot::Operand(0), parts]));
        plan.launches.push(Launch::new(
            NormKernel::StatsEnd,
            self.channel_groups,
            vec![parts, gamma, beta, mean, variance, factors],
            &StatsEndParams {
                channels: self.channels as u32,
                chunks: self.chunks as u32,
                epsilon: self.spec.epsilon as f32,
            },
        ));
        plan.launches.push(self.apply(factors));
        plan
    }

    /// The same with given statistics: 4 and 5 are read.
    pub(super) fn running(&self) -> NormPlan {
        let mut plan = NormPlan::new();
        let factors = self.scratch(&mut plan, FACTORS_FORWARD);
        let layer = [1, 2, 4, 5].map(Slot::Operand);
        plan.launches.push(self.factors(layer, factors, FACTORS_FORWARD));
        plan.launches.push(self.apply(factors));
        plan
    }

    /// What is left of `backward` where the statistics were given: its operands 1 to 5, 8 and 9,
    /// and no gradients of γ and β.
    pub(super) fn running_backward(&self) -> NormPlan {
        let mut plan = NormPlan::new();
        let factors = self.scratch(&mut plan, FACTORS_BACKWARD);
        // β is not read; γ is bound in its place.
        let layer = [1, 1, 2, 3].map(Slot::Operand);
        plan.launches.push(self.factors(layer, factors, FACTORS_BACKWARD));
        // x is multiplied by 0; `dy` is bound in its place.
        plan.launches.push(self.input(Slot::Operand(4), factors));
        plan
    }

    /// Operands: 0 `x`, 1 `γ`, 2 mean, 3 variance (as `forward` wrote them), 4 `dy`; written: 5
    /// `dx`, 6 `dγ [C]`, 7 `dβ [C]`; with a ReLU: 8 `y`, read; with a residual and a ReLU: 9 the
    /// residual's gradient, written. (Without a ReLU the residual's gradient is `dy`.)
    pub(super) fn backward(&self) -> NormPlan {
        let relu = self.spec.relu;
        let mut plan = NormPlan::new();
        let parts = self.scratch(&mut plan, PARTS_BACKWARD * self.chunks);
        let factors = self.scratch(&mut plan, FACTORS_BACKWARD);
        let [x, gamma, mean, variance, dy] = [0, 1, 2, 3, 4].map(Slot::Operand);
        let [d_gamma, d_beta, y] = [6, 7, 8].map(Slot::Operand);
        let mut buffers = vec![x, dy, mean, parts];
        buffers.extend(relu.then_some(y));
        plan.launches.push(self.reduce(NormKernel::Grads { wide: self.wide, relu }, buffers));
        let values = if self.wide { 4 * self.elements } else { self.elements };
        plan.launches.push(Launch::new(
            NormKernel::GradsEnd,
            self.channel_groups,
            vec![parts, gamma, mean, variance, d_gamma, d_beta, factors],
            &GradsEndParams {
                channels: self.channels as u32,
                chunks: self.chunks as u32,
                epsilon: self.spec.epsilon as f32,
                count: values as f32,
            },
        ));
        plan.launches.push(self.input(x, factors));
        plan
    }

    /// A scratch buffer of `words` words per channel.
    fn scratch(&self, plan: &mut NormPlan, words: usize) -> Slot {
        plan.scratch_that_fits(words * self.channels)
    }

    /// The factors from γ, β, mean and variance, so many per channel.
    fn factors(
        &self,
        [gamma, beta, mean, variance]: [Slot; 4],
        to: Slot,
        count: usize,
    ) -> Launch<NormKernel> {
        Launch::new(
            NormKernel::Running,
            self.channel_groups,
            vec![gamma, beta, mean, variance, to],
            &RunningParams {
                channels: self.channels as u32,
                epsilon: self.spec.epsilon as f32,
                factors: count as u32,
            },
        )
    }

    fn apply(&self, factors: Slot) -> Launch<NormKernel> {
        let Spec { residual, relu, .. } = self.spec;
        let mut buffers = vec![Slot::Operand(0), factors, Slot::Operand(3)];
        buffers.extend(residual.then_some(Slot::Operand(6)));
        self.each(NormKernel::Apply { wide: self.wide, residual, relu }, buffers)
    }

    fn input(&self, x: Slot, factors: Slot) -> Launch<NormKernel> {
        let relu = self.spec.relu;
        let residual = self.spec.masks_residual();
        let mut buffers = vec![x, Slot::Operand(4), factors, Slot::Operand(5)];
        buffers.extend(relu.then_some(Slot::Operand(8)));
        buffers.extend(residual.then_some(Slot::Operand(9)));
        self.each(NormKernel::Input { wide: self.wide, relu, residual }, buffers)
    }

    fn reduce(&self, kernel: NormKernel, buffers: Vec<Slot>) -> Launch<NormKernel> {
        let groups = [self.chunks as u32, self.channels as u32, 1];
        let params = ReduceParams {
            channels: self.channels as u32,
            plane: self.plane as u32,
            elements: self.elements as u32,
            chunk: self.chunk as u32,
            image_step: (THREADS / self.plane) as u32,
            plane_step: (THREADS % self.plane) as u32,
        };
        Launch::new(kernel, groups, buffers, &params)
    }

    fn each(&self, kernel: NormKernel, buffers: Vec<Slot>) -> Launch<NormKernel> {
        let params = EachParams {
            elements: (self.elements * self.channels) as u32,
            plane: self.plane as u32,
            channels: self.channels as u32,
        };
        Launch::new(kernel, self.each_groups, buffers, &params)
    }
}

/// Words per channel and chunk that the reductions write, and per channel that follow from them.
const PARTS_FORWARD: usize = 3;
const PARTS_BACKWARD: usize = 2;
const FACTORS_FORWARD: usize = 3;
const FACTORS_BACKWARD: usize = 4;

/// Running statistics of `channels` channels after a batch. Operands: 0 and 1 the running mean and
/// variance, 2 and 3 the batch's; written: 4 and 5 the next running ones.
pub(super) fn blend(
    channels: usize,
    blend: &Blend,
    limits: &DeviceLimits,
) -> Result<NormPlan, PlanError> {
    let [keep, mean_share, variance_share] = blend.factors();
    Ok(NormPlan::single(Launch::new(
        NormKernel::Blend,
        per_channel(channels, limits)?,
        (0..6).map(Slot::Operand).collect(),
        &BlendParams { channels: channels as u32, keep, mean_share, variance_share },
    )))
}
