//! `polyview bench`.

use std::process::ExitCode;

use clap::Args;
use comfy_table::{CellAlignment, Table, presets};
use serde::Serialize;

use super::{CommandResult, Failure, Terminal, print_json, print_text};
use crate::bench::{BenchConfig, LayerTimes, StepTimes};
use crate::device::{self, DeviceInfo};
use crate::model::BackboneKind;

/// Options as typed.
#[derive(Debug, Args)]
pub struct BenchArgs {
    /// auto, gpu, cpu, wgpu[:N|:cpu], vulkan, metal, dx12 or cuda[:N]
    #[arg(long, default_value = "auto")]
    device: String,
    /// r3d_18, mc3_18, r2plus1d_18 or r3d_tiny
    #[arg(long, value_name = "NAME", default_value_t = BackboneKind::R2plus1d18)]
    backbone_name: BackboneKind,
    /// Clips in a step
    #[arg(long, value_name = "N", default_value_t = 2)]
    clips: usize,
    /// Frames of a clip
    #[arg(long, value_name = "N", default_value_t = 8)]
    frames_per_clip: usize,
    /// Height of a frame, pixels
    #[arg(long, value_name = "PX", default_value_t = 112)]
    img_height: usize,
    /// Width of a frame, pixels
    #[arg(long, value_name = "PX", default_value_t = 112)]
    img_width: usize,
    /// Steps that count, after two that do not
    #[arg(long, value_name = "N", default_value_t = 5)]
    steps: usize,
    /// Also time each convolution by itself
    #[arg(long)]
    layers: bool,
    /// With Burn's own operations in place of polyview's kernels, to compare
    #[arg(long)]
    stock: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// The result as JSON has it.
#[derive(Debug, Serialize)]
struct Report<'a> {
    device: &'a DeviceInfo,
    backbone: BackboneKind,
    /// `[N, C, T, H, W]`.
    shape: [usize; 5],
    stock: bool,
    #[serde(flatten)]
    times: StepTimes,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    layers: Vec<LayerTimes>,
}

impl BenchArgs {
    pub(super) fn run(self, terminal: &Terminal) -> CommandResult {
        let size = [self.frames_per_clip, self.img_height, self.img_width];
        if size.into_iter().chain([self.clips, self.steps]).any(|value| value == 0) {
            return Err(Failure::usage("sizes, --clips and --steps must be at least 1"));
        }
        let config = BenchConfig {
            backbone: self.backbone_name,
            clips: self.clips,
            size,
            steps: self.steps,
            stock: self.stock,
        };
        let compute = device::open(&self.device).map_err(Failure::runtime)?;
        let bar = terminal.counter("steps");
        bar.set_length(self.steps as u64 + 2);
        let times = config.steps(&compute.device, || bar.inc(1)).map_err(Failure::runtime)?;
        bar.finish_and_clear();
        let mut layers = Vec::new();
        if self.layers {
            let bar = terminal.counter("layers");
            let done = |all: usize| {
                bar.set_length(all as u64);
                bar.inc(1);
            };
            layers = config.layers(&compute.device, done).map_err(Failure::runtime)?;
            bar.finish_and_clear();
        }
        let [t, h, w] = size;
        let report = Report {
            device: &compute.info,
            backbone: self.backbone_name,
            shape: [self.clips, 3, t, h, w],
            stock: self.stock,
            times,
            layers,
        };
        if self.json {
            print_json(&report)?;
        } else {
            print_text(&describe(&report))?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn describe(report: &Report) -> String {
    let Report { times, shape: [n, _, t, h, w], .. } = report;
    let mut text = format!(
        "{} on {} ({}), {n} clips of {t}×{h}×{w}{}: {:.1} ms a step, forward {:.1} ms, {:.2} clips/s",
        report.backbone,
        report.device.name,
        report.device.api,
        if report.stock { ", Burn's own operations" } else { "" },
        times.step_ms,
        times.forward_ms,
        times.clips_per_s,
    );
    if !report.layers.is_empty() {
        text.push('\n');
        text.push_str(&table(&report.layers).to_string());
    }
    text
}

fn table(layers: &[LayerTimes]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::UTF8_HORIZONTAL_ONLY);
    table.set_header(["convolution", "times", "GFLOP", "forward", "dx", "dw", "GFLOP/s"]);
    let mut sum = [0.0; 3];
    for layer in layers {
        let [forward, dx, dw] = layer.ms.map(|ms| format!("{ms:.2} ms"));
        let rates = layer.gflop_per_s.map(|rate| format!("{rate:.0}")).join(" ");
        for (sum, ms) in sum.iter_mut().zip(layer.ms) {
            *sum += ms * layer.count as f64;
        }
        let (count, gflop) = (layer.count.to_string(), format!("{:.2}", layer.gflop));
        table.add_row([layer.shape.clone(), count, gflop, forward, dx, dw, rates]);
    }
    let [forward, dx, dw] = sum.map(|ms| format!("{ms:.1} ms"));
    let blank = String::new;
    table.add_row(["together".to_owned(), blank(), blank(), forward, dx, dw, blank()]);
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}
