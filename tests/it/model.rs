//! The network as a whole: views, dropout, checkpoints, pretrained weights.

use std::ops::Range;
use std::path::Path;

use burn::tensor::{DType, Device, Tensor, TensorData};
use polyview::checkpoint::{self, CheckpointError, CheckpointInfo};
use polyview::model::pretrained::{PretrainedError, load_pretrained, read_weights};
use polyview::model::{
    BackboneKind, DropoutLayer, DropoutMasks, ModelConfig, MultiViewNet, ViewLayout, dropout,
    parameter_count, state_dict,
};
use polyview::schema::Schema;
use rand::RngExt;

use crate::common::adapter;
use crate::common::compare::max_diff;
use crate::common::fill;
use crate::common::tensors::{unit_tensor, values};

fn tiny() -> ModelConfig {
    ModelConfig::new(BackboneKind::R3dTiny, &Schema::mvfoul().unwrap())
}

fn logits(net: &MultiViewNet, clips: Tensor<5>, counts: &[usize]) -> Vec<Vec<f32>> {
    let prediction = net.forward(clips, &ViewLayout::new(counts.to_vec()), None);
    prediction.logits.into_iter().map(values).collect()
}

fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().map(|v| f64::from(*v)).collect()
}

#[test]
fn tiny_backbone_has_its_stated_size() {
    let net = tiny().init(1, &Device::flex().autodiff());
    assert_eq!(parameter_count(&net.backbone), 228_120);
}

#[test]
fn a_batch_gives_the_same_logits_as_its_actions_alone() {
    let device = Device::flex();
    for attention in [true, false] {
        let net = ModelConfig { attention, ..tiny() }.init(3, &device);
        let counts = [2, 1, 3];
        let clips = unit_tensor("views", [6, 3, 4, 20, 24], &device);
        let together = logits(&net, clips.clone(), &counts);
        let mut first = 0;
        for (action, &count) in counts.iter().enumerate() {
            let own = clips.clone().narrow(0, first, count);
            first += count;
            for (task, alone) in logits(&net, own, &[count]).iter().enumerate() {
                let classes = alone.len();
                let row = &together[task][action * classes..][..classes];
                let error = max_diff(row, &wide(alone));
                assert!(error < 1e-5, "attention {attention}, action {action}: {error:.2e}");
            }
        }
    }
}

#[test]
fn the_order_of_views_does_not_matter_and_weights_sum_to_one() {
    let device = Device::flex();
    let net = tiny().init(5, &device);
    let clips = unit_tensor("order", [3, 3, 4, 20, 24], &device);
    let turned = Tensor::cat(vec![clips.clone().narrow(0, 1, 2), clips.clone().narrow(0, 0, 1)], 0);
    let (a, b) = (logits(&net, clips.clone(), &[3]), logits(&net, turned, &[3]));
    for (a, b) in a.iter().zip(&b) {
        assert!(max_diff(a, &wide(b)) < 1e-5);
    }
    let prediction = net.forward(clips, &ViewLayout::new(vec![1, 2]), None);
    let weights = values(prediction.view_weights);
    assert_eq!(weights[1], 0.0, "an absent view has weight 0");
    assert!((weights[0] - 1.0).abs() < 1e-6 && (weights[2] + weights[3] - 1.0).abs() < 1e-6);
}

#[test]
fn the_seed_determines_the_network() {
    let device = Device::flex();
    let config = tiny();
    let dict = |seed| state_dict::collect_net(&config.init(seed, &device), &config).unwrap();
    assert_eq!(dict(7), dict(7));
    assert_ne!(dict(7), dict(8));
}

