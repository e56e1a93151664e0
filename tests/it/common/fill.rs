//! The deterministic fill of the golden files: FNV-1a of a name, then splitmix64 per element.

/// Returns the 64-bit FNV-1a hash.
pub fn fnv1a(bytes: &[u8]) -> u64 {
    let step = |h: u64, byte: &u8| (h ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, step)
}

/// Returns element `i` of the stream of hash `h`.
pub fn raw(h: u64, i: u64) -> u64 {
    let z = h.wrapping_add((i + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
    let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// Returns `count` numbers in [0, 1), exact in f32.
pub fn unit(name: &str, count: usize) -> Vec<f64> {
    let h = fnv1a(name.as_bytes());
    (0..count as u64).map(|i| (raw(h, i) >> 40) as f64 / f64::from(1u32 << 24)).collect()
}

/// Returns `count` numbers in [-scale, scale).
pub fn signed(name: &str, count: usize, scale: f64) -> Vec<f32> {
    unit(name, count).into_iter().map(|u| ((2.0 * u - 1.0) * scale) as f32).collect()
}

/// Returns `count` bytes: floor(256 u).
pub fn bytes(name: &str, count: usize) -> Vec<u8> {
    unit(name, count).into_iter().map(|u| (u * 256.0) as u8).collect()
}
