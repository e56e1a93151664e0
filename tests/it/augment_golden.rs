//! Each operation alone against PyTorch's values, in both executions.

use burn::tensor::Device;
use polyview::augment::{
    AugmentError, AugmentJob, ClipRecord, Crop, Cutout, Frames, Normalisation, host, wgsl,
};
use polyview::kernels::Implementation;
use serde_json::Value;

use crate::golden::{Worst, floats, max_diff, shape_of, values};
use crate::{adapter, fill, reference};

/// One way to execute a job, with its name.
pub struct Execution {
    pub name: &'static str,
    device: Option<Device>,
}

impl Execution {
    /// The host's, and the shader where there is an adapter.
    pub fn all() -> Vec<Self> {
        let host = Self { name: "host", device: None };
        let shader = adapter::device().map(|device| {
            let shaders = matches!(Implementation::of(&device), Implementation::Wgsl(_));
            assert!(shaders, "this build's wgpu devices take WGSL");
            Self { name: "shader", device: Some(device) }
        });
        [Some(host), shader].into_iter().flatten().collect()
    }

    pub fn run(&self, job: &AugmentJob) -> Result<Vec<f32>, AugmentError> {
        match &self.device {
            None => Ok(host::execute(job)),
            Some(device) => {
                let tensor = wgsl::execute(job, device).expect("the device takes WGSL")?;
                assert_eq!(tensor.dims(), job.out_shape());
                Ok(values(tensor))
            }
        }
    }
}

/// No normalisation.
pub const BARE: Normalisation = Normalisation { mean: [0.0; 3], std: [1.0; 3] };

/// `[3, T, H, W]` to `[T, H, W, 3]`.
fn interleaved(planes: &[f32]) -> Vec<f32> {
    let count = planes.len() / 3;
    (0..planes.len()).map(|i| planes[(i % 3) * count + i / 3]).collect()
}

/// A golden case as a record, with its normalisation; `None` with the reason for what is no part
/// of this pass.
fn record_of(
    case: &Value,
    [t, h, w]: [usize; 3],
) -> Result<(ClipRecord, Normalisation), &'static str> {
    let number = |name: &str| case[name].as_f64().unwrap() as f32;
    let mut record = ClipRecord::identity(t);
    let mut normalisation = BARE;
    match case["op"].as_str().unwrap() {
        "identity" => {}
        "hflip" => record.flip = true,
        "brightness" => record.brightness = number("factor"),
        "contrast" => record.contrast = number("factor"),
        "temporal_roll" => {
            let k = case["k"].as_i64().unwrap();
            for (i, frame) in record.frames.iter_mut().enumerate() {
                frame.source = (i as i64 - k).rem_euclid(t as i64) as usize;
            }
        }
        "frame_dropout" => {
            for (frame, kept) in record.frames.iter_mut().zip(floats(&case["mask"])) {
                frame.dropped = kept == 0.0;
            }
        }
        "crop_resize" if case["antialias"] == true => {
            return Err("antialiasing is a matter of loading, not of this pass");
        }
        "crop_resize" => {
            record.crop = Some(Crop {
                top: number("top"),
                left: number("left"),
                height: number("height"),
                width: number("width"),
            });
        }
        "rotate" if case["form"] == "normalised" => {
            return Err("a record's rotation is the rigid one");
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
            let three = |name: &str| -> [f32; 3] {
                let all: Vec<f32> = floats(&case[name]).iter().map(|v| *v as f32).collect();
                all.try_into().unwrap()
            };
            normalisation = Normalisation { mean: three("mean"), std: three("std") };
        }
        other => panic!("unknown operation {other}"),
    }
    Ok((record, normalisation))
}

#[test]
fn golden_image_operations() {
    let golden = reference::load("image_ops.json");
    let shape = shape_of(&golden["clip_shape"]);
    let size = [shape[1], shape[2], shape[3]];
    let name = golden["clip_name"].as_str().unwrap();
    let planes: Vec<f32> =
        fill::unit(name, shape.iter().product()).into_iter().map(|u| u as f32).collect();
    let frames = interleaved(&planes);
    let cases = golden["cases"].as_array().unwrap();
    assert_eq!(cases.len(), 23);
    let mut wrong = Vec::new();
    for execution in Execution::all() {
        let (mut worst, mut done) = (Worst::default(), 0);
        for case in cases {
            let op = case["op"].as_str().unwrap();
            let (record, normalisation) = match record_of(case, size) {
                Ok(found) => found,
                Err(reason) => {
                    println!("skipped: {op}: {reason}");
                    continue;
                }
            };
            let out = shape_of(&case["output_shape"]);
            let records = [record];
            let source = Frames::F32(&frames);
            let job =
                AugmentJob::new(source, size, &records, [out[2], out[3]], &normalisation).unwrap();
            let ours = execution.run(&job).unwrap();
            let finite = ours.iter().all(|v| v.is_finite());
            let error = max_diff(&ours, &floats(&case["output"]));
            let resampled = matches!(op, "crop_resize" | "rotate");
            let tolerance = if resampled { 1e-4 } else { 1e-5 };
            // `max` passes over NaN.
            if !finite || error >= tolerance {
                wrong.push(format!("{}: {op}: {error:.2e}", execution.name));
            }
            worst.note(op, error);
            done += 1;
        }
        worst.print(&format!("image operations, {}", execution.name));
        assert_eq!(done, 20, "all but the antialiased resize and the two sheared rotations");
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// The golden file has f32 clips only; uint8 ones must come out as the same numbers.
#[test]
fn golden_operations_on_bytes_are_those_on_their_values() {
    let golden = reference::load("image_ops.json");
    let size @ [t, h, w] = [4, 12, 16];
    let bytes = fill::bytes("clip of bytes", t * h * w * 3);
    let reals: Vec<f32> = bytes.iter().map(|b| f32::from(*b) / 255.0).collect();
    for execution in Execution::all() {
        for case in golden["cases"].as_array().unwrap() {
            let Ok((record, normalisation)) = record_of(case, size) else { continue };
            let out = shape_of(&case["output_shape"]);
            let records = [record];
            let [a, b] = [Frames::U8(&bytes), Frames::F32(&reals)].map(|frames| {
                let job = AugmentJob::new(frames, size, &records, [out[2], out[3]], &normalisation);
                execution.run(&job.unwrap()).unwrap()
            });
            let b: Vec<f64> = b.into_iter().map(f64::from).collect();
            let error = max_diff(&a, &b);
            assert!(error < 2e-6, "{}: {}: {error:.2e}", execution.name, case["op"]);
        }
    }
}
