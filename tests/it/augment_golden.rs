//! Each operation on its own against PyTorch's values, in both executions.

use polyview::augment::{AugmentJob, ClipRecord, Crop, Cutout, Frames, Normalisation};
use serde_json::Value;

use crate::common::augment::{BARE, Execution};
use crate::common::compare::{Worst, max_diff};
use crate::common::reference::{count, entries, field, floats, floats32, shape, text};
use crate::common::{fill, reference};

/// Reorders `[3, T, H, W]` to `[T, H, W, 3]`.
fn interleaved(planes: &[f64]) -> Vec<f32> {
    let count = planes.len() / 3;
    (0..planes.len()).map(|i| planes[(i % 3) * count + i / 3] as f32).collect()
}

/// Returns a golden case as a record, with its normalisation; for an operation that this pass does not
/// offer, `Err` with the reason.
fn record_of(
    case: &Value,
    [t, h, w]: [usize; 3],
) -> Result<(ClipRecord, Normalisation), &'static str> {
    let number = |name: &str| reference::number(case, name) as f32;
    let mut record = ClipRecord::identity(t);
    let mut normalisation = BARE;
    match text(case, "op") {
        "identity" => {}
        "hflip" => record.flip = true,
        "brightness" => record.brightness = number("factor"),
        "contrast" => record.contrast = number("factor"),
        "temporal_roll" => {
            let k = field(case, "k").as_i64().unwrap();
            for (i, frame) in record.frames.iter_mut().enumerate() {
                frame.source = (i as i64 - k).rem_euclid(t as i64) as usize;
            }
        }
        "frame_dropout" => {
            let mask = floats(field(case, "mask"));
            assert_eq!(mask.len(), t, "one entry per frame");
            for (frame, kept) in record.frames.iter_mut().zip(mask) {
                frame.dropped = kept == 0.0;
            }
        }
        "crop_resize" if *field(case, "antialias") == true => {
            return Err("loading antialiases, not this pass");
        }
        "crop_resize" => {
            record.crop = Some(Crop {
                top: number("top"),
                left: number("left"),
                height: number("height"),
                width: number("width"),
            });
        }
        "rotate" if text(case, "form") == "normalised" => {
            return Err("a record's rotation is rigid");
        }
        "rotate" => record.rotation = number("degrees"),
        "cutout" => {
            record.cutout = Some(Cutout {
                top: number("top") / h as f32,
                left: number("left") / w as f32,
                height: number("height") / h as f32,
                width: number("width") / w as f32,
                fill: number("fill"),
            });
        }
        "normalise" => {
            let three =
                |name: &str| -> [f32; 3] { floats32(field(case, name)).try_into().unwrap() };
            normalisation = Normalisation { mean: three("mean"), std: three("std") };
        }
        other => panic!("unknown operation {other}"),
    }
    Ok((record, normalisation))
}

#[test]
fn golden_image_operations() {
    let golden = reference::load("image_ops.json");
    let [channels, t, h, w] = shape(&golden, "clip_shape");
    assert_eq!(channels, 3);
    let size = [t, h, w];
    let planes = fill::unit(text(&golden, "clip_name"), 3 * t * h * w);
    let frames = interleaved(&planes);
    let mut wrong = Vec::new();
    for execution in Execution::all() {
        let (mut worst, mut done) = (Worst::default(), 0);
        for case in entries(&golden, "cases") {
            let op = text(case, "op");
            let (record, normalisation) = match record_of(case, size) {
                Ok(found) => found,
                Err(reason) => {
                    println!("golden image operations: {op} left out: {reason}");
                    continue;
                }
            };
            let [_, _, out_h, out_w] = shape(case, "output_shape");
            if op == "crop_resize" {
                let size = ["out_h", "out_w"].map(|key| count(case, key));
                assert_eq!(size, [out_h, out_w], "the output's size");
            }
            let records = [record];
            let source = Frames::F32(&frames);
            let job =
                AugmentJob::new(source, size, &records, [out_h, out_w], &normalisation).unwrap();
            let ours = execution.run(&job).unwrap();
            let error = max_diff(&ours, &floats(field(case, "output")));
            let resampled = matches!(op, "crop_resize" | "rotate");
            let tolerance = if resampled { 1e-4 } else { 1e-5 };
            if error >= tolerance {
                wrong.push(format!("{}: {op}: {error:.2e}", execution.name));
            }
            worst.note(op, error);
            done += 1;
        }
        worst.print(&format!("image operations, {}", execution.name));
        assert!(done > 0, "no case of an operation that is offered");
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// The golden file has f32 clips only; uint8 clips must give the same numbers.
#[test]
fn golden_operations_on_bytes_equal_those_on_f32() {
    let golden = reference::load("image_ops.json");
    let [_, t, h, w] = shape(&golden, "clip_shape");
    let size = [t, h, w];
    let bytes = fill::bytes("clip of bytes", t * h * w * 3);
    let reals: Vec<f32> = bytes.iter().map(|b| f32::from(*b) / 255.0).collect();
    for execution in Execution::all() {
        for case in entries(&golden, "cases") {
            let Ok((record, normalisation)) = record_of(case, size) else { continue };
            let [_, _, out_h, out_w] = shape(case, "output_shape");
            let records = [record];
            let [a, b] = [Frames::U8(&bytes), Frames::F32(&reals)].map(|frames| {
                let job = AugmentJob::new(frames, size, &records, [out_h, out_w], &normalisation);
                execution.run(&job.unwrap()).unwrap()
            });
            let b: Vec<f64> = b.into_iter().map(f64::from).collect();
            let error = max_diff(&a, &b);
            assert!(error < 2e-6, "{}: {}: {error:.2e}", execution.name, case["op"]);
        }
    }
}
