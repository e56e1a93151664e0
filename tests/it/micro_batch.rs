//! Steps in micro-batches that fit the device's memory: what the options change, and what they do
//! not.

use polyview::config::Config;
use polyview::model::MemoryEstimate;
use polyview::model::{BackboneKind, Init, StageSet};
use polyview::schema::Schema;
use tempfile::TempDir;

use crate::common::adapter;
use crate::common::program::{Running, command, polyview, text};
use crate::common::run::{run, saving_to, small_config, with, write_config};

/// Returns a configuration that trains all layers for two epochs, without phases.
fn two_epochs(folder: &TempDir, device: &str) -> Config {
    let options = format!("--no-gradual-finetuning --epochs 2 --lr 1e-3 --device {device}");
    with(&small_config(folder), &options)
}

fn weights(config: &Config, name: &str) -> Vec<u8> {
    let save_dir = config.run.save_dir.join(name);
    let outcome = run(&saving_to(config, &save_dir));
    assert_eq!(outcome.history.len(), 2);
    std::fs::read(save_dir.join(polyview::checkpoint::LAST)).unwrap()
}

fn checkpointing_changes_no_bit(device: &str, precision: &str) {
    let folder = TempDir::new().unwrap();
    let plain = with(&two_epochs(&folder, device), &format!("--precision {precision}"));
    let with = |options: &str, name: &str| weights(&with(&plain, options), name);
    let auto = weights(&plain, "auto");
    let whole = with("--gradient-checkpointing --micro-batch 1000", "all");
    assert!(auto == whole, "{device}: checkpointing changes the weights");
    let one = with("--micro-batch 1", "one");
    let again = with("--gradient-checkpointing --micro-batch 1", "one-again");
    assert!(one == again, "{device}: checkpointing changes the weights with single clips");
    assert!(one != auto, "{device}: the micro-batch has no effect");
}

#[test]
fn gradient_checkpointing_changes_no_bit_on_the_cpu() {
    checkpointing_changes_no_bit("cpu", "f32");
}

#[test]
fn gradient_checkpointing_changes_no_bit_on_an_adapter() {
    let Some(device) = adapter::name() else { return };
    checkpointing_changes_no_bit(device, "f32");
    checkpointing_changes_no_bit(device, "f16");
}

#[test]
fn a_step_is_estimated_from_the_network() {
    let device = burn::tensor::Device::flex();
    let tiny = polyview::model::Backbone::new(&mut Init::new(1, &device), BackboneKind::R3dTiny);
    let size = [4, 32, 48];
    let needs = |set, again| MemoryEstimate::training(&tiny, 1000, size, set, again).unwrap();
    let all = needs(StageSet::ALL, false);
    // The widest tensor is the clip itself: the stem's 8 channels are a quarter of its size.
    assert_eq!(all.widest, 3 * 4 * 32 * 48 * 4);
    assert_eq!(all.fixed, 16_000);
    assert!(needs(StageSet::last(1), false).clip < all.clip);
    assert!(needs(StageSet::NONE, false).clip < needs(StageSet::last(1), false).clip);
    assert!(needs(StageSet::ALL, true).clip < all.clip);
    // Twice the frames, twice the memory.
    let long = MemoryEstimate::training(&tiny, 1000, [8, 32, 48], StageSet::ALL, false).unwrap();
    assert!((long.clip as f64 / all.clip as f64 - 2.0).abs() < 0.1);
    // Clips that fit: limited by free memory, and by the largest binding.
    assert_eq!(all.clips(Some(all.fixed + 10 * all.clip), None), 8);
    assert_eq!(all.clips(None, Some(3 * all.widest)), 3);
    assert_eq!(all.clips(Some(0), None), 0);
    assert!(MemoryEstimate::training(&tiny, 1, [1, 0, 8], StageSet::ALL, false).is_none());
}

#[test]
fn the_start_reports_the_memory_of_a_step() {
    let folder = TempDir::new().unwrap();
    let config = small_config(&folder);
    let root = config.data.dataset_root.to_str().unwrap();
    let args = ["train", "--dataset-root", root, "--backbone-name", "r3d_tiny", "--test-run"];
    let args = [&args[..], &["--window", "center"]].concat();
    let more = ["--img-height", "32", "--img-width", "32", "--device", "cpu", "--micro-batch", "2"];
    let out = polyview(&[&args[..], &more].concat());
    let said = text(&out.stderr);
    assert!(out.status.success(), "{said}");
    assert!(said.contains("2 of up to"), "{said}");
    assert!(said.contains("per clip plus") && !said.contains("about 0"), "{said}");
    // A clip that exceeds the device's largest buffer is refused before anything is decoded.
    if adapter::name() == Some("wgpu:cpu") {
        let huge = ["--img-height", "1024", "--img-width", "1024", "--device", "wgpu:cpu"];
        let out = polyview(&[&args[..], &huge].concat());
        let said = text(&out.stderr);
        assert_eq!(out.status.code(), Some(2), "{said}");
        assert!(said.contains("needs a buffer of") && said.contains("--img-height"), "{said}");
    }
}

/// Compares the estimate with the increase in peak resident memory from more clips per forward
/// pass. Unlike time, memory does not depend on the speed of the machine.
#[cfg(target_os = "linux")]
#[test]
fn the_estimate_is_near_the_measured_memory() {
    const SIZE: [usize; 3] = [8, 128, 160];
    let folder = TempDir::new().unwrap();
    let options = "--no-gradual-finetuning --freezing-strategy none --epochs 100000 --batch-size 6 \
                   --frames-per-clip 8 --img-height 128 --img-width 160";
    let config = with(&small_config(&folder), options);
    let peak = |clips: usize, options: &str| {
        let save_dir = folder.path().join(format!("{clips}{options}"));
        let config =
            with(&saving_to(&config, &save_dir), &format!("--micro-batch {clips} {options}"));
        let file = write_config(&config, folder.path());
        let run = Running::start(command(&["train", "-q", "--config", &file]));
        assert!(run.steps(3));
        run.peak_memory()
    };
    let schema = Schema::mvfoul().unwrap();
    let network = config.model(&schema).init(1, &burn::tensor::Device::flex());
    for (options, checkpointing) in [("", false), ("--gradient-checkpointing", true)] {
        let needs =
            MemoryEstimate::training(&network.backbone, 1, SIZE, StageSet::ALL, checkpointing)
                .unwrap();
        let (few, many) = (2, 12);
        let measured = (peak(many, options) - peak(few, options)) / (many - few) as u64;
        let ratio = needs.clip as f64 / measured as f64;
        println!("{options}: estimated {} B, measured {measured} B, ratio {ratio:.2}", needs.clip);
        assert!(
            (0.7..1.6).contains(&ratio),
            "{options}: estimated {} B, measured {measured} B",
            needs.clip
        );
    }
}