#[test]
fn dropout_keeps_the_mean_and_is_determined_by_the_step() {
    let device = Device::flex();
    let ones = || Tensor::<2>::ones([64, 256], &device);
    let names: Vec<String> = (0..64).map(|action| action.to_string()).collect();
    let masks = |step, names: &[String]| DropoutMasks::new(9, step, names, &[0; 64]);
    let run =
        |step| values(dropout(ones(), 0.4, DropoutLayer(0), &[1; 64], Some(&masks(step, &names))));
    let (a, b, c) = (run(1), run(1), run(2));
    assert_eq!(a, b);
    assert_ne!(a, c);
    let zeros = a.iter().filter(|v| **v == 0.0).count() as f64 / a.len() as f64;
    assert!((zeros - 0.4).abs() < 0.02, "{zeros}");
    let mean = a.iter().sum::<f32>() / a.len() as f32;
    assert!((mean - 1.0).abs() < 0.03, "{mean}");
    assert_eq!(values(dropout(ones(), 0.4, DropoutLayer(0), &[1; 64], None)), vec![1.0; 64 * 256]);
}

#[test]
fn dropout_of_an_action_is_the_same_in_any_batch() {
    let device = Device::flex();
    // A `+` in a name means that the pass has read the action before.
    let run = |names: &[&str], rows: &[usize], layer, of: Range<usize>| {
        let earlier: Vec<usize> = names.iter().map(|name| name.matches('+').count()).collect();
        let names: Vec<String> = names.iter().map(|name| name.replace('+', "")).collect();
        let masks = DropoutMasks::new(9, 3, &names, &earlier).of(of.clone());
        let ones = Tensor::<2>::ones([rows.iter().sum(), 40], &device);
        values(dropout(ones, 0.5, DropoutLayer(layer), rows, Some(&masks)))
    };
    let all = run(&["a", "b", "a+", "c"], &[2, 1, 2, 3], 0, 0..4);
    // Alone, after others, in part of a batch.
    assert_eq!(all[..80], run(&["a"], &[2], 0, 0..1));
    assert_eq!(all[80..120], run(&["c", "b"], &[3, 1], 0, 0..2)[120..]);
    assert_eq!(all[120..], run(&["a", "b", "a+", "c"], &[2, 3], 0, 2..4));
    assert_eq!(all[120..200], run(&["a+", "a"], &[2, 2], 0, 0..2)[..80]);
    // Each view, each reading of the action within a pass, and each layer has its own mask.
    assert_ne!(all[..40], all[40..80]);
    assert_ne!(all[..80], all[120..200]);
    assert_ne!(all[..80], run(&["a"], &[2], 1, 0..1));
}

#[test]
fn a_checkpoint_restores_the_network() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("last.safetensors");
    let device = Device::flex();
    let schema = Schema::mvfoul().unwrap();
    let config = tiny();
    // A training step changes the running statistics, which must be saved too.
    let trained = config.init(11, &device.clone().autodiff());
    let clips = unit_tensor("ckpt", [2, 3, 4, 20, 24], &device);
    logits(&trained, clips.clone().autodiff(), &[2]);
    let info =
        CheckpointInfo { epoch: 3, score: Some(0.5), ..CheckpointInfo::new(&schema, config) };
    checkpoint::save(&path, &trained, &info).unwrap();
    let (loaded, found) = checkpoint::load(&path, &device).unwrap();
    assert_eq!(found, info);
    let expected = logits(&burn::module::Module::valid(&trained), clips.clone(), &[2]);
    assert_eq!(logits(&loaded, clips, &[2]), expected);

    let bytes = std::fs::read(&path).unwrap();
    let refused = |bytes: &[u8]| {
        let damaged = folder.path().join("damaged.safetensors");
        std::fs::write(&damaged, bytes).unwrap();
        let error = checkpoint::load(&damaged, &device).unwrap_err();
        assert!(matches!(error, CheckpointError::Read { .. }), "{error}");
        assert!(!error.to_string().contains('\n'), "{error}");
    };
    refused(&[]);
    refused(&bytes[..bytes.len() / 2]);
    refused(b"not a checkpoint at all");
    let mut newer = bytes.clone();
    let at = bytes.windows(19).position(|w| w == b"format_version\\\":1,").unwrap();
    newer[at + 17] = b'9';
    refused(&newer);
}

fn write_weights(path: &Path, tensors: &[(String, Vec<usize>, Vec<f32>)]) {
    use safetensors::tensor::{Dtype, TensorView};
    let bytes: Vec<Vec<u8>> =
        tensors.iter().map(|(.., v)| v.iter().flat_map(|f| f.to_le_bytes()).collect()).collect();
    let views = tensors.iter().zip(&bytes).map(|((name, shape, _), bytes)| {
        (name.as_str(), TensorView::new(Dtype::F32, shape.clone(), bytes).unwrap())
    });
    std::fs::write(path, safetensors::serialize(views, None).unwrap()).unwrap();
}

