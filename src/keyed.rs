//! Random numbers that depend only on their purpose: on the run's seed, the time, the action and its part,
//! not on the rest of the batch or on where they are computed.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

/// Hashes an action's name to a number (FNV-1a).
pub(crate) fn number_of(action: &str) -> u64 {
    action.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |h, byte| {
        (h ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// One of an action's readings in training, which determines the random numbers drawn for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Turn {
    /// The epoch, from 1.
    pub epoch: usize,
    /// Number of times that the epoch has read the action before: a class-balanced sampler draws some
    /// actions several times.
    pub earlier: usize,
}

impl From<usize> for Turn {
    /// Returns the first reading in an epoch.
    fn from(epoch: usize) -> Self {
        Self { epoch, earlier: 0 }
    }
}

impl Turn {
    /// Returns the `time` argument of [`generator`].
    pub(crate) fn time(self) -> u64 {
        self.epoch as u64 | (self.earlier as u64) << 32
    }
}

/// Returns the random number generator for one part of an action at one time (an epoch, a step). The four
/// numbers are concatenated to the cipher's key, so that only hashes of action names can collide.
pub(crate) fn generator(seed: u64, time: u64, action: u64, part: u64) -> ChaCha8Rng {
    let mut key = [0; 32];
    for (bytes, number) in key.chunks_exact_mut(8).zip([seed, time, action, part]) {
        bytes.copy_from_slice(&number.to_le_bytes());
    }
    ChaCha8Rng::from_seed(key)
}
