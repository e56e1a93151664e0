//! Signals that end a training run.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::EXIT_INTERRUPTED;

/// A flag that is raised by Ctrl-C and the system's other requests to end: SIGTERM, SIGHUP (a closed
/// terminal), SIGUSR1 and SIGUSR2 (job schedulers' warning), Windows' close event. A second Ctrl-C
/// ends the program at once.
pub(super) fn stop_flag() -> Arc<AtomicBool> {
    let stop = Arc::new(AtomicBool::new(false));
    let raised = Arc::clone(&stop);
    let handler = ctrlc::set_handler(move || {
        if raised.swap(true, Ordering::Relaxed) {
            std::process::exit(i32::from(EXIT_INTERRUPTED));
        }
    });
    if let Err(error) = handler {
        log::warn!("Ctrl-C will end the run without a checkpoint: {error}");
    }
    #[cfg(unix)]
    for signal in [signal_hook::consts::SIGUSR1, signal_hook::consts::SIGUSR2] {
        if let Err(error) = signal_hook::flag::register(signal, Arc::clone(&stop)) {
            log::warn!("signal {signal} will end the run without a checkpoint: {error}");
        }
    }
    stop
}