#[test]
fn pretrained_weights_load_by_torchvisions_names() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("kinetics.safetensors");
    let device = Device::flex();
    let config = tiny();
    let mut tensors: Vec<(String, Vec<usize>, Vec<f32>)> = Vec::new();
    for (name, data) in state_dict::collect(&config.init(1, &device).backbone).unwrap() {
        let shape = data.shape().to_vec();
        tensors.push((name.clone(), shape, fill::signed(&name, data.num_elements(), 0.1)));
    }
    tensors.push(("fc.weight".into(), vec![400, 64], vec![0.0; 25_600]));
    tensors.push(("fc.bias".into(), vec![400], vec![0.0; 400]));
    let counter = ("stem.1.num_batches_tracked".to_owned(), vec![1], vec![1.0]);
    tensors.push(counter);
    write_weights(&path, &tensors);
    let mut net = config.init(2, &device);
    let report = load_pretrained(&mut net, &config, &path).unwrap();
    assert_eq!(report.loaded, tensors.len() - 3);
    assert!(report.missing.is_empty() && report.unexpected.is_empty(), "{report:?}");
    let stem = &state_dict::collect_net(&net, &config).unwrap()["backbone.stem.0.weight"];
    let count = stem.num_elements();
    assert_eq!(
        stem.clone().try_into_vec::<f32>().unwrap(),
        fill::signed("stem.0.weight", count, 0.1)
    );

    // One tensor is missing, one is unexpected.
    tensors.retain(|(name, ..)| name != "layer1.0.conv1.0.weight");
    tensors.push(("layer9.weight".into(), vec![1], vec![0.0]));
    write_weights(&path, &tensors);
    let report = load_pretrained(&mut net, &config, &path).unwrap();
    assert_eq!(report.missing, ["backbone.layer1.0.conv1.0.weight"]);
    assert_eq!(report.unexpected, ["layer9.weight"]);

    // A wrong shape is an error that names the tensor.
    tensors.push(("layer1.0.conv1.0.weight".into(), vec![1], vec![0.0]));
    write_weights(&path, &tensors);
    let error = load_pretrained(&mut net, &config, &path).unwrap_err();
    assert!(matches!(error, PretrainedError::Unfit { .. }), "{error}");
    assert!(error.to_string().contains("layer1.0.conv1.0.weight"), "{error}");

    write_weights(&path, &[("something.else".into(), vec![1], vec![0.0])]);
    let error = load_pretrained(&mut net, &config, &path).unwrap_err();
    assert!(matches!(error, PretrainedError::Foreign { .. }), "{error}");
    let expected = "none of its 1 tensor belongs to r3d_tiny: they are called something.else";
    assert!(error.to_string().ends_with(expected), "{error}");
    let many: Vec<_> = (0..4).map(|n| (format!("some.{n}"), vec![1], vec![0.0])).collect();
    write_weights(&path, &many);
    let error = load_pretrained(&mut net, &config, &path).unwrap_err();
    assert!(error.to_string().ends_with("called some.0, some.1, some.2, …"), "{error}");
    let error = load_pretrained(&mut net, &config, Path::new("weights.onnx")).unwrap_err();
    assert!(error.to_string().contains("weights.onnx"), "{error}");
}

