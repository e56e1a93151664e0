//! Plans for batch normalisation over N and S of contiguous `[N, C, S]`, together with the residual
//! addition and the ReLU that follow it in a residual network. x, y, the residual and their
//! gradients may be stored in half precision; everything else is f32.

mod blend;
mod kernel;
mod params;
mod source;
mod traffic;

pub(super) use blend::{Blends, blends, layers_per_launch};
pub(crate) use kernel::NormKernel;

use super::Spec;
use crate::kernels::plan::{self, DeviceLimits, Launch, PlanError, Slot, fits, fold};
use crate::kernels::storage::Storage;
use kernel::{Mask, THREADS, written};
use params::{CollectParams, CollectSumsParams, EachParams, ReduceParams};
pub(crate) use traffic::Traffic;

/// Launches of a normalisation.
pub(crate) type NormPlan = plan::Plan<NormKernel>;

/// Multiple of words to which rows are padded, so that each row can be bound separately: WebGPU's
/// largest alignment of a binding is 256 bytes.
pub(crate) const ROW: usize = 64;
/// Number of rows that the forward pass keeps: mean, biased variance, γ / √(var + ε), β.
const ROWS: usize = 4;
/// Number of elements per invocation in the passes over all elements.
const STEPS: usize = 8;
/// Maximum number of parts of a channel's sums. Every invocation of the next pass adds up all of
/// them.
const MAX_CHUNKS: usize = 32;
/// Words per part: mean and sum of squared deviations for the statistics, Σ g and Σ g·(x − mean)
/// for the gradient.
const PART: usize = 2;

/// y = relu?((x − mean) / √(var + ε)·γ + β (+ residual)) over `[N, C, S]`, with mean and biased
/// variance of each channel over N and S; planned for one device, which can execute all its plans.
#[derive(Debug)]
pub(crate) struct BatchNorm {
    spec: Spec,
    /// How x and the residual are stored.
    x: Storage,
    /// Whether an element consists of four values.
    wide: bool,
    batch: usize,
    channels: usize,
    /// Number of elements of a channel in one image.
    plane: usize,
    /// Number of chunks that a channel's elements are divided into.
    chunks: usize,
    /// Number of elements per chunk.
    chunk: usize,
    /// Binary logarithm of the number of lanes that share a plane.
    lane_bits: u32,
    /// Number of shares that a plane is divided into: `STEPS` elements for each lane.
    shares: usize,
    /// Workgroups of the passes over all elements.
    each_groups: [u32; 3],
}

impl BatchNorm {
    /// Plans the normalisation of `[N, C, S]` = `shape`, where x (or y, if the backward pass reads
    /// that) and the residual are stored as `x` says.
    pub(crate) fn new(
        shape: [usize; 3],
        spec: Spec,
        x: Storage,
        limits: &DeviceLimits,
    ) -> Result<Self, PlanError> {
        let [batch, channels, plane] = shape;
        if shape.contains(&0) {
            return Err(PlanError::Shape);
        }
        fits(batch * channels * plane, limits)?;
        let most_groups = limits.max_workgroups_per_dim as usize;
        if channels > most_groups {
            return Err(PlanError::TooManyGroups);
        }
        if limits.max_invocations < THREADS as u32 {
            return Err(PlanError::Device);
        }
        let wide = plane.is_multiple_of(4);
        let plane = if wide { plane / 4 } else { plane };
        let elements = batch * plane;
        // Enough workgroups to fill a device, but about eight elements per invocation or more.
        let wanted = 1024usize.div_ceil(channels).min(MAX_CHUNKS);
        let chunks = wanted.min(elements.div_ceil(8 * THREADS)).max(1);
        let chunk = elements.div_ceil(chunks);
        let chunks = elements.div_ceil(chunk);
        fits(PART * channels * chunks, limits)?;
        // The fewest lanes that can process a plane at once, so that none is idle.
        let lanes = plane.div_ceil(STEPS).next_power_of_two().min(THREADS);
        let shares = plane.div_ceil(STEPS * lanes);
        let [y, z, _] = fold((batch * channels).div_ceil(THREADS / lanes), 1, limits)?;
        if shares > most_groups {
            return Err(PlanError::TooManyGroups);
        }
        let norm = Self {
            spec,
            x,
            wide,
            batch,
            channels,
            plane,
            chunks,
            chunk,
            lane_bits: lanes.ilog2(),
            shares,
            each_groups: [shares as u32, y, z],
        };
        fits(norm.kept_words(), limits)?;
        Ok(norm)
    }

    /// Distance in words between the rows that the forward pass keeps.
    pub(super) fn row(&self) -> usize {
        self.channels.next_multiple_of(ROW)
    }

