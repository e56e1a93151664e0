//! Runs single passes in given variants, to test kernels that the current device would not use.

use burn::backend::wgpu::CubeBackend;
use burn::tensor::{DType, Device, Tensor, TensorData};

use super::wgsl::{self, ConvPass};
use super::{ConvShape, matrix_units, op};
use crate::device::cube_device;
use crate::kernels::storage::Storage;
use crate::kernels::web::WebPlan;
use crate::kernels::{DeviceLimits, MatrixUnits, PlanError, launch};
use crate::norm::wgsl::ROW;

pub(crate) use super::wgsl::ConvVariant;

/// Returns the plan of one pass for a web page, in the default variant for these limits. The
/// operands are listed at [`ConvPass`].
///
/// # Errors
/// If a device with these limits cannot compute the pass.
pub fn web_plan(
    limits: &DeviceLimits,
    pass: ConvPass,
    shape: &ConvShape,
) -> Result<WebPlan, PlanError> {
    wgsl::plan(pass, shape, Storage::F32, limits).map(|plan| WebPlan::from(&plan))
}

/// Returns the variants whose plans differ on a device with these limits.
pub fn distinct_variants(
    pass: ConvPass,
    shape: &ConvShape,
    limits: &DeviceLimits,
) -> Vec<ConvVariant> {
    let plans = wgsl::distinct_plans(pass, shape, Storage::F32, limits).into_iter();
    plans.map(|(variant, _)| variant).collect()
}

/// Returns the matrix-unit variants, for activations in half precision, whose plans differ on a
/// device with these limits.
pub fn variants_by_units(
    pass: ConvPass,
    shape: &ConvShape,
    limits: &DeviceLimits,
) -> Vec<ConvVariant> {
    let plans = wgsl::distinct_plans(pass, shape, Storage::F16, limits).into_iter();
    let variants = plans.map(|(variant, _)| variant);
    variants.filter(|variant| matches!(variant, ConvVariant::Units { .. })).collect()
}

/// Returns the matrix units of a device as its convolutions use them, or why they do not; `None` if
/// the device does not run WGSL.
pub fn tried_units(device: &Device) -> Option<Result<MatrixUnits, &'static str>> {
    let device = cube_device(device)?;
    let limits = launch::limits(&device)?;
    let Some(units) = limits.matrix_units else { return Some(Err("the device has none")) };
    Some(matrix_units::tested(&device, &limits, units))
}

/// Returns the `Debug` text of each kernel of a pass on a device with these limits, with
/// activations of type `dtype`.
pub fn kernels(
    pass: ConvPass,
    shape: &ConvShape,
    dtype: DType,
    limits: &DeviceLimits,
    variant: Option<ConvVariant>,
) -> Result<Vec<String>, PlanError> {
    let plan = wgsl::plan_as(pass, shape, Storage::of(dtype, limits), limits, variant)?;
    Ok(plan.launches.iter().map(|launch| format!("{:?}", launch.kernel)).collect())
}

/// Runs a single pass, planned for modified limits of the tensors' device. The operands are listed
/// at [`ConvPass`]. `None` if the device does not run WGSL.
pub fn pass_as_on(
    limits: impl FnOnce(DeviceLimits) -> DeviceLimits,
    variant: Option<ConvVariant>,
    pass: ConvPass,
    shape: &ConvShape,
    operands: [Tensor<5>; 2],
) -> Option<Result<Tensor<5>, PlanError>> {
    let [a, b] = operands.map(|tensor| tensor.try_into_primitive::<CubeBackend>().ok());
    let (a, b) = (a?, b?);
    let limits = limits(launch::limits(&a.device)?);
    let stored = Storage::of(a.dtype, &limits);
    let plan = match wgsl::plan_as(pass, shape, stored, &limits, variant) {
        Ok(plan) => plan,
        Err(error) => return Some(Err(error)),
    };
    let out = op::run(pass, shape, stored, &plan, [a, b]);
    Some(Ok(Tensor::from_primitive::<CubeBackend>(out)))
}

