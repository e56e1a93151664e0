//! Checks whether the clips of a split are long enough for the window.

use super::dataset::{Dataset, DatasetError};
use super::place::Place;
use super::video;
use super::window::Window;

impl Dataset {
    /// Refuses a window that begins after the end of every readable clip. Clips are opened but not
    /// decoded, until one is long enough, which is usually the first.
    ///
    /// # Errors
    /// [`DatasetError::BeyondClips`].
    pub(crate) fn refuse_window_beyond(&self) -> Result<(), DatasetError> {
        // Other kinds of windows begin within every clip.
        if !matches!(self.window.window, Window::Frames { .. } | Window::Seconds { .. }) {
            return Ok(());
        }
        let mut beyond = None;
        for path in self.samples.iter().flat_map(|sample| &sample.views) {
            // An unreadable clip is reported when it is read.
            let Ok(info) = video::visit_frames(path, |_| Vec::new(), |_| Ok(())) else { continue };
            let [first, _] = self.window.pick(&info, Place::MIDDLE, "").window;
            if first < info.frames {
                return Ok(());
            }
            beyond.get_or_insert((first, path, info.frames));
        }
        let Some((first, path, frames)) = beyond else { return Ok(()) };
        let (split, path) = (self.split.clone(), path.clone());
        Err(DatasetError::BeyondClips { split, first, path, frames })
    }
}
