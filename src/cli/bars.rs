//! Progress bars on stderr, and the lines above them.

use std::io::{self, IsTerminal, Write};
use std::sync::{Arc, Mutex, PoisonError};

use indicatif::{MultiProgress, ProgressBar, WeakProgressBar};

/// The program's progress bars, shared by all clones.
#[derive(Clone)]
pub(super) struct Bars {
    all: MultiProgress,
    shown: bool,
    /// Bars that may still be unfinished.
    open: Arc<Mutex<Vec<WeakProgressBar>>>,
}

impl Bars {
    pub(super) fn new() -> Self {
        let all = MultiProgress::new();
        // On a terminal that cannot move its cursor (TERM=dumb), indicatif hides the bars, and with
        // them the lines printed above them.
        let shown = io::stderr().is_terminal() && !all.is_hidden();
        Self { all, shown, open: Arc::default() }
    }

    /// Returns whether bars are drawn at all.
    pub(super) fn are_shown(&self) -> bool {
        self.shown
    }

    /// Adds a bar below the others.
    pub(super) fn add(&self, bar: ProgressBar) -> ProgressBar {
        let bar = self.all.add(bar);
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.push(bar.downgrade());
        bar
    }

    /// Writes text that ends with a newline above the bars. A lost terminal, a closed pipe or a full
    /// disk must not end a run, so errors are ignored. (`MultiProgress::suspend` would panic.)
    pub(super) fn print(&self, text: &str) {
        let _ = match self.shown && self.any_is_open() {
            true => self.all.println(text.trim_end_matches('\n')),
            // Not through the bars: lines printed above them are padded with spaces and have no
            // newline, so they run together when the window is widened or the text is copied.
            false => io::stderr().write_all(text.as_bytes()),
        };
    }

    fn any_is_open(&self) -> bool {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|bar| bar.upgrade().is_some_and(|bar| !bar.is_finished()));
        !open.is_empty()
    }
}

impl Write for Bars {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        self.print(&String::from_utf8_lossy(text));
        Ok(text.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
