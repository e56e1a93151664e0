//! The backbones against PyTorch's, in evaluation and in training mode.

use burn::nn::Linear;
use burn::optim::GradientsParams;
use burn::tensor::{Device, Tensor};
use polyview::kernels::{ChangedLimits, DeviceLimits, Vendor, with_limits};
use polyview::losses::{Targets, cross_entropy};
use polyview::model::{Backbone, BackboneKind, Init, STAGES, state_dict};
use serde_json::Value;

use crate::common::compare::{
    Worst, checksum_error, gradient_tolerance, max_diff, relative_distance,
};
use crate::common::network::{fill_backbone, filled, gradients, in_backbone, linear};
use crate::common::reference::{count, counts, entries, field, floats, named, number, shape, text};
use crate::common::tensors::{unit_tensor, values};
use crate::common::{adapter, reference};

/// The reference's classifier, which polyview itself does not have.
struct Classifier {
    inputs: usize,
    classes: usize,
}

impl Classifier {
    /// Returns the classifier that the file's list of parameters describes.
    fn of(file: &Value) -> Self {
        let weight = entries(file, "state_dict").iter().find(|entry| entry[0] == "fc.weight");
        let [classes, inputs] = counts(&weight.expect("fc.weight is listed")[1])[..] else {
            panic!("fc.weight is not a matrix")
        };
        Self { inputs, classes }
    }

    fn parameters(&self) -> usize {
        self.inputs * self.classes + self.classes
    }

    fn filled(&self, prefix: &str, device: &Device) -> Linear {
        let Self { inputs, classes } = *self;
        let part =
            |name: &str, shape: &[usize], kind| filled(&format!("{prefix}{name}"), shape, kind);
        let weight = part("fc.weight", &[classes, inputs], "linear_weight");
        let bias = part("fc.bias", &[classes], "linear_bias");
        linear(&weight, &bias, device)
    }
}

struct Case<'a> {
    kind: BackboneKind,
    file: &'a Value,
    case: &'a Value,
}

impl Case<'_> {
    fn prefix(&self) -> &str {
        text(self.case, "hash_prefix")
    }

    fn name(&self) -> String {
        format!("{} {}", self.kind.name(), text(self.case, "name"))
    }

    fn build(&self, device: &Device) -> (Backbone, Linear, Tensor<5>) {
        let mut backbone = Backbone::new(&mut Init::new(1, device), self.kind);
        fill_backbone(&mut backbone, field(self.file, "state_dict"), self.prefix());
        let shape: [usize; 5] = shape(self.case, "input_shape");
        let input = unit_tensor(text(self.case, "input_name"), shape, device);
        (backbone, Classifier::of(self.file).filled(self.prefix(), device), input)
    }

    fn check_eval(&self, device: &Device, worst: &mut Worst) {
        let (backbone, fc, input) = self.build(device);
        let expected = field(self.case, "eval");
        let mut x = input.clone();
        for (index, stage) in STAGES.iter().enumerate() {
            x = backbone.forward_stage(index, x);
            let record = field(field(self.case, "eval_stage_check"), stage);
            assert_eq!(
                x.dims().to_vec(),
                counts(field(record, "shape")),
                "{} {stage}",
                self.name()
            );
            let error = checksum_error(stage, &values(x.clone()), record);
            assert!(error < 2e-5, "{} {stage}: stage output off by {error:.2e}", self.name());
            worst.note("stage output (eval, relative)", error);
        }
        let features = backbone.forward(input);
        let logits = fc.forward(features.clone());
        // Features of a deep network may be large; the reference records the accuracy of f32.
        let exact = |of: &str| number(expected, &format!("{of}_max_abs_diff_f32_f64"));
        let room = |of: &str| (5.0 * exact(of)).max(1e-5);
        let error = max_diff(&values(features), &floats(field(expected, "features_f64")));
        let most = room("features");
        assert!(error < most, "{}: eval features off by {error:.2e}", self.name());
        worst.note("features (eval)", error);
        let error = max_diff(&first_logits(logits), &floats(field(expected, "logits16_f64")));
        assert!(error < room("logits"), "{}: eval logits off by {error:.2e}", self.name());
        worst.note("logits (eval)", error);
    }

    fn check_train(&self, device: &Device, worst: &mut Worst) {
        let device = device.clone().autodiff();
        let (backbone, fc, input) = self.build(&device);
        let expected = field(self.case, "train");
        let features = backbone.forward(input);
        let logits = fc.forward(features.clone());
        let labels = counts(field(self.case, "labels"));
        let targets = Targets::new(&labels, logits.dims()[1]);
        let loss = cross_entropy(logits.clone(), &targets, None, 0.0);

        // Batch statistics over few elements amplify rounding; the reference records by how much.
        let room = 5.0 * number(expected, "features_max_abs_diff_f32_f64") + 2e-5;
        let error = max_diff(&values(features), &floats(field(expected, "features_f64")));
        assert!(error < room, "{}: train features off by {error:.2e}", self.name());
        worst.note("features (train)", error);
        let error = max_diff(&first_logits(logits), &floats(field(expected, "logits16_f64")));
        assert!(error < 4.0 * room, "{}: train logits off by {error:.2e}", self.name());
        worst.note("logits (train)", error);
        let error = max_diff(&values(loss.clone()), &floats(field(expected, "loss_f64")));
        assert!(error < 4.0 * room, "{}: loss off by {error:.2e}", self.name());
        worst.note("loss (train)", error);

        let grads = GradientsParams::from_grads(loss.backward(), &backbone);
        let ours = gradients(&backbone, &grads);
        let square: f64 =
            ours.iter().flat_map(|(_, grad)| grad).map(|g| f64::from(*g).powi(2)).sum();
        let tolerances = field(expected, "grads");
        for (name, record) in named(expected, "grads_f64") {
            // Only the reference has a classifier.
            if name.starts_with("fc.") {
                continue;
            }
            let found = ours.iter().find(|(path, _)| *path == in_backbone(name));
            let (_, grad) = found.unwrap_or_else(|| panic!("{}: no {name}", self.name()));
            let error = checksum_error(name, grad, record);
            let room = gradient_tolerance(field(tolerances, name));
            assert!(error < room, "{} {name}: gradient off by {error:.2e}", self.name());
            worst.note("gradient (relative)", error);
        }
        assert!(square.sqrt() > 1.0, "{}: gradients vanish", self.name());

        let state = state_dict::collect(&backbone).unwrap();
        for (name, record) in named(expected, "running_stats_f64") {
            let values: Vec<f32> = state[&in_backbone(name)].clone().try_into_vec().unwrap();
            let error = checksum_error(name, &values, record);
            assert!(error < 1e-3, "{} {name}: running statistics off by {error:.2e}", self.name());
            worst.note("running statistics (relative)", error);
        }
    }
}

