//! Exported weights: complete, with features to verify them, in f32 or f16, and accepted wherever a
//! checkpoint or pretrained weights are.

use std::path::Path;
use std::sync::atomic::AtomicBool;

use burn::tensor::{DType, Device, Tensor, TensorData};
use polyview::checkpoint::{self, CheckpointInfo, Layout};
use polyview::config::Config;
use polyview::model::MultiViewNet;
use polyview::model::pretrained::{load_pretrained, read_weights};
use polyview::model::state_dict::{self, StateDict};
use tempfile::TempDir;

use crate::common::program::{polyview, text};
use crate::common::run::{run, saving_to, small_config, try_run, with, with_args};

const LAYOUTS: [Layout; 2] = [Layout::Polyview, Layout::Torchvision];

/// Trains a run and returns its configuration.
fn trained(folder: &TempDir) -> Config {
    let config = with(&small_config(folder), "--no-gradual-finetuning --epochs 1");
    run(&config);
    config
}

fn values(net: &MultiViewNet, info: &CheckpointInfo) -> StateDict {
    state_dict::collect_net(net, &info.model).unwrap()
}

/// Copies a checkpoint, replacing the first values of the named tensors; returns all tensors.
fn changed(from: &Path, to: &Path, first: &[(&str, f32)]) -> StateDict {
    let (mut net, info) = checkpoint::load(from, &Device::flex()).unwrap();
    let mut all = values(&net, &info);
    for &(name, value) in first {
        let data = &mut all[name];
        let mut numbers: Vec<f32> = data.iter::<f32>().collect();
        numbers[0] = value;
        *data = TensorData::new(numbers, data.shape().to_vec());
    }
    state_dict::load_net(&mut net, &info.model, all.clone()).unwrap();
    checkpoint::save(to, &net, &info).unwrap();
    all
}

fn metadata(path: &Path, key: &str) -> String {
    let bytes = std::fs::read(path).unwrap();
    let (_, header) = safetensors::SafeTensors::read_metadata(&bytes).unwrap();
    header.metadata().as_ref().unwrap()[key].clone()
}

#[test]
fn an_export_has_the_weights_and_features_to_verify_them() {
    let folder = TempDir::new().unwrap();
    let checkpoint = trained(&folder).run.save_dir.join(checkpoint::LAST);
    let (net, info) = checkpoint::load(&checkpoint, &Device::flex()).unwrap();
    let ours = state_dict::collect_net(&net, &info.model).unwrap();
    for layout in [Layout::Polyview, Layout::Torchvision] {
        let out = folder.path().join(format!("{layout}.safetensors"));
        let count = checkpoint::export(&checkpoint, &out, layout, false).unwrap();
        let theirs = read_weights(&out).unwrap();
        assert_eq!(theirs.len(), count);
        for (name, data) in &theirs {
            let name = match layout {
                Layout::Polyview => name.clone(),
                Layout::Torchvision => format!("backbone.{name}"),
            };
            assert_eq!(ours[&name], *data, "{name}");
        }
        let backbone = ours.keys().filter(|name| name.starts_with("backbone.")).count();
        assert_eq!(count, if layout == Layout::Polyview { ours.len() } else { backbone });
        // Training can start from it.
        let mut other = info.model.init(9, &Device::flex());
        assert_eq!(load_pretrained(&mut other, &info.model, &out).unwrap().loaded, count);
        let bytes = std::fs::read(&out).unwrap();
        let (_, header) = safetensors::SafeTensors::read_metadata(&bytes).unwrap();
        let features = &header.metadata().as_ref().unwrap()["features"];
        let features: Vec<f32> = serde_json::from_str(features).unwrap();
        assert_eq!(features.len(), 64);
        assert!(features.iter().any(|f| *f != 0.0) && features.iter().all(|f| f.is_finite()));
    }
}

const WEIGHT: &str = "backbone.layer1.0.conv1.0.weight";
const VARIANCE: &str = "backbone.layer1.0.conv1.1.running_var";

/// Reads a file's tensors under polyview's names, in f32 and with the type in which they are stored.
fn in_file(path: &Path, layout: Layout) -> Vec<(String, Vec<f32>, DType)> {
    let prefix = if layout == Layout::Torchvision { "backbone." } else { "" };
    let tensors = read_weights(path).unwrap().into_iter();
    tensors
        .map(|(name, data)| {
            let values = data.iter::<f32>().collect();
            (format!("{prefix}{name}"), values, data.dtype())
        })
        .collect()
}

