//! The three backbones against torchvision's, in evaluation and in training mode.

use burn::nn::Linear;
use burn::optim::GradientsParams;
use burn::tensor::{Device, Tensor};
use polyview::losses::cross_entropy;
use polyview::model::{Backbone, BackboneKind, Init, STAGES, state_dict};
use serde_json::Value;

use crate::common::compare::{Worst, checksum_error, gradient_tolerance, max_diff};
use crate::common::network::{fill_backbone, filled, gradients};
use crate::common::reference::{floats, numbers};
use crate::common::tensors::{unit_tensor, values};
use crate::common::{adapter, reference};

/// The reference's 400-class classifier, which polyview itself does not have.
fn classifier(prefix: &str, device: &Device) -> Linear {
    let mut fc = Init::new(0, device).linear(512, 400);
    let transposed = |name: &str| -> Vec<f32> {
        let torch = filled(&format!("{prefix}{name}"), &[400, 512], "linear_weight");
        (0..512 * 400).map(|i| torch[(i % 400) * 512 + i / 400]).collect()
    };
    let mut parts = state_dict::StateDict::new();
    // `load` expects PyTorch's layout and transposes; a bare Linear is no nested module, so its
    // weight is given as Burn holds it.
    let weight = burn::tensor::TensorData::new(transposed("fc.weight"), [512, 400]);
    let bias = filled(&format!("{prefix}fc.bias"), &[400], "linear_bias");
    fc.weight = burn::module::Param::from_data(weight, device);
    parts.insert("bias".to_owned(), burn::tensor::TensorData::new(bias, [400]));
    state_dict::load(&mut fc, parts).unwrap();
    fc
}

struct Case<'a> {
    kind: BackboneKind,
    list: &'a Value,
    case: &'a Value,
}

impl Case<'_> {
    fn prefix(&self) -> &str {
        self.case["hash_prefix"].as_str().unwrap()
    }

    fn name(&self) -> String {
        format!("{} {}", self.kind.name(), self.case["name"].as_str().unwrap())
    }

    fn build(&self, device: &Device) -> (Backbone, Linear, Tensor<5>) {
        let mut backbone = Backbone::new(&mut Init::new(1, device), self.kind);
        fill_backbone(&mut backbone, self.list, self.prefix());
        let shape: [usize; 5] = numbers(&self.case["input_shape"]).try_into().unwrap();
        let input = unit_tensor(self.case["input_name"].as_str().unwrap(), shape, device);
        (backbone, classifier(self.prefix(), device), input)
    }

    fn check_eval(&self, device: &Device, worst: &mut Worst) {
        let (backbone, fc, input) = self.build(device);
        let expected = &self.case["eval"];
        let mut x = input.clone();
        for (index, stage) in STAGES.iter().enumerate() {
            x = backbone.forward_stage(index, x);
            let record = &self.case["eval_stage_check"][*stage];
            assert_eq!(x.dims().to_vec(), numbers(&record["shape"]), "{} {stage}", self.name());
            let error = checksum_error(stage, &values(x.clone()), record);
            assert!(error < 2e-5, "{} {stage}: stage output off by {error:.2e}", self.name());
            worst.note("stage output (eval, relative)", error);
        }
        let features = backbone.forward(input);
        let logits = fc.forward(features.clone());
        let [n, _] = logits.dims();
        let first16 = logits.slice([0..n, 0..16]);
        let error = max_diff(&values(features), &floats(&expected["features_f64"]));
        assert!(error < 1e-5, "{}: eval features off by {error:.2e}", self.name());
        worst.note("features (eval)", error);
        let error = max_diff(&values(first16), &floats(&expected["logits16_f64"]));
        assert!(error < 1e-5, "{}: eval logits off by {error:.2e}", self.name());
        worst.note("logits (eval)", error);
    }

    fn check_train(&self, device: &Device, worst: &mut Worst) {
        let device = device.clone().autodiff();
        let (backbone, fc, input) = self.build(&device);
        let expected = &self.case["train"];
        let features = backbone.forward(input);
        let logits = fc.forward(features.clone());
        let [n, _] = logits.dims();
        let labels: Vec<usize> = numbers(&self.case["labels"]);
        let loss = cross_entropy(logits.clone(), &labels, None, 0.0);

        // Batch statistics over few elements amplify rounding; the reference says by how much.
        let room = 5.0 * expected["features_max_abs_diff_f32_f64"].as_f64().unwrap() + 2e-5;
        let error = max_diff(&values(features), &floats(&expected["features_f64"]));
        assert!(error < room, "{}: train features off by {error:.2e}", self.name());
        worst.note("features (train)", error);
        let first16 = values(logits.slice([0..n, 0..16]));
        let error = max_diff(&first16, &floats(&expected["logits16_f64"]));
        assert!(error < 4.0 * room, "{}: train logits off by {error:.2e}", self.name());
        worst.note("logits (train)", error);
        let error = max_diff(&values(loss.clone()), &floats(&expected["loss_f64"]));
        assert!(error < 4.0 * room, "{}: loss off by {error:.2e}", self.name());
        worst.note("loss (train)", error);

        let grads = GradientsParams::from_grads(loss.backward(), &backbone);
        let ours = gradients(&backbone, &grads);
        let mut compared = 0;
        let mut square = 0.0;
        for (name, grad) in &ours {
            square += grad.iter().map(|g| f64::from(*g).powi(2)).sum::<f64>();
            let record = &expected["grads_f64"][name];
            if record.is_null() {
                continue;
            }
            compared += 1;
            let error = checksum_error(name, grad, record);
            let room = gradient_tolerance(&expected["grads"][name]);
            assert!(error < room, "{} {name}: gradient off by {error:.2e}", self.name());
            worst.note("gradient (relative)", error);
        }
        let named = expected["grads"].as_object().unwrap();
        let of_backbone = named.keys().filter(|name| !name.starts_with("fc.")).count();
        assert_eq!(compared, of_backbone, "{}: gradients missing", self.name());
        assert!(square.sqrt() > 1.0, "{}: gradients vanish", self.name());

        let state = state_dict::collect(&backbone).unwrap();
        for (name, record) in expected["running_stats_f64"].as_object().unwrap() {
            let values: Vec<f32> = state[name].clone().try_into_vec().unwrap();
            let error = checksum_error(name, &values, record);
            assert!(error < 1e-3, "{} {name}: running statistics off by {error:.2e}", self.name());
            worst.note("running statistics (relative)", error);
        }
    }
}

