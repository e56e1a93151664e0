//! Losses, class weights, optimizers, clipping and schedules against PyTorch.

use burn::module::Module;
use burn::nn::Linear;
use burn::optim::GradientsParams;
use burn::tensor::{Device, Tensor, TensorData};
use polyview::data::balance::class_weights;
use polyview::losses::{CrossEntropy, Focal, TaskLoss, cross_entropy};
use polyview::model::{Init, state_dict};
use polyview::train::schedule::{self, OneCycle, Plateau};
use polyview::train::{Optimizer, Rule};
use serde_json::Value;

use crate::common::compare::{Worst, max_diff};
use crate::common::reference::{floats, numbers};
use crate::common::tensors::{tensor, values};
use crate::common::{adapter, fill, reference};

/// A case's loss through the type that training uses.
fn loss_of(case: &Value) -> Box<dyn TaskLoss> {
    let class_weights: Option<Vec<f32>> = (!case["class_weights"].is_null())
        .then(|| floats(&case["class_weights"]).into_iter().map(|w| w as f32).collect());
    let label_smoothing = case["label_smoothing"].as_f64().unwrap();
    let classes = case["C"].as_u64().unwrap() as usize;
    let gamma = match case["kind"].as_str().unwrap() {
        "cross_entropy" => return Box::new(CrossEntropy { class_weights, label_smoothing }),
        "focal" => vec![case["gamma"].as_f64().unwrap() as f32; classes],
        "adaptive_focal" => {
            floats(&case["gamma_per_class"]).into_iter().map(|g| g as f32).collect()
        }
        other => panic!("unknown loss {other}"),
    };
    Box::new(Focal { gamma, class_weights, label_smoothing })
}

#[test]
fn golden_losses() {
    let file = reference::load("losses.json");
    for device in adapter::differentiable() {
        let mut worst = Worst::default();
        let mut compared = 0;
        for case in file["cases"].as_array().unwrap() {
            compared += 1;
            let name = case["name"].as_str().unwrap();
            let kind = case["kind"].as_str().unwrap();
            let size = ["N", "C"].map(|key| case[key].as_u64().unwrap() as usize);
            let scale = case["logits_scale"].as_f64().unwrap();
            let fill =
                fill::signed(case["logits_name"].as_str().unwrap(), size[0] * size[1], scale);
            let logits = tensor(&fill, size, &device).require_grad();
            let targets = numbers(&case["targets"]);
            let loss = loss_of(case).loss(logits.clone(), &targets);
            let expected = case["loss_f64"].as_f64().unwrap();
            let error = (f64::from(values(loss.clone())[0]) - expected).abs() / expected.max(1.0);
            assert!(error < 2e-6, "{name}: loss off by {error:.2e}");
            worst.note(&format!("{kind} loss (relative)"), error);
            let grads = loss.backward();
            let ours = values(logits.grad(&grads).unwrap());
            let theirs = floats(&case["grad_logits"]);
            let size = theirs.iter().fold(1.0_f64, |a, b| a.max(b.abs()));
            let error = max_diff(&ours, &theirs) / size;
            assert!(error < 2e-6, "{name}: gradient off by {error:.2e}");
            worst.note(&format!("{kind} gradient"), error);
        }
        assert!(compared >= 45, "only {compared} cases");
        worst.print("losses");
    }
}