    /// Size in words of what the forward pass keeps: rows of mean, biased variance and the other
    /// per-channel values that the backward pass needs and, with a residual, the mask of the ReLU.
    pub(super) fn kept_words(&self) -> usize {
        let mask = if self.spec.masks_residual() {
            self.batch * self.channels * self.plane_words()
        } else {
            0
        };
        ROWS * self.row() + mask
    }

    /// Mask words per plane: one for the elements of each invocation.
    fn plane_words(&self) -> usize {
        self.shares << self.lane_bits
    }

    /// Number of values per element.
    fn lanes(&self) -> usize {
        if self.wide { 4 } else { 1 }
    }

    /// Number of elements per channel.
    fn elements(&self) -> usize {
        self.batch * self.plane
    }

    /// Number of values per channel.
    fn channel_values(&self) -> usize {
        self.elements() * self.lanes()
    }

    /// Number of values in the whole tensor.
    fn values(&self) -> usize {
        self.channel_values() * self.channels
    }

    /// Number of chunks per channel in a reduction, and number of values in each but the last.
    fn chunk_sizes(&self) -> [usize; 2] {
        [self.chunks, self.chunk * self.lanes()]
    }

    /// How the forward pass writes y: in half precision only if it writes four values at a time.
    pub(crate) fn y(&self) -> Storage {
        written(self.x, self.wide)
    }

    /// How the backward passes write dx and the residual's gradient.
    pub(super) fn dx(&self) -> Storage {
        written(self.x.gradient(), self.wide)
    }

    /// Plans the forward pass. Operands: 0 `x`, 1 `γ [C]`, 2 `β [C]`; written: 3 `y`, 4 what is
    /// kept; with a residual: 5 the residual. If the statistics came with `x`, in parts of `slice`
    /// values of a channel (the last may have fewer): 6 their means and sums of squared deviations
    /// `[C, parts, 2]`; `x` is then read once.
    pub(super) fn forward(&self, slice: Option<usize>) -> NormPlan {
        let mut plan = NormPlan::new();
        let values = self.channel_values();
        let (parts, sizes) = match slice {
            None => {
                let parts = self.parts(&mut plan);
                let stats = NormKernel::Stats { wide: self.wide, x: self.x };
                plan.launches.push(self.reduce(stats, vec![Slot::Operand(0), parts]));
                (parts, self.chunk_sizes())
            }
            Some(slice) if values.div_ceil(slice) <= MAX_CHUNKS => {
                (Slot::Operand(6), [values.div_ceil(slice), slice])
            }
            Some(slice) => {
                let merged = plan.scratch_that_fits(PART * self.channels);
                let parts = values.div_ceil(slice);
                plan.launches.push(self.collect([Slot::Operand(6), merged], parts, slice));
                (merged, [1, values])
            }
        };
        plan.launches.push(self.apply(false, [parts, Slot::Operand(4)], 5, sizes, values));
        plan
    }

    /// Plans the forward pass by the statistics of a batch that x is a share of; `values` is the
    /// batch's number of values per channel. Operands as in [`Self::forward`], except for 6 mean
    /// and sum of squared deviations `[C, 2]`.
    pub(super) fn forward_in(&self, values: usize) -> NormPlan {
        let statistics = [6, 4].map(Slot::Operand);
        NormPlan::single(self.apply(false, statistics, 5, [1, values], values))
    }

    /// Plans the statistics alone. Operands: 0 `x`; 1 its statistics in parts of `slice` values, as
    /// in [`Self::forward`]; written: 2 mean and sum of squared deviations `[C, 2]`.
    pub(super) fn statistics(&self, slice: Option<usize>) -> NormPlan {
        let mut plan = NormPlan::new();
        let values = self.channel_values();
        let (parts, count, part) = match slice {
            Some(slice) => (Slot::Operand(1), values.div_ceil(slice), slice),
            None => {
                let parts = self.parts(&mut plan);
                let stats = NormKernel::Stats { wide: self.wide, x: self.x };
                plan.launches.push(self.reduce(stats, vec![Slot::Operand(0), parts]));
                let [count, part] = self.chunk_sizes();
                (parts, count, part)
            }
        };
        plan.launches.push(self.collect([parts, Slot::Operand(2)], count, part));
        plan
    }

    /// Merges the parts of each channel; each part but the last has `part` values.
    fn collect(&self, buffers: [Slot; 2], parts: usize, part: usize) -> Launch<NormKernel> {
        let values = self.channel_values() as u32;
        let params = CollectParams { parts: parts as u32, part: part as u32, values };
        let groups = [self.channels as u32, 1, 1];
        Launch::new(NormKernel::Collect, groups, buffers.into(), &params)
    }

