//! What a target must not do: panic in our own code, take more than a gigabyte, start a program.

use std::alloc::{GlobalAlloc, Layout, System};
use std::backtrace::Backtrace;
use std::collections::BTreeSet;
use std::io::Write;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};

/// The most that may be allocated at once, and in one piece.
const MOST: usize = 1 << 30;

/// Counts what is allocated. libFuzzer has a limit of its own, but only with a sanitizer.
struct Counting;

/// The report of too large an allocation allocates too.
static REPORTING: AtomicBool = AtomicBool::new(false);
static LIVE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(64 << 20);

impl Counting {
    fn add(size: usize) {
        let live = LIVE.fetch_add(size, Relaxed) + size;
        if live > MOST && !REPORTING.swap(true, Relaxed) {
            let place = Backtrace::force_capture();
            eprintln!("an allocation of {size} bytes makes {live} in all\n{place}");
            std::process::abort();
        }
        let peak = PEAK.load(Relaxed);
        if live > peak + peak / 8 {
            PEAK.store(live, Relaxed);
            let _ = std::io::stderr().write_fmt(format_args!("memory: {} MB\n", live >> 20));
        }
    }
}

// SAFETY: hands every request to the system's allocator as it came.
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

/// To be called once, before the first input. A panic in another crate is what the reader catches,
/// so it is only named, each place once; `POLYVIEW_FUZZ_STRICT=1` makes it a finding too.
pub fn guard() {
    let strict = std::env::var_os("POLYVIEW_FUZZ_STRICT").is_some();
    // SAFETY: nothing else runs yet. Without a PATH the C library would take one of its own.
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
