//! `--tune`: kernels are tried once, and the fastest are remembered and used.

use std::fs;

use burn::tensor::{Device, Distribution, Tensor};
use polyview::bench::BenchConfig;
use polyview::conv::{ConvPass, ConvShape, conv3d};
use polyview::kernels::with_stock;
use polyview::model::{Backbone, BackboneKind, Init, StageSet};
use polyview::tuning::{TuningPass, jobs, tune};
use serde_json::Value;
use tempfile::TempDir;

use crate::common::adapter;
use crate::common::data::small_set;
use crate::common::program::{polyview_with, text, train};
use crate::common::tensors::values;

const SHAPE: ConvShape = ConvShape {
    batch: 2,
    in_channels: 23,
    out_channels: 37,
    input: [3, 11, 13],
    kernel: [3, 3, 3],
    stride: [1, 2, 2],
    padding: [1; 3],
};

const JOBS: [TuningPass; 3] = [
    (ConvPass::Forward, SHAPE),
    (ConvPass::InputGradient, SHAPE),
    (ConvPass::WeightGradient, SHAPE),
];

/// Returns y, dx and dw of this many clips, after a comparison with the stock kernels.
fn results(clips: usize, device: &Device) -> [Vec<f32>; 3] {
    let shape = ConvShape { batch: clips, ..SHAPE };
    let draw = |size: [usize; 5]| {
        Tensor::<5>::random(size, Distribution::Uniform(-1.0, 1.0), &Device::flex()).into_data()
    };
    let [x, w] = [draw(shape.x()), draw(shape.w())]
        .map(|data| Tensor::<5>::from_data(data, &device.clone().autodiff()).require_grad());
    let dy = Tensor::<5>::from_data(draw(shape.y()), &device.clone().autodiff());
    let run = || {
        let y = conv3d(x.clone(), w.clone(), shape.stride, shape.padding);
        let grads = y.clone().mul(dy.clone()).sum().backward();
        [y.inner(), x.grad(&grads).unwrap(), w.grad(&grads).unwrap()].map(values)
    };
    let (ours, stock) = (run(), with_stock(run));
    for (ours, stock) in ours.iter().zip(&stock) {
        let largest = stock.iter().fold(0.0f32, |max, value| max.max(value.abs()));
        assert!(ours.iter().zip(stock).all(|(a, b)| (a - b).abs() <= 1e-4 * largest));
    }
    ours
}

#[test]
fn tuning_is_remembered_and_keeps_the_results() {
    let Some(compute) = adapter::own_device() else { return };
    let folder = TempDir::new().unwrap();
    let run_in = |jobs: &[TuningPass], half: bool| {
        let mut heard = 0;
        let go_on = || {
            heard += 1;
            true
        };
        let tuned = tune(&compute, jobs, half, Some(folder.path()), go_on).unwrap().unwrap();
        assert_eq!(heard, jobs.len());
        tuned
    };
    let run = |jobs: &[TuningPass]| run_in(jobs, false);
    let first = run(&JOBS[..1]);
    assert_eq!((first.tried, first.remembered), (1, 0));
    let all = run(&JOBS);
    assert_eq!((all.tried, all.remembered), (2, 1));
    assert!(all.gain >= 1.0 && all.changed <= 3, "{all}");
    let again = run(&JOBS);
    assert_eq!((again.tried, again.remembered, again.changed), (0, 3, all.changed));
    assert!((again.gain - all.gain).abs() < 1e-9 && again.file == all.file, "{again}");
    // In half precision other variants may be the fastest.
    assert_eq!((run_in(&JOBS, true).tried, run_in(&JOBS, true).remembered), (3, 3));
    results(2, &compute.device);
    results(5, &compute.device);

    // A run that is stopped tries no further variants.
    let other = JOBS.map(|(pass, shape)| (pass, ConvShape { batch: 3, ..shape }));
    let stopped = tune(&compute, &other, false, Some(folder.path()), || false).unwrap().unwrap();
    assert_eq!(stopped.tried, 1);

    // Damaged: everything is tried again, and the file is rewritten.
    let file = all.file.unwrap();
    let whole = fs::read(&file).unwrap();
    fs::write(&file, &whole[..whole.len() / 2]).unwrap();
    assert_eq!(run(&JOBS).tried, 3);
    assert_eq!(run(&JOBS).remembered, 3);

    // An entry with a kernel that the device cannot run is not used.
    let mut contents: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    for entry in contents["entries"].as_array_mut().unwrap() {
        let way = entry["choice"].as_object_mut().unwrap().values_mut().next().unwrap();
        way["tile"]["tm"] = 7.into();
    }
    fs::write(&file, contents.to_string()).unwrap();
    assert_eq!(run(&JOBS).tried, 3);

    // A folder that cannot be written only causes a warning.
    let blocked = folder.path().join("file");
    fs::write(&blocked, "").unwrap();
    let tuned = tune(&compute, &JOBS[..1], false, Some(&blocked), || true).unwrap().unwrap();
    assert_eq!((tuned.tried, tuned.file), (1, None));
}