/// Compares a backbone in half precision: its features with the reference's, and its gradients with
/// those in f32 on the CPU, which are checked against the reference elsewhere. Batch statistics over few
/// values amplify the rounding, so `pytorch` holds the errors of PyTorch 2.15's autocast to f16 on the
/// CPU for the same case: of features in evaluation and in training, relative to the largest, and of all
/// gradients together, relative L2. Our errors may be a quarter larger.
fn check_half(kind: BackboneKind, device: &Device, pytorch: [f64; 3]) {
    let bounds = pytorch.map(|error| 1.25 * error);
    let file = reference::load(&format!("backbone_{}.json", kind.name()));
    let size = |case: &&Value| shape::<5>(case, "input_shape").iter().product::<usize>();
    let case = entries(&file, "cases").iter().min_by_key(size).unwrap();
    let case = Case { kind, file: &file, case };
    let relative = |ours: &[f32], theirs: &[f64]| {
        max_diff(ours, theirs) / theirs.iter().fold(0.0f64, |most, v| most.max(v.abs()))
    };

    let (backbone, _, input) = case.build(device);
    let features = values(backbone.with_half(true).forward(input));
    let error = relative(&features, &floats(field(field(case.case, "eval"), "features_f64")));
    println!("golden {} in f16: features (eval) off by {error:.1e}", case.name());
    assert!(error <= bounds[0], "{}: eval features off by {error:.2e}", case.name());

    let train = |device: &Device, half: bool| {
        let device = device.clone().autodiff();
        let (backbone, fc, input) = case.build(&device);
        let backbone = backbone.with_half(half);
        let features = backbone.forward(input);
        let labels = counts(field(case.case, "labels"));
        let logits = fc.forward(features.clone());
        let targets = Targets::new(&labels, logits.dims()[1]);
        let loss = cross_entropy(logits, &targets, None, 0.0);
        // f16 gradients need this factor; it changes nothing else.
        let grads = loss.mul_scalar(1024.0).backward();
        let grads = GradientsParams::from_grads(grads, &backbone);
        (values(features), gradients(&backbone, &grads))
    };
    let (features, ours) = train(device, true);
    let error = relative(&features, &floats(field(field(case.case, "train"), "features_f64")));
    println!("golden {} in f16: features (train) off by {error:.1e}", case.name());
    let (_, theirs) = train(&Device::flex(), false);
    let error_of_gradients = relative_distance(&ours, &theirs);
    println!("golden {} in f16: gradients off by {error_of_gradients:.1e}", case.name());
    assert!(error <= bounds[1], "{}: train features off by {error:.2e}", case.name());
    assert!(error_of_gradients <= bounds[2], "{}: off by {error_of_gradients:.2e}", case.name());
}

