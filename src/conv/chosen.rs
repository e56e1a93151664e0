//! The plan that each pass takes in this process: made once for each shape, the way that the
//! device's limits suggest, unless another was chosen.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};

use burn::tensor::Device;

use super::ConvShape;
use super::wgsl::{self, Choice, Pass, Plan};
use crate::kernels::limits;
use crate::kernels::plan::{DeviceLimits, PlanError};

type Key = (Pass, ConvShape, DeviceLimits);

#[derive(Default)]
struct Known {
    plans: HashMap<Key, Result<Arc<Plan>, PlanError>>,
    /// For any number of clips: their shape has one.
    choices: HashMap<Key, Choice>,
}

/// Shapes that are remembered; a network has some forty of each batch size.
const REMEMBERED: usize = 4096;

fn known() -> MutexGuard<'static, Option<Known>> {
    static KNOWN: Mutex<Option<Known>> = Mutex::new(None);
    KNOWN.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

fn one_clip(pass: Pass, shape: &ConvShape, limits: &DeviceLimits) -> Key {
    (pass, ConvShape { batch: 1, ..*shape }, *limits)
}

/// The plan for a pass.
pub(super) fn plan(
    pass: Pass,
    shape: &ConvShape,
    limits: &DeviceLimits,
) -> Result<Arc<Plan>, PlanError> {
    let mut known = known();
    let Known { plans, choices } = known.get_or_insert_default();
    if plans.len() >= REMEMBERED {
        plans.clear();
    }
    let make = || {
        let choice = choices.get(&one_clip(pass, shape, limits)).copied();
        let plan = wgsl::plan_as(pass, shape, limits, choice);
        // What was chosen for some clips may need too much scratch memory for others.
        plan.or_else(|_| wgsl::plan(pass, shape, limits)).map(Arc::new)
    };
    plans.entry((pass, *shape, *limits)).or_insert_with(make).clone()
}

/// From now on `pass` of convolutions like `shape`, of any number of clips, is computed in this way
/// on devices like `device`. `false` where such a device has no such way.
pub fn choose(device: &Device, pass: Pass, shape: &ConvShape, choice: Choice) -> bool {
    let Some(limits) = limits(device) else { return false };
    let offered = wgsl::choices(pass, &limits).contains(&choice);
    if offered {
        let mut known = known();
        let Known { plans, choices } = known.get_or_insert_default();
        choices.insert(one_clip(pass, shape, &limits), choice);
        plans.clear();
    }
    offered
}
