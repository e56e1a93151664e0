//! View aggregation, heads and whole models against PyTorch.

use burn::module::{Module, Param};
use burn::nn::Linear;
use burn::optim::GradientsParams;
use burn::tensor::{Device, Tensor, TensorData};
use polyview::losses::cross_entropy;
use polyview::model::{Backbone, BackboneKind, Init, ViewPool};
use serde_json::Value;

use crate::common::compare::{Worst, checksum_error, gradient_tolerance, max_diff};
use crate::common::network::{fill_backbone, gradients};
use crate::common::reference::{floats, floats32, numbers};
use crate::common::tensors::{tensor, unit_tensor, values};
use crate::common::{fill, reference};

/// A Linear filled as the file says, in Burn's layout [in, out].
fn linear(prefix: &str, name: &str, inputs: usize, outputs: usize, device: &Device) -> Linear {
    let scale = (6.0 / inputs as f64).sqrt();
    let torch = fill::signed(&format!("{prefix}{name}.weight"), inputs * outputs, scale);
    let weight: Vec<f32> =
        (0..inputs * outputs).map(|i| torch[(i % outputs) * inputs + i / outputs]).collect();
    let bias = fill::signed(&format!("{prefix}{name}.bias"), outputs, 0.01);
    let mut linear = Init::new(0, device).linear(inputs, outputs);
    linear.weight = Param::from_data(TensorData::new(weight, [inputs, outputs]), device);
    linear.bias = Some(Param::from_data(TensorData::new(bias, [outputs]), device));
    linear
}

fn attention(prefix: &str, device: &Device) -> ViewPool {
    let mut pool = ViewPool::attention(&mut Init::new(0, device), 512);
    let layers = pool.attention.as_mut().unwrap();
    layers.0 = linear(prefix, "attention.0", 512, 128, device);
    layers.2 = linear(prefix, "attention.2", 128, 1, device);
    pool
}

/// Everything after the backbone, as the reference has it: one bare Linear per task.
#[derive(Module, Debug)]
struct Tail {
    pool: ViewPool,
    action_head: Linear,
    severity_head: Linear,
}

impl Tail {
    fn new(prefix: &str, device: &Device) -> Self {
        Self {
            pool: attention(prefix, device),
            action_head: linear(prefix, "action_head", 512, 8, device),
            severity_head: linear(prefix, "severity_head", 512, 4, device),
        }
    }

    fn forward(&self, features: Tensor<3>, mask: Tensor<2>) -> [Tensor<2>; 3] {
        let (merged, weights) = self.pool.forward(features, mask);
        [self.action_head.forward(merged.clone()), self.severity_head.forward(merged), weights]
    }

    fn loss(&self, case: &Value, logits: [Tensor<2>; 2]) -> Tensor<1> {
        let [action, severity] = logits;
        cross_entropy(action, &numbers(&case["action_labels"]), None, 0.0).add(cross_entropy(
            severity,
            &numbers(&case["severity_labels"]),
            None,
            0.0,
        ))
    }
}

/// Compares gradients named `pool.attention.…`/`…_head.…` with records named as in PyTorch. The
/// attention's last bias has an exact gradient of 0.
fn check_tail_grads(tail: &Tail, grads: &GradientsParams, records: &Value, worst: &mut Worst) {
    let mut compared = 0;
    for (path, grad) in gradients(tail, grads) {
        let name = path.strip_prefix("pool.").unwrap_or(&path);
        let record = &records[name];
        if record.is_null() {
            continue;
        }
        compared += 1;
        let shape = numbers(&record["shape"]);
        let torch = match shape[..] {
            [out, inputs] => {
                (0..out * inputs).map(|i| grad[(i % inputs) * out + i / inputs]).collect()
            }
            _ => grad,
        };
        if record["l2"].as_f64().unwrap() < 1e-5 {
            let largest = torch.iter().fold(0.0_f32, |m: f32, v: &f32| m.max(v.abs()));
            assert!(largest < 1e-4, "{name}: should vanish, is {largest:.2e}");
            continue;
        }
        let error = checksum_error(name, &torch, record);
        let room = gradient_tolerance(record).max(1e-3);
        assert!(error < room, "{name}: gradient off by {error:.2e}");
        worst.note("gradient (relative)", error);
    }
    let expected = records.as_object().unwrap().keys();
    let expected = expected.filter(|k| !k.starts_with("features") && !k.starts_with("backbone"));
    assert!(compared >= expected.count().min(8) && compared > 0, "only {compared} compared");
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
    for case in file["cases"].as_array().unwrap() {
        let prefix = case["hash_prefix"].as_str().unwrap();
        let shape: [usize; 3] = numbers(&case["features_shape"]).try_into().unwrap();
        let scale = case["features_scale"].as_f64().unwrap();
        let features =
            fill::signed(case["features_name"].as_str().unwrap(), shape.iter().product(), scale);
        let features = || tensor(&features, shape, &device).require_grad();
        let mask = floats32(&case["mask"]);
        let mask = || tensor(&mask, [shape[0], shape[1]], &device);
        let cotangent = fill::signed(&format!("{prefix}cotangent"), shape[0] * shape[2], 1.0);
        let cotangent = || tensor(&cotangent, [shape[0], shape[2]], &device);

        let tail = Tail::new(prefix, &device);
        let expected = &case["attention"];
        let input = features();
        let (merged, weights) = tail.pool.forward(input.clone(), mask());
        close("attention weights", weights, &expected["weights"], 1e-6, &mut worst);
        close("attention output", merged.clone(), &expected["output"], 2e-6, &mut worst);
        let mut grads = merged.mul(cotangent()).sum().backward();
        let of_input = values(input.grad_remove(&mut grads).unwrap());
        let record = &expected["grads"]["features"];
        let error = checksum_error("features", &of_input, record);
        assert!(error < gradient_tolerance(record), "features' gradient off by {error:.2e}");
        worst.note("gradient (relative)", error);
        let grads = GradientsParams::from_grads(grads, &tail);
        check_tail_grads(&tail, &grads, &expected["grads"], &mut worst);

        let expected = &case["masked_mean"];
        let input = features();
        let (merged, _) = ViewPool::mean().forward(input.clone(), mask());
        close("masked mean", merged.clone(), &expected["output"], 1e-6, &mut worst);
        let grads = merged.mul(cotangent()).sum().backward();
        let of_input = values(input.grad(&grads).unwrap());
        let error = checksum_error("features", &of_input, &expected["features_grad"]);
        assert!(error < 1e-5, "the masked mean's gradient is off by {error:.2e}");
        worst.note("masked mean gradient (relative)", error);

        let expected = &case["two_heads"];
        let [action, severity, _] = tail.forward(features(), mask());
        close("logits", action.clone(), &expected["action_logits"], 5e-6, &mut worst);
        close("logits", severity.clone(), &expected["severity_logits"], 5e-6, &mut worst);
        let loss = tail.loss(case, [action, severity]);
        let error = max_diff(&values(loss.clone()), &floats(&expected["loss"]));
        assert!(error < 5e-6, "loss off by {error:.2e}");
        let grads = GradientsParams::from_grads(loss.backward(), &tail);
        check_tail_grads(&tail, &grads, &expected["grads"], &mut worst);
    }
    worst.print("view aggregation and heads");
}

