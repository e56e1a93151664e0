//! View aggregation, heads and whole models against PyTorch.

use burn::module::Module;
use burn::nn::Linear;
use burn::optim::GradientsParams;
use burn::tensor::{Device, Tensor};
use polyview::losses::{Targets, cross_entropy};
use polyview::model::{Backbone, BackboneKind, Init, ViewPool};
use serde_json::Value;

use crate::common::compare::{Worst, checksum_error, gradient_tolerance, max_diff};
use crate::common::network::{fill_backbone, gradients, linear, transposed};
use crate::common::reference::{
    counts, entries, field, floats, floats32, named, number, shape, text,
};
use crate::common::tensors::{tensor, unit_tensor, values};
use crate::common::{fill, reference};

/// Widths of the layers after the backbone, from the shapes of a case's gradients.
struct Widths {
    features: usize,
    hidden: usize,
    actions: usize,
    severities: usize,
}

impl Widths {
    fn of(grads: &Value) -> Self {
        let outputs_and_inputs =
            |name: &str| -> [usize; 2] { shape(field(grads, &format!("{name}.weight")), "shape") };
        let [hidden, features] = outputs_and_inputs("attention.0");
        let [[actions, _], [severities, _]] =
            ["action_head", "severity_head"].map(outputs_and_inputs);
        Self { features, hidden, actions, severities }
    }
}

/// Returns a Linear filled as in the reference file.
fn filled(prefix: &str, name: &str, inputs: usize, outputs: usize, device: &Device) -> Linear {
    let scale = (6.0 / inputs as f64).sqrt();
    let weight = fill::signed(&format!("{prefix}{name}.weight"), inputs * outputs, scale);
    linear(&weight, &fill::signed(&format!("{prefix}{name}.bias"), outputs, 0.01), device)
}

/// Everything after the backbone, as in the reference: a single Linear per task.
#[derive(Module, Debug)]
struct Tail {
    pool: ViewPool,
    action_head: Linear,
    severity_head: Linear,
}

impl Tail {
    fn new(prefix: &str, widths: &Widths, device: &Device) -> Self {
        let Widths { features, hidden, actions, severities } = *widths;
        let mut pool = ViewPool::attention(&mut Init::new(0, device), features);
        let layers = pool.attention.as_mut().unwrap();
        layers.0 = filled(prefix, "attention.0", features, hidden, device);
        layers.2 = filled(prefix, "attention.2", hidden, 1, device);
        Self {
            pool,
            action_head: filled(prefix, "action_head", features, actions, device),
            severity_head: filled(prefix, "severity_head", features, severities, device),
        }
    }

    fn forward(&self, features: Tensor<3>, mask: Tensor<2>) -> [Tensor<2>; 3] {
        let (merged, weights) = self.pool.forward(features, mask);
        [self.action_head.forward(merged.clone()), self.severity_head.forward(merged), weights]
    }

    /// Returns the sum of both tasks' mean cross-entropies.
    fn loss(&self, case: &Value, [action, severity]: [Tensor<2>; 2]) -> Tensor<1> {
        let task = |logits: Tensor<2>, labels: &str| {
            let targets = Targets::new(&counts(field(case, labels)), logits.dims()[1]);
            cross_entropy(logits, &targets, None, 0.0)
        };
        task(action, "action_labels").add(task(severity, "severity_labels"))
    }
}

/// Compares gradients named `pool.attention.…`/`…_head.…` with records named as in PyTorch, except
/// those of the features and of the backbone. The exact gradient of the attention's last bias is 0.
fn check_tail_grads(tail: &Tail, grads: &GradientsParams, records: &Value, worst: &mut Worst) {
    let ours = gradients(tail, grads);
    let records = records.as_object().expect("gradients are recorded by name");
    let mut compared = 0;
    for (name, record) in records {
        if name == "features" || name.starts_with("backbone.") {
            continue;
        }
        compared += 1;
        let found =
            ours.iter().find(|(path, _)| path.strip_prefix("pool.").unwrap_or(path) == name);
        let (_, grad) = found.unwrap_or_else(|| panic!("{name} has no gradient"));
        let torch = match counts(field(record, "shape"))[..] {
            [outputs, _] => transposed(grad, outputs),
            _ => grad.clone(),
        };
        if number(record, "l2") < 1e-5 {
            let largest = torch.iter().fold(0.0_f32, |m: f32, v: &f32| m.max(v.abs()));
            assert!(largest < 1e-4, "{name}: should vanish, is {largest:.2e}");
            continue;
        }
        let error = checksum_error(name, &torch, record);
        let room = gradient_tolerance(record).max(1e-3);
        assert!(error < room, "{name}: gradient off by {error:.2e}");
        worst.note("gradient (relative)", error);
    }
    assert!(compared > 0, "no gradient is recorded");
}

