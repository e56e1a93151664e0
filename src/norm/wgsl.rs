//! Plans for batch normalisation over N and S of contiguous f32 `[N, C, S]`, together with the
//! residual addition and the ReLU that follow it in a residual network.

use super::Blend;
use crate::kernels::plan::{
    self, DeviceLimits, PlanError, Shader, Slot, element_values, fill, fits, fold,
};

/// A normalisation's launches.
pub type Plan = plan::Plan<Kernel>;
/// One of them.
pub type Launch = plan::Launch<Kernel>;

/// y = relu?((x − mean) / √(var + ε)·γ + β (+ residual)), with mean and biased variance of each
/// channel over N and S.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BatchNorm {
    /// N.
    pub batch: usize,
    /// C.
    pub channels: usize,
    /// S = T·H·W.
    pub plane: usize,
    /// ε.
    pub epsilon: f32,
    /// Whether something is added before the ReLU.
    pub residual: bool,
    /// Whether a ReLU follows.
    pub relu: bool,
}

/// Which shader, in which variant. `wide` ones take four elements at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the shaders say what they do")]
pub enum Kernel {
    Stats { wide: bool },
    StatsEnd,
    Apply { wide: bool, residual: bool, relu: bool },
    Grads { wide: bool, relu: bool },
    GradsEnd,
    Running,
    Input { wide: bool, relu: bool, residual: bool },
    Blend,
}