#[test]
fn golden_whole_models() {
    let file = reference::load("multiview.json");
    let mut worst = Worst::default();
    for case in file["end_to_end"].as_array().unwrap() {
        whole_model(case, false, 1.0, &mut worst).unwrap();
        // One unit of mc3_18's case is 1e-7 from the corner of its ReLU. Which side it falls on is
        // up to the order of summing, and moves gradients by 1e-3; so clips a rounding error
        // brighter are as good, and a right network agrees with one of them to the last digits.
        let brightness = [1.0, 1.0 + 3e-7, 1.0 - 3e-7, 1.0 + 6e-7, 1.0 - 6e-7];
        let mut faults = Vec::new();
        let agrees = brightness.into_iter().any(|scale| {
            whole_model(case, true, scale, &mut worst).map_err(|fault| faults.push(fault)).is_ok()
        });
        assert!(agrees, "{faults:#?}");
    }
    worst.print("whole models");
}

/// `Err` where a gradient of the backbone is off.
fn whole_model(case: &Value, train: bool, scale: f64, worst: &mut Worst) -> Result<(), String> {
    let device = if train { Device::flex().autodiff() } else { Device::flex() };
    let arch = case["arch"].as_str().unwrap();
    let kind = BackboneKind::ALL.iter().copied().find(|kind| kind.name() == arch).unwrap();
    let prefix = case["hash_prefix"].as_str().unwrap();
    let list = &reference::load(&format!("backbone_{arch}.json"))["state_dict"];
    let mut backbone = Backbone::new(&mut Init::new(1, &device), kind);
    fill_backbone(&mut backbone, list, &format!("{prefix}backbone."));
    let tail = Tail::new(prefix, &device);

    let [b, v, c, t, h, w]: [usize; 6] = numbers(&case["video_shape"]).try_into().unwrap();
    let name = case["video_name"].as_str().unwrap();
    let clips = unit_tensor(name, [b * v, c, t, h, w], &device).mul_scalar(scale);
    let mask = floats32(&case["mask"]);
    let features = backbone.forward(clips).reshape([b, v, 512]);
    let [action, severity, weights] = tail.forward(features, tensor(&mask, [b, v], &device));

    let expected = &case[if train { "train" } else { "eval" }];
    let room =
        |what: &str| 5.0 * expected["max_abs_diff_f32_f64"][what].as_f64().unwrap_or(0.0) + 1e-5;
    let kind = |what: &str| format!("{what} ({})", if train { "train" } else { "eval" });
    for (what, ours) in [
        ("view_weights", weights),
        ("action_logits", action.clone()),
        ("severity_logits", severity.clone()),
    ] {
        close(&kind(what), ours, &expected[what], room(what), worst);
    }
    if !train {
        return Ok(());
    }
    let loss = tail.loss(case, [action, severity]);
    let error = max_diff(&values(loss.clone()), &floats(&expected["loss_f64"]));
    assert!(error < room("loss"), "{arch}: loss off by {error:.2e}");
    worst.note("loss", error);
    let mut grads = loss.backward();
    let of_backbone = GradientsParams::from_module(&mut grads, &backbone);
    let mut compared = 0;
    for (path, grad) in gradients(&backbone, &of_backbone) {
        let name = format!("backbone.{path}");
        let record = &expected["grads_f64"][&name];
        if record.is_null() {
            continue;
        }
        compared += 1;
        let error = checksum_error(&name, &grad, record);
        let room = gradient_tolerance(&expected["grads"][&name]);
        if error.is_nan() || error >= room {
            return Err(format!("{arch} {name}: gradient off by {error:.2e}"));
        }
        worst.note("backbone gradient (relative)", error);
    }
    assert!(compared >= 4, "{arch}: only {compared} backbone gradients compared");
    let of_tail = GradientsParams::from_grads(grads, &tail);
    check_tail_grads(&tail, &of_tail, &expected["grads_f64"], worst);
    Ok(())
}