/// Weights are rounded to f16, to within half a unit in the last place (2^-11 of the value, or of the
/// smallest normal number if the value is below it). Biases and the tensors of batch norm, whose
/// variances may be too small for f16, are not.
#[test]
fn an_export_in_half_precision_is_read_as_f32() {
    let folder = TempDir::new().unwrap();
    let config = trained(&folder);
    let source = folder.path().join("source.safetensors");
    let last = config.run.save_dir.join(checkpoint::LAST);
    // 65519 is the largest whole number that is rounded to 65504.
    let special = [(WEIGHT, 65519.0), ("backbone.stem.0.weight", 1e-6), (VARIANCE, 1e-9)];
    let ours = changed(&last, &source, &special);
    for layout in LAYOUTS {
        let [half, whole] = ["half", "whole"].map(|how| {
            let path = folder.path().join(format!("{layout}-{how}.safetensors"));
            let count = checkpoint::export(&source, &path, layout, how == "half").unwrap();
            assert_eq!(count, read_weights(&path).unwrap().len());
            path
        });
        let size = |path: &Path| std::fs::metadata(path).unwrap().len() as f64;
        assert!(size(&half) < 0.55 * size(&whole), "{} of {}", size(&half), size(&whole));
        assert_eq!([&half, &whole].map(|path| metadata(path, "precision")), ["f16", "f32"]);
        let mut changed = 0;
        for (name, found, dtype) in in_file(&half, layout) {
            let is_weight = ours[&name].shape().len() > 1;
            assert_eq!(dtype, if is_weight { DType::F16 } else { DType::F32 }, "{name}");
            for (found, ours) in found.into_iter().zip(ours[&name].iter::<f32>()) {
                let bound = f32::max(ours.abs(), 2f32.powi(-14)) * 2f32.powi(-11);
                let bound = if is_weight { bound } else { 0.0 };
                assert!((found - ours).abs() <= bound, "{name}: {ours} became {found}");
                changed += usize::from(found != ours);
            }
        }
        assert!(changed > 10_000, "{changed} values were rounded");

        // A network loads the file's values, and the stored features are those of such a network.
        let (_, info) = checkpoint::load(&source, &Device::flex()).unwrap();
        let mut other = info.model.init(9, &Device::flex());
        load_pretrained(&mut other, &info.model, &half).unwrap();
        let loaded = values(&other, &info);
        for (name, found, _) in in_file(&half, layout) {
            assert!(loaded[&name].iter::<f32>().eq(found), "{name}");
        }
        assert_eq!(loaded[VARIANCE].iter::<f32>().next(), Some(1e-9));
        let probe: Vec<f32> = (0..3 * 4 * 32 * 32)
            .map(|i| ((i * 7919 % 2003) as f64 / 1001.0 - 1.0) as f32)
            .collect();
        let probe = TensorData::new(probe, [1, 3, 4, 32, 32]);
        let features = other.backbone.forward(Tensor::from_data(probe, &Device::flex()));
        let stored: Vec<f32> = serde_json::from_str(&metadata(&half, "features")).unwrap();
        assert_eq!(features.try_into_vec_as::<f32>().unwrap(), stored);
    }
}

