//! The fill of the golden files against its own test vectors.

use crate::common::fill::{fnv1a, raw, signed, unit};
use crate::common::reference::{self, floats};

#[test]
fn golden_fill() {
    let golden = reference::load("fill.json");
    for vector in golden["vectors"].as_array().unwrap() {
        let name = vector["name"].as_str().unwrap();
        let h = fnv1a(name.as_bytes());
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