/// Returns the first 16 logits of each clip, which are those that the reference records.
fn first_logits(logits: Tensor<2>) -> Vec<f32> {
    let [n, _] = logits.dims();
    values(logits.slice([0..n, 0..16]))
}

/// Compares the file's cases: all of them, or only the one with the fewest input values.
fn check(kind: BackboneKind, device: &Device, all: bool, label: &str) {
    let file = reference::load(&format!("backbone_{}.json", kind.name()));
    let mut worst = Worst::default();
    let size = |case: &&Value| shape::<5>(case, "input_shape").iter().product::<usize>();
    let cases = entries(&file, "cases");
    let chosen: Vec<&Value> = if all {
        cases.iter().collect()
    } else {
        cases.iter().min_by_key(size).into_iter().collect()
    };
    for case in chosen {
        let case = Case { kind, file: &file, case };
        case.check_eval(device, &mut worst);
        case.check_train(device, &mut worst);
    }
    worst.print(&format!("{} on {label}", kind.name()));
}

#[test]
fn golden_r3d_18_on_cpu() {
    check(BackboneKind::R3d18, &Device::flex(), true, "cpu");
}

#[test]
fn golden_mc3_18_on_cpu() {
    check(BackboneKind::Mc3_18, &Device::flex(), true, "cpu");
}

#[test]
fn golden_r2plus1d_18_on_cpu() {
    check(BackboneKind::R2plus1d18, &Device::flex(), true, "cpu");
}

#[test]
fn golden_r2plus1d_34_on_cpu() {
    check(BackboneKind::R2plus1d34, &Device::flex(), true, "cpu");
}

#[test]
fn golden_r3d_34_on_cpu() {
    check(BackboneKind::R3d34, &Device::flex(), true, "cpu");
}

#[test]
fn golden_r3d_50_on_cpu() {
    check(BackboneKind::R3d50, &Device::flex(), true, "cpu");
}

#[test]
fn golden_mc3_18_on_wgpu() {
    let Some(device) = adapter::device() else { return };
    check(BackboneKind::Mc3_18, &device, false, "wgpu");
}

/// Compares with the kernels of a graphics card, which are merely slow on a rasteriser.
fn check_as_card(kind: BackboneKind, limits: ChangedLimits, label: &str) {
    let Some(device) = adapter::device() else { return };
    with_limits(limits, || check(kind, &device, false, label));
}

#[test]
fn golden_mc3_18_with_the_kernels_of_an_amd_card() {
    let limits = |limits| DeviceLimits { software: false, vendor: Vendor::Amd, ..limits };
    check_as_card(BackboneKind::Mc3_18, limits, "wgpu, as an AMD card");
}

#[test]
fn golden_r2plus1d_18_with_the_kernels_of_an_nvidia_card() {
    let limits = |limits| DeviceLimits { software: false, vendor: Vendor::Nvidia, ..limits };
    check_as_card(BackboneKind::R2plus1d18, limits, "wgpu, as an NVIDIA card");
}

#[test]
fn golden_r3d_18_with_the_kernels_of_an_apple_gpu() {
    let limits = |limits| DeviceLimits { software: false, vendor: Vendor::Apple, ..limits };
    check_as_card(BackboneKind::R3d18, limits, "wgpu, as an Apple GPU");
}

#[test]
fn golden_mc3_18_in_half_precision() {
    let Some(device) = adapter::device() else { return };
    check_half(BackboneKind::Mc3_18, &device, [4.2e-4, 2.5e-3, 1.4e-1]);
}

#[test]
fn golden_r2plus1d_18_in_half_precision() {
    let Some(device) = adapter::device() else { return };
    check_half(BackboneKind::R2plus1d18, &device, [7.3e-4, 7.6e-2, 5.7e-1]);
}

/// Uses the kernels of a card whose shaders have no f16.
#[test]
fn golden_r3d_18_in_half_precision_with_the_kernels_of_a_card() {
    let Some(device) = adapter::device() else { return };
    let limits =
        |limits| DeviceLimits { software: false, shader_f16: false, vendor: Vendor::Amd, ..limits };
    with_limits(limits, || check_half(BackboneKind::R3d18, &device, [6.1e-4, 7.2e-3, 1.6e-1]));
}

#[test]
fn parameter_counts_equal_pytorchs() {
    let device = Device::flex().autodiff();
    for &kind in BackboneKind::ALL.iter().filter(|&&kind| kind != BackboneKind::R3dTiny) {
        let file = reference::load(&format!("backbone_{}.json", kind.name()));
        // The reference counts its classifier too.
        let expected = count(&file, "num_parameters") - Classifier::of(&file).parameters();
        let backbone = Backbone::new(&mut Init::new(1, &device), kind);
        assert_eq!(polyview::model::parameter_count(&backbone), expected, "{}", kind.name());
    }
}
