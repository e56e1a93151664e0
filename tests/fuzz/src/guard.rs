//! Aborts a target that panics in polyview's own code or allocates more than a gigabyte, and keeps
//! it from starting programs.

use std::alloc::{GlobalAlloc, Layout, System};
use std::backtrace::Backtrace;
use std::collections::BTreeSet;
use std::io::Write;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};

/// Maximum number of bytes allocated at any time, and so in any one allocation.
const LIMIT: usize = 1 << 30;

/// Allocator that counts the allocated bytes. libFuzzer has its own limit, but only with a
/// sanitizer.
struct Counting;

/// Whether an excessive allocation is being reported, which allocates too.
static REPORTING: AtomicBool = AtomicBool::new(false);
static LIVE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(64 << 20);

impl Counting {
    fn add(size: usize) {
        let live = LIVE.fetch_add(size, Relaxed) + size;
        if live > LIMIT && !REPORTING.swap(true, Relaxed) {
            let place = Backtrace::force_capture();
            eprintln!("an allocation of {size} bytes brings the total to {live}\n{place}");
            std::process::abort();
        }
        let peak = PEAK.load(Relaxed);
        if live > peak + peak / 8 {
            PEAK.store(live, Relaxed);
            let _ = std::io::stderr().write_fmt(format_args!("memory: {} MB\n", live >> 20));
        }
    }
}

// SAFETY: passes every request on to the system allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        Self::add(layout.size());
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        Self::add(layout.size());
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        Self::add(size);
        LIVE.fetch_sub(layout.size(), Relaxed);
        unsafe { System.realloc(at, layout, size) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Relaxed);
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Installs the guards. Call it once, before the first input. The clip reader catches panics of
/// other crates, so they are only printed, once per location; `POLYVIEW_FUZZ_STRICT=1` makes them
/// findings too.
pub fn guard() {
    let strict = std::env::var_os("POLYVIEW_FUZZ_STRICT").is_some();
    // SAFETY: no other thread runs yet. Without a PATH the C library would use its default.
    unsafe { std::env::set_var("PATH", "/nonexistent") };
    let named = Mutex::new(BTreeSet::new());
    std::panic::set_hook(Box::new(move |panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        let foreign = place.contains("/registry/src/");
        let first = named.lock().is_ok_and(|mut named| named.insert(place));
        if strict || !foreign || first {
            eprintln!("{panic}");
        }
        if strict || !foreign {
            std::process::abort();
        }
    }));
}