    /// Bytes of each operand of [`Self::forward`].
    fn forward_operands(&self, slice: Option<usize>) -> [usize; 7] {
        let (x, y) = (self.x.bytes(self.values()), self.y().bytes(self.values()));
        let (layer, parts) = (4 * self.channels, slice.map_or(0, |slice| self.parts_bytes(slice)));
        [x, layer, layer, y, 4 * self.kept_words(), x, parts]
    }

    /// Bytes of the statistics, or of the gradient's sums, in parts of `slice` values.
    fn parts_bytes(&self, slice: usize) -> usize {
        4 * PART * self.channels * self.channel_values().div_ceil(slice)
    }

    /// Plans the forward pass with given statistics. Operands: 0 `x`, 1 `γ`, 2 `β`; written: 3 `y`;
    /// 4 mean, 5 variance; with a residual: 6 the residual.
    pub(crate) fn running(&self) -> NormPlan {
        let (statistics, values) = ([4, 5].map(Slot::Operand), self.channel_values());
        NormPlan::single(self.apply(true, statistics, 6, self.chunk_sizes(), values))
    }

    /// Plans the backward pass. Operands: 0 `x`, 1 `dy`, 2 what the forward pass kept; written: 3
    /// `dx`, 4 `dγ [C]`, 5 `dβ [C]`; with a residual and a ReLU: 6 the residual's gradient,
    /// written. (Without a ReLU the residual's gradient is `dy`.) If the sums came with `dy`, in
    /// parts of `slice` values of a channel: 7 Σ g and Σ g·(x − mean) of each, `[C, parts, 2]`;
    /// there is no residual then.
    pub(super) fn backward(&self, slice: Option<usize>) -> NormPlan {
        let mut plan = NormPlan::new();
        let [x, dy, kept, dx, d_gamma, d_beta, masked] = [0, 1, 2, 3, 4, 5, 6].map(Slot::Operand);
        let values = self.channel_values();
        let (parts, sizes) = match slice.map(|slice| [values.div_ceil(slice), slice]) {
            None => {
                let parts = self.parts(&mut plan);
                plan.launches.push(self.grads([x, dy, kept, parts, masked]));
                (parts, self.chunk_sizes())
            }
            Some(sizes @ [parts, _]) if parts <= MAX_CHUNKS => (Slot::Operand(7), sizes),
            Some([parts, _]) => {
                let sums = plan.scratch_that_fits(PART * self.channels);
                let params = CollectSumsParams { parts: parts as u32 };
                let groups = [self.channels as u32, 1, 1];
                let buffers = vec![Slot::Operand(7), sums];
                plan.launches.push(Launch::new(NormKernel::CollectSums, groups, buffers, &params));
                (sums, [1, values])
            }
        };
        let gradient = if self.mask() == Mask::Kept { masked } else { dy };
        let buffers = [x, gradient, kept, parts, dx, d_gamma, d_beta];
        plan.launches.push(self.input(buffers, sizes, values));
        plan
    }

    /// Plans the first launch of the backward pass. Operands: 0 `x`, 1 `dy`, 2 what the forward
    /// pass kept; written: 3 the parts of the sums; with a residual and a ReLU: 4 the residual's
    /// gradient.
    pub(super) fn gradient_sums(&self) -> NormPlan {
        NormPlan::single(self.grads([0, 1, 2, 3, 4].map(Slot::Operand)))
    }

    /// Plans the second launch of the backward pass, by the sums over a batch that x is a share of;
    /// `values` is the batch's number of values per channel. Operands: 0 `x`, 1 `dy`, or with a
    /// residual and a ReLU the residual's gradient, 2 what the forward pass kept, 3 the sums
    /// `[C, 2]`; written: 4 `dx` and, for the whole batch, 5 `dγ [C]`, 6 `dβ [C]`.
    pub(super) fn gradient_input(&self, values: usize) -> NormPlan {
        NormPlan::single(self.input([0, 1, 2, 3, 4, 5, 6].map(Slot::Operand), [1, values], values))
    }

    fn mask(&self) -> Mask {
        match (self.spec.relu, self.spec.masks_residual()) {
            (false, _) => Mask::None,
            (true, false) => Mask::FromX,
            (true, true) => Mask::Kept,
        }
    }

    fn grads(&self, [x, dy, kept, parts, masked]: [Slot; 5]) -> Launch<NormKernel> {
        let mask = self.mask();
        let mut buffers = vec![x, dy, kept, parts];
        buffers.extend((mask == Mask::Kept).then_some(masked));
        self.reduce(NormKernel::Grads { wide: self.wide, mask, x: self.x }, buffers)
    }