fn check(kind: BackboneKind, device: &Device, cases: &[&str], label: &str) {
    let file = reference::load(&format!("backbone_{}.json", kind.name()));
    let mut worst = Worst::default();
    let mut seen = 0;
    for case in file["cases"].as_array().unwrap() {
        if !cases.contains(&case["name"].as_str().unwrap()) {
            continue;
        }
        seen += 1;
        let case = Case { kind, list: &file["state_dict"], case };
        case.check_eval(device, &mut worst);
        case.check_train(device, &mut worst);
    }
    assert_eq!(seen, cases.len(), "the reference lacks a case");
    worst.print(&format!("{} on {label}", kind.name()));
}

const ALL: [&str; 3] = ["small", "odd", "alt_weights"];

#[test]
fn golden_r3d_18_on_cpu() {
    check(BackboneKind::R3d18, &Device::flex(), &ALL, "cpu");
}

#[test]
fn golden_mc3_18_on_cpu() {
    check(BackboneKind::Mc3_18, &Device::flex(), &ALL, "cpu");
}

#[test]
fn golden_r2plus1d_18_on_cpu() {
    check(BackboneKind::R2plus1d18, &Device::flex(), &ALL, "cpu");
}

#[test]
fn golden_mc3_18_on_wgpu() {
    let Some(device) = adapter::device() else { return };
    check(BackboneKind::Mc3_18, &device, &["small"], "wgpu");
}

#[test]
fn parameter_counts_are_torchvisions() {
    let device = Device::flex().autodiff();
    // The reference counts the 400-class classifier too.
    let classifier = 512 * 400 + 400;
    for kind in [BackboneKind::R3d18, BackboneKind::Mc3_18, BackboneKind::R2plus1d18] {
        let file = reference::load(&format!("backbone_{}.json", kind.name()));
        let expected = file["num_parameters"].as_u64().unwrap() as usize - classifier;
        let backbone = Backbone::new(&mut Init::new(1, &device), kind);
        assert_eq!(polyview::model::parameter_count(&backbone), expected, "{}", kind.name());
    }
}
