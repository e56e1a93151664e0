//! `polyview bench`.

mod tables;

use std::process::ExitCode;

use clap::Args;
use serde::Serialize;

use super::{CommandResult, Failure, Terminal, print_json, print_text};
use crate::bench::{
    self, BenchConfig, BenchError, LayerTimes, MultiDeviceTimes, Roofline, Scaled, StepTimes,
};
use crate::device::{self, Compute, DeviceInfo};
use crate::half::Precision;
use crate::model::BackboneKind;
use crate::options::{between, choice, positive};
use crate::tuning::{self, Tuned};

/// Command-line options.
#[derive(Debug, Args)]
pub(super) struct BenchArgs {
    /// auto, gpu, all, cpu, wgpu[:N|:cpu], vulkan, metal, dx12 or cuda[:N]; several with commas: training
    /// steps on the first, on two, four and so on, and on all of them
    #[arg(long, default_value = "auto")]
    device: String,
    /// Backbone to time
    #[arg(long, value_name = "NAME", value_parser = choice::<BackboneKind>())]
    #[arg(default_value_t = BackboneKind::R2plus1d18)]
    backbone_name: BackboneKind,
    /// Clips in a step, on each device
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = between(1, 4096))]
    clips: usize,
    /// Frames of a clip
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = between(1, 1024))]
    frames_per_clip: usize,
    /// Height of a frame, pixels
    #[arg(long, value_name = "PX", default_value_t = 112, value_parser = between(1, 4096))]
    img_height: usize,
    /// Width of a frame, pixels
    #[arg(long, value_name = "PX", default_value_t = 112, value_parser = between(1, 4096))]
    img_width: usize,
    /// f32; f16: activations in half precision; auto: f16 on GPUs
    #[arg(long, value_name = "NAME", value_parser = choice::<Precision>())]
    #[arg(default_value_t = Precision::F32)]
    precision: Precision,
    /// Timed steps, after two for warm-up
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = between(1, 1_000_000))]
    steps: usize,
    /// Also time each convolution separately, and the device's f32 peak
    #[arg(long)]
    layers: bool,
    /// With --layers: interleave Burn's own convolution with polyview's
    #[arg(long, requires = "layers", conflicts_with = "stock")]
    against_stock: bool,
    /// Use Burn's own operations instead of polyview's kernels, for comparison
    #[arg(long)]
    stock: bool,
    /// Time the convolution kernels on this GPU first and remember the fastest
    #[arg(long, conflicts_with = "stock")]
    tune: bool,
    /// With several devices: synchronise batch norm across them
    #[arg(long, conflicts_with_all = ["layers", "stock", "tune", "roofline", "scaling"])]
    sync_batch_norm: bool,
    /// Run nothing: compute a lower bound on the step time of some cards, without matrix units
    #[arg(long, conflicts_with_all = ["layers", "stock", "tune"])]
    roofline: bool,
    /// Also simulate what several devices would gain, by a model of the exchange (docs/scaling.md)
    #[arg(long, conflicts_with = "roofline")]
    scaling: bool,
    /// With --scaling: use this step time, milliseconds, instead of measuring it
    #[arg(long, value_name = "MS", requires = "scaling", value_parser = positive)]
    #[arg(conflicts_with_all = ["layers", "stock", "tune"])]
    step_ms: Option<f64>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Results on one device, as printed in JSON.
#[derive(Debug, Serialize)]
struct Report<'a> {
    device: &'a DeviceInfo,
    backbone: BackboneKind,
    /// `[N, C, T, H, W]`.
    shape: [usize; 5],
    stock: bool,
    precision: Precision,
    #[serde(skip_serializing_if = "Option::is_none")]
    tuned: Option<Tuned>,
    #[serde(flatten)]
    times: StepTimes,
    /// Measured peak in f32.
    #[serde(skip_serializing_if = "Option::is_none")]
    peak_gflop_per_s: Option<f64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    layers: Vec<LayerTimes>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    scaling: Vec<Scaled>,
}

/// Results on several devices, as printed in JSON.
#[derive(Debug, Serialize)]
struct SeveralReport<'a> {
    devices: Vec<&'a DeviceInfo>,
    backbone: BackboneKind,
    /// `[N, C, T, H, W]` on each device.
    shape: [usize; 5],
    precision: Precision,
    sync_batch_norm: bool,
    times: Vec<MultiDeviceTimes>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    scaling: Vec<Scaled>,
}

/// Lower bounds of the step time, as printed in JSON.
#[derive(Debug, Serialize)]
struct Bounds {
    backbone: BackboneKind,
    /// `[N, C, T, H, W]`.
    shape: [usize; 5],
    precision: Precision,
    #[serde(flatten)]
    roofline: Roofline,
}

impl BenchArgs {
    pub(super) fn run(self, terminal: &Terminal) -> CommandResult {
        let size = [self.frames_per_clip, self.img_height, self.img_width];
        if self.stock && self.precision == Precision::F16 {
            return Err(Failure::usage(
                "--precision f16: --stock times Burn's own operations, which store activations in f32",
            ));
        }
        let config = BenchConfig {
            backbone: self.backbone_name,
            clips: self.clips,
            size,
            steps: self.steps,
            stock: self.stock,
            // The bounds are for GPUs, on which `auto` means f16.
            half: self.roofline && self.precision != Precision::F32,
        };
        match self.step_ms {
            _ if self.roofline => self.bounds(&config),
            Some(step_ms) => self.simulate(&config, step_ms),
            None => self.measure(config, terminal),
        }
    }

