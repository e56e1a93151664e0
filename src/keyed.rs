//! Random numbers that depend on what they are for alone: on the run's seed, the time, the action and
//! its part, whatever else a batch holds and wherever it is computed.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

/// An action's name as a number (FNV-1a).
pub(crate) fn number_of(action: &str) -> u64 {
    action.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |h, byte| {
        (h ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// A reading of an action in training: what is drawn for it depends on when it is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Turn {
    /// The epoch, from 1.
    pub epoch: usize,
    /// How often the epoch has read the action before: a sampler that balances classes draws some several
    /// times.
    pub earlier: usize,
}

impl From<usize> for Turn {
    /// The first in an epoch.
    fn from(epoch: usize) -> Self {
        Self { epoch, earlier: 0 }
    }
}

impl Turn {
    /// The time of [`generator`].
    pub(crate) fn time(self) -> u64 {
        self.epoch as u64 | (self.earlier as u64) << 32
    }
}

/// The random numbers of one part of an action at one time (an epoch, a step). The four numbers side
/// by side are the cipher's key, so nothing collides but action names.
pub(crate) fn generator(seed: u64, time: u64, action: u64, part: u64) -> ChaCha8Rng {
    let mut key = [0; 32];
    for (place, number) in key.chunks_exact_mut(8).zip([seed, time, action, part]) {
        place.copy_from_slice(&number.to_le_bytes());
    }
    ChaCha8Rng::from_seed(key)
}
