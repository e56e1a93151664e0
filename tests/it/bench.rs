//! `polyview bench` and the library behind it.

use burn::tensor::Device;
use polyview::bench::{self, BenchConfig, BenchError, Bound};
use polyview::model::{Backbone, BackboneKind, Init};
use serde_json::Value;

use crate::common::adapter;
use crate::common::program::polyview;
use crate::common::tensors::values;

const TINY: BenchConfig = BenchConfig {
    backbone: BackboneKind::R3dTiny,
    clips: 1,
    size: [4, 16, 16],
    steps: 2,
    stock: false,
    half: false,
};

#[test]
fn bench_times_steps_and_layers() {
    let mut heard = 0;
    let times = TINY.steps(&Device::flex(), || heard += 1).unwrap();
    assert_eq!((heard, times.steps_ms.len()), (4, 2));
    assert!(times.step_ms > 0.0 && times.forward_ms > 0.0 && times.clips_per_s > 0.0);
    let layers = TINY.layers(&Device::flex(), Some(100.0), true, |_| ()).unwrap();
    let count: usize = layers.iter().map(|layer| layer.count).sum();
    // The stem, two in each of four blocks, three shortcuts with a stride.
    assert_eq!(count, 1 + 4 * 2 + 3);
    for layer in &layers {
        let stock = layer.stock.as_ref().unwrap();
        for pass in 0..3 {
            let (ours, theirs) = (layer.ms[pass], stock.stock_ms[pass]);
            assert!(ours > 0.0 && theirs > 0.0, "{layer:?}");
            assert_eq!(stock.stock_over_ours[pass], theirs / ours);
            assert_eq!(layer.gflop_per_s[pass], layer.gflop / ours * 1e3);
            assert_eq!(layer.of_peak.unwrap()[pass], layer.gflop_per_s[pass] / 100.0);
        }
    }
    let small = BenchConfig { clips: 0, ..TINY };
    assert!(matches!(small.steps(&Device::flex(), || ()), Err(BenchError::TooSmall(_))));
    assert!(matches!(small.roofline(), Err(BenchError::TooSmall(_))));
}