/// Compares the gradient of the features with its record.
fn check_features_grad(ours: &[f32], record: &Value, worst: &mut Worst) {
    let error = checksum_error("features", ours, record);
    let room = gradient_tolerance(record);
    assert!(error < room, "features: gradient off by {error:.2e}");
    worst.note("features' gradient (relative)", error);
}

fn close(what: &str, ours: Tensor<2>, theirs: &Value, room: f64, worst: &mut Worst) {
    let error = max_diff(&values(ours), &floats(theirs));
    assert!(error < room, "{what} off by {error:.2e}");
    worst.note(what, error);
}

#[test]
fn golden_view_aggregation_and_heads() {
    let file = reference::load("multiview.json");
    let device = Device::flex().autodiff();
    let mut worst = Worst::default();
    for case in entries(&file, "cases") {
        let prefix = text(case, "hash_prefix");
        let [b, v, f] = shape(case, "features_shape");
        let scale = number(case, "features_scale");
        let features = fill::signed(text(case, "features_name"), b * v * f, scale);
        let features = || tensor(&features, [b, v, f], &device).require_grad();
        let mask = floats32(field(case, "mask"));
        let mask = || tensor(&mask, [b, v], &device);
        let cotangent = fill::signed(&format!("{prefix}cotangent"), b * f, 1.0);
        let cotangent = || tensor(&cotangent, [b, f], &device);
        let [attention, masked_mean, two_heads] =
            ["attention", "masked_mean", "two_heads"].map(|key| field(case, key));

        let grads_of = |expected| field(expected, "grads");
        let tail = Tail::new(prefix, &Widths::of(grads_of(two_heads)), &device);
        let input = features();
        let (merged, weights) = tail.pool.forward(input.clone(), mask());
        close("attention weights", weights, field(attention, "weights"), 1e-6, &mut worst);
        close("attention output", merged.clone(), field(attention, "output"), 2e-6, &mut worst);
        let mut grads = merged.mul(cotangent()).sum().backward();
        let of_input = values(input.grad_remove(&mut grads).unwrap());
        check_features_grad(&of_input, field(grads_of(attention), "features"), &mut worst);
        let grads = GradientsParams::from_grads(grads, &tail);
        check_tail_grads(&tail, &grads, grads_of(attention), &mut worst);

        let input = features();
        let (merged, _) = ViewPool::mean().forward(input.clone(), mask());
        close("masked mean", merged.clone(), field(masked_mean, "output"), 1e-6, &mut worst);
        let grads = merged.mul(cotangent()).sum().backward();
        let of_input = values(input.grad(&grads).unwrap());
        let error = checksum_error("features", &of_input, field(masked_mean, "features_grad"));
        assert!(error < 1e-5, "the masked mean's gradient is off by {error:.2e}");
        worst.note("masked mean gradient (relative)", error);

        let input = features();
        let [action, severity, _] = tail.forward(input.clone(), mask());
        close("logits", action.clone(), field(two_heads, "action_logits"), 5e-6, &mut worst);
        close("logits", severity.clone(), field(two_heads, "severity_logits"), 5e-6, &mut worst);
        let loss = tail.loss(case, [action, severity]);
        let error = max_diff(&values(loss.clone()), &floats(field(two_heads, "loss")));
        assert!(error < 5e-6, "loss off by {error:.2e}");
        let mut grads = loss.backward();
        let of_input = values(input.grad_remove(&mut grads).unwrap());
        check_features_grad(&of_input, field(grads_of(two_heads), "features"), &mut worst);
        let grads = GradientsParams::from_grads(grads, &tail);
        check_tail_grads(&tail, &grads, grads_of(two_heads), &mut worst);
    }
    worst.print("view aggregation and heads");
}

