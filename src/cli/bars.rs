//! Progress bars on stderr, and the lines above them.

use std::io::{self, IsTerminal, Write};
use std::sync::{Arc, Mutex, PoisonError};

use indicatif::{MultiProgress, ProgressBar, WeakProgressBar};

/// All bars; clones share them.
#[derive(Clone)]
pub(super) struct Bars {
    all: MultiProgress,
    shown: bool,
    /// Those that may still be drawn.
    open: Arc<Mutex<Vec<WeakProgressBar>>>,
}

impl Bars {
    pub(super) fn new() -> Self {
        let all = MultiProgress::new();
        // They are hidden on a terminal that cannot move its cursor (TERM=dumb), and lines printed
        // above them with them.
        let shown = io::stderr().is_terminal() && !all.is_hidden();
        Self { all, shown, open: Arc::default() }
    }

    /// Whether bars are drawn at all.
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

    /// Writes text that ends with a line's end, above the bars. A terminal that is gone, a closed pipe or a
    /// full disk does not end a run, so nothing fails here. (`MultiProgress::suspend` would panic.)
    pub(super) fn print(&self, text: &str) {
        let _ = match self.shown && self.any_is_open() {
            true => self.all.println(text.trim_end_matches('\n')),
            // Above bars a line is filled with spaces and has no end, and would run together with the
            // next one where a window is made wider or the text is copied.
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
