//! How much work a device is given at once if its speed or its memory is unknown.
//!
//! Operating systems abort work on a device that also draws the screen, or work that takes seconds:
//! Windows resets the device after 2 s, and macOS aborts a command buffer, which wgpu does not
//! report.

use super::DeviceInfo;

/// Maximum number of launches per submission on devices that may be slow, instead of Burn's 32:
/// with 32 convolutions, a submission would take seconds.
const MAX_LAUNCHES: usize = 4;
/// Maximum number of operations per launch on such a device: what 0.2 TFLOP/s, which integrated
/// GPUs reach, computes in a second.
const MAX_OPERATIONS: u64 = 200_000_000_000;
/// Bytes that count as free on a GPU that does not report them. When asked for more than it holds,
/// such a GPU may not fail, but use main memory instead, and be slow.
const ASSUMED_FREE_BYTES: u64 = 4_000_000_000;

/// Whether a device of this kind behind this API may be slow: every GPU except for discrete ones,
/// and on macOS those as well. Nothing aborts the work of a software rasteriser.
fn may_be_slow(kind: &str, api: &str) -> bool {
    api == "metal" || matches!(kind, "integrated" | "virtual" | "other")
}

/// Returns the maximum number of launches per submission, if it is lower than Burn's.
pub(super) fn tasks_max(kind: &str, api: &str) -> Option<usize> {
    may_be_slow(kind, api).then_some(MAX_LAUNCHES)
}

impl DeviceInfo {
    /// Returns the maximum number of floating-point operations per launch, so that the system does
    /// not abort it; `None` for devices that are not known to take so long.
    pub(crate) fn launch_operations(&self) -> Option<u64> {
        may_be_slow(&self.kind, &self.api).then_some(MAX_OPERATIONS)
    }

    /// Returns the bytes to plan with: the free ones or, if a GPU does not report them, a small
    /// number. CUDA does not report them either, but fails when they are exceeded, so that fewer
    /// clips can be tried.
    pub(crate) fn planned_bytes(&self) -> Option<u64> {
        self.free_bytes.or((self.api != "cuda").then_some(ASSUMED_FREE_BYTES))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn devices_of_unknown_speed_get_little_at_once() {
        let cpu = crate::device::open("cpu").unwrap().info;
        let of = |kind: &str, api: &str| {
            let info = DeviceInfo { kind: kind.to_owned(), api: api.to_owned(), ..cpu.clone() };
            let limits = (tasks_max(kind, api), info.launch_operations());
            assert_eq!(limits.0.is_some(), limits.1.is_some());
            limits.1.is_some()
        };
        for (kind, api) in
            [("integrated", "vulkan"), ("virtual", "dx12"), ("other", "gl"), ("discrete", "metal")]
        {
            assert!(of(kind, api), "{kind} {api}");
        }
        for (kind, api) in
            [("discrete", "vulkan"), ("software", "vulkan"), ("discrete", "cuda"), ("cpu", "cpu")]
        {
            assert!(!of(kind, api), "{kind} {api}");
        }
    }

    #[test]
    fn a_gpu_that_does_not_report_its_memory_counts_as_small() {
        let cpu = crate::device::open("cpu").unwrap().info;
        let of = |api: &str, free_bytes| {
            DeviceInfo { api: api.to_owned(), free_bytes, ..cpu.clone() }.planned_bytes()
        };
        assert_eq!(of("dx12", None), Some(ASSUMED_FREE_BYTES));
        assert_eq!(of("dx12", Some(9 << 30)), Some(9 << 30));
        assert_eq!(of("cuda", None), None);
    }
}
