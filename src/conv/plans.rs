//! The plans of each device: every pass of every shape is planned once, in the variant that
//! `--tune` chose for it or otherwise in the default variant for the device's limits.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use burn::backend::CubeDevice;
use burn::tensor::{DType, Device};

use super::wgsl::{self, ConvPass, ConvPlan, ConvVariant, PlanWithParts};
use super::{ConvShape, matrix_units};
use crate::device::cube_device;
use crate::kernels::launch;
use crate::kernels::plan::{DeviceLimits, PlanError};
use crate::kernels::registry::PerDevice;
use crate::kernels::storage::Storage;

type Key = (ConvPass, ConvShape);
/// Plans also depend on how activations are stored.
type PlanKey = (ConvPass, ConvShape, Storage);

/// The plans made for one device and the variants chosen for it.
struct DevicePlans {
    limits: DeviceLimits,
    plans: HashMap<PlanKey, Result<Arc<ConvPlan>, PlanError>>,
    /// Plans of forward and input-gradient passes with additional output for a normalisation.
    with_parts: HashMap<PlanKey, Option<Arc<PlanWithParts>>>,
    /// Keyed by the shape with a batch of one: a choice applies to any number of clips.
    chosen: HashMap<Key, ConvVariant>,
}

/// Maximum number of plans kept per device; a network has about forty per batch size.
const MAX_PLANS: usize = 4096;

/// Returns the key of a choice.
fn one_clip(pass: ConvPass, shape: &ConvShape) -> Key {
    (pass, ConvShape { batch: 1, ..*shape })
}

impl DevicePlans {
    fn new(limits: DeviceLimits) -> Self {
        Self { limits, plans: HashMap::new(), with_parts: HashMap::new(), chosen: HashMap::new() }
    }

    fn plan(
        &mut self,
        pass: ConvPass,
        shape: &ConvShape,
        stored: Storage,
    ) -> Result<Arc<ConvPlan>, PlanError> {
        if self.plans.len() >= MAX_PLANS {
            self.plans.clear();
            self.with_parts.clear();
        }
        let Self { limits, plans, chosen, .. } = self;
        let make = || {
            let variant = chosen.get(&one_clip(pass, shape)).copied();
            let plan = wgsl::plan_as(pass, shape, stored, limits, variant);
            // A variant chosen for a small batch may need too much scratch memory for a larger one.
            plan.or_else(|_| wgsl::plan(pass, shape, stored, limits)).map(Arc::new)
        };
        plans.entry((pass, *shape, pass.storage(stored))).or_insert_with(make).clone()
    }

    fn with_parts(
        &mut self,
        pass: ConvPass,
        shape: &ConvShape,
        stored: Storage,
    ) -> Option<Arc<PlanWithParts>> {
        let key = (pass, *shape, stored);
        if let Some(known) = self.with_parts.get(&key) {
            return known.clone();
        }
        let plan = self.plan(pass, shape, stored).ok();
        let plan = plan.and_then(|plan| wgsl::with_parts(pass, &plan, shape, stored, &self.limits));
        let plan = plan.map(Arc::new);
        self.with_parts.insert(key, plan.clone());
        plan
    }

    fn choose(&mut self, pass: ConvPass, shape: &ConvShape, variant: ConvVariant) -> bool {
        // Half precision has every variant that f32 has.
        let offered = wgsl::variants(pass, Storage::F16, &self.limits).contains(&variant);
        if offered {
            self.chosen.insert(one_clip(pass, shape), variant);
            self.plans.clear();
            self.with_parts.clear();
        }
        offered
    }

    fn forget_choices(&mut self) {
        if !self.chosen.is_empty() {
            *self = Self::new(self.limits);
        }
    }
}

/// The plans of one device. It has one set of limits, two if it has matrix units for f16, and more
/// if tests change them.
type PlansByLimits = HashMap<DeviceLimits, DevicePlans>;

/// Calls `work` with all plans of a device.
fn with_all_plans<R>(device: &CubeDevice, work: impl FnOnce(&mut PlansByLimits) -> R) -> R {
    static DEVICES: PerDevice<Mutex<PlansByLimits>> = PerDevice::new();
    let plans = DEVICES.get_or_insert(device, Mutex::default);
    let mut plans = plans.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    work(&mut plans)
}

/// Calls `work` with the plans of a device; `None` if the device does not run WGSL.
fn with_plans<R>(
    device: &CubeDevice,
    dtype: DType,
    work: impl FnOnce(&mut DevicePlans) -> R,
) -> Option<R> {
    let limits = matrix_units::checked(device, launch::limits(device)?, dtype);
    Some(with_all_plans(device, |all| {
        work(all.entry(limits).or_insert_with(|| DevicePlans::new(limits)))
    }))
}

