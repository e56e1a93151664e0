//! Single passes in chosen variants, for tests of kernels that the device at hand would not choose.

use burn::backend::wgpu::CubeBackend;
use burn::tensor::{DType, Device, Tensor, TensorData};

use super::wgsl::{self, ConvPass};
use super::{ConvShape, matrix_units, op};
use crate::kernels::storage::Storage;
use crate::kernels::web::WebPlan;
use crate::kernels::{DeviceLimits, MatrixUnits, PlanError, cube_device, launch};
use crate::norm::wgsl::ROW;

pub(crate) use super::wgsl::ConvVariant;

/// One pass as a page executes it: in the variant that these limits suggest, on the operands of
/// [`ConvPass`].
///
/// # Errors
/// Where a device with these limits cannot compute it.
pub fn web_plan(
    limits: &DeviceLimits,
    pass: ConvPass,
    shape: &ConvShape,
) -> Result<WebPlan, PlanError> {
    wgsl::plan(pass, shape, Storage::F32, limits).map(|plan| WebPlan::from(&plan))
}

/// The variants whose plans differ on a device with these limits.
pub fn distinct_variants(
    pass: ConvPass,
    shape: &ConvShape,
    limits: &DeviceLimits,
) -> Vec<ConvVariant> {
    let plans = wgsl::distinct_plans(pass, shape, Storage::F32, limits).into_iter();
    plans.map(|(variant, _)| variant).collect()
}

/// The variants by matrix units, with activations in half precision, whose plans differ on a device
/// with these limits.
pub fn variants_by_units(
    pass: ConvPass,
    shape: &ConvShape,
    limits: &DeviceLimits,
) -> Vec<ConvVariant> {
    let plans = wgsl::distinct_plans(pass, shape, Storage::F16, limits).into_iter();
    let variants = plans.map(|(variant, _)| variant);
    variants.filter(|variant| matches!(variant, ConvVariant::Units { .. })).collect()
}

/// The matrix units of a device as its convolutions use them, or why they do without them; `None` where
/// the device takes no WGSL.
pub fn tried_units(device: &Device) -> Option<Result<MatrixUnits, &'static str>> {
    let device = cube_device(device)?;
    let limits = launch::limits(&device)?;
    let Some(units) = limits.matrix_units else { return Some(Err("there are none")) };
    Some(matrix_units::tried(&device, &limits, units))
}

/// The kernels of a pass on a device with these limits, as Rust's `Debug` writes them; activations are
/// of type `dtype`.
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

/// One pass by itself, planned as for a device with other limits than the tensors' own. The
/// operands are those of [`ConvPass`]. `None` where the device takes no WGSL.
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

/// The forward pass of [`pass_as_on`] with the statistics of its output: `y`, mean and sum of squared
/// deviations of each part of each channel `[K·parts·2]`, and values of a part. `Some(Ok(None))`
/// where the pass does not give them.
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

/// The input gradient of [`pass_as_on`] with what a normalisation with ReLU that made `x` needs of it:
/// `dx`, Σ g and Σ g·(x' − mean) of each part of each channel `[C·parts·2]`, and values of a part. The
/// operands are dy, w and the normalisation's x'; `layer` is mean, γ / √(var + ε) and β of its channels.
/// `Some(Ok(None))` where the pass does not give the sums.
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