#[test]
fn tuning_covers_the_passes_that_training_runs() {
    let net = Backbone::new(&mut Init::new(1, &Device::flex()), BackboneKind::R3dTiny);
    let of = |trainable| jobs(&net, [2, 3, 4, 32, 32], trainable).unwrap();
    let count = |jobs: &[TuningPass], pass| jobs.iter().filter(|job| job.0 == pass).count();
    let frozen = of(StageSet::NONE);
    assert!(frozen.iter().all(|job| job.0 == ConvPass::Forward));
    let last = of(StageSet::last(1));
    let all = of(StageSet::ALL);
    assert_eq!(frozen.len(), count(&all, ConvPass::Forward));
    // The stem has no input gradient.
    assert_eq!(count(&all, ConvPass::WeightGradient), frozen.len());
    assert_eq!(count(&all, ConvPass::InputGradient), frozen.len() - 1);
    assert!(count(&last, ConvPass::WeightGradient) < frozen.len() && last.len() > frozen.len());
    assert!(jobs(&net, [0, 3, 4, 32, 32], StageSet::ALL).is_none());
    let config = BenchConfig {
        backbone: BackboneKind::R3dTiny,
        clips: 2,
        size: [4, 32, 32],
        steps: 1,
        stock: false,
        half: false,
    };
    assert_eq!(config.jobs().unwrap(), all);
}

#[test]
fn program_tunes_once() {
    let Some(device) = adapter::name() else { return };
    let folder = TempDir::new().unwrap();
    let data = folder.path().join("data");
    small_set(&data);
    let cache = [("XDG_CACHE_HOME", folder.path().to_str().unwrap())];
    let run = |device: &str| {
        let options = ["--tune", "--test-run", "--test-batches", "1", "--device", device];
        let output =
            train(&data, &folder.path().join("run"), &options).envs(cache).output().unwrap();
        let words = text(&output.stderr);
        assert!(output.status.success(), "{words}");
        words.lines().find(|line| line.starts_with("tuning:")).unwrap().to_owned()
    };
    assert!(run("cpu").contains("no kernels to choose from"));
    // On other systems the cache is in the user's own folder, whatever the variable says.
    if !cfg!(target_os = "linux") {
        return;
    }
    let first = run(device);
    assert!(first.contains(" 0 known from earlier runs"), "{first}");
    let second = run(device);
    assert!(second.starts_with("tuning: 0 passes timed"), "{second}");
    let sizes = ["--clips", "1", "--frames-per-clip", "2", "--img-height", "16", "--img-width=16"];
    let options = ["bench", "--tune", "--json", "--backbone-name", "r3d_tiny", "--steps", "1"];
    let args = [&options as &[&str], &sizes, &["--device", device]].concat();
    let output = polyview_with(&args, &cache);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(report["tuned"]["gain"].as_f64().unwrap() >= 1.0, "{report}");
}