/// Three devices on one CPU: steps on one, on two and on all of them.
#[test]
fn bench_times_several_devices() {
    let sizes = ["--clips", "1", "--frames-per-clip", "2", "--img-height", "16", "--img-width=16"];
    let args = ["bench", "--device", "cpu*3", "--backbone-name", "r3d_tiny", "--steps", "1"];
    let run = |more: &[&str]| {
        let output = polyview(&[&args, &sizes as &[&str], more].concat());
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let report: Value = serde_json::from_str(&run(&["--sync-batch-norm", "--json"])).unwrap();
    assert_eq!(report["shape"], serde_json::json!([1, 3, 2, 16, 16]));
    let times = report["times"].as_array().unwrap();
    let counts: Vec<_> = times.iter().map(|row| row["devices"].as_u64().unwrap()).collect();
    assert_eq!(counts, [1, 2, 3]);
    assert_eq!(times[0]["exchange_ms"], 0.0);
    for row in times {
        let [devices, step, exchange, rate] =
            ["devices", "step_ms", "exchange_ms", "clips_per_s"].map(|n| row[n].as_f64().unwrap());
        assert!(step > exchange && (rate * step / devices - 1e3).abs() < 1e-6, "{row}");
        let alone = times[0]["clips_per_s"].as_f64().unwrap();
        let efficiency = row["efficiency"].as_f64().unwrap();
        assert!((efficiency * alone * devices / rate - 1.0).abs() < 1e-9, "{row}");
    }
    let table = run(&["--scaling"]);
    assert!(table.starts_with("r3d_tiny on 3 × CPU"), "{table}");
    assert!(table.contains("share hardware") && table.contains("100 GbE"), "{table}");
}

#[test]
fn bench_prints_json() {
    let sizes = ["--clips", "1", "--frames-per-clip", "2", "--img_height", "16", "--img-width=16"];
    let mut args = vec!["bench", "--device", "cpu", "--backbone-name", "r3d_tiny", "--steps", "1"];
    args.extend(sizes);
    let run = |more: &[&str]| -> Value {
        let output = polyview(&[args.as_slice(), more].concat());
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    };
    let report = run(&["--layers", "--stock", "--json"]);
    assert_eq!(report["shape"], serde_json::json!([1, 3, 2, 16, 16]));
    assert_eq!((&report["backbone"], &report["stock"]), (&"r3d_tiny".into(), &true.into()));
    assert!(report["step_ms"].as_f64().unwrap() > 0.0);
    assert!(report["memory"]["estimated"].as_u64().unwrap() > 0);
    assert_eq!(report["memory"].get("in_use"), None, "the CPU's memory is not counted");
    assert!(report["layers"].as_array().unwrap().len() > 5);
    assert!(report["layers"][0].get("stock_ms").is_none());
    let report = run(&["--layers", "--against-stock", "--json"]);
    let (peak, layer) = (report["peak_gflop_per_s"].as_f64().unwrap(), &report["layers"][0]);
    let (rate, share) = (&layer["gflop_per_s"][2], &layer["of_peak"][2]);
    assert!((rate.as_f64().unwrap() / peak / share.as_f64().unwrap() - 1.0).abs() < 1e-9);
    assert!(layer["stock_ms"][2].as_f64().unwrap() > 0.0, "{layer}");
}

#[test]
fn bench_options_that_contradict_are_refused() {
    for (options, words) in [
        (&["--against-stock"] as &[&str], ""),
        (
            &["--layers", "--stock", "--against-stock"],
            "--stock: cannot be used with --against-stock\n",
        ),
        (&["--roofline", "--layers"], "--roofline: cannot be used with --layers\n"),
        (&["--step-ms", "5"], ""),
        (&["--scaling", "--step-ms", "0"], "--step-ms 0: must be a number above 0"),
        (
            &["--stock", "--precision", "f16"],
            "--precision f16: --stock times Burn's own operations",
        ),
        (&["--sync-batch-norm", "--scaling"], "--sync-batch-norm: cannot be used with --scaling\n"),
        (&["--device", "cpu", "--sync-batch-norm"], "--sync-batch-norm is for several devices"),
        (&["--device", "cpu*2", "--layers"], "--layers is for one device; --device cpu*2 names 2"),
        (&["-q", "-v"], "--quiet: cannot be used with --verbose\n"),
        (&["--steps", "0"], "--steps 0: must be a whole number between 1 and 1000000\n"),
    ] {
        let output = polyview(&[&["bench"], options].concat());
        assert_eq!(output.status.code(), Some(2), "{options:?}");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(words.is_empty() || said.starts_with(&format!("error: {words}")), "{said}");
        assert!(words.is_empty() || said.lines().count() == 1, "{said}");
    }
}

#[test]
fn bench_refuses_clips_that_memory_cannot_hold() {
    let clips = ["--clips", "4096", "--frames-per-clip", "1024"];
    for options in
        [&["--device", "cpu"] as &[&str], &["--device", "cpu", "--layers"], &["--device", "cpu*2"]]
    {
        let output = polyview(&[&["bench"], options, &clips].concat());
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{options:?}: {said}");
        let line = "error: a device is out of memory; try fewer --clips, or smaller ones\n";
        assert_eq!(said, line, "{options:?}");
    }
}

#[test]
fn bench_peak_is_plausible() {
    for device in [Some(Device::flex()), adapter::device()].into_iter().flatten() {
        let peak = bench::peak(&device).unwrap().unwrap();
        assert!(peak > 0.1 && peak.is_finite(), "{peak} GFLOP/s");
    }
}

/// The shader that measures peak throughput really executes the operations it counts.
#[test]
fn bench_peak_shader_computes_its_chains() {
    let Some(device) = adapter::device() else { return };
    // More than one workgroup, the last one partial.
    let (invocations, factor, term) = (1400, 0.97f32, 0.25f32);
    for rounds in [0, 1, 3] {
        let sums = bench::chains_on_wgpu(&device, invocations, rounds, [factor, term]).unwrap();
        for (invocation, sum) in values(sums).into_iter().enumerate() {
            let start = (invocation % 1024) as f64 / 1024.0;
            let chains = (0..12).map(|chain| {
                let turns = 0..16 * rounds;
                turns.fold(start + f64::from(chain), |c, _| c * f64::from(factor) + f64::from(term))
            });
            let want: f64 = chains.sum();
            let error = (f64::from(sum) - want).abs() / want;
            assert!(error < 1e-5, "invocation {invocation}, {rounds} rounds: {sum}, not {want}");
        }
    }
}

fn close(got: f64, want: f64) {
    assert!((got / want - 1.0).abs() < 1e-9, "{got}, not {want}");
}

/// Compares one layer and one network with a calculation by hand.
#[test]
fn bench_roofline_matches_a_calculation_by_hand() {
    let config =
        BenchConfig { backbone: BackboneKind::R2plus1d18, clips: 8, size: [16, 112, 112], ..TINY };
    let roofline = config.roofline().unwrap();
    let layer = |shape: &str| roofline.layers.iter().find(|layer| layer.shape == shape).unwrap();

    let spatial = layer("8×64×16×56×56 → 144, 1×3×3");
    assert_eq!((spatial.count, spatial.passes), (4, 3));
    // Along an axis of 56 with a padding of 1, 3·56 − 2 taps meet the input.
    let multiply_adds = (8 * 144 * 64 * 16) as f64 * 166.0 * 166.0;
    let bytes = 4.0 * (8 * 64 * 16 * 56 * 56 + 144 * 64 * 9 + 8 * 144 * 16 * 56 * 56) as f64;
    close(spatial.gflop, 3.0 * 2.0 * multiply_adds / 1e9);
    close(spatial.mb, 3.0 * bytes / 1e6);
    close(spatial.flop_per_byte, 2.0 * multiply_adds / bytes);
    close(spatial.ms[0], 3.0 * 2.0 * multiply_adds / 82.6e12 * 1e3);
    close(spatial.ms[2], 3.0 * 2.0 * multiply_adds / 14.2e12 * 1e3);
    assert_eq!(spatial.bound, [Bound::Arithmetic; 3]);

    let shortcut = layer("8×64×16×56×56 → 128, 1×1×1, stride 2×2×2");
    let bytes = 4.0 * (8 * 64 * 16 * 56 * 56 + 128 * 64 + 8 * 128 * 8 * 28 * 28) as f64;
    close(shortcut.ms[1], 3.0 * bytes / 960e9 * 1e3);
    assert_eq!(shortcut.bound, [Bound::Bandwidth; 3]);

    // The gradient of the clips is not computed.
    assert_eq!(layer("8×3×16×112×112 → 45, 1×7×7, stride 1×2×2").passes, 2);
    let passes = roofline.layers.iter().map(|layer| layer.count * layer.passes).sum::<usize>();
    assert_eq!(passes, 2 + 3 * (1 + 2 * 16 + 3));
    // Parameters of torchvision's network without its classifier; seven numbers of 4 bytes for each.
    close(roofline.optimizer.mb, 28.0 * 31_300_125.0 / 1e6);
    let parts = [&roofline.convolutions, &roofline.normalisation, &roofline.optimizer];
    close(roofline.step.ms[1], parts.iter().map(|part| part.ms[1]).sum());
    close(roofline.clips_per_s[1], 8e3 / roofline.step.ms[1]);

    // Seven numbers per value: the convolution computes the statistics, the normalisation reads x and
    // writes y; in the backward direction both passes read x and dy, and the second writes dx. If a
    // single convolution reads y, it also does the first of these passes and reads only x for that,
    // unless it has a stride, as at the start of three stages; after the stem two convolutions read y.
    // A residual adds two numbers and the mask's bits. Partial results, rows and the few convolutions
    // whose sums are split add less than 3 %.
    let read_again = [64 * 16 * 56 * 56, 230 * 16 * 28 * 28, 460 * 8 * 14 * 14, 921 * 4 * 7 * 7];
    let read_again = f64::from(8 * read_again.iter().sum::<u32>());
    let with_relu = 6.0 + read_again / roofline.normalisations[1].values as f64;
    for (work, numbers) in roofline.normalisations.iter().zip([7.0, with_relu, 9.0 + 3.0 / 32.0]) {
        let got = work.bytes_per_value / 4.0 / numbers;
        assert!((1.0..1.03).contains(&got), "{}: {}", work.form, work.bytes_per_value);
    }
    let counts = roofline.normalisations.iter().map(|work| (work.form, work.count));
    let want = [("alone", 3), ("with ReLU", 26), ("with residual, ReLU", 8)];
    assert_eq!(counts.collect::<Vec<_>>(), want);
    // At the start of a block the gradients of its two branches are added: three numbers per input.
    let stages =
        [3 * 64 * 16 * 56 * 56, 2 * 128 * 8 * 28 * 28, 2 * 256 * 4 * 14 * 14, 512 * 2 * 7 * 7];
    let inputs = 8 * stages.iter().sum::<u32>();
    let norms: f64 = roofline.normalisations.iter().map(|work| work.mb).sum();
    close(roofline.normalisation.mb, norms + 12.0 * f64::from(inputs) / 1e6);
}

/// Covers blocks of three convolutions, the shortcut of a block without stride, and max pooling.
#[test]
fn bench_roofline_knows_bottlenecks_and_pooling() {
    let config =
        BenchConfig { backbone: BackboneKind::R3d50, clips: 8, size: [16, 112, 112], ..TINY };
    let roofline = config.roofline().unwrap();
    let counts = roofline.normalisations.iter().map(|work| (work.form, work.count));
    let want = [("alone", 4), ("with ReLU", 1 + 2 * 16), ("with residual, ReLU", 16)];
    assert_eq!(counts.collect::<Vec<_>>(), want);
    close(roofline.optimizer.mb, 28.0 * 46_198_976.0 / 1e6);
    // Pooling from 16×56×56 to 16×28×28 to 8×28×28. Each step moves one number per input and two per
    // output, and as many in the backward direction.
    let [input, plane, time] =
        [16 * 56 * 56, 16 * 28 * 28, 8 * 28 * 28].map(|n| f64::from(8 * 64 * n));
    let numbers = 2.0 * (input + 2.0 * plane) + 2.0 * (plane + 2.0 * time);
    close(roofline.pooling.mb, 4.0 * numbers / 1e6);
    // In half precision the first input and the last output are converted, forward and backward.
    let half = BenchConfig { half: true, ..config }.roofline().unwrap().pooling.mb;
    close(half, (4.0 * numbers + 2.0 * 6.0 * (input + time)) / 1e6);
}

/// Half precision halves the traffic of activations and their gradients.
#[test]
fn bench_roofline_knows_half_precision() {
    let config =
        BenchConfig { backbone: BackboneKind::R2plus1d18, clips: 8, size: [16, 112, 112], ..TINY };
    let [whole, half] =
        [false, true].map(|half| BenchConfig { half, ..config.clone() }.roofline().unwrap());
    // Seven or nine numbers of two bytes each; the last stage's planes of 98 are converted.
    for (work, numbers) in half.normalisations.iter().zip([7.0, 7.0, 9.0]) {
        assert!(work.bytes_per_value < 2.0 * numbers * 1.1, "{}: {work:?}", work.form);
    }
    assert!(half.normalisation.mb < 0.55 * whole.normalisation.mb);
    assert_eq!(half.optimizer, whole.optimizer);
    for (half, whole) in half.layers.iter().zip(&whole.layers) {
        assert!(half.mb < whole.mb && half.gflop == whole.gflop, "{half:?}");
    }
}

#[test]
fn bench_roofline_needs_no_device() {
    let args = ["bench", "--roofline", "--backbone-name", "mc3_18", "--device", "absent"];
    let output = polyview(&args);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let table = String::from_utf8(output.stdout).unwrap();
    assert!(
        table.contains("RTX") && table.lines().all(|line| line.chars().count() <= 80),
        "{table}"
    );
    let output = polyview(&[args.as_slice(), &["--json"]].concat());
    let bounds: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(bounds["layers"][0]["bound"].as_array().unwrap().len(), 3);
    assert!(bounds["step"]["ms"][0].as_f64().unwrap() > 0.0);
}

/// Compares multiply-adds per clip of 16×112² with those that torchvision lists for its networks, and
/// with PyTorch's count for the others.
#[test]
fn bench_counts_pytorchs_arithmetic() {
    let device = Device::flex();
    for (kind, giga) in [
        (BackboneKind::R3d18, 40.697),
        (BackboneKind::Mc3_18, 43.343),
        (BackboneKind::R2plus1d18, 40.519),
        (BackboneKind::R2plus1d34, 76.178),
        (BackboneKind::R3d34, 12.696),
        (BackboneKind::R3d50, 10.068),
    ] {
        let net = Backbone::new(&mut Init::new(1, &device), kind);
        let shapes = net.convolutions([1, 3, 16, 112, 112]).unwrap();
        let sum: usize = shapes.iter().map(|shape| shape.multiply_adds()).sum();
        assert!((sum as f64 / 1e9 - giga).abs() < 0.02, "{kind}: {sum}");
    }
}

/// Compares the exchange and the simulated steps with a calculation by hand.
#[test]
fn bench_scaling_follows_the_model() {
    let [pcie, slow, _] = bench::LINKS;
    let near = |a: f64, b: f64| assert!((a - b).abs() < 1e-9 * b.abs().max(1e-9), "{a} {b}");
    near(bench::exchange(&pcie, 1, 1e9, 1.0), 0.0);
    // Gradients are read back and summed three times, the result is uploaded, and weights are read back
    // and uploaded. A step that takes no time hides nothing.
    let (sums, after) = (0.1 + 3.0 * 0.12, 0.1 + 2.0 * 0.1);
    near(bench::exchange(&pcie, 4, 1.2e9, 0.0), sums + after);
    let wire = 2.0 * 0.75 * 1.2e9 / 2.9e9;
    let all = 2.0 * 0.1 + wire + 0.75 * 0.12 + (2.0 + 4.0 * 3.0) * 40e-6;
    near(bench::exchange(&slow, 4, 1.2e9, 0.0), all);
    // A long step hides all but the first stages' gradients, 1.4 % of them.
    near(bench::exchange(&pcie, 4, 1.2e9, 10.0), 0.014 * sums + after);
    // The last stage's gradients are ready after 0.373 of the step; from then on the exchange never
    // pauses.
    near(bench::exchange(&pcie, 4, 1.2e9, 0.5), 0.373 * 0.5 + sums - 0.5 + after);

    let even = bench::simulate(&[100.0], 8, 1_200_000_000, &[1, 4]);
    let four = even.iter().find(|row| (row.link, row.devices) == ("25 GbE", 4)).unwrap();
    let step = 100.0 + 1e3 * bench::exchange(&slow, 4, 1.2e9, 0.1);
    near(four.step_ms, step);
    near(four.efficiency, 100.0 / step);
    near(four.clips_per_s, 32e3 / step);
    // If two step times are equally likely, many devices nearly always wait for the longer one.
    let uneven = bench::simulate(&[90.0, 110.0], 8, 0, &[64]);
    assert_eq!(uneven.len(), 2, "no machine holds 64");
    assert!((uneven[0].waiting_ms - 10.0).abs() < 0.1, "{uneven:?}");
    // One device has no exchange, whatever the link.
    assert!(even.iter().filter(|row| row.devices == 1).all(|row| row.efficiency == 1.0));
    // Bytes of all weights and biases; running statistics are not sent.
    let config = BenchConfig { backbone: BackboneKind::R3d18, ..TINY };
    assert_eq!(config.gradient_bytes(), 4 * 33_166_272);
}
