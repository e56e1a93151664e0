//! Augmentation throughput in GB of output written per second, on the host and in the shader:
//! `cargo bench --bench augment [-- CLIPS FRAMES HEIGHT WIDTH]`, by default 8 16 112 112.
#![allow(clippy::unwrap_used, missing_docs)]

use std::time::Instant;

use polyview::augment::{
    AugmentConfig, AugmentJob, ClipRecord, Frames, Normalisation, Strength, host, plan_clip, wgsl,
};
use polyview::device;

/// Returns the median seconds of a run, without the first two (compilation, page faults).
fn median(mut run: impl FnMut()) -> f64 {
    let mut seconds: Vec<f64> = (0..13)
        .map(|_| {
            let start = Instant::now();
            run();
            start.elapsed().as_secs_f64()
        })
        .skip(2)
        .collect();
    seconds.sort_by(f64::total_cmp);
    seconds[seconds.len() / 2]
}

fn main() {
    let sizes: Vec<usize> = std::env::args().filter_map(|arg| arg.parse().ok()).collect();
    let [clips, t, h, w] = sizes.try_into().unwrap_or([8, 16, 112, 112]);
    let size = [t, h, w];
    let bytes: Vec<u8> = (0..clips * t * h * w * 3).map(|i| (i * 2_654_435_761) as u8).collect();
    let adapter = device::open("gpu").or_else(|_| device::open("wgpu:cpu"));
    let shader = match &adapter {
        Ok(compute) => {
            println!(
                "shader on {} ({}, {})",
                compute.info.name, compute.info.api, compute.info.kind
            );
            Some(&compute.device)
        }
        Err(error) => {
            println!("shader not measured: {error}");
            None
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    println!("host on {threads} threads; {clips} clips of {t}x{h}x{w}, uint8 to f32");

    let planned = |augmentation_strength| -> Vec<ClipRecord> {
        let config = AugmentConfig { augmentation_strength, ..AugmentConfig::default() };
        (0..clips).map(|view| plan_clip(&config, 42, 1, "bench", view, size, 0.0)).collect()
    };
    // Every stage in every clip: the most expensive records.
    let mut all = planned(Strength::Aggressive);
    for record in &mut all {
        (record.rotation, record.noise_std) = (5.0, 0.05);
        for frame in 1..t {
            (record.frames[frame].partner, record.frames[frame].mix) = (frame - 1, 0.2);
        }
    }
    let cases = [
        ("plain normalisation", planned(Strength::None)),
        ("aggressive, as planned", planned(Strength::Aggressive)),
        ("all stages in all clips", all),
    ];
    for (name, records) in cases {
        let norm = Normalisation::default();
        let job = AugmentJob::new(Frames::U8(&bytes), size, &records, [h, w], &norm).unwrap();
        let gigabytes = job.out_shape().iter().product::<usize>() as f64 * 4e-9;
        let seconds = median(|| drop(std::hint::black_box(host::execute(&job))));
        print!("{name}: host {:.2} GB/s ({:.1} ms)", gigabytes / seconds, seconds * 1e3);
        if let Some(device) = shader {
            // Includes the upload of the frames, as in training.
            let seconds = median(|| {
                let clips = wgsl::execute(&job, device).unwrap().unwrap();
                device.sync().unwrap();
                drop(clips);
            });
            print!(", shader {:.2} GB/s ({:.1} ms)", gigabytes / seconds, seconds * 1e3);
        }
        println!();
    }
}
