//! Where a clip is read in time and within the frame, as far as the window and the frame size leave
//! a choice.

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::resize::Crop;
use crate::keyed::{self, Turn};

/// Identifies the random stream of an action's window. The augmentation uses the same generator,
/// with other numbers for the views and for what the views share.
const WINDOW: u64 = u64::MAX - 1;

/// Position of a window that can lie anywhere in a clip. Windows with a fixed position ignore it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// One of several evenly spaced positions; the middle if there is only one.
    Even {
        /// Index of the position, counted from 0.
        index: usize,
        /// Number of positions, at least 1.
        of: usize,
    },
    /// Drawn anew each time that an action is read. The position depends on the seed, the turn and
    /// the action's name only. All views of an action are read at the same relative position,
    /// because they show the same event.
    Drawn {
        /// Seed of the run.
        seed: u64,
        /// The epoch and the number of times that it has already read the action, as for the
        /// augmentation.
        turn: Turn,
    },
}

impl Place {
    /// The middle of the clip.
    pub const MIDDLE: Self = Self::Even { index: 0, of: 1 };
}

/// Where the clips of a pass are read in time and within the frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reading {
    /// Position of the window in the clip.
    pub place: Place,
    /// The part that is kept of a frame that is longer than the network's input along one axis.
    pub crop: Crop,
}

impl Reading {
    /// The middle of the clip and of the frame, for validation and for testing with a single
    /// window.
    pub const MIDDLE: Self = Self { place: Place::MIDDLE, crop: Crop::Middle };

    /// Returns drawn positions for a training epoch, counted from 1.
    pub const fn drawn(seed: u64, epoch: usize) -> Self {
        let turn = Turn { epoch, earlier: 0 };
        Self { place: Place::Drawn { seed, turn }, crop: Crop::Middle }
    }

    /// Returns where to read an action that the epoch has already read `earlier` times.
    pub(super) fn after(self, earlier: usize) -> Self {
        match self.place {
            Place::Drawn { seed, turn } => {
                let turn = Turn { earlier, ..turn };
                Self { place: Place::Drawn { seed, turn }, ..self }
            }
            Place::Even { .. } => self,
        }
    }
}

/// Uniform numbers in [0, 1) for the windows of one reading of an action.
pub(super) struct Draws(ChaCha8Rng);

impl Draws {
    pub(super) fn new(seed: u64, turn: Turn, action: &str) -> Self {
        Self(keyed::generator(seed, turn.time(), keyed::number_of(action), WINDOW))
    }

    pub(super) fn unit(&mut self) -> f64 {
        self.0.random()
    }
}