    /// Simulates several devices with a given step time.
    fn simulate(&self, config: &BenchConfig, step_ms: f64) -> CommandResult {
        let scaled = config.scaling(&[step_ms]);
        if self.json {
            print_json(&scaled)?;
        } else {
            print_text(&tables::scaling(&scaled, config.gradient_bytes()))?;
        }
        Ok(ExitCode::SUCCESS)
    }

    fn bounds(&self, config: &BenchConfig) -> CommandResult {
        let roofline = config.roofline()?;
        let (backbone, shape) = (self.backbone_name, config.shape());
        let bounds = Bounds { backbone, shape, precision: Precision::of(config.half), roofline };
        if self.json {
            print_json(&bounds)?;
        } else {
            print_text(&tables::bounds(&bounds))?;
        }
        Ok(ExitCode::SUCCESS)
    }

    /// Times steps on several devices.
    fn measure_several(
        &self,
        config: BenchConfig,
        devices: &[Compute],
        terminal: &Terminal,
    ) -> CommandResult {
        for (used, option) in
            [(self.layers, "--layers"), (self.stock, "--stock"), (self.tune, "--tune")]
        {
            if used {
                let (of, count) = (&self.device, devices.len());
                let problem = format!("{option} is for one device; --device {of} names {count}");
                return Err(Failure::usage(problem));
            }
        }
        let (mut half, mut notes) = (true, Vec::new());
        for compute in devices {
            let (own, note) = self.precision.on(compute);
            half &= own;
            notes.extend(note);
        }
        notes.dedup();
        notes.iter().for_each(|note| log::warn!("{note}"));
        let config = BenchConfig { half, ..config };
        let bar = terminal.counter("steps");
        bar.set_length((bench::device_counts(devices.len()).len() * (self.steps + 2)) as u64);
        let opened: Vec<_> = devices.iter().map(|compute| compute.device.clone()).collect();
        let times = config.on_several(&opened, self.sync_batch_norm, || bar.inc(1))?;
        bar.finish_and_clear();
        let scaling = if self.scaling { config.scaling(&times[0].steps_ms) } else { Vec::new() };
        let report = SeveralReport {
            devices: devices.iter().map(|compute| &compute.info).collect(),
            backbone: self.backbone_name,
            shape: config.shape(),
            precision: Precision::of(half),
            sync_batch_norm: self.sync_batch_norm,
            times,
            scaling,
        };
        if self.json {
            print_json(&report)?;
        } else {
            print_text(&tables::several(&report, config.gradient_bytes()))?;
            if self.scaling {
                print_text(&tables::scaling(&report.scaling, config.gradient_bytes()))?;
            }
        }
        Ok(ExitCode::SUCCESS)
    }

    fn measure(&self, config: BenchConfig, terminal: &Terminal) -> CommandResult {
        let mut devices = device::open_all(&self.device)?;
        if devices.len() > 1 {
            return self.measure_several(config, &devices, terminal);
        }
        if self.sync_batch_norm {
            let problem = "--sync-batch-norm is for several devices: name them with --device";
            return Err(Failure::usage(problem));
        }
        let compute = devices.pop().expect("a list of devices is not empty");
        let precision = if self.stock { Precision::F32 } else { self.precision };
        let (half, note) = precision.on(&compute);
        if let Some(note) = note {
            log::warn!("{note}");
        }
        let config = BenchConfig { half, ..config };
        let tuned = if self.tune { Self::tune(&config, &compute, terminal)? } else { None };
        let bar = terminal.counter("steps");
        bar.set_length(self.steps as u64 + 2);
        let times = config.steps(&compute.device, || bar.inc(1))?;
        bar.finish_and_clear();
        let (mut layers, mut peak) = (Vec::new(), None);
        if self.layers {
            peak = bench::peak(&compute.device).map_err(Failure::runtime)?;
            let bar = terminal.counter("layers");
            let done = |all: usize| {
                bar.set_length(all as u64);
                bar.inc(1);
            };
            layers = config.layers(&compute.device, peak, self.against_stock, done)?;
            bar.finish_and_clear();
        }
        let scaling = if self.scaling { config.scaling(&times.steps_ms) } else { Vec::new() };
        let report = Report {
            device: &compute.info,
            backbone: self.backbone_name,
            shape: config.shape(),
            stock: self.stock,
            precision: Precision::of(half),
            tuned,
            times,
            peak_gflop_per_s: peak,
            layers,
            scaling,
        };
        if self.json {
            print_json(&report)?;
        } else {
            print_text(&tables::times(&report))?;
            if self.scaling {
                print_text(&tables::scaling(&report.scaling, config.gradient_bytes()))?;
            }
        }
        Ok(ExitCode::SUCCESS)
    }

    /// Selects the fastest kernels. Returns `None`, and prints a line, if there is no choice.
    fn tune(
        config: &BenchConfig,
        compute: &Compute,
        terminal: &Terminal,
    ) -> Result<Option<Tuned>, Failure> {
        let jobs = config.jobs()?;
        let bar = terminal.counter("kernels");
        bar.set_length(jobs.len() as u64);
        let proceed = || {
            bar.inc(1);
            true
        };
        let tuned = tuning::tune(compute, &jobs, config.half, tuning::folder().as_deref(), proceed)
            .map_err(BenchError::from)?;
        bar.finish_and_clear();
        if tuned.is_none() {
            let name = &compute.info.name;
            terminal.line(&format!("tuning: {name} has no kernels to choose from"));
        }
        Ok(tuned)
    }
}
