//! Host and shader give the same pixels, run after run.

use burn::tensor::{Device, Tensor};
use polyview::augment::{
    AugmentConfig, AugmentError, AugmentJob, ClipRecord, Crop, Cutout, Frames, Normalisation,
    Strength, augment, host, plan_clip, wgsl,
};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::common::augment::{BARE, Execution};
use crate::common::tensors::values;
use crate::common::{adapter, fill};

/// Draws a valid record, with wider ranges than the planner's.
fn any_record(rng: &mut ChaCha8Rng, [t, h, w]: [usize; 3], out_t: usize) -> ClipRecord {
    let mut record = ClipRecord::identity(out_t);
    for frame in &mut record.frames {
        frame.source = rng.random_range(0..t);
        frame.dropped = rng.random_bool(0.1);
        if rng.random_bool(0.3) {
            (frame.partner, frame.mix) = (rng.random_range(0..out_t), rng.random());
        }
    }
    if rng.random_bool(0.6) {
        let side = |rng: &mut ChaCha8Rng, side: usize| {
            let length = rng.random_range(1.0..=side as f32);
            (rng.random_range(0.0..=1.0_f32) * (side as f32 - length), length)
        };
        let ((top, height), (left, width)) = (side(rng, h), side(rng, w));
        record.crop = Some(Crop { top, left, height, width });
    }
    if rng.random_bool(0.5) {
        record.rotation = rng.random_range(-180.0..180.0);
    }
    record.flip = rng.random();
    if rng.random_bool(0.3) {
        let [top, left, height, width] = [(); 4].map(|()| rng.random_range(0.0..0.5));
        record.cutout = Some(Cutout { top, left, height, width, fill: rng.random() });
    }
    if rng.random_bool(0.7) {
        record.brightness = rng.random_range(0.0..2.0);
        record.contrast = rng.random_range(0.0..2.0);
    }
    if rng.random_bool(0.5) {
        (record.noise_std, record.noise_key) = (rng.random_range(0.0..0.3), rng.random());
    }
    record
}

fn largest_difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    // NaN must not hide behind `max`.
    assert!(a.iter().chain(b).all(|v| v.is_finite()));
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

fn run_on(device: &Device, job: &AugmentJob) -> Vec<f32> {
    values(wgsl::execute(job, device).unwrap().unwrap())
}

#[test]
fn two_hundred_random_records_agree() {
    let Some(device) = adapter::device() else { return };
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    let norm = Normalisation::default();
    let (mut done, mut worst) = (0, 0.0_f32);
    let odd = [[1, 1, 1], [1, 3, 5], [3, 1, 7], [2, 13, 1], [5, 33, 17]];
    while done < 200 {
        let size @ [t, h, w] = match done {
            0..15 => odd[done / 3],
            _ => [rng.random_range(1..7), rng.random_range(1..40), rng.random_range(1..40)],
        };
        let out = match rng.random_range(0..3) {
            0 => [h, w],
            1 => [rng.random_range(1..40), rng.random_range(1..40)],
            _ => [rng.random_range(1..4), rng.random_range(1..9)],
        };
        let out_t = if rng.random() { t } else { rng.random_range(1..7) };
        let records: Vec<_> = (0..3).map(|_| any_record(&mut rng, size, out_t)).collect();
        let bytes = fill::bytes(&format!("agree {done}"), 3 * t * h * w * 3);
        let reals: Vec<f32> = bytes.iter().map(|b| f32::from(*b) / 255.0).collect();
        let frames = if rng.random() { Frames::U8(&bytes) } else { Frames::F32(&reals) };
        let job = AugmentJob::new(frames, size, &records, out, &norm).unwrap();
        let error = largest_difference(&host::execute(&job), &run_on(&device, &job));
        assert!(error < 1e-4, "{size:?} to {out:?}: {error:.2e}: {records:#?}");
        worst = worst.max(error);
        done += records.len();
    }
    println!("host against shader, {done} records: worst difference {worst:.2e}");
}

/// Compares the planner's records at training size, where coordinates are largest.
#[test]
fn planned_records_agree_at_full_size() {
    let Some(device) = adapter::device() else { return };
    let size @ [t, h, w] = [2, 224, 398];
    let config =
        AugmentConfig { augmentation_strength: Strength::Extreme, ..AugmentConfig::default() };
    let records: Vec<_> =
        (0..6).map(|view| plan_clip(&config, 1, 2, "a", view, size, 0.0)).collect();
    assert!(records.iter().any(|r| r.rotation != 0.0) && records.iter().any(|r| r.crop.is_some()));
    let bytes = fill::bytes("full size", records.len() * t * h * w * 3);
    let norm = Normalisation::default();
    for out in [[h, w], [160, 288]] {
        let job = AugmentJob::new(Frames::U8(&bytes), size, &records, out, &norm).unwrap();
        let error = largest_difference(&host::execute(&job), &run_on(&device, &job));
        println!("host against shader at full size to {out:?}: worst difference {error:.2e}");
        assert!(error < 1e-4, "{error:.2e}");
    }
}

