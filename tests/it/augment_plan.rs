//! The records that the planner draws, and inputs that are refused.

use burn::tensor::Device;
use polyview::augment::{
    AugmentConfig, AugmentError, AugmentJob, ClipRecord, Crop, Frames, Normalisation, RecordError,
    Strength, host, plain, plan_clip, rarity,
};

use crate::common::augment::Execution;
use crate::common::fill;
use crate::common::tensors::values;

fn of(augmentation_strength: Strength) -> AugmentConfig {
    AugmentConfig { augmentation_strength, ..AugmentConfig::default() }
}

fn plan(config: &AugmentConfig, epoch: usize, view: usize, size: [usize; 3]) -> ClipRecord {
    plan_clip(config, 42, epoch, "action 3", view, size, 0.0)
}

/// Computes plain normalisation directly: `[N, T, H, W, 3]` bytes to `[N, 3, T, H, W]`.
fn normalised(bytes: &[u8], n: usize, norm: &Normalisation) -> Vec<f32> {
    let pixels = bytes.len() / n / 3;
    let mut out = Vec::new();
    for clip in bytes.chunks(3 * pixels) {
        for c in 0..3 {
            let value = |p: usize| f32::from(clip[3 * p + c]) / 255.0;
            out.extend((0..pixels).map(|p| (value(p) - norm.mean[c]) / norm.std[c]));
        }
    }
    out
}

#[test]
fn the_identity_is_plain_normalisation() {
    let norm = Normalisation::default();
    for size @ [t, h, w] in [[1, 1, 1], [1, 3, 5], [3, 7, 9], [2, 33, 70]] {
        let bytes = fill::bytes("identity", 2 * t * h * w * 3);
        let expected = normalised(&bytes, 2, &norm);
        let close = |ours: &[f32]| {
            let pairs = ours.iter().zip(&expected);
            ours.len() == expected.len() && pairs.clone().all(|(a, b)| (a - b).abs() < 2e-6)
        };
        let records = [ClipRecord::identity(t), ClipRecord::identity(t)];
        let job = AugmentJob::new(Frames::U8(&bytes), size, &records, [h, w], &norm).unwrap();
        for execution in Execution::all() {
            assert!(close(&execution.run(&job).unwrap()), "{} {size:?}", execution.name);
        }
        let device = Device::flex();
        let tensor = plain(Frames::U8(&bytes), 2, size, [h, w], &norm, &device).unwrap();
        assert!(close(&values(tensor)), "{size:?}");
    }
}

/// The host's table-driven rows give the same pixels as its general rows.
#[test]
fn the_fast_path_equals_the_general_path() {
    let size @ [t, h, w] = [3, 8, 10];
    let bytes = fill::bytes("fast", t * h * w * 3);
    let reals: Vec<f32> = bytes.iter().map(|b| f32::from(*b) / 255.0).collect();
    let norm = Normalisation::default();
    for (flip, out) in [(false, [8, 10]), (true, [8, 10]), (true, [5, 6])] {
        let mut record = ClipRecord { flip, brightness: 1.2, contrast: 0.8, ..of_frames(t) };
        // A crop as large as the output is read pixel by pixel.
        record.crop = Some(Crop {
            top: (h - out[0]) as f32,
            left: 1.0_f32.min((w - out[1]) as f32),
            height: out[0] as f32,
            width: out[1] as f32,
        });
        let records = [record];
        let run =
            |frames| host::execute(&AugmentJob::new(frames, size, &records, out, &norm).unwrap());
        let (fast, general) = (run(Frames::U8(&bytes)), run(Frames::F32(&reals)));
        assert!(fast.iter().zip(&general).all(|(a, b)| (a - b).abs() < 2e-6), "{flip} {out:?}");
    }
}

fn of_frames(t: usize) -> ClipRecord {
    let mut record = ClipRecord::identity(t);
    record.frames[t - 1].dropped = true;
    record.cutout = Some(polyview::augment::Cutout {
        top: 0.2,
        left: 0.5,
        height: 0.4,
        width: 0.5,
        fill: 0.25,
    });
    record
}

