//! Memory sizes of devices.

use sysinfo::{
    CGroupLimits, MemoryRefreshKind, ProcessRefreshKind, ProcessesToUpdate, RefreshKind, System,
};

/// A device's memory, bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Memory {
    /// Total size.
    pub total: u64,
    /// Currently free; the total size if unknown.
    pub free: u64,
}

/// Returns the machine's main memory or, inside a container or a control group (Slurm, systemd),
/// the memory within its limit.
pub(crate) fn main_memory() -> Memory {
    let kinds = RefreshKind::nothing().with_memory(MemoryRefreshKind::nothing().with_ram());
    let mut system = System::new_with_specifics(kinds);
    let total = system.total_memory();
    let free = if cfg!(target_os = "macos") {
        // There, sysinfo's "available" includes pages that other programs have in use.
        total.saturating_sub(system.used_memory())
    } else {
        system.available_memory()
    };
    let machine = Memory { total, free };
    // A container sees its own control group as the root; Slurm jobs see theirs below it.
    let own = sysinfo::get_current_pid().ok().and_then(|pid| {
        let (this, nothing) = (ProcessesToUpdate::Some(&[pid]), ProcessRefreshKind::nothing());
        system.refresh_processes_specifics(this, false, nothing);
        system.process(pid)?.cgroup_limits()
    });
    own.into_iter().chain(system.cgroup_limits()).fold(machine, within)
}

/// Returns the memory within the limit of a control group. The group's own figure for free memory
/// counts cached files as used, although they can be evicted: after a pass over a data set, little
/// would seem to be left.
fn within(memory: Memory, group: CGroupLimits) -> Memory {
    if group.total_memory >= memory.total {
        return memory;
    }
    let free = group.total_memory.saturating_sub(group.rss);
    Memory { total: group.total_memory, free: memory.free.min(free) }
}

/// Returns the memory that an adapter computes in. Adapters that share main memory get its free
/// part; `None` for a card whose memory is unknown.
pub(super) fn of_adapter(adapter: &wgpu::Adapter) -> Option<Memory> {
    use wgpu::DeviceType::{Cpu, IntegratedGpu};
    let kind = adapter.get_info().device_type;
    let total = vulkan_heaps(adapter).and_then(|heaps| usable(&heaps, kind == IntegratedGpu));
    let own = total.map(|total| Memory { total, free: total });
    if !matches!(kind, Cpu | IntegratedGpu) {
        return own;
    }
    let main = main_memory();
    let own = own.unwrap_or(main);
    Some(Memory { total: own.total.min(main.total), free: own.free.min(main.free) })
}

/// A part of the memory that a Vulkan adapter allocates from.
#[derive(Debug, Clone, Copy)]
struct Heap {
    size: u64,
    device_local: bool,
}

/// Returns how much memory an adapter can compute in. For a card, that is its largest device-local
/// heap; for an integrated GPU, all heaps together: the device-local one may be the little that the
/// firmware sets aside (256 MB on some of AMD's), while the GPU allocates from main memory as well.
fn usable(heaps: &[Heap], integrated: bool) -> Option<u64> {
    let sizes = heaps.iter().filter(|heap| integrated || heap.device_local).map(|heap| heap.size);
    if integrated { sizes.reduce(u64::saturating_add) } else { sizes.max() }
}

/// Returns the heaps of an adapter. wgpu does not expose them; Vulkan does.
#[cfg(any(target_os = "linux", target_os = "android", windows))]
#[allow(unsafe_code, reason = "this query has no safe form")]
fn vulkan_heaps(adapter: &wgpu::Adapter) -> Option<Vec<Heap>> {
    /// VK_MEMORY_HEAP_DEVICE_LOCAL_BIT
    const DEVICE_LOCAL: u32 = 1;
    // SAFETY: only properties of the handle are queried, while the adapter is alive.
    let properties = unsafe {
        let adapter = adapter.as_hal::<wgpu::hal::api::Vulkan>()?;
        let instance = adapter.shared_instance().raw_instance();
        instance.get_physical_device_memory_properties(adapter.raw_physical_device())
    };
    let heaps = properties.memory_heaps.iter().take(properties.memory_heap_count as usize);
    let heaps = heaps.map(|heap| {
        let device_local = heap.flags.as_raw() & DEVICE_LOCAL != 0;
        Heap { size: heap.size, device_local }
    });
    Some(heaps.collect())
}

#[cfg(not(any(target_os = "linux", target_os = "android", windows)))]
fn vulkan_heaps(_: &wgpu::Adapter) -> Option<Vec<Heap>> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_integrated_gpu_has_more_than_what_is_set_aside_for_it() {
        let heap = |size: u64, device_local| Heap { size: size << 20, device_local };
        let heaps = [heap(256, true), heap(7800, false), heap(256, true)];
        assert_eq!(usable(&heaps, true), Some(8312 << 20));
        assert_eq!(usable(&heaps, false), Some(256 << 20));
        assert_eq!(usable(&[], true), None);
    }

    #[test]
    fn cached_files_of_a_control_group_are_free() {
        let machine = Memory { total: 64 << 30, free: 60 << 30 };
        let group = |total, free, rss| CGroupLimits {
            total_memory: total,
            free_memory: free,
            free_swap: 0,
            rss,
        };
        // Everything but 1 GB is cached files.
        let limited = within(machine, group(8 << 30, 0, 1 << 30));
        assert_eq!(limited, Memory { total: 8 << 30, free: 7 << 30 });
        // The machine itself may have less.
        let busy = Memory { free: 2 << 30, ..machine };
        assert_eq!(within(busy, group(8 << 30, 0, 1 << 30)).free, 2 << 30);
        // A group without a limit changes nothing.
        assert_eq!(within(machine, group(64 << 30, 1 << 30, 1 << 30)), machine);
        assert_eq!(within(machine, group(8 << 30, 8 << 30, 9 << 30)).free, 0);
    }
}
