//! `polyview bench` and the library behind it.

use burn::tensor::Device;
use polyview::bench::{BenchConfig, BenchError};
use polyview::model::{Backbone, BackboneKind, Init};
use serde_json::Value;

use crate::program::polyview;

#[test]
fn bench_times_steps_and_layers() {
    let config = BenchConfig {
        backbone: BackboneKind::R3dTiny,
        clips: 1,
        size: [4, 16, 16],
        steps: 2,
        stock: false,
    };
    let mut heard = 0;
    let times = config.steps(&Device::flex(), || heard += 1).unwrap();
    assert_eq!((heard, times.steps_ms.len()), (4, 2));
    assert!(times.step_ms > 0.0 && times.forward_ms > 0.0 && times.clips_per_s > 0.0);
    let layers = config.layers(&Device::flex(), |_| ()).unwrap();
    let count: usize = layers.iter().map(|layer| layer.count).sum();
    // Stem, two in each of four blocks, three ways round a stride.
    assert_eq!(count, 1 + 4 * 2 + 3);
    assert!(layers.iter().flat_map(|layer| layer.ms).all(|ms| ms > 0.0));
    let small = BenchConfig { clips: 0, ..config };
    assert!(matches!(small.steps(&Device::flex(), || ()), Err(BenchError::TooSmall(_))));
}

#[test]
fn bench_prints_json() {
    let sizes = ["--clips", "1", "--frames-per-clip", "2", "--img_height", "16", "--img-width=16"];
    let mut args = vec!["bench", "--device", "cpu", "--backbone-name", "r3d_tiny", "--steps", "1"];
    args.extend(sizes);
    args.extend(["--layers", "--stock", "--json"]);
    let output = polyview(&args);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["shape"], serde_json::json!([1, 3, 2, 16, 16]));
    assert_eq!((&report["backbone"], &report["stock"]), (&"r3d_tiny".into(), &true.into()));
    assert!(report["step_ms"].as_f64().unwrap() > 0.0);
    assert!(report["layers"].as_array().unwrap().len() > 5);
}

/// The multiply-adds that torchvision lists for the networks, per clip of 16×112².
#[test]
fn bench_counts_torchvisions_arithmetic() {
    let device = Device::flex();
    for (kind, giga) in [
        (BackboneKind::R3d18, 40.697),
        (BackboneKind::Mc3_18, 43.343),
        (BackboneKind::R2plus1d18, 40.519),
    ] {
        let net = Backbone::new(&mut Init::new(1, &device), kind);
        let shapes = net.convolutions([1, 3, 16, 112, 112]).unwrap();
        let sum: usize = shapes.iter().map(|shape| shape.multiply_adds()).sum();
        assert!((sum as f64 / 1e9 - giga).abs() < 0.02, "{kind}: {sum}");
    }
}