#[test]
fn ten_thousand_records_are_valid_and_finite() {
    let sizes = [[1, 1, 1], [1, 3, 5], [2, 1, 9], [4, 6, 8], [3, 11, 5]];
    let norm = Normalisation::default();
    let (low, high) = ((0.0 - 0.5) / 0.2, (1.0 - 0.3) / 0.2);
    for i in 0..10_000 {
        let config = AugmentConfig {
            augmentation_strength: Strength::ALL[i % 5],
            severity_aware_augmentation: i % 2 == 0,
            // Every third time, the extreme values that are allowed.
            dropout_prob: if i % 3 == 0 { 1.0 } else { 0.2 },
            spatial_crop_strength: if i % 3 == 0 { 1e-9 } else { 0.7 },
            color_aug_strength: if i % 3 == 0 { 1.0 } else { 0.3 },
            noise_strength: if i % 3 == 0 { 1.0 } else { 0.06 },
            temporal_jitter_strength: if i % 3 == 0 { 64 } else { 3 },
            ..AugmentConfig::default()
        };
        config.validate().unwrap();
        let size @ [t, h, w] = sizes[i % 7 % 5];
        let rarity = (i % 11) as f32 / 10.0;
        let record = plan_clip(&config, 7, i, "any", i % 4, size, rarity);
        record.check(size).unwrap_or_else(|error| panic!("{error}: {record:#?}"));
        assert_eq!(record.frames.len(), t);
        assert!(record.frames.iter().any(|f| !f.dropped), "all frames are dropped");
        let bytes = fill::bytes("any", t * h * w * 3);
        let records = [record];
        for out in [[h, w], [h + 2, 1]] {
            let job = AugmentJob::new(Frames::U8(&bytes), size, &records, out, &norm).unwrap();
            let values = host::execute(&job);
            assert!(values.iter().all(|v| (low..high).contains(v)), "{:#?}", records[0]);
        }
    }
}

#[test]
fn a_plan_depends_on_its_key_alone() {
    let (config, size) = (of(Strength::Extreme), [16, 40, 60]);
    let base = plan_clip(&config, 1, 2, "a", 3, size, 0.0);
    assert_eq!(base, plan_clip(&config, 1, 2, "a", 3, size, 0.0));
    for other in [
        plan_clip(&config, 9, 2, "a", 3, size, 0.0),
        plan_clip(&config, 1, 9, "a", 3, size, 0.0),
        plan_clip(&config, 1, 2, "b", 3, size, 0.0),
        plan_clip(&config, 1, 2, "a", 9, size, 0.0),
    ] {
        assert_ne!(base.noise_key, other.noise_key);
        assert_ne!(base, other);
    }
}

#[test]
fn views_of_an_action_share_the_flip_and_nothing_else() {
    let (config, size) = (of(Strength::Aggressive), [16, 40, 60]);
    let mut flips = 0;
    for epoch in 0..400 {
        let views: Vec<_> = (0..4).map(|view| plan(&config, epoch, view, size)).collect();
        assert!(views.iter().all(|v| v.flip == views[0].flip), "epoch {epoch}");
        assert!(views.iter().any(|v| v.crop != views[0].crop || v.frames != views[0].frames));
        flips += usize::from(views[0].flip);
    }
    assert!((150..250).contains(&flips), "{flips} of 400 actions are flipped");
}