#[test]
fn golden_class_weights() {
    let file = reference::load("class_weights.json");
    let mut compared = 0;
    for case in file["cases"].as_array().unwrap() {
        let counts = numbers(&case["counts"]);
        let name = case["strategy"].as_str().unwrap();
        let ratio = case["ratio"].as_f64().unwrap_or(f64::INFINITY);
        // "balanced" is balanced_capped without a cap.
        let strategy = if name == "balanced" { "balanced_capped" } else { name };
        let ours = class_weights(strategy.parse().unwrap(), &counts, ratio);
        for (ours, theirs) in ours.iter().zip(floats(&case["weights"])) {
            assert!((ours - theirs).abs() < 1e-8 * theirs, "{name} {counts:?}: {ours} {theirs}");
        }
        compared += 1;
    }
    assert!(compared >= 40, "only {compared} cases");
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

/// The rule of a case, and each parameter's rate.
fn rule_of(case: &Value) -> Option<(Rule, Vec<(String, f64)>)> {
    let options = &case["options"];
    let number = |key: &str| options[key].as_f64().unwrap_or(0.0);
    let weight_decay = number("weight_decay");
    let beta1 = options["betas"][0].as_f64().unwrap_or(0.9);
    let rule = match case["optimizer"].as_str().unwrap() {
        "AdamW" => Rule::AdamW { beta1, weight_decay },
        "Adam" => Rule::Adam { beta1, weight_decay },
        "SGD" if options["nesterov"] == true => return None,
        "SGD" => Rule::Sgd { momentum: number("momentum"), weight_decay },
        other => panic!("unknown optimizer {other}"),
    };
    let rates = match case["groups"].as_array() {
        None => vec![(String::new(), number("lr"))],
        Some(groups) => groups
            .iter()
            .flat_map(|group| {
                let lr = group["lr"].as_f64().unwrap();
                let names = group["params"].as_array().unwrap();
                names.iter().map(move |name| (name.as_str().unwrap().to_owned(), lr))
            })
            .collect(),
    };
    Some((rule, rates))
}

#[test]
fn golden_optimisers_with_global_clipping() {
    let file = reference::load("optimisers.json");
    let prefix = file["hash_prefix"].as_str().unwrap();
    let targets = numbers(&file["targets"]);
    for device in adapter::differentiable() {
        let mut worst = Worst::default();
        let mut compared = 0;
        for case in file["cases"].as_array().unwrap() {
            let name = case["name"].as_str().unwrap();
            let Some((rule, rates)) = rule_of(case) else {
                println!("golden optimisers: {name} left out: Nesterov's form is not offered");
                continue;
            };
            compared += 1;
            let rate = |path: &str| {
                rates.iter().find(|(name, _)| name.is_empty() || name == path).unwrap().1
            };
            let mut optimizer = Optimizer::new(rule, case["max_norm"].as_f64().unwrap_or(0.0));
            let mut mlp = Mlp::new(prefix, &device);
            let x = tensor(&fill::signed(&format!("{prefix}x"), 24, 3.0), [4, 6], &device);
            let steps = case["steps"].as_array().unwrap();
            assert_eq!(steps.len(), 5);
            for step in steps {
                let loss = cross_entropy(mlp.forward(x.clone()), &targets, None, 0.0);
                let error = max_diff(&values(loss.clone()), &floats(&step["loss"]));
                assert!(error < 5e-6, "{name}: loss off by {error:.2e}");
                let grads = GradientsParams::from_grads(loss.backward(), &mlp);
                let (updated, norm) = optimizer.step(mlp, grads, &rate, None).unwrap();
                mlp = updated;
                let expected = step["grad_norm_before_clip"].as_f64().unwrap();
                assert!((norm - expected).abs() < 1e-5 * expected.max(1.0), "{norm} {expected}");
                worst.note("gradient norm", (norm - expected).abs());
                let state = state_dict::collect(&mlp).unwrap();
                for (key, expected) in step["params"].as_object().unwrap() {
                    let ours: Vec<f32> = state[key].clone().try_into_vec().unwrap();
                    let error = max_diff(&ours, &floats(expected));
                    assert!(error < 3e-6, "{name} {key}: off by {error:.2e}");
                    worst.note("parameter", error);
                }
            }
        }
        assert!(compared >= 9, "only {compared} cases");
        worst.print("optimisers");
    }
}

#[test]
fn golden_schedules() {
    let file = reference::load("schedules.json");
    let mut compared = 0;
    for case in file["cases"].as_array().unwrap() {
        let name = case["name"].as_str().unwrap();
        let get = |key: &str| case[key].as_f64().unwrap();
        // One rate, or one per group.
        let base = |key: &str| match case[key].as_array() {
            Some(_) => floats(&case[key]),
            None => vec![get(key)],
        };
        let expect = |key: &str, ours: &dyn Fn(usize, f64) -> f64, bases: &[f64]| {
            let list = case[key].as_array().unwrap();
            assert!(list.len() >= 8, "{name}");
            for (t, expected) in list.iter().enumerate() {
                let expected = if expected.is_array() {
                    floats(expected)
                } else {
                    vec![expected.as_f64().unwrap()]
                };
                for (base, expected) in bases.iter().zip(expected) {
                    let ours = ours(t, *base);
                    let error = (ours - expected).abs();
                    assert!(error < 2e-8 * base, "{name} {key}[{t}]: {ours} {expected}");
                }
            }
        };
        match case["kind"].as_str().unwrap() {
            "CosineAnnealingLR" => {
                let t_max = get("T_max") as usize;
                let bases = base("lr");
                let ours = |t: usize, lr: f64| schedule::cosine(lr, get("eta_min"), t_max, t);
                let key = if case["closed_form"].is_null() { "lrs" } else { "closed_form" };
                expect(key, &ours, &bases);
            }
            "OneCycleLR" => {
                let steps = (get("epochs") * get("steps_per_epoch")) as usize;
                let cycle = OneCycle { steps, rise: get("pct_start") };
                expect("lrs", &|t, lr| cycle.rate(lr, t), &base("max_lr"));
                if !case["beta1"].is_null() {
                    expect("beta1", &|t, _| cycle.momentum(t), &[1.0]);
                }
            }
            "StepLR" => {
                let size = get("step_size") as usize;
                expect("lrs", &|t, lr| schedule::step(lr, size, get("gamma"), t), &base("lr"));
            }
            "ExponentialLR" => {
                expect("lrs", &|t, lr| schedule::exponential(lr, get("gamma"), t), &base("lr"));
            }
            "ReduceLROnPlateau" if case["options"]["mode"] == "min" => {
                println!("golden schedules: {name} left out: our score only rises");
                continue;
            }
            "ReduceLROnPlateau" => {
                let option = |key: &str| case["options"][key].as_f64().unwrap();
                let plateau = Plateau {
                    factor: option("factor"),
                    patience: option("patience") as usize,
                    min_lr: option("min_lr"),
                };
                let scores: Vec<f64> = case["metrics"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .map(|m| m.as_f64().unwrap_or(f64::NAN))
                    .collect();
                let ours = |t: usize, lr: f64| plateau.rate(lr, &scores[..=t]);
                expect("lrs_after", &ours, &base("lr"));
            }
            other => panic!("unknown schedule {other}"),
        }
        compared += 1;
    }
    assert!(compared >= 12, "only {compared} cases");
    println!("golden schedules: {compared} cases within 2e-8 of the rate");
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
