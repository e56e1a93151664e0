//! A network that cannot learn three real actions by heart has wrong gradients.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use burn::tensor::Device;
use polyview::config::Config;
use polyview::data::Dataset;
use polyview::data::loader::{Loader, in_order};
use polyview::model::BackboneKind;
use polyview::report::Event;
use polyview::train::{Objective, Optimizer, Rates, Rule, StepSettings, train_one_epoch};

use crate::common::clips::sample_folder;

#[test]
fn three_real_actions_are_learned_by_heart() {
    let Some(sample) = sample_folder() else { return };
    let config = Config {
        dataset_root: sample,
        backbone_name: BackboneKind::R3dTiny,
        frames_per_clip: 8,
        target_fps: 25.0,
        img_height: 48,
        img_width: 64,
        dropout_rate: Some(0.0),
        ..Config::default()
    };
    let schema = config.load_schema().unwrap();
    let size = [config.img_height, config.img_width];
    let dataset =
        Dataset::open(&config.dataset_root, "train", &schema, config.window(), size, None);
    let dataset = Arc::new(dataset.unwrap());
    assert_eq!(dataset.samples.len(), 3);

    let device = Device::flex().autodiff();
    let model = config.model(&schema);
    let mut net = model.init(1, &device);
    let objective = Objective::plain(&schema);
    let rule = Rule::AdamW { beta1: 0.9, weight_decay: 1e-4 };
    let mut optimizer = Optimizer::new(rule, 1.0);
    let mut losses = Vec::new();
    for step in 0..60 {
        let settings = StepSettings {
            objective: &objective,
            rates: &|_| (Rates { heads: 2e-3, stages: [2e-3; 5] }, None),
            seed: 1,
            epoch: step + 1,
            first_step: step,
            augmenter: None,
        };
        let (trained, record, _) = train_one_epoch(
            net,
            &mut optimizer,
            Loader::new(Arc::clone(&dataset), in_order(3, 3), 0),
            &settings,
            &device,
            &AtomicBool::new(false),
            &mut |_: &Event| {},
        )
        .unwrap();
        net = trained;
        losses.push(record.loss);
        if record.loss < 0.1 {
            break;
        }
    }
    println!(
        "overfit: loss {:.3} → {:.3} in {} steps",
        losses[0],
        losses.last().unwrap(),
        losses.len()
    );
    assert!(losses[0] > 1.0, "the start is no start: {losses:?}");
    assert!(*losses.last().unwrap() < 0.1, "{losses:?}");
}
