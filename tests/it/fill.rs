//! The deterministic fill of the golden files: FNV-1a of a name, then splitmix64 per element.

use crate::reference;

/// FNV-1a, 64 bits.
fn fnv1a(name: &str) -> u64 {
    name.bytes()
        .fold(0xcbf2_9ce4_8422_2325, |h, byte| (h ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

fn raw(h: u64, i: u64) -> u64 {
    let z = h.wrapping_add((i + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
    let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// `count` numbers in [0, 1), exact in f32.
pub fn unit(name: &str, count: usize) -> Vec<f64> {
    let h = fnv1a(name);
    (0..count as u64).map(|i| (raw(h, i) >> 40) as f64 / f64::from(1u32 << 24)).collect()
}

/// `count` numbers in [-scale, scale).
pub fn signed(name: &str, count: usize, scale: f64) -> Vec<f32> {
    unit(name, count).into_iter().map(|u| ((2.0 * u - 1.0) * scale) as f32).collect()
}

/// `count` bytes: floor(256 u).
pub fn bytes(name: &str, count: usize) -> Vec<u8> {
    unit(name, count).into_iter().map(|u| (u * 256.0) as u8).collect()
}

#[test]
fn golden_fill() {
    let golden = reference::load("fill.json");
    let floats = |value: &serde_json::Value| -> Vec<f64> {
        value.as_array().unwrap().iter().map(|n| n.as_f64().unwrap()).collect()
    };
    for vector in golden["vectors"].as_array().unwrap() {
        let name = vector["name"].as_str().unwrap();
        let h = fnv1a(name);
        assert_eq!(format!("{h:016x}"), vector["fnv1a64_hex"], "{name}");
        for (i, hex) in vector["raw_hex"].as_array().unwrap().iter().enumerate() {
            assert_eq!(format!("{:016x}", raw(h, i as u64)), *hex, "{name}[{i}]");
        }
        let u = unit(name, 100_001);
        for (ours, theirs) in u.iter().zip(floats(&vector["u"])) {
            assert_eq!(*ours as f32, theirs as f32, "{name}");
        }
        assert_eq!(u[100_000] as f32, vector["u_at_100000"].as_f64().unwrap() as f32, "{name}");
        let theirs = floats(&vector["signed_scale_0.5"]);
        for (ours, theirs) in signed(name, 5, 0.5).iter().zip(theirs) {
            assert_eq!(*ours, theirs as f32, "{name}");
        }
    }
}
