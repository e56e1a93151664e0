//! Loss, optimizer, clipping and schedule against PyTorch.

use burn::module::Module;
use burn::nn::Linear;
use burn::optim::GradientsParams;
use burn::tensor::{Device, Tensor, TensorData};
use polyview::losses::cross_entropy;
use polyview::model::{Init, state_dict};
use polyview::train::{Optimizer, cosine};

use crate::golden::{Worst, floats, max_diff, shape_of, tensor, values};
use crate::{fill, reference};

#[test]
fn golden_cross_entropy() {
    let file = reference::load("losses.json");
    let device = Device::flex().autodiff();
    let mut worst = Worst::default();
    let mut compared = 0;
    for case in file["cases"].as_array().unwrap() {
        if case["kind"] != "cross_entropy" {
            continue;
        }
        compared += 1;
        let name = case["name"].as_str().unwrap();
        let size = ["N", "C"].map(|key| case[key].as_u64().unwrap() as usize);
        let scale = case["logits_scale"].as_f64().unwrap();
        let logits = fill::signed(case["logits_name"].as_str().unwrap(), size[0] * size[1], scale);
        let logits = tensor(logits, size, &device).require_grad();
        let weights: Option<Vec<f32>> = (!case["class_weights"].is_null())
            .then(|| floats(&case["class_weights"]).into_iter().map(|w| w as f32).collect());
        let smoothing = case["label_smoothing"].as_f64().unwrap();
        let targets = shape_of(&case["targets"]);
        let loss = cross_entropy(logits.clone(), &targets, weights.as_deref(), smoothing);
        let expected = case["loss_f64"].as_f64().unwrap();
        let error = (f64::from(values(loss.clone())[0]) - expected).abs() / expected.max(1.0);
        assert!(error < 2e-6, "{name}: loss off by {error:.2e}");
        worst.note("loss (relative)", error);
        let grads = loss.backward();
        let error = max_diff(&values(logits.grad(&grads).unwrap()), &floats(&case["grad_logits"]));
        assert!(error < 1e-6, "{name}: gradient off by {error:.2e}");
        worst.note("gradient", error);
    }
    assert!(compared >= 8, "only {compared} cases");
    worst.print("cross-entropy");
}

#[derive(Module, Debug)]
struct Mlp {
    fc1: Linear,
    fc2: Linear,
}

impl Mlp {
    fn new(prefix: &str, device: &Device) -> Self {
        let mut values = state_dict::StateDict::new();
        for (name, out, inputs) in [("fc1", 5, 6), ("fc2", 3, 5)] {
            let scale = (6.0 / inputs as f64).sqrt();
            let key = format!("{name}.weight");
            let weight = fill::signed(&format!("{prefix}{key}"), out * inputs, scale);
            values.insert(key, TensorData::new(weight, [out, inputs]));
            let key = format!("{name}.bias");
            let bias = fill::signed(&format!("{prefix}{key}"), out, 0.01);
            values.insert(key, TensorData::new(bias, [out]));
        }
        let mut init = Init::new(0, device);
        let mut mlp = Self { fc1: init.linear(6, 5), fc2: init.linear(5, 3) };
        let report = state_dict::load(&mut mlp, values).unwrap();
        assert_eq!(report.loaded, 4);
        mlp
    }

    fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        self.fc2.forward(burn::tensor::activation::relu(self.fc1.forward(x)))
    }
}

#[test]
fn golden_adamw_with_global_clipping() {
    let file = reference::load("optimisers.json");
    let prefix = file["hash_prefix"].as_str().unwrap();
    let device = Device::flex().autodiff();
    let targets = shape_of(&file["targets"]);
    let mut worst = Worst::default();
    let mut compared = 0;
    for case in file["cases"].as_array().unwrap() {
        if case["optimizer"] != "AdamW" || !case["groups"].is_null() {
            continue;
        }
        compared += 1;
        let options = &case["options"];
        let lr = options["lr"].as_f64().unwrap();
        let decay = options["weight_decay"].as_f64().unwrap();
        let mut optimizer = Optimizer::adamw(decay, case["max_norm"].as_f64().unwrap_or(0.0));
        let mut mlp = Mlp::new(prefix, &device);
        let x = tensor(fill::signed(&format!("{prefix}x"), 24, 3.0), [4, 6], &device);
        for step in case["steps"].as_array().unwrap() {
            let loss = cross_entropy(mlp.forward(x.clone()), &targets, None, 0.0);
            let error = max_diff(&values(loss.clone()), &floats(&step["loss"]));
            assert!(error < 5e-6, "{}: loss off by {error:.2e}", case["name"]);
            let grads = GradientsParams::from_grads(loss.backward(), &mlp);
            let (updated, norm) = optimizer.step(mlp, grads, lr).unwrap();
            mlp = updated;
            let expected = step["grad_norm_before_clip"].as_f64().unwrap();
            assert!((norm - expected).abs() < 1e-5 * expected.max(1.0), "norm {norm} {expected}");
            worst.note("gradient norm", (norm - expected).abs());
            let state = state_dict::collect(&mlp).unwrap();
            for (name, expected) in step["params"].as_object().unwrap() {
                let ours: Vec<f32> = state[name].clone().try_into_vec().unwrap();
                let error = max_diff(&ours, &floats(expected));
                assert!(error < 3e-6, "{} {name}: off by {error:.2e}", case["name"]);
                worst.note("parameter", error);
            }
        }
    }
    assert!(compared >= 3, "only {compared} cases");
    worst.print("AdamW");
}

#[test]
fn golden_cosine_schedule() {
    let file = reference::load("schedules.json");
    let case = &file["cases"].as_array().unwrap()[0];
    assert_eq!(case["name"], "cosine");
    let get = |key: &str| case[key].as_f64().unwrap();
    let closed = floats(&case["closed_form"]);
    assert!(closed.len() > 50);
    for (epoch, expected) in closed.into_iter().enumerate() {
        let ours = cosine(get("lr"), get("eta_min"), get("T_max") as usize, epoch);
        assert!((ours - expected).abs() < 1e-8 * get("lr"), "epoch {epoch}: {ours} {expected}");
    }
}

#[test]
fn cross_entropy_ignores_nothing_and_weights_count() {
    // Against the definition in f64, on random logits.
    use rand::{RngExt, SeedableRng};
    let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(rand::random());
    for (n, c) in [(1, 2), (5, 3), (7, 8)] {
        let logits: Vec<f32> = (0..n * c).map(|_| rng.random_range(-4.0..4.0)).collect();
        let weights: Vec<f32> = (0..c).map(|_| rng.random_range(0.2..3.0)).collect();
        let targets: Vec<usize> = (0..n).map(|_| rng.random_range(0..c)).collect();
        let s = rng.random_range(0.0..0.5);
        let (mut sum, mut divisor) = (0.0, 0.0);
        for (row, &y) in logits.chunks(c).zip(&targets) {
            let log_sum = row.iter().map(|z| f64::from(*z).exp()).sum::<f64>().ln();
            let nll = |k: usize| f64::from(weights[k]) * (log_sum - f64::from(row[k]));
            sum += (1.0 - s) * nll(y) + s / c as f64 * (0..c).map(nll).sum::<f64>();
            divisor += f64::from(weights[y]);
        }
        let device = Device::flex();
        let logits = Tensor::from_data(TensorData::new(logits, [n, c]), &device);
        let ours = values(cross_entropy(logits, &targets, Some(&weights), s))[0];
        assert!((f64::from(ours) - sum / divisor).abs() < 1e-5, "{ours} {}", sum / divisor);
    }
}