/// Checks the shares and ranges of the documentation's table, for the default options.
#[test]
fn the_default_draws_what_the_table_says() {
    let (config, size) = (AugmentConfig::default(), [16, 100, 200]);
    let records: Vec<_> = (0..4000).map(|epoch| plan(&config, epoch, 0, size)).collect();
    let share = |hit: fn(&ClipRecord) -> bool| {
        records.iter().filter(|r| hit(r)).count() as f64 / records.len() as f64
    };
    let near = |found: f64, wanted: f64| assert!((found - wanted).abs() < 0.03, "{found} {wanted}");
    near(share(|r| r.crop.is_some()), 0.8);
    near(share(|r| r.rotation != 0.0), 0.5);
    near(share(|r| r.flip), 0.5);
    near(share(|r| r.cutout.is_some()), 0.3);
    near(share(|r| r.brightness != 1.0), 0.8);
    near(share(|r| r.contrast != 1.0), 0.8);
    near(share(|r| r.noise_std != 0.0), 0.5);
    near(share(|r| r.frames.iter().any(|f| f.mix != 0.0)), 0.2);
    near(share(|r| r.frames[0].source > r.frames[15].source), 0.1);
    let dropped = records.iter().flat_map(|r| &r.frames).filter(|f| f.dropped).count();
    near(dropped as f64 / (16.0 * records.len() as f64), 0.2);

    let mut smallest = 1.0_f32;
    for record in &records {
        if let Some(crop) = record.crop {
            let scale = crop.height / 100.0;
            assert!((0.7..1.0).contains(&scale) && (crop.width / 200.0 - scale).abs() < 1e-5);
            smallest = smallest.min(scale);
        }
        assert!(record.rotation.abs() <= 8.0);
        assert!((0.7..1.3).contains(&record.brightness) && (0.7..1.3).contains(&record.contrast));
        assert!(record.noise_std <= 0.06);
        // Shift and warp (an eighth of 16 frames at either end) together move no frame further.
        let off = |t: usize| record.frames[t].source.abs_diff(t);
        if record.frames[0].source < record.frames[15].source {
            assert!((0..16).all(|t| off(t) <= 3 + 2), "{:?}", record.frames);
        }
    }
    assert!(smallest < 0.72, "{smallest}");
}

#[test]
fn rand_augment_gives_each_clip_the_requested_number_of_stages() {
    let size = [16, 100, 200];
    let config = |count| AugmentConfig {
        rand_augment: Some(count),
        // Where the stage is chosen, all frames are dropped but the one that is always kept.
        dropout_prob: 1.0,
        ..AugmentConfig::default()
    };
    let stages = |r: &ClipRecord| {
        [
            r.crop.is_some(),
            r.rotation != 0.0,
            r.cutout.is_some(),
            r.brightness != 1.0,
            r.contrast != 1.0,
            r.noise_std != 0.0,
            r.frames.iter().any(|f| f.mix != 0.0),
            r.frames.iter().any(|f| f.dropped),
            r.frames.iter().enumerate().any(|(t, f)| f.source != t),
        ]
    };
    let clips = 3000;
    for count in [1, 2, 5, 11] {
        let mut of_each = [0; 9];
        for epoch in 0..clips {
            let record = plan(&config(count), epoch, 0, size);
            let stages = stages(&record);
            let hit = stages.iter().filter(|hit| **hit).count();
            // Three stages move frames in time, and a shift or a warp may have no effect.
            assert!(hit <= count && hit + 3 >= count, "{hit} of {count}: {record:?}");
            of_each.iter_mut().zip(stages).for_each(|(sum, hit)| *sum += usize::from(hit));
        }
        for (stage, hits) in of_each[..8].iter().enumerate() {
            let (share, wanted) = (*hits as f64 / clips as f64, count as f64 / 11.0);
            assert!((share - wanted).abs() < 0.03, "stage {stage}: {share} of {count}");
        }
    }
    // Stages are chosen per clip, and the choice does not change the values that are drawn.
    let (all, usual) = (plan(&config(11), 3, 1, size), plan(&AugmentConfig::default(), 3, 1, size));
    assert!(all.noise_key == usual.noise_key && all.flip == usual.flip);
    let of = |view| stages(&plan(&config(3), 0, view, size));
    assert!((1..20).any(|view| of(view) != of(0)));
}

#[test]
fn flips_and_reversals_can_be_left_out() {
    let size = [9, 40, 60];
    let of = |flip_prob, reversal_prob, rand_augment| AugmentConfig {
        flip_prob,
        reversal_prob,
        rand_augment,
        ..of(Strength::Extreme)
    };
    let backwards = |record: &ClipRecord| record.frames[0].source > record.frames[8].source;
    let counted = |config: &AugmentConfig| {
        let records: Vec<ClipRecord> = (0..400).map(|epoch| plan(config, epoch, 0, size)).collect();
        [records.iter().filter(|r| r.flip).count(), records.iter().filter(|r| backwards(r)).count()]
    };
    let [flips, reversals] = counted(&of(0.5, 0.1, None));
    assert!((160..240).contains(&flips) && (30..90).contains(&reversals), "{flips} {reversals}");
    assert_eq!(counted(&of(0.0, 0.0, None)), [0, 0]);
    // Likewise with --rand-augment, which chooses stages whatever their probabilities.
    assert_eq!(counted(&of(0.0, 0.0, Some(11))), [0, 0]);
    assert_eq!(counted(&of(0.5, 0.1, Some(11)))[1], 400);
    // The other draws do not change.
    let (with, without) =
        (plan(&of(0.5, 0.1, None), 3, 1, size), plan(&of(0.0, 0.1, None), 3, 1, size));
    assert_eq!(ClipRecord { flip: false, ..with }, without);
}

