//! The convolution's shaders against plain f64, in the variants that devices other than the current
//! one would use and in those of `--tune`.

use std::collections::BTreeSet;

use burn::tensor::{DType, Tensor};
use polyview::conv::testing::{distinct_variants, kernels, pass_as_on};
use polyview::conv::{ConvPass, ConvShape};
use polyview::kernels::{DeviceLimits, PlanError, Vendor};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use crate::common::adapter;
use crate::common::conv::{Case, random_shape, wide_shape};
use crate::common::tensors::{tensor, values};

/// Checks the kernels that a device with these limits would use.
fn kernels_agree(seed: u64, count: usize, limits: impl Fn(DeviceLimits) -> DeviceLimits) {
    let Some(device) = adapter::device() else { return };
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut refused = 0;
    for _ in 0..count {
        let case = Case::new(random_shape(&mut rng, 2_000_000), &mut rng);
        let shape = &case.shape;
        let x = tensor(&case.x, shape.x(), &device);
        let w = tensor(&case.w, shape.w(), &device);
        let dy = tensor(&case.dy, shape.y(), &device);
        let operands = [[&x, &w], [&dy, &w], [&x, &dy]];
        for (pass, operands) in operands.into_iter().enumerate() {
            let operands = operands.map(|operand| operand.clone());
            match pass_as_on(&limits, None, ConvPass::ALL[pass], shape, operands).unwrap() {
                Ok(got) => {
                    let error = case.worst(pass, &values(got));
                    assert!(
                        error <= 1.0,
                        "{:?} of {shape:?}: {error}× the bound",
                        ConvPass::ALL[pass]
                    );
                }
                Err(PlanError::TooManyGroups) => refused += 1,
                Err(error) => panic!("{shape:?}: {error}"),
            }
        }
    }
    assert!(refused < count, "{refused} of {} passes refused", 3 * count);
}

#[test]
fn conv_tiles_agree_with_f64() {
    let gpu = |vendor| move |limits| DeviceLimits { software: false, vendor, ..limits };
    for (seed, vendor) in (1..).zip([Vendor::Nvidia, Vendor::Apple, Vendor::Intel]) {
        kernels_agree(seed, 50, gpu(vendor));
    }
    // With few workgroups per dimension, plans fold dimensions and refuse some shapes.
    let few = |limits| DeviceLimits { max_workgroups_per_dim: 24, ..limits };
    kernels_agree(4, 40, |limits| few(gpu(Vendor::Amd)(limits)));
    kernels_agree(5, 40, |limits| few(DeviceLimits { software: true, ..limits }));
}

/// Every form of reading the source and writing the result in tiles.
#[test]
fn conv_with_wide_loads_agrees_with_f64() {
    let Some(device) = adapter::device() else { return };
    let mut rng = ChaCha8Rng::seed_from_u64(17);
    let mut seen = BTreeSet::new();
    for round in 0..150 {
        let case = Case::new(wide_shape(&mut rng), &mut rng);
        let shape = &case.shape;
        let vendor = [Vendor::Amd, Vendor::Unknown][round % 2];
        let limits = |limits| DeviceLimits { software: false, vendor, ..limits };
        let known = limits(polyview::kernels::limits(&device).unwrap());
        let x = tensor(&case.x, shape.x(), &device);
        let w = tensor(&case.w, shape.w(), &device);
        let dy = tensor(&case.dy, shape.y(), &device);
        for (pass, operands) in ConvPass::ALL[..2].iter().zip([[&x, &w], [&dy, &w]]) {
            let got = pass_as_on(limits, None, *pass, shape, operands.map(Tensor::clone)).unwrap();
            let error = case.worst(*pass as usize, &values(got.unwrap()));
            assert!(error <= 1.0, "{pass:?} of {shape:?}: {error}× the bound");
            let kernels = kernels(*pass, shape, DType::F32, &known, None).unwrap();
            let form =
                |kernel: &String| kernel.split_once("form: ").map(|(_, form)| form.to_owned());
            seen.extend(kernels.iter().filter_map(form));
        }
    }
    // Loads through a table, one at a time, four from a plane, four from a row; one tap and
    // several; stores four at a time and one at a time.
    assert_eq!(seen.len(), 9, "{seen:#?}");
}

/// Without subgroup operations, a software rasteriser uses the tiles of a GPU.
#[test]
fn conv_agrees_with_f64_on_software_without_subgroups() {
    let no_subgroups =
        |limits| DeviceLimits { software: true, subgroup_operations: false, ..limits };
    kernels_agree(5, 40, no_subgroups);
}

/// Every variant that `--tune` may choose, on shapes that fill no tile evenly.
#[test]
fn conv_in_every_variant_agrees_with_f64() {
    let Some(device) = adapter::device() else { return };
    let mut rng = ChaCha8Rng::seed_from_u64(13);
    let gpu = |vendor| move |limits| DeviceLimits { software: false, vendor, ..limits };
    let software = |limits| DeviceLimits { software: true, ..limits };
    let kinds: [&dyn Fn(DeviceLimits) -> DeviceLimits; 4] =
        [&gpu(Vendor::Nvidia), &software, &gpu(Vendor::Apple), &gpu(Vendor::Intel)];
    let mut agreed = 0;
    for round in 0..12 {
        let case = Case::new(random_shape(&mut rng, 1_000_000), &mut rng);
        let shape = &case.shape;
        let x = tensor(&case.x, shape.x(), &device);
        let w = tensor(&case.w, shape.w(), &device);
        let dy = tensor(&case.dy, shape.y(), &device);
        let limits = kinds[round % kinds.len()];
        let known = limits(polyview::kernels::limits(&device).unwrap());
        for (pass, operands) in ConvPass::ALL.into_iter().zip([[&x, &w], [&dy, &w], [&x, &dy]]) {
            let variants = distinct_variants(pass, shape, &known);
            for &variant in &variants {
                let operands = operands.map(Tensor::clone);
                let got = pass_as_on(limits, Some(variant), pass, shape, operands).unwrap();
                let got = values(got.unwrap());
                let error = case.worst(pass as usize, &got);
                assert!(error <= 1.0, "{pass:?} of {shape:?}, {variant:?}: {error}× the bound");
            }
            assert!(variants.len() >= 3, "{pass:?} of {shape:?}: {} variants", variants.len());
            agreed += variants.len();
        }
    }
    println!("{agreed} plans agree");
}

