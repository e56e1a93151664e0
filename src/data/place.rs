//! Where a clip is read, in time and in the frame, where window and frame size leave a choice.

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::resize::Crop;
use crate::keyed::{self, Turn};

/// A number for the windows of an action, beside those of its views and of what they share in the
/// augmentation, which draws from the same source.
const WINDOW: u64 = u64::MAX - 1;

/// Where a window that may lie anywhere in a clip is placed. Others ignore it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// The place `index` of `of` evenly spread ones; the middle if there is one.
    Even {
        /// Which of them, from 0.
        index: usize,
        /// How many there are, at least 1.
        of: usize,
    },
    /// Drawn anew each time that an action is read, from seed, turn and the action's name alone. All views
    /// of an action are read at the same relative place, for they show the same event.
    Drawn {
        /// Seed of the run.
        seed: u64,
        /// The epoch and how often it has read the action, as in the augmentation.
        turn: Turn,
    },
}

impl Place {
    /// The middle of the clip.
    pub const MIDDLE: Self = Self::Even { index: 0, of: 1 };
}

/// Where the clips of a pass are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reading {
    /// Where the window lies.
    pub place: Place,
    /// Which part of a frame is kept that is longer than the network's input.
    pub crop: Crop,
}

impl Reading {
    /// The middle of the clip and of the frame: validation, and testing with one clip.
    pub const MIDDLE: Self = Self { place: Place::MIDDLE, crop: Crop::Middle };

    /// A training epoch, counted from 1.
    pub const fn drawn(seed: u64, epoch: usize) -> Self {
        let turn = Turn { epoch, earlier: 0 };
        Self { place: Place::Drawn { seed, turn }, crop: Crop::Middle }
    }

    /// The same of an action that its epoch has read so often before.
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
