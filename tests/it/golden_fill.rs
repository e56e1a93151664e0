//! The fill of the golden files against its own test vectors.

use serde_json::Value;

use crate::common::fill::{fnv1a, raw, signed, unit};
use crate::common::reference::{self, entries, field, floats32, list, text};

#[test]
fn golden_fill() {
    let golden = reference::load("fill.json");
    for vector in entries(&golden, "vectors") {
        let name = text(vector, "name");
        let h = fnv1a(name.as_bytes());
        assert_eq!(format!("{h:016x}"), text(vector, "fnv1a64_hex"), "{name}");
        for (i, hex) in entries(vector, "raw_hex").iter().enumerate() {
            assert_eq!(format!("{:016x}", raw(h, i as u64)), *hex, "{name}[{i}]");
        }
        let same = |ours: &[f32], theirs: &Value| {
            let theirs = floats32(theirs);
            assert!(!theirs.is_empty() && ours == theirs, "{name}: {ours:?} {theirs:?}");
        };
        let units = |count| unit(name, count).into_iter().map(|u| u as f32).collect::<Vec<_>>();
        let first = field(vector, "u");
        same(&units(list(first).len()), first);
        // The other keys contain their parameters: signed_scale_0.5, u_at_100000.
        let (mut scales, mut positions) = (0, 0);
        for (key, theirs) in vector.as_object().unwrap() {
            if let Some(scale) = key.strip_prefix("signed_scale_") {
                scales += 1;
                same(&signed(name, list(theirs).len(), scale.parse().unwrap()), theirs);
            } else if let Some(position) = key.strip_prefix("u_at_") {
                positions += 1;
                let position: usize = position.parse().unwrap();
                same(&units(position + 1)[position..], theirs);
            }
        }
        assert!(scales > 0 && positions > 0, "{name}");
    }
}
