//! What the golden tests of the network share: filling a module by name, reading gradients by
//! name, and comparing with checksums.

use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::{Device, Tensor, TensorData};
use polyview::model::state_dict::{self, StateDict};
use serde_json::Value;

use crate::fill;

/// Worst error seen per kind, printed for the record (`--nocapture`).
#[derive(Default)]
pub struct Worst(Vec<(String, f64)>);

impl Worst {
    pub fn note(&mut self, kind: &str, error: f64) {
        match self.0.iter_mut().find(|(k, _)| k == kind) {
            Some((_, worst)) => *worst = worst.max(error),
            None => self.0.push((kind.to_owned(), error)),
        }
    }

    pub fn print(&self, what: &str) {
        for (kind, error) in &self.0 {
            println!("golden {what}: worst {kind} error {error:.2e}");
        }
    }
}

/// A tensor of the state dict as the reference files make it: `kind` is theirs.
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

/// Fills a backbone from a reference file's list of names; all must fit, none may be missing.
pub fn fill_backbone<M: Module>(module: &mut M, list: &Value, prefix: &str) {
    let mut values = StateDict::new();
    for entry in list.as_array().unwrap() {
        let name = entry[0].as_str().unwrap();
        let kind = entry[2].as_str().unwrap();
        if name.starts_with("fc.") || kind == "bn_num_batches_tracked" {
            continue;
        }
        let shape = shape_of(&entry[1]);
        let data = TensorData::new(filled(&format!("{prefix}{name}"), &shape, kind), shape);
        values.insert(name.to_owned(), data);
    }
    let report = state_dict::load(module, values).unwrap();
    assert!(report.missing.is_empty(), "missing: {:?}", report.missing);
    assert!(report.unexpected.is_empty(), "unexpected: {:?}", report.unexpected);
}

pub fn shape_of(value: &Value) -> Vec<usize> {
    value.as_array().unwrap().iter().map(|n| n.as_u64().unwrap() as usize).collect()
}

pub fn floats(value: &Value) -> Vec<f64> {
    match value {
        Value::Array(items) => items.iter().flat_map(floats).collect(),
        number => vec![number.as_f64().unwrap()],
    }
}

pub fn tensor<const D: usize>(values: Vec<f32>, shape: [usize; D], device: &Device) -> Tensor<D> {
    Tensor::from_data(TensorData::new(values, shape), device)
}

/// `unit(name, shape)` as a tensor.
pub fn unit_tensor<const D: usize>(name: &str, shape: [usize; D], device: &Device) -> Tensor<D> {
    let values = fill::unit(name, shape.iter().product()).into_iter().map(|u| u as f32).collect();
    tensor(values, shape, device)
}

pub fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().convert_dtype(burn::tensor::DType::F32).try_into_vec().unwrap()
}

/// Largest absolute difference.
pub fn max_diff(ours: &[f32], theirs: &[f64]) -> f64 {
    assert_eq!(ours.len(), theirs.len());
    ours.iter().zip(theirs).map(|(a, b)| (f64::from(*a) - b).abs()).fold(0.0, f64::max)
}

/// Error of `ours` against a checksum record, relative to the record's own size: the largest of
/// the differences in l2, proj and the first four values. `key` is the checksum's own key.
pub fn checksum_error(key: &str, ours: &[f32], record: &Value) -> f64 {
    let count: usize = shape_of(&record["shape"]).iter().product();
    assert_eq!(ours.len(), count, "{key}: another number of values");
    let wide: Vec<f64> = ours.iter().map(|v| f64::from(*v)).collect();
    let l2 = wide.iter().map(|v| v * v).sum::<f64>().sqrt();
    let signs = fill::unit(&format!("proj/{key}"), count);
    let proj: f64 = wide.iter().zip(&signs).map(|(g, u)| g * (2.0 * u - 1.0)).sum();
    let abs_max = wide.iter().fold(0.0_f64, |m, v| m.max(v.abs()));
    let get = |name: &str| record[name].as_f64().unwrap();
    let scale = get("l2").max(1e-30);
    let mut error = ((l2 - get("l2")) / scale).abs();
    error = error.max(((proj - get("proj")) / scale).abs());
    error = error.max(((abs_max - get("abs_max")) / get("abs_max").max(1e-30)).abs());
    for (ours, theirs) in wide.iter().zip(floats(&record["first4"])) {
        error = error.max((ours - theirs).abs() / get("abs_max").max(1e-30));
    }
    error
}

/// How far two right f32 runs may lie apart in this gradient, with room for a third.
pub fn gradient_tolerance(record: &Value) -> f64 {
    let recorded = ["f32_vs_f64_rel_l2", "f32_other_kernels_rel_l2"]
        .iter()
        .filter_map(|key| record[*key].as_f64())
        .fold(0.0, f64::max);
    (5.0 * recorded).max(2e-4)
}

/// All gradients of a module under its own paths, enum variants left out.
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
