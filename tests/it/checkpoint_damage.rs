//! Damaged checkpoints and weight files: refused with a reason, or read exactly.

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use burn::tensor::{Device, TensorData};
use polyview::checkpoint;
use polyview::model::pretrained::{load_pretrained, read_weights};
use polyview::model::{BackboneKind, ModelConfig, state_dict};
use polyview::schema::Schema;
use polyview::train::load_pair;
use rand::{RngExt, SeedableRng};
use tempfile::TempDir;

use crate::common::run::{run, saving_to, small_config, try_run, with};

/// Trains two different runs and returns their checkpoints.
fn two_runs(folder: &TempDir) -> [PathBuf; 2] {
    [1, 2].map(|seed| {
        let options = format!("--seed {seed} --no-gradual-finetuning --epochs 1");
        let config = with(&small_config(folder), &options);
        let config = saving_to(&config, &folder.path().join(format!("run{seed}")));
        run(&config);
        config.run.save_dir.join(checkpoint::LAST)
    })
}

/// Returns everything that a checkpoint restores.
fn content(path: &Path) -> Result<(state_dict::StateDict, String), String> {
    let saved = load_pair(path, &Device::flex()).map_err(|error| error.to_string())?;
    let state = state_dict::collect(&saved.net).unwrap();
    let moments: Vec<(String, u32, Vec<f32>)> = saved
        .moments
        .into_iter()
        .map(|(name, m)| (name, m.steps, m.first.try_into_vec_as().unwrap()))
        .collect();
    Ok((state, format!("{:?} {:?} {moments:?}", saved.info, saved.state)))
}

#[test]
fn a_damaged_checkpoint_is_refused_as_pretrained_weights() {
    let folder = TempDir::new().unwrap();
    let config = with(&small_config(&folder), "--no-gradual-finetuning --epochs 1");
    run(&config);
    let mut bytes = std::fs::read(config.run.save_dir.join(checkpoint::BEST)).unwrap();
    // A bit in the exponent of the last weight.
    *bytes.last_mut().unwrap() ^= 0x10;
    let damaged = folder.path().join("damaged.safetensors");
    std::fs::write(&damaged, bytes).unwrap();
    let pretrained = format!("--pretrained {}", damaged.display());
    let again = saving_to(&with(&config, &pretrained), &folder.path().join("again"));
    let error = try_run(&again, &AtomicBool::new(false), |_| {}).unwrap_err().to_string();
    assert!(error.contains("checksum does not match"), "{error}");
}

#[test]
fn two_hundred_damaged_checkpoints_are_refused_or_read_exactly() {
    let folder = TempDir::new().unwrap();
    let [first, second] = two_runs(&folder);
    let sound = content(&first).unwrap();
    let files = [first.clone(), first.with_extension("state")];
    let bytes = files.clone().map(|path| std::fs::read(path).unwrap());
    let other = [second.clone(), second.with_extension("state")].map(|p| std::fs::read(p).unwrap());
    let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(5);
    let (mut refused, mut right) = (0, 0);
    for round in 0..200 {
        let which = round % 2;
        let mut damaged = bytes[which].clone();
        let what = match round / 2 % 5 {
            0 => {
                let at = rng.random_range(0..damaged.len());
                damaged[at] ^= 1 << rng.random_range(0..8);
                format!("bit of byte {at}")
            }
            // The header, where lengths and names are.
            1 => {
                let at = rng.random_range(0..200);
                damaged[at] = rng.random();
                format!("byte {at}")
            }
            2 => {
                damaged.truncate(rng.random_range(0..damaged.len()));
                format!("cut to {}", damaged.len())
            }
            3 => {
                damaged = other[which].clone();
                "of another run".to_owned()
            }
            _ => {
                let (a, b) = (rng.random_range(0..damaged.len()), rng.random_range(1..4096));
                let end = (a + b).min(damaged.len());
                damaged[a..end].fill(rng.random());
                format!("bytes {a} to {end}")
            }
        };
        std::fs::write(&files[which], &damaged).unwrap();
        match content(&first) {
            Ok(ours) => {
                assert!(ours == sound, "file {which}, {what}: loaded with other content");
                right += 1;
            }
            Err(message) => {
                assert!(!message.contains('\n') && message.contains("last."), "{message}");
                refused += 1;
            }
        }
        std::fs::write(&files[which], &bytes[which]).unwrap();
    }
    println!("{refused} damaged checkpoints refused, {right} read exactly");
    assert!(refused >= 180, "{refused}");
    assert!(content(&first).unwrap() == sound);
}

/// Returns a pickle that creates a file if it is executed: `posix.system("touch MARKER")`.
fn malicious(marker: &Path) -> Vec<u8> {
    let command = format!("touch {}", marker.display());
    let length = u32::try_from(command.len()).unwrap().to_le_bytes();
    [b"\x80\x02cposix\nsystem\nX".as_slice(), &length, command.as_bytes(), b"\x85R."].concat()
}

#[test]
fn malicious_and_damaged_pickles_are_refused_and_nothing_runs() {
    let folder = TempDir::new().unwrap();
    let marker = folder.path().join("executed");
    let path = folder.path().join("bad.pth");
    std::fs::write(&path, malicious(&marker)).unwrap();
    assert!(read_weights(&path).is_err());
    assert!(!marker.exists(), "the pickle was executed");
    let good = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/stem.pth");
    let bytes = std::fs::read(good).unwrap();
    let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(9);
    for round in 0..120 {
        let mut damaged = bytes.clone();
        if round % 3 == 0 {
            damaged.truncate(rng.random_range(0..bytes.len()));
        } else {
            for _ in 0..rng.random_range(1..20) {
                let at = rng.random_range(0..bytes.len());
                damaged[at] = rng.random();
            }
        }
        std::fs::write(&path, &damaged).unwrap();
        // Whatever the file claims, reading ends and takes no more memory than its size warrants.
        if let Ok(tensors) = read_weights(&path) {
            let size: usize = tensors.values().map(|t| t.as_bytes().len()).sum();
            assert!(size < 1 << 24, "{size} bytes from a file of {}", bytes.len());
        }
    }
}

#[test]
fn the_original_trainers_heads_are_recognised_by_their_shapes() {
    let schema = Schema::mvfoul().unwrap();
    let model = ModelConfig::new(BackboneKind::R3dTiny, &schema);
    let device = Device::flex();
    let net = model.init(7, &device);
    let ours = state_dict::collect_net(&net, &model).unwrap();
    // The original trainer's data-parallel training saved them under these names.
    let theirs = |name: &str| {
        let name = name
            .replace("heads.offence_severity.2", "severity_head.3")
            .replace("heads.offence_severity", "severity_head")
            .replace("heads.action_class.2", "action_type_classifier.fc.3")
            .replace("heads.action_class", "action_type_classifier.fc")
            .replace("attention", "attention_module.scores");
        format!("module.{name}")
    };
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("old.safetensors");
    let named: Vec<(String, &TensorData)> = ours.iter().map(|(n, d)| (theirs(n), d)).collect();
    let views = named.iter().map(|(name, data)| {
        let dtype = safetensors::Dtype::F32;
        let shape = data.shape().to_vec();
        (name, safetensors::tensor::TensorView::new(dtype, shape, data.as_bytes()).unwrap())
    });
    std::fs::write(&path, safetensors::serialize(views, None).unwrap()).unwrap();
    let mut other = model.init(8, &device);
    let report = load_pretrained(&mut other, &model, &path).unwrap();
    assert_eq!((&report.missing, &report.unexpected), (&vec![], &vec![]));
    assert!(state_dict::collect_net(&other, &model).unwrap() == ours);
}