    fn input(&self, buffers: [Slot; 7], sizes: [usize; 2], values: usize) -> Launch<NormKernel> {
        let (wide, x, mask) = (self.wide, self.x, self.mask());
        let dy = if mask == Mask::Kept { self.dx() } else { x.gradient() };
        let kernel = NormKernel::Input { wide, relu: mask == Mask::FromX, x, dy };
        self.each(kernel, buffers.into(), sizes, values)
    }

    /// Bytes of each operand of [`Self::backward`].
    fn backward_operands(&self, slice: Option<usize>) -> [usize; 8] {
        let layer = 4 * self.channels;
        let bytes = |storage: Storage| storage.bytes(self.values());
        let (x, dy, dx) = (bytes(self.x), bytes(self.x.gradient()), bytes(self.dx()));
        let parts = slice.map_or(0, |slice| self.parts_bytes(slice));
        [x, dy, 4 * self.kept_words(), dx, layer, layer, dx, parts]
    }

    /// Plans the backward pass with given statistics. Operands: 0 `dy`, 1 `γ`, 2 variance; written:
    /// 3 `dx`; with a ReLU: 4 `y`; with a residual and a ReLU: 5 the residual's gradient, written.
    pub(super) fn running_backward(&self) -> NormPlan {
        let (wide, relu) = (self.wide, self.spec.relu);
        let residual = self.spec.masks_residual();
        let mut buffers: Vec<_> = [0, 1, 2, 3].map(Slot::Operand).into();
        buffers.extend(relu.then_some(Slot::Operand(4)));
        buffers.extend(residual.then_some(Slot::Operand(5)));
        // Without a ReLU y is not read, and gradients are stored the same way in both forms.
        let y = match self.x {
            Storage::F16 if !relu => Storage::Packed,
            x => x,
        };
        let kernel = NormKernel::Frozen { wide, relu, residual, y };
        NormPlan::single(self.each(kernel, buffers, self.chunk_sizes(), self.channel_values()))
    }

    /// Reserves a scratch buffer for the parts of a reduction.
    fn parts(&self, plan: &mut NormPlan) -> Slot {
        plan.scratch_that_fits(self.parts_words())
    }

    /// Size in words of the parts of a reduction.
    pub(super) fn parts_words(&self) -> usize {
        PART * self.chunks * self.channels
    }

    fn apply(
        &self,
        given: bool,
        statistics: [Slot; 2],
        added: usize,
        sizes: [usize; 2],
        values: usize,
    ) -> Launch<NormKernel> {
        let (wide, Spec { residual, relu, .. }) = (self.wide, self.spec);
        let mut buffers: Vec<_> = [0, 1, 2, 3].map(Slot::Operand).into();
        buffers.extend(statistics);
        buffers.extend(residual.then_some(Slot::Operand(added)));
        let kernel = NormKernel::Apply { wide, residual, relu, given, x: self.x };
        self.each(kernel, buffers, sizes, values)
    }

    fn reduce(&self, kernel: NormKernel, buffers: Vec<Slot>) -> Launch<NormKernel> {
        let groups = [self.chunks as u32, self.channels as u32, 1];
        let params = ReduceParams {
            channels: self.channels as u32,
            plane: self.plane as u32,
            elements: self.elements() as u32,
            chunk: self.chunk as u32,
            image_step: (THREADS / self.plane) as u32,
            plane_step: (THREADS % self.plane) as u32,
            row: self.row() as u32,
            mask: (ROWS * self.row()) as u32,
            plane_words: self.plane_words() as u32,
            lane_bits: self.lane_bits,
        };
        Launch::new(kernel, groups, buffers, &params)
    }

    /// Returns a pass over all elements that first adds up `parts` parts of `part` values each,
    /// `values` per channel in total.
    fn each(
        &self,
        kernel: NormKernel,
        buffers: Vec<Slot>,
        [parts, part]: [usize; 2],
        values: usize,
    ) -> Launch<NormKernel> {
        let params = EachParams {
            planes: (self.batch * self.channels) as u32,
            channels: self.channels as u32,
            plane: self.plane as u32,
            lane_bits: self.lane_bits,
            parts: parts as u32,
            part: part as u32,
            values: values as u32,
            epsilon: self.spec.epsilon as f32,
            row: self.row() as u32,
            mask: (ROWS * self.row()) as u32,
        };
        Launch::new(kernel, self.each_groups, buffers, &params)
    }
}
