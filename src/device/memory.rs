//! Memory sizes of devices.

use sysinfo::{MemoryRefreshKind, ProcessRefreshKind, ProcessesToUpdate, RefreshKind, System};

/// A device's memory, bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Memory {
    /// Total.
    pub total: u64,
    /// Free at the moment; all of it where that is unknown.
    pub free: u64,
}

/// The machine's main memory; inside a container or a control group (Slurm, systemd), its limit.
pub(crate) fn main_memory() -> Memory {
    let kinds = RefreshKind::nothing().with_memory(MemoryRefreshKind::nothing().with_ram());
    let mut system = System::new_with_specifics(kinds);
    let total = system.total_memory();
    let free = if cfg!(target_os = "macos") {
        // sysinfo's "available" includes pages there that other programs have in use.
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
    let groups = own.into_iter().chain(system.cgroup_limits());
    groups.fold(machine, |memory, group| Memory {
        total: memory.total.min(group.total_memory),
        free: memory.free.min(group.free_memory),
    })
}

/// The memory that an adapter computes in. Adapters that share main memory get what is free of it;
/// `None` for a card whose memory is unknown.
pub(super) fn of_adapter(adapter: &wgpu::Adapter) -> Option<Memory> {
    use wgpu::DeviceType::{Cpu, IntegratedGpu};
    let own = vulkan_heap(adapter).map(|total| Memory { total, free: total });
    if !matches!(adapter.get_info().device_type, Cpu | IntegratedGpu) {
        return own;
    }
    let main = main_memory();
    let own = own.unwrap_or(main);
    Some(Memory { total: own.total.min(main.total), free: own.free.min(main.free) })
}

/// Size of the largest device-local heap. wgpu does not expose it; Vulkan does.
#[cfg(any(target_os = "linux", target_os = "android", windows))]
#[allow(unsafe_code, reason = "this query has no safe form")]
fn vulkan_heap(adapter: &wgpu::Adapter) -> Option<u64> {
    /// VK_MEMORY_HEAP_DEVICE_LOCAL_BIT
    const DEVICE_LOCAL: u32 = 1;
    // SAFETY: the handle is only asked for its properties, while the adapter is alive.
    let properties = unsafe {
        let adapter = adapter.as_hal::<wgpu::hal::api::Vulkan>()?;
        let instance = adapter.shared_instance().raw_instance();
        instance.get_physical_device_memory_properties(adapter.raw_physical_device())
    };
    let heaps = properties.memory_heaps.iter().take(properties.memory_heap_count as usize);
    heaps.filter(|heap| heap.flags.as_raw() & DEVICE_LOCAL != 0).map(|heap| heap.size).max()
}

#[cfg(not(any(target_os = "linux", target_os = "android", windows)))]
fn vulkan_heap(_: &wgpu::Adapter) -> Option<u64> {
    None
}