#[test]
fn heads_of_other_tasks_are_named_by_their_tasks() {
    let report = |missing: &[&str], unexpected: &[&str]| {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let (missing, unexpected) = (names(missing), names(unexpected));
        state_dict::LoadReport { loaded: 1, missing, unexpected }.differences()
    };
    let new = ["heads.hand.0.weight", "heads.hand.0.bias", "heads.wave.0.weight"];
    assert_eq!(report(&[], &[]), None);
    assert_eq!(
        report(&new, &["heads.foul.2.bias"]).unwrap(),
        "new heads: hand, wave; heads left out: foul"
    );
    assert_eq!(
        report(&["attention.0.bias", "heads.hand.0.bias"], &[]).unwrap(),
        "missing: attention.0.bias, heads.hand.0.bias"
    );
    let many: Vec<String> = (0..20).map(|n| format!("layer.{n}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let said = report(&[], &many).unwrap();
    assert!(said.ends_with("layer.7 and 12 more"), "{said}");
}

#[test]
fn pth_files_are_read_without_python() {
    // Written by tests/data/make_pth.py.
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/stem.pth");
    let weights = read_weights(&path).unwrap();
    let stem = weights["stem.0.weight"].clone().convert_dtype(DType::F32);
    assert_eq!(stem.shape().to_vec(), [8, 3, 3, 7, 7]);
    let expected: Vec<f32> = (0..8 * 3 * 3 * 7 * 7).map(|i| i as f32 / 1024.0).collect();
    assert_eq!(stem.try_into_vec::<f32>().unwrap(), expected);

    let config = tiny();
    let mut net = config.init(2, &Device::flex());
    let report = load_pretrained(&mut net, &config, &path).unwrap();
    assert_eq!(report.loaded, 1);
    assert!(report.missing.iter().any(|name| name == "backbone.stem.1.weight"), "{report:?}");

    // Nested in a checkpoint, as torchvision's reference scripts write it.
    let within = read_weights(&path.with_file_name("model.pth")).unwrap();
    assert_eq!(within.keys().collect::<Vec<_>>(), ["stem.0.weight"]);
    assert_eq!(within["stem.0.weight"].clone(), weights["stem.0.weight"]);

    let folder = tempfile::tempdir().unwrap();
    let broken = folder.path().join("broken.pth");
    let bytes = std::fs::read(&path).unwrap();
    std::fs::write(&broken, &bytes[..bytes.len() / 2]).unwrap();
    let error = read_weights(&broken).unwrap_err();
    assert!(error.to_string().contains("broken.pth"), "{error}");
}

#[test]
fn clips_are_normalised_as_in_torchvision() {
    let mut devices = vec![("cpu", Device::flex())];
    devices.extend(adapter::device().map(|device| ("wgpu", device)));
    for (label, device) in devices {
        for [n, t, h, w] in [[1, 1, 1, 1], [2, 3, 5, 7], [3, 2, 9, 4]] {
            let mut rng = rand::rng();
            let frames: Vec<u8> = (0..n * t * h * w * 3).map(|_| rng.random()).collect();
            let batch = polyview::data::Batch {
                actions: vec!["0".into()],
                earlier: vec![0],
                view_counts: vec![n],
                views: (0..n).collect(),
                frames: frames.clone(),
                size: [t, h, w],
                ..Default::default()
            };
            let clips = polyview::model::plain_clips(&batch, &device).unwrap();
            assert_eq!(clips.dims(), [n, 3, t, h, w]);
            let ours = values(clips);
            let (mean, std) = (polyview::augment::MEAN, polyview::augment::STD);
            let plane = t * h * w;
            for (i, value) in ours.iter().enumerate() {
                let (clip, c, at) = (i / (3 * plane), i / plane % 3, i % plane);
                let byte = f64::from(frames[(clip * plane + at) * 3 + c]);
                let expected = (byte / 255.0 - f64::from(mean[c])) / f64::from(std[c]);
                let error = (f64::from(*value) - expected).abs();
                assert!(error < 2e-6, "{label}: {value} is not {expected}");
            }
        }
    }
}

#[test]
fn values_survive_a_state_dict_of_another_float_width() {
    let device = Device::flex();
    let config = tiny();
    let mut net = config.init(1, &device);
    let mut dict = state_dict::StateDict::new();
    let wide = TensorData::new(vec![0.5_f64; 8], [8]);
    dict.insert("backbone.stem.1.weight".into(), wide);
    state_dict::load_net(&mut net, &config, dict).unwrap();
    let stem = &state_dict::collect_net(&net, &config).unwrap()["backbone.stem.1.weight"];
    assert_eq!(stem.clone().try_into_vec::<f32>().unwrap(), vec![0.5; 8]);
}
