//! Runs that record their steps.

use std::fs;
use std::path::Path;

use burn::tensor::{Device, Tensor, TensorData};
use polyview::checkpoint;
use polyview::losses::{Targets, cross_entropy};
use polyview::model::{DropoutMasks, ViewLayout};
use safetensors::SafeTensors;
use serde_json::Value;
use tempfile::TempDir;

use crate::common::data::small_set;
use crate::common::program::{last_error, polyview};
use crate::common::run::{run, saving_to, small_config, with};

/// Returns the record of a file, and the shape and the values of one of its tensors.
fn read(path: &Path, tensor: &str) -> (Value, Vec<usize>, Vec<f32>) {
    let bytes = fs::read(path).unwrap();
    let (_, metadata) = SafeTensors::read_metadata(&bytes).unwrap();
    let record = &metadata.metadata().as_ref().unwrap()["record"];
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let view = file.tensor(tensor).unwrap();
    let values = view.data().chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap()));
    (serde_json::from_str(record).unwrap(), view.shape().to_vec(), values.collect())
}

#[test]
fn a_recorded_step_can_be_repeated_and_the_run_does_not_change() {
    let folder = TempDir::new().unwrap();
    let config = with(
        &small_config(&folder),
        "--no-gradual-finetuning --epochs 2 --lr 1e-3 --loss-function plain --label-smoothing 0 \
         --mixup 0.4",
    );
    let plain = run(&saving_to(&config, &folder.path().join("plain")));
    let steps = folder.path().join("steps");
    let recording = with(&config, &format!("--record {}", steps.display()));
    let recorded = run(&recording);
    let weights = |folder: &Path| fs::read(folder.join("last.safetensors")).unwrap();
    assert!(weights(&plain.save_dir) == weights(&recorded.save_dir), "recording changes the run");

    let actions = config.optimizer.batch_size;
    let passes =
        recorded.history.iter().map(|record| record.train.actions.div_ceil(actions)).sum::<usize>();
    let written = |start: &str| {
        let names = fs::read_dir(&steps).unwrap().map(|entry| entry.unwrap().file_name());
        names.filter(|name| name.to_string_lossy().starts_with(start)).count()
    };
    assert_eq!(written("step-"), passes);
    assert!(written("valid-") > 0 && written("valid-") * actions >= 4);

    let (record, shape, clips) = read(&steps.join("step-000001.safetensors"), "clips");
    let clips = Tensor::<5>::from_data(TensorData::new(clips, shape), &Device::flex().autodiff());
    let list = |name: &str| record[name].as_array().unwrap().clone();
    let names: Vec<String> =
        list("actions").iter().map(|name| name.as_str().unwrap().to_owned()).collect();
    // In the first batch of the pass, all earlier readings of an action are in the batch itself.
    let before = |n: usize| names[..n].iter().filter(|name| **name == names[n]).count();
    let earlier: Vec<usize> = (0..names.len()).map(before).collect();
    let views: Vec<usize> =
        list("view_counts").iter().map(|count| count.as_u64().unwrap() as usize).collect();
    let (net, info) =
        checkpoint::load(&steps.join("initial.safetensors"), &Device::flex().autodiff()).unwrap();
    let masks = DropoutMasks::new(config.run.seed, 0, &names, &earlier);
    let prediction = net.forward(clips, &ViewLayout::new(views), Some(&masks));
    let share = record["mix"]["share"].as_f64().unwrap() as f32;
    for (task, (name, classes)) in info.model.tasks.iter().enumerate() {
        let labels: Vec<usize> = record["labels"][name]
            .as_array()
            .unwrap()
            .iter()
            .map(|label| label.as_u64().unwrap() as usize)
            .collect();
        let mut targets = Targets::none(labels.len(), *classes);
        for (row, label) in labels.iter().enumerate() {
            let partner = record["mix"]["partners"][row].as_u64().unwrap() as usize;
            targets.add(row, *label, share);
            targets.add(row, labels[partner], 1.0 - share);
        }
        let loss = cross_entropy(prediction.logits[task].clone(), &targets, None, 0.0);
        let (ours, wanted): (f32, _) = (loss.into_scalar(), &record["losses"]["tasks"][task]);
        assert!((f64::from(ours) / wanted.as_f64().unwrap() - 1.0).abs() < 1e-5, "{ours} {wanted}");
    }
    assert_eq!(record["rates"]["heads"], 1e-3);
    assert!(record["gradient_norm"].as_f64().unwrap() > 0.0);
    let (_, shape, factors) = read(&steps.join("step-000001.safetensors"), "dropout.1");
    assert_eq!(shape, [names.len(), 256]);
    assert!(factors.iter().all(|factor| *factor == 0.0 || (factor - 2.5).abs() < 1e-6));
}

#[test]
fn a_record_is_not_overwritten_and_needs_a_single_lane() {
    let folder = TempDir::new().unwrap();
    small_set(folder.path());
    let (data, steps) = (folder.path().to_str().unwrap(), folder.path().join("steps"));
    let steps = steps.to_str().unwrap();
    let save = folder.path().join("run");
    let train = |more: &[&str]| {
        let fixed = [
            "train",
            "--dataset-root",
            data,
            "--backbone-name",
            "r3d_tiny",
            "--epochs",
            "1",
            "--img-height",
            "32",
            "--img-width",
            "32",
            "--frames-per-clip",
            "4",
            "--window",
            "center",
            "--batch-size",
            "4",
            "--no-gradual-finetuning",
            "--device",
            "cpu",
            "--record",
            steps,
            "--save-dir",
            save.to_str().unwrap(),
        ];
        let fixed: Vec<&str> = fixed.iter().chain(more).copied().collect();
        polyview(&fixed)
    };
    let lanes = train(&["--lanes", "2"]);
    let message = last_error(&lanes);
    assert!(message.contains("--record") && message.contains("2 lanes"), "{message}");
    assert_eq!(lanes.status.code(), Some(2));
    assert!(train(&[]).status.success());
    let before = fs::read_dir(steps).unwrap().count();
    let again = train(&["--overwrite"]);
    let message = last_error(&again);
    assert!(
        message.contains("steps") && message.contains("holds the record of another run"),
        "{message}"
    );
    assert_eq!(again.status.code(), Some(2));
    // A resumed run continues its record.
    let more = train(&["--resume", "auto", "--epochs", "2"]);
    assert!(more.status.success(), "{}", last_error(&more));
    let count = fs::read_dir(steps).unwrap().count();
    assert!(count > before, "{count} files");
}
