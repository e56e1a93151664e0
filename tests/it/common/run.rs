//! Training runs that take seconds.

use std::sync::atomic::AtomicBool;

use polyview::augment::Strength;
use polyview::config::Config;
use polyview::model::BackboneKind;
use polyview::report::Event;
use polyview::train::{self, Outcome};
use tempfile::TempDir;

use super::data::small_set;

/// A run on 12 small actions that ends in seconds.
pub fn small_config(folder: &TempDir) -> Config {
    let data = folder.path().join("data");
    if !data.exists() {
        small_set(&data);
    }
    Config {
        dataset_root: data,
        save_dir: folder.path().join("run"),
        backbone_name: BackboneKind::R3dTiny,
        frames_per_clip: 2,
        target_fps: 25.0,
        start_frame: 2,
        end_frame: 5,
        img_height: 16,
        img_width: 16,
        batch_size: 6,
        num_workers: 0,
        device: "cpu".to_owned(),
        augmentation_strength: Strength::None,
        ..Config::default()
    }
}

/// Trains undisturbed.
pub fn run(config: &Config) -> Outcome {
    train::run(config, &AtomicBool::new(false), &mut |_: &Event| {}).unwrap()
}