/// Every way to load the operands of the weight gradient, in every tile: planes that are multiples
/// of four and planes that are not, partially filled tiles, strides, taps that no position meets,
/// sums in one part and in several.
#[test]
fn conv_weight_gradient_agrees_with_f64_however_it_is_loaded() {
    let Some(device) = adapter::device() else { return };
    let gpu = |limits| DeviceLimits { software: false, workgroup_memory: 32 << 10, ..limits };
    let known = gpu(polyview::kernels::limits(&device).unwrap());
    let mut rng = ChaCha8Rng::seed_from_u64(14);
    // Batch and channels, then input, kernel, stride, padding.
    let shapes: &[([usize; 3], [[usize; 3]; 4])] = &[
        // Three taps along w.
        ([2, 33, 50], [[3, 5, 8], [1, 3, 3], [1, 1, 1], [0, 1, 1]]),
        ([1, 20, 70], [[4, 6, 7], [3, 3, 3], [1, 1, 1], [1, 1, 1]]),
        ([2, 17, 5], [[2, 3, 1], [1, 1, 3], [1, 1, 1], [0, 0, 1]]),
        ([2, 18, 9], [[5, 6, 5], [3, 3, 3], [2, 2, 1], [3, 2, 1]]),
        ([3, 34, 66], [[2, 9, 17], [1, 1, 3], [1, 1, 1], [0, 0, 1]]),
        // Three taps along w, rows of multiples of four.
        ([2, 33, 50], [[2, 5, 16], [1, 3, 3], [1, 1, 1], [0, 1, 1]]),
        ([1, 18, 70], [[5, 4, 20], [3, 3, 3], [2, 1, 1], [1, 3, 1]]),
        ([3, 35, 19], [[2, 5, 28], [1, 1, 3], [1, 2, 1], [0, 0, 1]]),
        // Taps along w that are computed separately.
        ([2, 18, 40], [[2, 7, 6], [1, 3, 3], [1, 1, 1], [0, 1, 2]]),
        ([2, 18, 40], [[2, 6, 9], [1, 3, 3], [1, 2, 2], [0, 1, 1]]),
        ([1, 70, 18], [[4, 5, 6], [2, 3, 3], [1, 1, 1], [0, 0, 0]]),
        // Taps along t, planes of multiples of four and others.
        ([2, 40, 66], [[5, 6, 6], [3, 1, 1], [1, 1, 1], [1, 0, 0]]),
        ([2, 66, 40], [[6, 2, 6], [3, 1, 1], [2, 1, 1], [2, 0, 0]]),
        ([2, 40, 66], [[5, 5, 7], [3, 1, 1], [1, 1, 1], [1, 0, 0]]),
        // Taps along h, rows of multiples of four.
        ([2, 21, 35], [[3, 7, 8], [1, 3, 1], [1, 2, 1], [0, 1, 0]]),
        // A single tap: clips of a multiple of four values, others, strides, padding.
        ([3, 35, 37], [[3, 10, 12], [1, 1, 1], [1, 1, 1], [0, 0, 0]]),
        ([3, 35, 37], [[3, 5, 7], [1, 1, 1], [1, 1, 1], [0, 0, 0]]),
        ([2, 70, 20], [[3, 8, 12], [1, 1, 1], [2, 2, 2], [0, 0, 0]]),
        ([1, 19, 20], [[2, 3, 4], [1, 1, 1], [1, 1, 1], [1, 2, 1]]),
        // Few channels.
        ([2, 3, 45], [[2, 20, 22], [1, 7, 7], [1, 2, 2], [0, 3, 3]]),
        ([2, 9, 33], [[3, 7, 9], [3, 3, 3], [1, 1, 1], [1, 1, 1]]),
    ];
    let mut agreed = 0;
    for &([batch, in_channels, out_channels], [input, kernel, stride, padding]) in shapes {
        let shape = ConvShape { batch, in_channels, out_channels, input, kernel, stride, padding };
        let case = Case::new(shape, &mut rng);
        let x = tensor(&case.x, shape.x(), &device);
        let dy = tensor(&case.dy, shape.y(), &device);
        let pass = ConvPass::WeightGradient;
        let run = |variant| {
            let operands = [x.clone(), dy.clone()];
            values(pass_as_on(gpu, variant, pass, &shape, operands).unwrap().unwrap())
        };
        let usual = run(None);
        let bits = |values: &[f32]| values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&usual), bits(&run(None)), "{shape:?}");
        let variants = distinct_variants(pass, &shape, &known);
        for variant in variants.iter().copied() {
            let error = case.worst(pass as usize, &run(Some(variant)));
            assert!(error <= 1.0, "{shape:?}, {variant:?}: {error}× the bound");
        }
        assert!(variants.len() >= 5, "{shape:?}: {} variants", variants.len());
        let error = case.worst(pass as usize, &usual);
        assert!(error <= 1.0, "{shape:?}: {error}× the bound");
        agreed += variants.len();
    }
    println!("{agreed} plans agree");
}