impl Kernel {
    /// Every variant. For validation without a device.
    pub fn variants() -> Vec<Self> {
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

impl Shader for Kernel {
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
                fill(include_str!("../../shaders/norm_stats.wgsl"), &element_values(wide))
            }
            Self::StatsEnd => include_str!("../../shaders/norm_stats_end.wgsl").to_owned(),
            Self::Apply { wide, residual, relu } => {
                let mut values = element_values(wide);
                values.extend([
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
}

const THREADS: usize = 256;

impl BatchNorm {
    /// Operands: 0 `x`, 1 `γ [C]`, 2 `β [C]`; written: 3 `y`, 4 mean `[C]`, 5 biased variance
    /// `[C]`; with a residual: 6 the residual.
    pub fn forward(&self, limits: &DeviceLimits) -> Result<Plan, PlanError> {
        let geometry = Geometry::new(self, limits)?;
        let Geometry { wide, chunks, .. } = geometry;
        let mut plan = Plan::new();
        let parts = plan.scratch(3 * self.channels * chunks, limits)?;
        let factors = plan.scratch(3 * self.channels, limits)?;
        plan.launches.push(geometry.reduce(Kernel::Stats { wide }, vec![Slot::Operand(0), parts]));
        plan.launches.push(Launch {
            kernel: Kernel::StatsEnd,
            workgroup_size: [64, 1, 1],
            groups: fold(self.channels.div_ceil(64), 1, limits)?,
            buffers: vec![
                parts,
                Slot::Operand(1),
                Slot::Operand(2),
                Slot::Operand(4),
                Slot::Operand(5),
                factors,
            ],
            params: vec![self.channels as u32, chunks as u32, self.epsilon.to_bits()],
        });
        plan.launches.push(self.apply(&geometry, factors, limits)?);
        Ok(plan)
    }

    /// The same with given statistics: 4 and 5 are read.
    pub fn running(&self, limits: &DeviceLimits) -> Result<Plan, PlanError> {
        let geometry = Geometry::new(self, limits)?;
        let mut plan = Plan::new();
        let factors = plan.scratch(3 * self.channels, limits)?;
        let operands = [1, 2, 4, 5].map(Slot::Operand);
        plan.launches.push(self.factors(operands, factors, 3, limits)?);
        plan.launches.push(self.apply(&geometry, factors, limits)?);
        Ok(plan)
    }

    /// What is left of `backward` where the statistics were given: operands 1 to 5, 8 and 9 of it,
    /// and no gradients of γ and β.
    pub fn running_backward(&self, limits: &DeviceLimits) -> Result<Plan, PlanError> {
        let geometry = Geometry::new(self, limits)?;
        let mut plan = Plan::new();
        let factors = plan.scratch(4 * self.channels, limits)?;
        // β has no part in it; γ keeps its place.
        let operands = [1, 1, 2, 3].map(Slot::Operand);
        plan.launches.push(self.factors(operands, factors, 4, limits)?);
        // Nor has x: `dy` keeps its place, times 0.
        plan.launches.push(self.input(&geometry, Slot::Operand(4), factors, limits)?);
        Ok(plan)
    }

    /// The factors of `words` words per channel from γ, β, mean and variance.
    fn factors(
        &self,
        [gamma, beta, mean, variance]: [Slot; 4],
        factors: Slot,
        words: u32,
        limits: &DeviceLimits,
    ) -> Result<Launch, PlanError> {
        Ok(Launch {
            kernel: Kernel::Running,
            workgroup_size: [64, 1, 1],
            groups: fold(self.channels.div_ceil(64), 1, limits)?,
            buffers: vec![gamma, beta, mean, variance, factors],
            params: vec![self.channels as u32, self.epsilon.to_bits(), words],
        })
    }

    fn apply(
        &self,
        geometry: &Geometry,
        factors: Slot,
        limits: &DeviceLimits,
    ) -> Result<Launch, PlanError> {
        let Self { residual, relu, .. } = *self;
        let mut buffers = vec![Slot::Operand(0), factors, Slot::Operand(3)];
        buffers.extend(residual.then_some(Slot::Operand(6)));
        geometry.each(Kernel::Apply { wide: geometry.wide, residual, relu }, buffers, limits)
    }

    fn input(
        &self,
        geometry: &Geometry,
        x: Slot,
        factors: Slot,
        limits: &DeviceLimits,
    ) -> Result<Launch, PlanError> {
        let relu = self.relu;
        let residual = self.residual && relu;
        let mut buffers = vec![x, Slot::Operand(4), factors, Slot::Operand(5)];
        buffers.extend(relu.then_some(Slot::Operand(8)));
        buffers.extend(residual.then_some(Slot::Operand(9)));
        geometry.each(Kernel::Input { wide: geometry.wide, relu, residual }, buffers, limits)
    }

    /// Operands: 0 `x`, 1 `γ`, 2 mean, 3 variance (as `forward` wrote them), 4 `dy`; written: 5
    /// `dx`, 6 `dγ [C]`, 7 `dβ [C]`; with a ReLU: 8 `y`, read; with a residual and a ReLU: 9 the
    /// residual's gradient, written. (Without a ReLU the residual's gradient is `dy`.)
    pub fn backward(&self, limits: &DeviceLimits) -> Result<Plan, PlanError> {
        let geometry = Geometry::new(self, limits)?;
        let Geometry { wide, chunks, .. } = geometry;
        let relu = self.relu;
        let mut plan = Plan::new();
        let parts = plan.scratch(2 * self.channels * chunks, limits)?;
        let factors = plan.scratch(4 * self.channels, limits)?;
        let mut buffers = vec![Slot::Operand(0), Slot::Operand(4), Slot::Operand(2), parts];
        if relu {
            buffers.push(Slot::Operand(8));
        }
        plan.launches.push(geometry.reduce(Kernel::Grads { wide, relu }, buffers));
        let count = (self.batch * self.plane) as f32;
        plan.launches.push(Launch {
            kernel: Kernel::GradsEnd,
            workgroup_size: [64, 1, 1],
            groups: fold(self.channels.div_ceil(64), 1, limits)?,
            buffers: vec![
                parts,
                Slot::Operand(1),
                Slot::Operand(2),
                Slot::Operand(3),
                Slot::Operand(6),
                Slot::Operand(7),
                factors,
            ],
            params: vec![
                self.channels as u32,
                chunks as u32,
                self.epsilon.to_bits(),
                count.to_bits(),
            ],
        });
        plan.launches.push(self.input(&geometry, Slot::Operand(0), factors, limits)?);
        Ok(plan)
    }
}

/// Running statistics of `channels` channels after a batch. Operands: 0 and 1 the running mean and
/// variance, 2 and 3 the batch's; written: 4 and 5 the next running ones.
pub(super) fn blend(
    channels: usize,
    blend: &Blend,
    limits: &DeviceLimits,
) -> Result<Plan, PlanError> {
    let mut plan = Plan::new();
    plan.launches.push(Launch {
        kernel: Kernel::Blend,
        workgroup_size: [64, 1, 1],
        groups: fold(channels.div_ceil(64), 1, limits)?,
        buffers: (0..6).map(Slot::Operand).collect(),
        params: [channels as u32].into_iter().chain(blend.factors().map(f32::to_bits)).collect(),
    });
    Ok(plan)
}

/// How the elements are dealt out to workgroups.
struct Geometry {
    wide: bool,
    channels: usize,
    /// Elements (of one or four values) of a channel in one image, and in all images.
    plane: usize,
    elements: usize,
    /// Chunks that a channel's elements are cut into, and elements of a chunk.
    chunks: usize,
    share: usize,
}

impl Geometry {
    fn new(norm: &BatchNorm, limits: &DeviceLimits) -> Result<Self, PlanError> {
        let BatchNorm { batch, channels, plane, .. } = *norm;
        if batch == 0 || channels == 0 || plane == 0 {
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
        let share = elements.div_ceil(chunks);
        let chunks = elements.div_ceil(share);
        Ok(Self { wide, channels, plane, elements, chunks, share })
    }

    fn reduce(&self, kernel: Kernel, buffers: Vec<Slot>) -> Launch {
        let step = [THREADS / self.plane, THREADS % self.plane];
        let sizes = [self.channels, self.plane, self.elements, self.share];
        Launch {
            kernel,
            workgroup_size: [THREADS as u32, 1, 1],
            groups: [self.chunks as u32, self.channels as u32, 1],
            buffers,
            params: sizes.into_iter().chain(step).map(|value| value as u32).collect(),
        }
    }

    fn each(
        &self,
        kernel: Kernel,
        buffers: Vec<Slot>,
        limits: &DeviceLimits,
    ) -> Result<Launch, PlanError> {
        let total = self.elements * self.channels;
        Ok(Launch {
            kernel,
            workgroup_size: [THREADS as u32, 1, 1],
            groups: fold(total.div_ceil(THREADS), 1, limits)?,
            buffers,
            params: vec![total as u32, self.plane as u32, self.channels as u32],
        })
    }
}

/// Every variant of every shader with its name, as it reaches the driver. For validation without a
/// device.
pub fn shader_variants() -> Vec<(String, String)> {
    plan::texts(Kernel::variants())
}
