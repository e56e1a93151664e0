//! A training loop of one's own from polyview's parts: data, model, freezing, optimizer, loss,
//! and a checkpoint that `polyview` reads.
//!
//!     cargo run --example custom_loop -- DATASET_ROOT OUT.safetensors

use std::error::Error;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use polyview::checkpoint::{self, CheckpointInfo};
use polyview::config::{Config, FreezingKind};
use polyview::data::Dataset;
use polyview::data::loader::{Loader, in_order, shuffled};
use polyview::losses::Focal;
use polyview::model::{BackboneKind, StageSet};
use polyview::report::Event;
use polyview::train::freezing::{EpochOutcome, strategy};
use polyview::train::{
    Objective, Optimizer, Rates, Rule, StepSettings, train_one_epoch, validate_one_epoch,
};

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let usage = "give a data set's folder and a file to write";
    let (root, out) = (args.next().ok_or(usage)?, args.next().ok_or(usage)?);
    // A configuration holds the options that the parts share; `Config::resolve` reads a file.
    let mut config = Config::default();
    config.data.dataset_root = root.into();
    config.network.backbone_name = BackboneKind::R3dTiny;
    config.freezing.freezing_strategy = FreezingKind::Adaptive;
    config.freezing.adaptive_patience = 1;
    (config.clips.frames_per_clip, config.clips.start_frame) = (4, 0);
    let schema = config.load_schema()?;
    let open = |split: &str| {
        Dataset::open(
            &config.data.dataset_root,
            split,
            &schema,
            config.clips.window(),
            [32, 48],
            None,
        )
    };
    let (train, valid) = (Arc::new(open("train")?), Arc::new(open("valid")?));
    let device = polyview::device::open("auto")?.device;
    let tracking = device.clone().autodiff();

    let model = config.model(&schema);
    let mut net = model.init(config.run.seed, &tracking);
    let mut optimizer = Optimizer::new(Rule::new(&config), 1.0);
    let freezing = strategy(&config, StageSet::last(1));
    let focal = Focal { gamma: vec![2.0; 4], class_weights: None, label_smoothing: 0.1 };
    let objective = Objective::plain(&schema).with_loss(0, focal);
    let rates = Rates { heads: 1e-3, stages: [3e-4; 5] };
    let (stop, mut quiet) = (AtomicBool::new(false), |_: &Event| {});
    let mut past: Vec<EpochOutcome> = Vec::new();
    for epoch in 0..3 {
        let trainable = freezing.trainable(&past);
        net = net.with_trainable(trainable);
        let plan = shuffled(train.samples.len(), 4, config.run.seed, epoch);
        let settings = StepSettings {
            objective: &objective,
            rates: &|_step| (rates, None),
            seed: config.run.seed,
            epoch: epoch + 1,
            first_step: epoch * plan.len(),
            augmenter: None,
        };
        let loader = Loader::new(Arc::clone(&train), plan, 1);
        let (trained, record, _) =
            train_one_epoch(net, &mut optimizer, loader, &settings, &tracking, &stop, &mut quiet)?;
        net = trained;
        let loader = Loader::new(Arc::clone(&valid), in_order(valid.samples.len(), 4), 1);
        let (judged, _) = validate_one_epoch(&net, loader, &objective, &device, &stop, &mut quiet)?;
        let (score, stages) = (judged.score(), trainable.names().join(" "));
        println!("epoch {}: loss {:.3}, score {score:.3}, {stages}", epoch + 1, record.loss);
        past.push(EpochOutcome { score, gradients: None });
    }
    checkpoint::save(Path::new(&out), &net, &CheckpointInfo::new(&schema, model))?;
    Ok(())
}