#[test]
fn a_run_repeats_and_another_epoch_differs() {
    let size @ [t, h, w] = [4, 9, 11];
    let bytes = fill::bytes("repeat", 2 * t * h * w * 3);
    let config = AugmentConfig::default();
    for execution in Execution::all() {
        let run = |epoch| {
            let plan = |view| {
                let mut record = plan_clip(&config, 42, epoch, "17", view, size, 0.0);
                // There is always noise, so that its key is tested too.
                record.noise_std = 0.05;
                record
            };
            let records = [plan(0), plan(1)];
            let norm = Normalisation::default();
            let job = AugmentJob::new(Frames::U8(&bytes), size, &records, [h, w], &norm).unwrap();
            execution.run(&job).unwrap()
        };
        assert_eq!(run(1), run(1), "{}", execution.name);
        assert_ne!(run(1), run(2), "{}", execution.name);
    }
}

#[test]
fn noise_depends_only_on_its_key_and_has_the_requested_deviation() {
    let size = [2, 32, 32];
    let gray = vec![0.5; 2 * 32 * 32 * 3];
    for execution in Execution::all() {
        let run = |noise_key: u64| {
            let records = [ClipRecord { noise_std: 0.05, noise_key, ..ClipRecord::identity(2) }];
            let job = AugmentJob::new(Frames::F32(&gray), size, &records, [32, 32], &BARE).unwrap();
            execution.run(&job).unwrap()
        };
        let one = run(1);
        for other in [2, 1 << 32, u64::MAX] {
            let same = one.iter().zip(run(other)).filter(|(a, b)| **a == *b).count();
            assert!(same < one.len() / 50, "{}: {same} values are alike", execution.name);
        }
        let count = one.len() as f32;
        let mean = one.iter().sum::<f32>() / count;
        let std = (one.iter().map(|v| (v - mean).powi(2)).sum::<f32>() / count).sqrt();
        assert!((mean - 0.5).abs() < 0.003 && (std - 0.05).abs() < 0.002, "{mean} {std}");
        // Neither neighbours nor channels are correlated.
        for lag in [1, 32, 1024, 2048] {
            let pairs = one.iter().zip(&one[lag..]).map(|(a, b)| (a - mean) * (b - mean));
            let correlation = pairs.sum::<f32>() / (count * std * std);
            assert!(correlation.abs() < 0.05, "lag {lag}: {correlation}");
        }
    }
}

/// More frames than a dispatch has workgroups in one dimension.
#[test]
fn seventy_thousand_frames_are_all_written() {
    let Some(device) = adapter::device() else { return };
    let mut record = ClipRecord::identity(70_000);
    record.frames.iter_mut().enumerate().for_each(|(t, frame)| frame.source = t % 3);
    let bytes = fill::bytes("long", 3 * 3);
    let records = [record];
    let norm = Normalisation::default();
    let job = AugmentJob::new(Frames::U8(&bytes), [3, 1, 1], &records, [1, 1], &norm).unwrap();
    assert!(largest_difference(&host::execute(&job), &run_on(&device, &job)) < 1e-5);
}

#[test]
fn clips_beyond_the_largest_buffer_are_refused() {
    let Some(device) = adapter::device() else { return };
    let records = vec![ClipRecord::identity(1); 40];
    let norm = Normalisation::default();
    let frames = Frames::U8(&[7; 40 * 3]);
    let error = augment(frames, [1, 1, 1], &records, [8000, 8000], &norm, &device).unwrap_err();
    let AugmentError::TooLarge { need, limit } = error else { panic!("{error}") };
    assert!(need == 30_720_000_000 && limit < need, "{need} {limit}");
}

#[test]
fn the_result_is_differentiable_if_its_device_is() {
    let records = [ClipRecord::identity(1)];
    let norm = Normalisation::default();
    let devices = [Some(Device::flex()), adapter::device()];
    for device in devices.into_iter().flatten() {
        let run = |device: &Device| {
            augment(Frames::U8(&[1, 2, 3]), [1, 1, 1], &records, [1, 1], &norm, device).unwrap()
        };
        assert!(!run(&device).device().is_autodiff());
        for device in [device.clone().autodiff(), device.autodiff().gradient_checkpointing()] {
            let clip = run(&device);
            assert!(clip.device().is_autodiff());
            // A weight created on the same device can be combined with the clip.
            let weight = Tensor::<5>::ones([1, 3, 1, 1, 1], &device).require_grad();
            let sum = (clip.clone() * weight.clone()).sum();
            let grads = sum.backward();
            let grad = weight.grad(&grads).unwrap();
            assert_eq!(values(grad), values(clip));
        }
    }
}
