//! Savings by freezing: time of a training step and peak memory of the process when training all
//! stages, only the last one, or none (heads only). Steps are interleaved, and medians are compared:
//! `cargo bench --profile dev --bench frozen_step [-- BACKBONE CLIPS FRAMES SIDE]`, by default r3d_tiny 4 8 64.
//! Memory is measured in a separate process per case, where the system reports it (Linux).
#![allow(clippy::unwrap_used, missing_docs)]

use std::time::Instant;

use burn::optim::GradientsParams;
use burn::tensor::{Device, Distribution, Tensor};
use polyview::losses::{Targets, cross_entropy};
use polyview::model::{BackboneKind, ModelConfig, MultiViewNet, StageSet, ViewLayout};
use polyview::schema::Schema;
use polyview::train::{Optimizer, Rule};

const CASES: [(&str, usize); 3] = [("all stages", 5), ("last stage", 1), ("heads only", 0)];
const ROUNDS: usize = 9;

struct Case {
    net: Option<MultiViewNet>,
    optimizer: Optimizer,
    seconds: Vec<f64>,
}

impl Case {
    fn new(kind: BackboneKind, stages: usize, device: &Device) -> Self {
        let model = ModelConfig::new(kind, &Schema::mvfoul().unwrap());
        let net = model.init(1, device).with_trainable(StageSet::last(stages));
        let rule = Rule::AdamW { beta1: 0.9, weight_decay: 1e-4 };
        Self { net: Some(net), optimizer: Optimizer::new(rule, 1.0), seconds: Vec::new() }
    }

    fn step(&mut self, clips: &Tensor<5>) {
        let start = Instant::now();
        let net = self.net.take().unwrap();
        let count = clips.dims()[0];
        let prediction = net.forward(clips.clone(), &ViewLayout::new(vec![1; count]), None);
        let targets: Vec<usize> = (0..count).map(|i| i % 4).collect();
        let losses = prediction.logits.into_iter();
        let loss = |logits: Tensor<2>| {
            let targets = Targets::new(&targets, logits.dims()[1]);
            cross_entropy(logits, &targets, None, 0.1)
        };
        let losses = losses.map(loss).collect();
        let loss = Tensor::cat(losses, 0).sum();
        let grads = GradientsParams::from_grads(loss.backward(), &net);
        let (net, norm) = self.optimizer.step(net, grads, &|_| 1e-4, None).unwrap();
        assert!(norm > 0.0);
        self.net = Some(net);
        self.seconds.push(start.elapsed().as_secs_f64());
    }

    fn median(&self) -> f64 {
        let mut seconds = self.seconds[2..].to_vec();
        seconds.sort_by(f64::total_cmp);
        seconds[seconds.len() / 2]
    }
}

/// Returns the peak resident memory of this process in MB.
fn peak() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    Some(line.split_whitespace().nth(1)?.parse::<f64>().ok()? / 1024.0)
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with("--")).collect();
    let kind = args.first().map_or(BackboneKind::R3dTiny, |name| name.parse().unwrap());
    let number = |index: usize, default| args.get(index).map_or(default, |n| n.parse().unwrap());
    let (clips, frames, side) = (number(1, 4), number(2, 8), number(3, 64));
    let device = Device::flex().autodiff();
    let shape = [clips, 3, frames, side, side];
    let clips = Tensor::<5>::random(shape, Distribution::Normal(0.0, 1.0), &device);
    if let Some(stages) = args.get(4) {
        let mut case = Case::new(kind, stages.parse().unwrap(), &device);
        case.step(&clips);
        case.step(&clips);
        println!("{}", peak().unwrap_or(0.0));
        return;
    }
    let mut cases = CASES.map(|(_, stages)| Case::new(kind, stages, &device));
    for _ in 0..ROUNDS + 2 {
        cases.iter_mut().for_each(|case| case.step(&clips));
    }
    let whole = cases[0].median();
    println!("{kind}, {shape:?}, CPU");
    for ((name, stages), case) in CASES.iter().zip(&cases) {
        let sizes = [clips.dims()[0], frames, side].map(|n: usize| n.to_string());
        let child = std::process::Command::new(std::env::current_exe().unwrap())
            .arg(kind.name())
            .args(sizes)
            .arg(stages.to_string())
            .output()
            .unwrap();
        let memory = String::from_utf8_lossy(&child.stdout).trim().parse().unwrap_or(f64::NAN);
        let seconds = case.median();
        println!(
            "{name:>12}: {:8.1} ms per step, {:.2}× as fast as all; peak memory {memory:.0} MB",
            seconds * 1e3,
            whole / seconds
        );
    }
}