/// Like [`pass_as_on`], for a forward pass with the statistics of its output. Returns `y`, the mean
/// and the sum of squared deviations of each part of each channel `[K·parts·2]`, and the number of
/// values per part; `Some(Ok(None))` if the pass does not compute statistics.
#[allow(clippy::type_complexity, reason = "for tests")]
pub fn forward_with_moments_on(
    limits: impl FnOnce(DeviceLimits) -> DeviceLimits,
    variant: Option<ConvVariant>,
    shape: &ConvShape,
    operands: [Tensor<5>; 2],
) -> Option<Result<Option<(Tensor<5>, Tensor<1>, usize)>, PlanError>> {
    let [x, w] = operands.map(|tensor| tensor.try_into_primitive::<CubeBackend>().ok());
    let (x, w) = (x?, w?);
    let limits = limits(launch::limits(&x.device)?);
    let stored = Storage::of(x.dtype, &limits);
    let plan = match wgsl::plan_as(ConvPass::Forward, shape, stored, &limits, variant) {
        Ok(plan) => wgsl::with_parts(ConvPass::Forward, &plan, shape, stored, &limits),
        Err(error) => return Some(Err(error)),
    };
    Some(Ok(plan.map(|plan| {
        let (y, moments) = op::run_with_moments(shape, stored, &plan, [x, w]);
        let y = Tensor::from_primitive::<CubeBackend>(y);
        (y, Tensor::from_primitive::<CubeBackend>(moments), plan.slice)
    })))
}

/// Like [`pass_as_on`], for an input gradient with the sums for a normalisation with ReLU that made
/// `x`. Returns `dx`, Σ g and Σ g·(x' − mean) of each part of each channel `[C·parts·2]`, and the
/// number of values per part; `Some(Ok(None))` if the pass does not compute the sums. The operands
/// are dy, w and the normalisation's input x'; `layer` holds mean, γ / √(var + ε) and β of its
/// channels.
#[allow(clippy::type_complexity, reason = "for tests")]
pub fn input_gradient_with_sums_on(
    limits: impl FnOnce(DeviceLimits) -> DeviceLimits,
    variant: Option<ConvVariant>,
    shape: &ConvShape,
    operands: [Tensor<5>; 3],
    layer: [&[f32]; 3],
) -> Option<Result<Option<(Tensor<5>, Tensor<1>, usize)>, PlanError>> {
    let pass = ConvPass::InputGradient;
    let row = shape.in_channels.next_multiple_of(ROW);
    let mut kept = vec![0.0; 4 * row];
    // The variance, in row 1, is not read.
    for (values, at) in layer.into_iter().zip([0, 2, 3]) {
        kept[at * row..][..values.len()].copy_from_slice(values);
    }
    let kept = Tensor::<1>::from_data(TensorData::from(&kept[..]), &operands[0].device());
    let kept = kept.try_into_primitive::<CubeBackend>().ok()?;
    let [dy, w, x] = operands.map(|tensor| tensor.try_into_primitive::<CubeBackend>().ok());
    let (dy, w, x) = (dy?, w?, x?);
    let limits = limits(launch::limits(&dy.device)?);
    let stored = Storage::of(dy.dtype, &limits);
    let plan = match wgsl::plan_as(pass, shape, stored, &limits, variant) {
        Ok(plan) => wgsl::with_parts(pass, &plan, shape, stored, &limits),
        Err(error) => return Some(Err(error)),
    };
    Some(Ok(plan.map(|plan| {
        let (dx, sums) = op::run_with_gradient_sums(shape, stored, &plan, [dy, w], [x, kept]);
        let dx = Tensor::from_primitive::<CubeBackend>(dx);
        (dx, Tensor::from_primitive::<CubeBackend>(sums.parts), sums.slice)
    })))
}
