//! Signals that end a training run.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::EXIT_INTERRUPTED;

/// Returns a flag that is raised by Ctrl-C and the system's other requests to end: SIGTERM, SIGHUP (a
/// closed terminal), SIGUSR1 and SIGUSR2 (job schedulers' warnings), Windows' close event. A second
/// Ctrl-C ends the program at once.
///
/// Only Ctrl-C counts twice: schedulers send SIGTERM after their warning, and a closed terminal's
/// SIGHUP comes from the kernel and once more from the shell.
pub(super) fn stop_flag() -> Arc<AtomicBool> {
    let stop = Arc::new(AtomicBool::new(false));
    system::raise(&stop);
    stop
}

#[cfg(unix)]
mod system {
    use std::io::{self, Read};
    use std::os::unix::net::UnixStream;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::time::{Duration, Instant};

    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2};
    use signal_hook::{flag, low_level};

    /// Time within which several interrupts count as one key press: a wrapper (`uv run`, `srun`,
    /// `sudo`) passes on a Ctrl-C that the terminal has already sent to the whole process group, and
    /// nobody presses a key twice that fast.
    const ONE_PRESS: Duration = Duration::from_millis(100);

    pub(super) fn raise(stop: &Arc<AtomicBool>) {
        for signal in [SIGTERM, SIGHUP, SIGUSR1, SIGUSR2] {
            // Ignored under `nohup`.
            if signal == SIGHUP && is_ignored(SIGHUP) {
                continue;
            }
            if let Err(error) = flag::register(signal, Arc::clone(stop)) {
                log::warn!("signal {signal} will end the run without a checkpoint: {error}");
            }
        }
        if let Err(error) = on_interrupt(Arc::clone(stop)) {
            log::warn!("Ctrl-C will end the run without a checkpoint: {error}");
        }
    }

    /// Returns whether the signal was ignored when the program was started.
    #[allow(unsafe_code, reason = "the standard library has no such query")]
    fn is_ignored(signal: i32) -> bool {
        /// `SIG_IGN` and `SIG_ERR` on every Unix.
        const IGNORED: usize = 1;
        const FAILED: usize = usize::MAX;
        unsafe extern "C" {
            #[link_name = "signal"]
            fn set_handler(signal: i32, handler: usize) -> usize;
        }
        // SAFETY: no handler that could run is set, and the previous one is restored.
        unsafe {
            let before = set_handler(signal, IGNORED);
            if before != FAILED {
                set_handler(signal, before);
            }
            before == IGNORED
        }
    }

    /// Raises `stop` at the first Ctrl-C and ends the program at the second.
    fn on_interrupt(stop: Arc<AtomicBool>) -> io::Result<()> {
        let (mut interrupts, sender) = UnixStream::pair()?;
        low_level::pipe::register(SIGINT, sender)?;
        let wait = move || {
            let mut first: Option<Instant> = None;
            // The other end is never closed.
            while interrupts.read_exact(&mut [0]).is_ok() {
                stop.store(true, Ordering::Relaxed);
                if first.get_or_insert_with(Instant::now).elapsed() > ONE_PRESS {
                    // Skips the clean-up of graphics drivers, which may hang.
                    low_level::exit(i32::from(super::EXIT_INTERRUPTED));
                }
            }
        };
        std::thread::Builder::new().name("ctrl-c".to_owned()).spawn(wait).map(drop)
    }
}

#[cfg(not(unix))]
mod system {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    pub(super) fn raise(stop: &Arc<AtomicBool>) {
        let raised = Arc::clone(stop);
        let handler = ctrlc::set_handler(move || {
            if raised.swap(true, Ordering::Relaxed) {
                std::process::exit(i32::from(super::EXIT_INTERRUPTED));
            }
        });
        if let Err(error) = handler {
            log::warn!("Ctrl-C will end the run without a checkpoint: {error}");
        }
        #[cfg(windows)]
        close::raise(stop);
    }

    /// Handles a closed window, a log-off and a shutdown. Windows ends a program as soon as its handler
    /// returns, or after about 5 seconds, so the handler waits for the run to end.
    #[cfg(windows)]
    #[allow(unsafe_code, reason = "the handlers of libraries do not wait")]
    mod close {
        use std::sync::atomic::{AtomicBool, Ordering};
        use std::sync::{Arc, OnceLock};

        const CLOSE: u32 = 2;
        const LOGOFF: u32 = 5;
        const SHUTDOWN: u32 = 6;

        static STOP: OnceLock<Arc<AtomicBool>> = OnceLock::new();

        #[link(name = "kernel32")]
        unsafe extern "system" {
            #[link_name = "SetConsoleCtrlHandler"]
            fn set_handler(handler: extern "system" fn(u32) -> i32, add: i32) -> i32;
        }

        extern "system" fn handle(event: u32) -> i32 {
            if !matches!(event, CLOSE | LOGOFF | SHUTDOWN) {
                // Left to the handler of Ctrl-C.
                return 0;
            }
            if let Some(stop) = STOP.get() {
                stop.store(true, Ordering::Relaxed);
            }
            loop {
                std::thread::park();
            }
        }

        pub(super) fn raise(stop: &Arc<AtomicBool>) {
            // A second run of this process keeps the first one's flag; programs have one run.
            let _ = STOP.set(Arc::clone(stop));
            // SAFETY: the handler lives as long as the program and only uses atomics. It is called
            // before those registered earlier.
            if unsafe { set_handler(handle, 1) } == 0 {
                let error = std::io::Error::last_os_error();
                log::warn!("a closed window will end the run without a checkpoint: {error}");
            }
        }
    }
}