#[test]
fn none_is_the_identity_and_rarity_strengthens() {
    let size = [8, 20, 30];
    for epoch in 0..50 {
        assert_eq!(plan(&of(Strength::None), epoch, 0, size), ClipRecord::identity(8));
    }
    let turned = |severity_aware_augmentation, rarity| {
        let config = AugmentConfig { severity_aware_augmentation, ..of(Strength::Mild) };
        (0..2000)
            .map(|epoch| plan_clip(&config, 5, epoch, "a", 0, size, rarity).rotation.abs())
            .fold(0.0, f32::max)
    };
    assert_eq!(turned(false, 1.0), turned(false, 0.0));
    assert_eq!(turned(true, 0.0), turned(false, 0.0));
    assert!(turned(true, 1.0) > turned(true, 0.0) * 1.4);
    assert_eq!(turned(true, f32::NAN), turned(false, 0.0));
    assert_eq!([rarity(10, 10), rarity(0, 10), rarity(5, 10), rarity(0, 0)], [0.0, 1.0, 0.5, 1.0]);
}

#[test]
fn an_option_does_not_change_the_draws_of_others() {
    let size = [8, 20, 30];
    let loud = AugmentConfig { noise_strength: 0.5, ..AugmentConfig::default() };
    for epoch in 0..20 {
        let mut a = plan(&AugmentConfig::default(), epoch, 0, size);
        let mut b = plan(&loud, epoch, 0, size);
        (a.noise_std, b.noise_std) = (0.0, 0.0);
        assert_eq!(a, b);
    }
}

#[test]
fn bad_options_are_refused_by_name() {
    let base = AugmentConfig::default();
    base.validate().unwrap();
    let cases = [
        (AugmentConfig { dropout_prob: 1.5, ..base.clone() }, "dropout-prob 1.5: "),
        (AugmentConfig { dropout_prob: f64::NAN, ..base.clone() }, "dropout-prob NaN: "),
        (AugmentConfig { spatial_crop_strength: 0.0, ..base.clone() }, "spatial-crop-strength 0"),
        (AugmentConfig { spatial_crop_strength: 1.1, ..base.clone() }, "spatial-crop-strength 1"),
        (AugmentConfig { color_aug_strength: -0.1, ..base.clone() }, "color-aug-strength -0.1: "),
        (AugmentConfig { noise_strength: 2.0, ..base.clone() }, "noise-strength 2: "),
        (
            AugmentConfig { temporal_jitter_strength: 65, ..base.clone() },
            "temporal-jitter-strength 65: ",
        ),
    ];
    for (config, start) in cases {
        let message = config.validate().unwrap_err().to_string();
        assert!(message.starts_with(start) && !message.contains('\n'), "{message}");
    }
    let message = "strong".parse::<Strength>().unwrap_err();
    assert!(message.contains("must be one of") && message.contains("moderate"), "{message}");
    for strength in Strength::ALL {
        assert_eq!(strength.to_string().parse::<Strength>().unwrap(), *strength);
    }
    let text = "augmentation-strength = \"mild\"\ndropout-prob = 0.1\n";
    let config: AugmentConfig = toml::from_str(text).unwrap();
    assert_eq!(config, AugmentConfig { dropout_prob: 0.1, ..of(Strength::Mild) });
    assert!(toml::from_str::<AugmentConfig>("dropout = 0.1\n").is_err());
}