#[test]
fn golden_whole_models() {
    let file = reference::load("multiview.json");
    let mut worst = Worst::default();
    for case in entries(&file, "end_to_end") {
        whole_model(case, false, 1.0, &mut worst).unwrap();
        // One unit of mc3_18's case is 1e-7 from the corner of its ReLU. The order of summation decides
        // on which side it falls, which changes gradients by 1e-3. So clips that are brighter or darker
        // by a rounding error are as good, and a correct network agrees with one of them to the last
        // digits.
        let brightness = [1.0, 1.0 + 3e-7, 1.0 - 3e-7, 1.0 + 6e-7, 1.0 - 6e-7];
        let mut faults = Vec::new();
        let agrees = brightness.into_iter().any(|scale| {
            whole_model(case, true, scale, &mut worst).map_err(|fault| faults.push(fault)).is_ok()
        });
        assert!(agrees, "{faults:#?}");
    }
    worst.print("whole models");
}

/// Compares a whole model; `Err` if a gradient of the backbone is off.
fn whole_model(case: &Value, train: bool, scale: f64, worst: &mut Worst) -> Result<(), String> {
    let device = if train { Device::flex().autodiff() } else { Device::flex() };
    let arch = text(case, "arch");
    let kind = BackboneKind::ALL.iter().copied().find(|kind| kind.name() == arch).unwrap();
    let prefix = text(case, "hash_prefix");
    let list = reference::load(&format!("backbone_{arch}.json"));
    let mut backbone = Backbone::new(&mut Init::new(1, &device), kind);
    fill_backbone(&mut backbone, field(&list, "state_dict"), &format!("{prefix}backbone."));
    let widths = Widths::of(field(field(case, "train"), "grads"));
    let tail = Tail::new(prefix, &widths, &device);

    let [b, v, c, t, h, w] = shape(case, "video_shape");
    let name = text(case, "video_name");
    let clips = unit_tensor(name, [b * v, c, t, h, w], &device).mul_scalar(scale);
    let mask = floats32(field(case, "mask"));
    let features = backbone.forward(clips).reshape([b, v, widths.features]);
    let [action, severity, weights] = tail.forward(features, tensor(&mask, [b, v], &device));

    let expected = field(case, if train { "train" } else { "eval" });
    let room = |what: &str| 5.0 * number(field(expected, "max_abs_diff_f32_f64"), what) + 1e-5;
    let kind = |what: &str| format!("{what} ({})", if train { "train" } else { "eval" });
    for (what, ours) in [
        ("view_weights", weights),
        ("action_logits", action.clone()),
        ("severity_logits", severity.clone()),
    ] {
        close(&kind(what), ours, field(expected, what), room(what), worst);
    }
    if !train {
        return Ok(());
    }
    let loss = tail.loss(case, [action, severity]);
    let error = max_diff(&values(loss.clone()), &floats(field(expected, "loss_f64")));
    assert!(error < room("loss"), "{arch}: loss off by {error:.2e}");
    worst.note("loss", error);
    let mut grads = loss.backward();
    let of_backbone = GradientsParams::from_module(&mut grads, &backbone);
    let ours = gradients(&backbone, &of_backbone);
    for (name, record) in named(expected, "grads_f64") {
        let Some(path) = name.strip_prefix("backbone.") else { continue };
        let found = ours.iter().find(|(ours, _)| ours == path);
        let (_, grad) = found.unwrap_or_else(|| panic!("{arch}: no {name}"));
        let error = checksum_error(name, grad, record);
        let room = gradient_tolerance(field(field(expected, "grads"), name));
        if error >= room {
            return Err(format!("{arch} {name}: gradient off by {error:.2e}"));
        }
        worst.note("backbone gradient (relative)", error);
    }
    let of_tail = GradientsParams::from_grads(grads, &tail);
    check_tail_grads(&tail, &of_tail, field(expected, "grads_f64"), worst);
    Ok(())
}
