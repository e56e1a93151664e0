//! Optimizers and gradient clipping against PyTorch, on a small multilayer perceptron.

use burn::module::Module;
use burn::nn::Linear;
use burn::optim::GradientsParams;
use burn::tensor::activation::relu;
use burn::tensor::{Device, Tensor, TensorData};
use polyview::losses::{Targets, cross_entropy};
use polyview::model::{Init, state_dict};
use polyview::train::{Optimizer, Rule};
use serde_json::Value;

use crate::common::compare::{Worst, max_diff};
use crate::common::network::{gradients, transposed};
use crate::common::reference::{
    count, counts, entries, field, floats, list, named, nullable, number, text,
};
use crate::common::tensors::{tensor, values};
use crate::common::{adapter, fill, reference};

#[derive(Module, Debug)]
struct Mlp {
    fc1: Linear,
    fc2: Linear,
}

impl Mlp {
    /// Fills a network; `widths` are those of the input, the hidden layer and the logits.
    fn new(prefix: &str, widths: [usize; 3], device: &Device) -> Self {
        let [inputs, hidden, outputs] = widths;
        let mut values = state_dict::StateDict::new();
        for (name, out, inputs) in [("fc1", hidden, inputs), ("fc2", outputs, hidden)] {
            let scale = (6.0 / inputs as f64).sqrt();
            let key = format!("{name}.weight");
            let weight = fill::signed(&format!("{prefix}{key}"), out * inputs, scale);
            values.insert(key, TensorData::new(weight, [out, inputs]));
            let key = format!("{name}.bias");
            let bias = fill::signed(&format!("{prefix}{key}"), out, 0.01);
            values.insert(key, TensorData::new(bias, [out]));
        }
        let mut init = Init::new(0, device);
        let mut mlp = Self { fc1: init.linear(inputs, hidden), fc2: init.linear(hidden, outputs) };
        let report = state_dict::load(&mut mlp, values).unwrap();
        assert_eq!(report.loaded, 4);
        mlp
    }

    fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        self.fc2.forward(relu(self.fc1.forward(x)))
    }
}

/// Returns a case's optimizer and the rate of each parameter; `None` if polyview does not offer it.
fn optimizer_of(case: &Value) -> Option<(Optimizer, Vec<(String, f64)>)> {
    let options = field(case, "options");
    // In PyTorch, weight decay, momentum and Nesterov's form are off by default.
    let optional = |key: &str| if options.get(key).is_some() { number(options, key) } else { 0.0 };
    let weight_decay = optional("weight_decay");
    let betas = || <[f64; 2]>::try_from(floats(field(options, "betas"))).unwrap();
    let (rule, beta2) = match text(case, "optimizer") {
        "AdamW" => (Rule::AdamW { beta1: betas()[0], weight_decay }, Some(betas()[1])),
        "Adam" => (Rule::Adam { beta1: betas()[0], weight_decay }, Some(betas()[1])),
        "SGD" if options.get("nesterov").is_some_and(|on| on == true) => return None,
        "SGD" => (Rule::Sgd { momentum: optional("momentum"), weight_decay }, None),
        other => panic!("unknown optimizer {other}"),
    };
    let mut optimizer = Optimizer::new(
        rule,
        nullable(case, "max_norm")
            .map_or(0.0, |max| max.as_f64().expect("max_norm is a number or null")),
    );
    optimizer.beta2 = beta2.unwrap_or(optimizer.beta2);
    let rates = match nullable(case, "groups") {
        None => vec![(String::new(), number(options, "lr"))],
        Some(groups) => list(groups)
            .iter()
            .flat_map(|group| {
                let names = entries(group, "params").iter();
                names.map(|name| (name.as_str().unwrap().to_owned(), number(group, "lr")))
            })
            .collect(),
    };
    Some((optimizer, rates))
}

#[test]
fn golden_optimisers_with_global_clipping() {
    let file = reference::load("optimisers.json");
    let prefix = text(&file, "hash_prefix");
    let dims = field(&file, "dims");
    let [inputs, hidden, outputs, batch] =
        ["in", "hidden", "out", "batch"].map(|key| count(dims, key));
    let targets = Targets::new(&counts(field(&file, "targets")), outputs);
    let x = fill::signed(&format!("{prefix}x"), batch * inputs, 3.0);
    for device in adapter::differentiable() {
        let mut worst = Worst::default();
        let mut compared = 0;
        for case in entries(&file, "cases") {
            let name = text(case, "name");
            let Some((mut optimizer, rates)) = optimizer_of(case) else {
                println!("golden optimisers: {name} left out: Nesterov's form is not offered");
                continue;
            };
            compared += 1;
            let rate = |path: &str| {
                let found = rates.iter().find(|(name, _)| name.is_empty() || name == path);
                found.unwrap_or_else(|| panic!("{name}: {path} is in no group")).1
            };
            let room = 10.0 * number(case, "params_max_abs_diff_f32_f64");
            let mut mlp = Mlp::new(prefix, [inputs, hidden, outputs], &device);
            let x = tensor(&x, [batch, inputs], &device);
            for step in entries(case, "steps") {
                let loss = cross_entropy(mlp.forward(x.clone()), &targets, None, 0.0);
                let error = max_diff(&values(loss.clone()), &floats(field(step, "loss")));
                assert!(error < 5e-6, "{name}: loss off by {error:.2e}");
                let grads = GradientsParams::from_grads(loss.backward(), &mlp);
                // Only the first step has this record.
                if let Some(expected) = step.get("grads_before_clip") {
                    for (path, grad) in gradients(&mlp, &grads) {
                        let theirs = floats(field(expected, &path));
                        let outputs = if path.starts_with("fc1") { hidden } else { outputs };
                        let ours = match path.ends_with("weight") {
                            true => transposed(&grad, outputs),
                            false => grad,
                        };
                        let error = max_diff(&ours, &theirs);
                        assert!(error < 5e-6, "{name} {path}: gradient off by {error:.2e}");
                        worst.note("gradient", error);
                    }
                }
                let (updated, norm) = optimizer.step(mlp, grads, &rate, None).unwrap();
                mlp = updated;
                let expected = number(step, "grad_norm_before_clip");
                assert!((norm - expected).abs() < 1e-5 * expected.max(1.0), "{norm} {expected}");
                worst.note("gradient norm", (norm - expected).abs());
                let state = state_dict::collect(&mlp).unwrap();
                let params = named(step, "params");
                assert_eq!(params.len(), state.len(), "{name}");
                for (key, expected) in params {
                    let ours: Vec<f32> = state[key].clone().try_into_vec().unwrap();
                    let error = max_diff(&ours, &floats(expected));
                    assert!(error < room.max(3e-6), "{name} {key}: off by {error:.2e}");
                    worst.note("parameter", error);
                }
            }
        }
        assert!(compared > 0, "no case of an optimizer that is offered");
        worst.print("optimisers");
    }
}
