//! The optimizer's fused step and the norm of all gradients on every device, against plain f64.

use burn::tensor::{Device, Tensor};
use polyview::kernels::with_stock;
use polyview::optim::{Step, l2_norm, together};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use crate::common::adapter;
use crate::common::tensors::{tensor, uniform, values};

fn vector(values: &[f32], device: &Device) -> Tensor<1> {
    tensor(values, [values.len()], device)
}

fn steps_agree(device: &Device) {
    let mut rng = ChaCha8Rng::seed_from_u64(5);
    for count in [1, 7, 16, 17, 1000, 4096, 70_001] {
        let start = uniform(&mut rng, count, 1.0, 0.0);
        let mut exact: Vec<[f64; 3]> = start.iter().map(|&p| [f64::from(p), 0.0, 0.0]).collect();
        let mut value = vector(&start, device);
        let mut moments = [value.zeros_like(), value.zeros_like()];
        let mut kept = Vec::new();
        for number in 1..=5 {
            let gradient = uniform(&mut rng, count, 1.0, 0.1);
            let step = Step {
                rate: 1e-2,
                decay: 0.05,
                l2: 0.03,
                beta1: 0.9,
                beta2: 0.999,
                epsilon: 1e-8,
                number,
                scale: 0.5,
            };
            // A copy held elsewhere must not change.
            if number == 3 {
                kept.push((value.clone(), values(value.clone())));
                kept.push((moments[1].clone(), values(moments[1].clone())));
            }
            (value, moments) = step.apply(value, vector(&gradient, device), moments);
            for ([p, m, v], &g) in exact.iter_mut().zip(&gradient) {
                let g = f64::from(g) * 0.5 + 0.03 * *p;
                *m = 0.9 * *m + 0.1 * g;
                *v = 0.999 * *v + 0.001 * g * g;
                let root = (1.0 - 0.999f64.powi(number as i32)).sqrt();
                let change = 1e-2 / (1.0 - 0.9f64.powi(number as i32)) * *m;
                *p = *p * (1.0 - 1e-2 * 0.05) - change / (v.sqrt() / root + 1e-8);
            }
        }
        let [first, second] = moments;
        for (index, got) in [value, first, second].into_iter().enumerate() {
            let largest = exact.iter().fold(1e-30f64, |max, e| max.max(e[index].abs()));
            for (got, want) in values(got).into_iter().zip(&exact) {
                let error = (f64::from(got) - want[index]).abs() / largest;
                assert!(
                    error <= 3e-6,
                    "{}: {got} instead of {}",
                    ["p", "m", "v"][index],
                    want[index]
                );
            }
        }
        for (tensor, before) in kept {
            assert_eq!(values(tensor), before, "a kept copy was changed");
        }
    }
}

/// Steps more parameters than one launch takes, of many sizes, some also held elsewhere: the
/// results have the same bits as those of separate steps.
fn steps_together_agree(device: &Device) {
    let mut rng = ChaCha8Rng::seed_from_u64(8);
    let lens: Vec<usize> = (0..45).map(|n| [4, 9, 64, 1000, 20_000][n % 5] + 4 * n).collect();
    let given: Vec<[Vec<f32>; 4]> = lens
        .iter()
        .map(|&len| [0.0, 0.1, 0.2, 2.0].map(|centre| uniform(&mut rng, len, 1.0, centre)))
        .collect();
    let step = |n: usize| Step {
        rate: 1e-2 * (n + 1) as f64,
        decay: 0.05,
        l2: 0.0,
        beta1: 0.9,
        beta2: 0.999,
        epsilon: 1e-8,
        number: 1 + n as u32 % 3,
        scale: 1.0,
    };
    let mut held = Vec::new();
    let mut operands = |n: usize| {
        let [p, g, m, v] = given[n].each_ref().map(|values| vector(values, device));
        held.extend(n.is_multiple_of(3).then(|| p.clone()));
        (p, g, [m, v])
    };
    let alone: Vec<_> = (0..lens.len())
        .map(|n| {
            let (p, g, moments) = operands(n);
            step(n).apply(p, g, moments)
        })
        .collect();
    let all = together(|steps| -> Vec<_> {
        (0..lens.len())
            .map(|n| {
                let (p, g, moments) = operands(n);
                steps.push(&step(n), p, g, moments)
            })
            .collect()
    });
    let bits = |tensor: &Tensor<1>| -> Vec<u32> {
        values(tensor.clone()).into_iter().map(f32::to_bits).collect()
    };
    for (n, ((p, moments), (other_p, other_moments))) in all.iter().zip(&alone).enumerate() {
        assert_eq!(bits(p), bits(other_p), "parameter {n}");
        assert_ne!(values(p.clone()), given[n][0], "parameter {n} did not move");
        assert_eq!(moments.each_ref().map(bits), other_moments.each_ref().map(bits), "{n}");
    }
}

fn norms_agree(device: &Device) {
    let mut rng = ChaCha8Rng::seed_from_u64(6);
    let all: Vec<Vec<f32>> = [1, 3, 4, 1023, 4096, 16_384, 16_385, 300_003]
        .map(|count| uniform(&mut rng, count, 1.0, 0.2))
        .into();
    let want: f64 = all.iter().flatten().map(|&x| f64::from(x).powi(2)).sum::<f64>().sqrt();
    let norm = || l2_norm(all.iter().map(|values| vector(values, device)).collect()).unwrap();
    let got = norm();
    assert!((got / want - 1.0).abs() < 1e-6, "{got} instead of {want}");
    assert_eq!(got.to_bits(), norm().to_bits());
    assert!((with_stock(norm) / want - 1.0).abs() < 1e-4);
    assert_eq!(l2_norm(Vec::new()).unwrap(), 0.0);
}

#[test]
fn step_agrees_with_f64_on_cpu() {
    steps_agree(&Device::flex());
    with_stock(|| steps_agree(&Device::flex()));
    steps_together_agree(&Device::flex());
    norms_agree(&Device::flex());
}

#[test]
fn step_agrees_with_f64_on_wgpu() {
    let Some(device) = adapter::device() else { return };
    steps_agree(&device);
    steps_together_agree(&device);
    norms_agree(&device);
}