/// Returns the device's plan for a pass with activations of type `dtype`.
///
/// # Errors
/// [`PlanError::Device`] if the device does not run WGSL.
pub(super) fn plan(
    device: &CubeDevice,
    pass: ConvPass,
    shape: &ConvShape,
    dtype: DType,
) -> Result<Arc<ConvPlan>, PlanError> {
    let plan = |plans: &mut DevicePlans| {
        let stored = Storage::of(dtype, &plans.limits);
        plans.plan(pass, shape, stored)
    };
    with_plans(device, dtype, plan).unwrap_or(Err(PlanError::Device))
}

/// Returns the device's plan for a pass with additional output for a normalisation, or `None` if
/// its plan does not support that ([`wgsl::with_parts`]).
pub(super) fn with_parts(
    device: &CubeDevice,
    pass: ConvPass,
    shape: &ConvShape,
    dtype: DType,
) -> Option<Arc<PlanWithParts>> {
    let plan = |plans: &mut DevicePlans| {
        let stored = Storage::of(dtype, &plans.limits);
        plans.with_parts(pass, shape, stored)
    };
    with_plans(device, dtype, plan).flatten()
}

/// Makes this device compute `pass` of convolutions like `shape`, with any number of clips, in this
/// variant from now on. The choice applies to activations of type `dtype`, or of any type if the
/// device's matrix units are not used. Returns `false` if the device does not have the variant.
pub(crate) fn choose(
    device: &Device,
    pass: ConvPass,
    shape: &ConvShape,
    dtype: DType,
    variant: ConvVariant,
) -> bool {
    cube_device(device)
        .and_then(|device| with_plans(&device, dtype, |plans| plans.choose(pass, shape, variant)))
        .unwrap_or(false)
}

/// Makes this device compute in its default variants again.
pub(crate) fn forget_choices(device: &Device) {
    if let Some(device) = cube_device(device) {
        with_all_plans(&device, |all| all.values_mut().for_each(DevicePlans::forget_choices));
    }
}

/// Whether variants have been chosen for this device.
#[cfg(test)]
pub(crate) fn has_choices(device: &Device) -> bool {
    let any = |all: &mut PlansByLimits| all.values().any(|plans| !plans.chosen.is_empty());
    cube_device(device).is_some_and(|device| with_all_plans(&device, any))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPE: ConvShape = ConvShape {
        batch: 2,
        in_channels: 8,
        out_channels: 16,
        input: [4, 14, 14],
        kernel: [3, 3, 3],
        stride: [1; 3],
        padding: [1; 3],
    };

    #[test]
    fn choices_belong_to_one_device_and_apply_to_any_number_of_clips() {
        let pass = ConvPass::Forward;
        let [mut tuned, mut other] = [(); 2].map(|()| DevicePlans::new(DeviceLimits::WEBGPU));
        let usual = tuned.plan(pass, &SHAPE, Storage::F32).unwrap();
        let different = wgsl::distinct_plans(pass, &SHAPE, Storage::F32, &DeviceLimits::WEBGPU);
        let (variant, plan) = different.into_iter().find(|(_, plan)| *plan != *usual).unwrap();
        assert!(tuned.choose(pass, &SHAPE, variant));
        assert_eq!(*tuned.plan(pass, &SHAPE, Storage::F32).unwrap(), plan);
        assert_eq!(*other.plan(pass, &SHAPE, Storage::F32).unwrap(), *usual);
        assert_eq!(
            *tuned.plan(ConvPass::WeightGradient, &SHAPE, Storage::F32).unwrap(),
            *other.plan(ConvPass::WeightGradient, &SHAPE, Storage::F32).unwrap()
        );
        let more = ConvShape { batch: 5, ..SHAPE };
        let want =
            wgsl::plan_as(pass, &more, Storage::F32, &DeviceLimits::WEBGPU, Some(variant)).unwrap();
        assert_eq!(*tuned.plan(pass, &more, Storage::F32).unwrap(), want);
        // A variant that the device cannot run is refused.
        let ConvVariant::Tiles { tile, workgroups } = variant else { panic!("{variant:?}") };
        let tile = wgsl::Tile { tm: 7, ..tile };
        assert!(!tuned.choose(pass, &SHAPE, ConvVariant::Tiles { tile, workgroups }));
        assert_eq!(*tuned.plan(pass, &SHAPE, Storage::F32).unwrap(), plan);
        tuned.forget_choices();
        assert_eq!(*tuned.plan(pass, &SHAPE, Storage::F32).unwrap(), *usual);
    }
}
