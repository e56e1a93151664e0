//! A custom training loop built from polyview's parts: data, model, freezing, optimizer, loss,
//! and a checkpoint that `polyview` can read.
//!
//!     cargo run --example custom_loop -- DATASET_ROOT OUT.safetensors

use std::error::Error;
use std::path::Path;
use std::sync::Arc;

use polyview::checkpoint::{self, CheckpointInfo};
use polyview::config::{Config, FreezingKind};
use polyview::data::loader::{Loader, in_order, shuffled};
use polyview::data::{Dataset, Plan, Reading, Window};
use polyview::losses::Focal;
use polyview::model::{BackboneKind, StageSet};
use polyview::train::freezing::{EpochOutcome, strategy};
use polyview::train::{Objective, Optimizer, Rates, Rule, Trainer};

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let usage = "usage: custom_loop DATASET_ROOT OUT.safetensors";
    let (root, out) = (args.next().ok_or(usage)?, args.next().ok_or(usage)?);
    // The parts take their options from a configuration; `Config::load` reads one from a file.
    let mut config = Config::default();
    config.network.backbone_name = BackboneKind::R3dTiny;
    config.freezing.freezing_strategy = FreezingKind::Adaptive;
    config.freezing.adaptive_patience = 1;
    config.clips.frames_per_clip = 4;
    config.clips.window = Window::Dense.into();
    config.data.dataset_root = root.into();
    let source = config.open_data()?;
    let schema = source.schema();
    let window = config.clips.window(schema)?;
    let open = |split: &str| Dataset::of_source(&source, split, window, [32, 48], None);
    let (train, valid) = (Arc::new(open("train")?), Arc::new(open("valid")?));

    let device = polyview::device::open("auto")?.device;
    let model = config.model(schema);
    let net = model.init(config.run.seed, &device.clone().autodiff());
    let gamma = vec![2.0; schema.tasks[0].classes.len()];
    let focal = Focal { gamma, class_weights: None, label_smoothing: 0.1 };
    let objective = Objective::plain(schema).with_loss(0, focal);
    let optimizer = Optimizer::new(Rule::new(&config), 1.0);
    let mut trainer = Trainer::new(net, optimizer, objective, &device);
    let freezing = strategy(&config, StageSet::last(1));
    let mut past: Vec<EpochOutcome> = Vec::new();
    for epoch in 0..3 {
        let trainable = freezing.trainable(&past);
        trainer.set_trainable(trainable);
        let order = shuffled(train.samples.len(), 4, config.run.seed, epoch);
        // Training reads a different window of each clip in each epoch; validation reads the
        // middle.
        let plan = Plan::from(order).reading(Reading::drawn(config.run.seed, epoch + 1));
        let loader = Loader::new(Arc::clone(&train), plan, 1);
        let record = trainer.train_one_epoch(loader, |_step| Rates::new(1e-3, 3e-4))?;
        let loader = Loader::new(Arc::clone(&valid), in_order(valid.samples.len(), 4), 1);
        let score = trainer.validate(loader)?.score();
        let stages = trainable.names().join(" ");
        println!("epoch {}: loss {:.3}, score {score:.3}, {stages}", epoch + 1, record.loss);
        past.push(EpochOutcome { score, gradients: None });
    }
    checkpoint::save(Path::new(&out), trainer.net(), &CheckpointInfo::new(schema, model))?;
    Ok(())
}
