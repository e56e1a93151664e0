//! The parts of the larger backbones on every device, and their public weights by name and shape.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::path::Path;

use burn::optim::GradientsParams;
use burn::tensor::{Device, Tensor};
use polyview::model::pretrained::load_pretrained;
use polyview::model::{Backbone, BackboneKind, Init, ModelConfig, stage_of, state_dict};
use polyview::schema::Schema;
use serde_json::{Value, json};

use crate::common::adapter;
use crate::common::compare::relative_distance;
use crate::common::network::gradients;
use crate::common::reference::{self, counts, entries};
use crate::common::tensors::{unit_tensor, values};

/// Runs the stem (with max pooling) and the first stage (bottlenecks), checks their output sizes, and
/// returns output and gradients.
fn first_stages(device: &Device, half: bool) -> (Vec<f32>, Vec<(String, Vec<f32>)>) {
    let device = device.clone().autodiff();
    let clips = [1, 3, 5, 35, 46];
    let net = Backbone::new(&mut Init::new(5, &device), BackboneKind::R3d50).with_half(half);
    let parts = net.convolutions_by_part(clips).unwrap();
    let mut x: Tensor<5> = unit_tensor("clips", clips, &device);
    for stage in 0..2 {
        let first = parts.iter().find(|part| part.stage == stage).unwrap().convolutions[0];
        assert_eq!(x.dims(), first.x());
        x = net.forward_stage(stage, x);
    }
    assert_eq!(x.dims(), [1, 256, 3, 9, 12]);
    let y = polyview::half::to_float(x);
    // f16 gradients need this factor; it changes nothing else.
    let grads = y.clone().square().mean().mul_scalar(1024.0).backward();
    (values(y), gradients(&net, &GradientsParams::from_grads(grads, &net)))
}

#[test]
fn pooling_and_bottlenecks_are_the_same_on_every_device() {
    let Some(device) = adapter::device() else { return };
    let (want, want_grads) = first_stages(&Device::flex(), false);
    let largest = want.iter().fold(0f32, |most, v| most.max(v.abs()));
    // Rounding to f16 may change which of two close values is the maximum and gets the gradient.
    for (half, bounds) in [(false, [1e-5, 1e-4]), (true, [5e-3, 0.15])] {
        let (got, grads) = first_stages(&device, half);
        let error = want.iter().zip(&got).fold(0f32, |most, (a, b)| most.max((a - b).abs()));
        let error = f64::from(error / largest);
        println!("half {half}: output off by {error:.1e}");
        assert!(error < bounds[0], "half {half}: output off by {error:.2e}");
        let error = relative_distance(&grads, &want_grads);
        println!("half {half}: gradients off by {error:.1e}");
        assert!(error < bounds[1], "half {half}: gradients off by {error:.2e}");
    }
}

/// Writes a safetensors file of f16 zeros with the names and shapes of a reference file's `state_dict`;
/// the file is sparse where the file system supports it.
fn write_zeros(path: &Path, state_dict: &[Value]) {
    let mut header = BTreeMap::new();
    let mut end = 0;
    for entry in state_dict {
        let (name, shape) = (entry[0].as_str().unwrap(), counts(&entry[1]));
        let start = end;
        end += 2 * shape.iter().product::<usize>();
        let tensor = json!({"dtype": "F16", "shape": shape, "data_offsets": [start, end]});
        header.insert(name.to_owned(), tensor);
    }
    let header = serde_json::to_string(&header).unwrap();
    let header = format!("{header}{}", " ".repeat(8 - header.len() % 8));
    let mut file = File::create(path).unwrap();
    file.write_all(&(header.len() as u64).to_le_bytes()).unwrap();
    file.write_all(header.as_bytes()).unwrap();
    file.set_len((8 + header.len() + end) as u64).unwrap();
}

/// Covers the files of ig65m-pytorch and of 3D-ResNets-PyTorch (which prefixes each name with `module.`).
#[test]
fn public_weights_load_by_their_names() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("public.safetensors");
    for (kind, prefix) in [(BackboneKind::R2plus1d34, ""), (BackboneKind::R3d50, "module.")] {
        let file = reference::load(&format!("backbone_{}.json", kind.name()));
        let mut state: Vec<Value> = entries(&file, "state_dict").to_vec();
        for entry in &mut state {
            entry[0] = format!("{prefix}{}", entry[0].as_str().unwrap()).into();
        }
        write_zeros(&path, &state);
        let config = ModelConfig::new(kind, &Schema::mvfoul().unwrap());
        let mut net = config.init(1, &Device::flex());
        let report = load_pretrained(&mut net, &config, &path).unwrap();
        assert!(report.missing.is_empty() && report.unexpected.is_empty(), "{report:?}");
        // Everything but the classifier and the counters, which our files lack.
        let of_kind = |entry: &&Value| entry[2] != "bn_num_batches_tracked";
        assert_eq!(report.loaded, state.iter().filter(of_kind).count() - 2);
        let dict = state_dict::collect_net(&net, &config).unwrap();
        for entry in state.iter().filter(of_kind) {
            let name = entry[0].as_str().unwrap().strip_prefix(prefix).unwrap();
            let Some(data) = dict.get(&format!("backbone.{name}")) else {
                assert!(name.starts_with("fc."), "{name} is not one of our names");
                continue;
            };
            assert_eq!(data.shape().to_vec(), counts(&entry[1]), "{name}");
        }
        // A parameter's path in the network and its name in files give the same stage.
        let paths = state_dict::collect(&net.backbone).unwrap();
        let of_backbone = dict.keys().filter(|name| name.starts_with("backbone."));
        for (path, name) in paths.keys().zip(of_backbone) {
            let stage = stage_of(&format!("backbone.{path}"));
            assert_eq!(stage == Some(0), path.starts_with("stem."), "{path}");
            assert!(stage.is_some() && stage_of(name) == stage, "{path}, {name}");
        }
    }
}