#[test]
fn records_that_would_read_outside_are_refused() {
    let size = [2, 4, 6];
    let refused = |change: &dyn Fn(&mut ClipRecord)| {
        let mut record = ClipRecord::identity(2);
        change(&mut record);
        record.check(size).unwrap_err()
    };
    let crop = |top, left, height, width| Some(Crop { top, left, height, width });
    assert_eq!(ClipRecord::identity(0).check(size), Err(RecordError::NoFrames));
    assert!(matches!(refused(&|r| r.frames[1].source = 2), RecordError::Source { frame: 1, .. }));
    assert!(matches!(refused(&|r| r.frames[0].partner = 2), RecordError::Partner { .. }));
    for bad in [
        crop(0.0, 0.0, 0.5, 6.0),
        crop(0.0, 0.0, 4.0, 6.5),
        crop(1.0, 0.0, 4.0, 6.0),
        crop(-1.0, 0.0, 2.0, 2.0),
        crop(f32::NAN, 0.0, 2.0, 2.0),
        crop(0.0, 0.0, f32::INFINITY, 2.0),
    ] {
        assert!(matches!(refused(&|r| r.crop = bad), RecordError::Crop { .. }), "{bad:?}");
    }
    for (name, change) in [
        ("mix", (|r| r.frames[0].mix = 1.5) as fn(&mut ClipRecord)),
        ("rotation", |r| r.rotation = f32::NAN),
        ("brightness", |r| r.brightness = -1.0),
        ("contrast", |r| r.contrast = f32::INFINITY),
        ("noise_std", |r| r.noise_std = f32::NAN),
    ] {
        let message = refused(&change).to_string();
        assert!(message.starts_with(name), "{message}");
    }
}

#[test]
fn batches_that_do_not_fit_their_records_are_refused() {
    let norm = Normalisation::default();
    let bytes = vec![0; 2 * 3 * 3];
    let one = [ClipRecord::identity(2)];
    let job = |frames: &[u8], size, records: &[ClipRecord], out, norm: &Normalisation| {
        AugmentJob::new(Frames::U8(frames), size, records, out, norm).map(|_| ()).unwrap_err()
    };
    type E = AugmentError;
    let size = [2, 1, 3];
    assert!(matches!(job(&bytes, size, &[], [1, 3], &norm), E::Empty { .. }));
    assert!(matches!(job(&bytes, size, &one, [0, 3], &norm), E::Empty { .. }));
    assert!(matches!(job(&bytes[1..], size, &one, [1, 3], &norm), E::Length { found: 17, .. }));
    let two = [one[0].clone(), ClipRecord::identity(1)];
    assert!(matches!(
        job(&bytes.repeat(2), size, &two, [1, 3], &norm),
        E::Frames { clip: 1, expected: 2, found: 1 }
    ));
    let mut bad = one.clone();
    bad[0].frames[0].source = 9;
    assert!(matches!(job(&bytes, size, &bad, [1, 3], &norm), E::Record { clip: 0, .. }));
    let flat = Normalisation { std: [1.0, 0.0, 1.0], ..norm };
    assert!(matches!(job(&bytes, size, &one, [1, 3], &flat), E::Normalisation(_)));
    let huge = [60_000, 60_000];
    assert!(matches!(job(&bytes, size, &one, huge, &norm), E::TooLarge { .. }));
    assert!(matches!(job(&bytes, size, &one, [1, 8193], &norm), E::Side { side: 8193, .. }));
}

#[test]
fn a_record_is_described_in_words() {
    assert_eq!(ClipRecord::identity(4).describe(), "unchanged");
    let mut record = ClipRecord {
        flip: true,
        rotation: -3.25,
        brightness: 1.2,
        noise_std: 0.031,
        crop: Some(Crop { top: 2.0, left: 4.0, height: 80.0, width: 120.0 }),
        ..ClipRecord::identity(6)
    };
    for (frame, source) in record.frames.iter_mut().zip([2, 3, 4, 5, 5, 5]) {
        frame.source = source;
    }
    record.frames[3].dropped = true;
    (record.frames[1].partner, record.frames[1].mix) = (0, 0.25);
    assert_eq!(
        record.describe().lines().collect::<Vec<_>>(),
        [
            "frames 2-5 5 5",
            "dropped 3",
            "crop 120x80 at 4,2",
            "rotation -3.2 degrees",
            "flipped",
            "brightness x1.20",
            "noise 0.031",
            "mixed 0.25 with the previous frame",
        ]
    );
}
