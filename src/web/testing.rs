//! Single operations of a page, for tests.

use super::max_pool;
use crate::kernels::plan::{DeviceLimits, PlanError};
use crate::kernels::storage::Storage;
use crate::kernels::web::WebPlan;

/// Plans max pooling of `[N, C, T, H, W]` in f32 as a page executes it: operand 0 is read, 1 written.
///
/// # Errors
/// If a device cannot compute it.
pub fn max_pool_plan(sizes: [[usize; 5]; 2]) -> Result<WebPlan, PlanError> {
    max_pool::plan(sizes, Storage::F32, &DeviceLimits::WEBGPU).map(|plan| WebPlan::from(&plan))
}
