//! How much a device gets at once where nobody knows how fast it is, or how much it holds.
//!
//! Systems end work of a device that also draws the screen, or that takes seconds: Windows resets it after
//! 2 s, and macOS breaks off a command buffer, which wgpu does not report.

use super::DeviceInfo;

/// Launches of a submission at most on devices that may be slow, instead of Burn's 32: those reach
/// seconds with 32 convolutions.
const LAUNCHES: usize = 4;
/// Operations of a launch at most on such a device: what 0.2 TFLOP/s, which integrated GPUs reach, compute
/// in a second.
const OPERATIONS: u64 = 200_000_000_000;
/// Bytes that count as free on a GPU that does not tell. It may not fail with more than it holds, but
/// take main memory instead, and be slow.
const ASSUMED: u64 = 4_000_000_000;

/// Whether a device of this kind behind this API may be slow: every GPU but discrete ones, and on macOS
/// those as well. Nobody breaks off what a software rasteriser computes.
fn may_be_slow(kind: &str, api: &str) -> bool {
    api == "metal" || matches!(kind, "integrated" | "virtual" | "other")
}

/// Launches of a submission at most, where that is fewer than Burn's.
pub(super) fn tasks_max(kind: &str, api: &str) -> Option<usize> {
    may_be_slow(kind, api).then_some(LAUNCHES)
}

impl DeviceInfo {
    /// Floating-point operations of a launch at most, so that the system does not end it; `None` for
    /// devices of which none is known to take so long.
    pub fn launch_operations(&self) -> Option<u64> {
        may_be_slow(&self.kind, &self.api).then_some(OPERATIONS)
    }

    /// The bytes to plan with: the free ones or, where a GPU does not tell, a few. CUDA does not tell
    /// either, but fails with more than there are, so that fewer clips can be tried.
    pub fn planned_bytes(&self) -> Option<u64> {
        self.free_bytes.or((self.api != "cuda").then_some(ASSUMED))
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
    fn a_gpu_that_does_not_tell_its_memory_counts_as_small() {
        let cpu = crate::device::open("cpu").unwrap().info;
        let of = |api: &str, free_bytes| {
            DeviceInfo { api: api.to_owned(), free_bytes, ..cpu.clone() }.planned_bytes()
        };
        assert_eq!(of("dx12", None), Some(ASSUMED));
        assert_eq!(of("dx12", Some(9 << 30)), Some(9 << 30));
        assert_eq!(of("cuda", None), None);
    }
}
