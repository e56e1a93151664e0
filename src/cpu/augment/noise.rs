//! Counter-based noise: integer arithmetic determines every bit, so that all devices agree.

/// Standard deviation of the sum of four independent bytes, √(4·(256² − 1)/12) = √21845.
const BYTE_SUM_STD: f32 = 147.800_54;

/// The finaliser of MurmurHash3 (32 bits): a bijection whose output bits each depend on all input
/// bits.
#[inline]
fn mix(mut h: u32) -> u32 {
    h ^= h >> 16;
    h = h.wrapping_mul(0x85eb_ca6b);
    h ^= h >> 13;
    h = h.wrapping_mul(0xc2b2_ae35);
    h ^ (h >> 16)
}

/// The noise of one clip.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Noise {
    /// Low and high halves of the clip's key.
    pub key: [u32; 2],
    /// Noise per unit of the byte sum.
    pub scale: f32,
}

impl Noise {
    /// Creates the noise for `key` with this standard deviation.
    pub fn new(key: u64, std: f32) -> Self {
        Self { key: [key as u32, (key >> 32) as u32], scale: std / BYTE_SUM_STD }
    }

    /// Returns the noise of element `index` of the output clip `[3, T, H', W']`: (b₀ + b₁ + b₂ + b₃
    /// − 510)·scale, where b₀ to b₃ are the bytes of the hash of index and key. The sum of four
    /// uniform numbers (Irwin–Hall, n = 4) approximates a Gaussian: mean 0, the requested
    /// deviation, tails that end at 3.45 σ, excess kurtosis −0.3. Its resolution is 1/148 of σ, far
    /// below a grey level.
    #[inline]
    pub fn at(&self, index: u32) -> f32 {
        let hash = mix(mix(index ^ self.key[0]).wrapping_add(self.key[1]));
        let pairs = (hash & 0x00ff_00ff) + ((hash >> 8) & 0x00ff_00ff);
        let sum = (pairs & 0xffff) + (pairs >> 16);
        (sum as i32 - 510) as f32 * self.scale
    }
}