#[test]
fn exports_are_accepted_where_checkpoints_and_pretrained_weights_are() {
    let folder = TempDir::new().unwrap();
    let config = trained(&folder);
    let best = config.run.save_dir.join(checkpoint::BEST);
    let root = &config.data.dataset_root;
    let clips = root.join("mvfouls/test/action_0");
    for (layout, half) in LAYOUTS.into_iter().flat_map(|layout| [(layout, false), (layout, true)]) {
        let file = folder.path().join(format!("{layout}-{half}.safetensors"));
        let [from, to] = [&best, &file].map(|path| path.to_str().unwrap());
        let names = layout.to_string();
        let more: &[&str] = if half { &["--half"] } else { &[] };
        let export = ["export", "--checkpoint", from, "--out", to, "--for", &names];
        let output = polyview(&[&export, more].concat());
        assert!(output.status.success(), "{}", text(&output.stderr));
        assert_eq!(text(&output.stdout).contains("weights in f16"), half);
        let pretrained = with_args(&config, &["--pretrained", to]);
        run(&saving_to(&pretrained, &folder.path().join(format!("{layout}-{half}"))));
        for command in [
            &["evaluate", "--dataset-root", root.to_str().unwrap()] as &[&str],
            &["predict", clips.to_str().unwrap()],
        ] {
            let more = ["--device", "cpu", "--checkpoint", to];
            let output = polyview(&[command, &more].concat());
            let said = text(&output.stderr);
            assert_eq!(output.status.success(), layout == Layout::Polyview, "{said}");
            let reason = "it contains only a backbone, without heads";
            assert_eq!(said.contains(reason), layout == Layout::Torchvision, "{said}");
        }
        // A bit in the exponent of the last value.
        let mut bytes = std::fs::read(&file).unwrap();
        *bytes.last_mut().unwrap() ^= 0x10;
        std::fs::write(&file, bytes).unwrap();
        let damaged = saving_to(&pretrained, &folder.path().join("damaged"));
        let error = try_run(&damaged, &AtomicBool::new(false), |_| {}).unwrap_err().to_string();
        assert!(error.contains("checksum does not match"), "{error}");
    }
}

#[test]
fn weights_beyond_the_range_of_f16_are_named_and_not_exported() {
    let folder = TempDir::new().unwrap();
    let config = trained(&folder);
    let [source, out] = ["source", "out.safetensors"].map(|name| folder.path().join(name));
    changed(&config.run.save_dir.join(checkpoint::LAST), &source, &[(WEIGHT, -65520.0)]);
    let [from, to] = [&source, &out].map(|path| path.to_str().unwrap());
    let export = ["export", "--checkpoint", from, "--out", to];
    let output = polyview(&[&export[..], &["--half"]].concat());
    let reason = format!("`{WEIGHT}` has values beyond the range of f16 (±65504)");
    let expected = format!("error: {from}: {reason}; export without --half\n");
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(1), expected));
    assert!(!out.exists());
    assert!(polyview(&export).status.success() && out.exists());
}

#[test]
fn an_export_does_not_overwrite_checkpoints() {
    let folder = TempDir::new().unwrap();
    let save = trained(&folder).run.save_dir;
    let (best, last) = (save.join(checkpoint::BEST), save.join(checkpoint::LAST));
    let copy = folder.path().join("copy.safetensors");
    std::fs::copy(&best, &copy).unwrap();
    let before = [&best, &last, &copy].map(|path| std::fs::read(path).unwrap());
    let indirect = folder.path().join("run/../copy.safetensors");
    for (from, to) in [(&best, &best), (&best, &last), (&copy, &indirect)] {
        let output = polyview(&[
            "export",
            "--checkpoint",
            from.to_str().unwrap(),
            "--out",
            to.to_str().unwrap(),
            "--half",
        ]);
        let error = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{error}");
        assert!(error.contains("is a checkpoint; choose another file"), "{error}");
    }
    assert!([&best, &last, &copy].map(|path| std::fs::read(path).unwrap()) == before);
}

#[test]
fn an_export_overwrites_only_an_export() {
    let folder = TempDir::new().unwrap();
    let best = trained(&folder).run.save_dir.join(checkpoint::BEST);
    let export = |to: &Path| {
        let [from, to] = [&best, to].map(|path| path.to_str().unwrap());
        polyview(&["export", "--checkpoint", from, "--out", to])
    };
    let [copy, other, out] =
        ["copy", "other", "out"].map(|name| folder.path().join(name).with_extension("safetensors"));
    std::fs::copy(&best, &copy).unwrap();
    std::fs::write(&other, b"something else").unwrap();
    for path in [&copy, &other] {
        let before = std::fs::read(path).unwrap();
        let output = export(path);
        let error = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{error}");
        let reason = "already exists and is not an export; choose another file";
        assert!(error.contains(reason), "{error}");
        assert!(std::fs::read(path).unwrap() == before);
    }
    // A file whose name has the extension of another format would be read in that format.
    let config = best.with_file_name(checkpoint::CONFIG);
    let before = std::fs::read(&config).unwrap();
    for path in [&config, &folder.path().join("weights.pth")] {
        let output = export(path);
        let error = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{error}");
        assert!(error.contains("the name must end with .safetensors"), "{error}");
    }
    assert!(std::fs::read(&config).unwrap() == before);
    for _ in 0..2 {
        assert!(export(&out).status.success());
    }
}
