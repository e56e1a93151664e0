//! A network with annotation inputs is evaluated as it is validated during training, and files that
//! cannot be written are reported with their own option.

use std::sync::Arc;

use burn::tensor::Device;
use polyview::checkpoint;
use polyview::config::Config;
use polyview::data::{Dataset, Sample};
use polyview::evaluate::{Averaging, PredictOptions, annotation_inputs, predict_dataset};
use polyview::schema::Schema;
use tempfile::TempDir;

use crate::common::program::{polyview, text};
use crate::common::run::{run, small_config, with};

/// Annotates whether there was contact in every action of the validation split.
fn annotate_contact(config: &Config) {
    let path = config.data.dataset_root.join("mvfouls/valid/annotations.json");
    let file = std::fs::read_to_string(&path).unwrap();
    let mut file: serde_json::Value = serde_json::from_str(&file).unwrap();
    for (index, action) in file["Actions"].as_object_mut().unwrap().values_mut().enumerate() {
        let value = ["With contact", "Without contact"][index % 2];
        action.as_object_mut().unwrap().insert("Contact".to_owned(), value.into());
    }
    std::fs::write(&path, file.to_string()).unwrap();
}

#[test]
fn evaluation_uses_the_annotations_that_validation_uses() {
    let folder = TempDir::new().unwrap();
    let config = with(
        &small_config(&folder),
        "--annotation-inputs --no-gradual-finetuning --epochs 1 --loss-function plain --label-smoothing 0",
    );
    annotate_contact(&config);
    let outcome = run(&config);
    let validation = &outcome.history[0].valid;

    let device = Device::flex();
    let path = config.run.save_dir.join(checkpoint::BEST);
    let (net, info) = checkpoint::load(&path, &device).unwrap();
    let schema = Schema::mvfoul().unwrap();
    let input = info.input.clone().unwrap();
    let valid =
        Dataset::open(&config.data.dataset_root, "valid", &schema, input.window, input.size, None);
    let valid = Arc::new(valid.unwrap());
    let inputs = annotation_inputs(&info.model, &schema).unwrap();
    let losses = |data: &Arc<Dataset>, max_clips| -> Vec<f64> {
        let (inputs, averaging) = (inputs.clone(), Averaging::NONE);
        let options = PredictOptions {
            batch_size: 4,
            workers: 0,
            max_clips,
            inputs,
            averaging,
            temperatures: Vec::new(),
            thresholds: Vec::new(),
        };
        let predicted = predict_dataset(&net, data, &options, &device, &mut |_, _| {}).unwrap();
        assert_eq!(predicted.len(), valid.samples.len());
        let loss = |task: usize| {
            let pairs = predicted.iter().zip(&valid.samples);
            let label = |s: &Sample| s.labels[task].unwrap();
            let sum: f64 = pairs.map(|(p, s)| -p.probabilities[task][label(s)].ln()).sum();
            sum / predicted.len() as f64
        };
        (0..schema.tasks.len()).map(loss).collect()
    };
    // All clips in one pass, and clip by clip.
    for max_clips in [usize::MAX, 1] {
        for (loss, task) in losses(&valid, max_clips).iter().zip(&validation.tasks) {
            assert!((loss - task.loss).abs() < 1e-4, "{}: {loss}, not {}", task.task, task.loss);
        }
    }
    // Bare clips have no annotations: their properties are unknown.
    let clips = valid.samples.iter().map(|s| (s.action.clone(), s.views.clone())).collect();
    let bare = Arc::new(Dataset::of_clips(clips, input.window, input.size));
    let unknown = losses(&bare, usize::MAX);
    assert!(unknown.iter().zip(&validation.tasks).any(|(u, t)| (u - t.loss).abs() > 1e-4));

    // A schema with another list of values does not fit the embedding.
    let mut other = schema.clone();
    let property = other.properties.iter_mut().find(|p| p.input).unwrap();
    property.values.pop();
    assert_eq!(annotation_inputs(&info.model, &other), None);

    let clip = config.data.dataset_root.join("mvfouls/test/action_0");
    let (clip, path) = (clip.to_str().unwrap(), path.to_str().unwrap());
    let output = polyview(&["predict", clip, "--checkpoint", path, "--device", "cpu"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let warning = "annotated properties as inputs";
    assert_eq!(text(&output.stderr).matches(warning).count(), 1, "{}", text(&output.stderr));
}

#[test]
fn a_file_that_cannot_be_written_is_reported_with_its_option() {
    let folder = TempDir::new().unwrap();
    let config = with(&small_config(&folder), "--no-gradual-finetuning --epochs 1");
    run(&config);
    let root = config.data.dataset_root.to_str().unwrap();
    let checkpoint = config.run.save_dir.join(checkpoint::BEST);
    let checkpoint = checkpoint.to_str().unwrap();
    let file = folder.path().join("absent").join("file.safetensors");
    let file = file.to_str().unwrap();
    let evaluate = ["evaluate", "--dataset-root", root, "--device", "cpu", "--predictions", file];
    let export = ["export", "--out", file];
    // The error comes before anything is read or predicted.
    for (args, option) in [(&evaluate[..], "--predictions"), (&export, "--out")] {
        let output = polyview(&[args, &["--checkpoint", checkpoint]].concat());
        assert_eq!(output.status.code(), Some(2));
        let error = text(&output.stderr);
        assert!(error.contains(&format!("{option} {file}: there is no folder")), "{error}");
        assert!(!error.contains("--save-dir") && !error.contains("actions"), "{error}");
    }
}
