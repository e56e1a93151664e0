//! Whether the clips of a split are long enough for the window.

use super::dataset::{Dataset, DatasetError};
use super::place::Place;
use super::video;
use super::window::Window;

impl Dataset {
    /// Refuses a window that begins after the end of every clip that can be read. Clips are opened, not
    /// decoded, until one is long enough, which is usually the first.
    ///
    /// # Errors
    /// [`DatasetError::BeyondClips`].
    pub(crate) fn refuse_window_beyond(&self) -> Result<(), DatasetError> {
        // The other kinds of windows lie within each clip.
        if !matches!(self.window.window, Window::Frames { .. } | Window::Seconds { .. }) {
            return Ok(());
        }
        let mut beyond = None;
        for path in self.samples.iter().flat_map(|sample| &sample.views) {
            // What cannot be read is reported where it is read.
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
