//! Modules whose values derive from the names of their parameters, and gradients by name.

use burn::module::{Module, ModuleVisitor, Param};
use burn::nn::Linear;
use burn::optim::GradientsParams;
use burn::tensor::{Device, Tensor, TensorData};
use polyview::model::Init;
use polyview::model::state_dict::{self, StateDict};
use serde_json::Value;

use super::fill;
use super::reference::{counts, list};
use super::tensors::values;

/// Returns a tensor of the state dict, filled as in the reference files; `kind` is one of their kinds.
pub fn filled(name: &str, shape: &[usize], kind: &str) -> Vec<f32> {
    let count: usize = shape.iter().product();
    let around = |centre: f64, width: f64| -> Vec<f32> {
        fill::unit(name, count)
            .into_iter()
            .map(|u| (centre + width * (2.0 * u - 1.0)) as f32)
            .collect()
    };
    match kind {
        "conv_weight" | "linear_weight" => {
            let fan_in: usize = shape[1..].iter().product();
            fill::signed(name, count, (6.0 / fan_in as f64).sqrt())
        }
        "linear_bias" => fill::signed(name, count, 0.01),
        "bn_weight" => around(1.0, 0.1),
        "bn_bias" | "bn_running_mean" => around(0.0, 0.1),
        "bn_running_var" => {
            fill::unit(name, count).into_iter().map(|u| (1.0 + 0.5 * u) as f32).collect()
        }
        other => panic!("unknown kind {other}"),
    }
}

/// Returns the path in a backbone of what its public weights call `name`: some of them have no prefix
/// for the stem.
pub fn in_backbone(name: &str) -> String {
    let of_stem = ["conv1.", "bn1."].iter().any(|start| name.starts_with(start));
    if of_stem { format!("stem.{name}") } else { name.to_owned() }
}

/// Fills a backbone from a reference file's list [name, shape, kind]; all must load, none may be
/// missing.
pub fn fill_backbone<M: Module>(module: &mut M, names: &Value, prefix: &str) {
    let mut values = StateDict::new();
    for entry in list(names) {
        let name = entry[0].as_str().expect("an entry is [name, shape, kind]");
        let kind = entry[2].as_str().expect("an entry is [name, shape, kind]");
        if name.starts_with("fc.") || kind == "bn_num_batches_tracked" {
            continue;
        }
        let shape = counts(&entry[1]);
        let data = TensorData::new(filled(&format!("{prefix}{name}"), &shape, kind), shape);
        values.insert(in_backbone(name), data);
    }
    let report = state_dict::load(module, values).expect("the shapes are the module's");
    assert!(report.missing.is_empty(), "missing: {:?}", report.missing);
    assert!(report.unexpected.is_empty(), "unexpected: {:?}", report.unexpected);
}

/// Returns a Linear with PyTorch's weight [outputs, inputs] and bias [outputs].
pub fn linear(weight: &[f32], bias: &[f32], device: &Device) -> Linear {
    let outputs = bias.len();
    let inputs = weight.len() / outputs;
    let mut linear = Init::new(0, device).linear(inputs, outputs);
    let weight = TensorData::new(transposed(weight, inputs), [inputs, outputs]);
    linear.weight = Param::from_data(weight, device);
    linear.bias = Some(Param::from_data(TensorData::new(bias.to_vec(), [outputs]), device));
    linear
}

/// Transposes a matrix with `columns` columns: a Linear's weight is [inputs, outputs] in
/// Burn and [outputs, inputs] in PyTorch.
pub fn transposed(matrix: &[f32], columns: usize) -> Vec<f32> {
    let rows = matrix.len() / columns;
    (0..matrix.len()).map(|i| matrix[(i % rows) * columns + i / rows]).collect()
}

/// Returns all gradients of a module under its own paths, without the names of enum variants.
pub fn gradients<M: Module>(module: &M, grads: &GradientsParams) -> Vec<(String, Vec<f32>)> {
    struct Collect<'a> {
        grads: &'a GradientsParams,
        path: Vec<String>,
        found: Vec<(String, Vec<f32>)>,
    }
    impl ModuleVisitor for Collect<'_> {
        fn enter_module(&mut self, name: &str, container: &str) {
            if !container.starts_with("Enum:") {
                self.path.push(name.to_owned());
            }
        }
        fn exit_module(&mut self, _name: &str, container: &str) {
            if !container.starts_with("Enum:") {
                self.path.pop();
            }
        }
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            if let Some(grad) = self.grads.get::<D>(param.id) {
                self.found.push((self.path.join("."), values(grad)));
            }
        }
    }
    let mut collect = Collect { grads, path: Vec::new(), found: Vec::new() };
    module.visit(&mut collect);
    collect.found
}
