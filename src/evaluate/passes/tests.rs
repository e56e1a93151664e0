//! Scores that are not finite, and devices that run out of memory.

use burn::tensor::Tensor;

use super::*;
use crate::device;
use crate::evaluate::Averaging;
use crate::model::{BackboneKind, ModelConfig};
use crate::schema::Schema;

#[test]
fn scores_that_are_not_finite_are_refused() {
    let device = Device::flex();
    let tensor = |values: [[f32; 2]; 1]| Tensor::<2>::from_data(values, &device);
    let read = |logit: f32, share: f32| {
        let batch = Batch {
            actions: vec!["7".to_owned()],
            earlier: vec![0],
            view_counts: vec![1],
            views: vec![0],
            size: [1, 1, 1],
            ..Batch::default()
        };
        let (logits, view_weights) = (vec![tensor([[logit, 0.0]])], tensor([[share, 0.0]]));
        let prediction = Prediction { logits, auxiliary: Vec::new(), view_weights };
        read(&batch, &prediction, &[2.0]).map(|actions| actions.len())
    };
    assert_eq!(read(1.0, 1.0).unwrap(), 1);
    for (logit, share) in [(f32::NAN, 1.0), (f32::INFINITY, 1.0), (0.0, f32::NAN)] {
        let error = read(logit, share).unwrap_err().to_string();
        assert_eq!(error, "action 7: the network's scores are not finite");
    }
}

/// A batch of two actions with three clips and one clip.
fn batch(size: [usize; 3]) -> Batch {
    let bytes = 4 * 3 * size.iter().product::<usize>();
    Batch {
        actions: vec!["0".to_owned(), "1".to_owned()],
        earlier: vec![0; 2],
        view_counts: vec![3, 1],
        views: vec![0, 1, 2, 0],
        frames: (0..bytes).map(|n| (n * n % 251) as u8).collect(),
        size,
        ..Batch::default()
    }
}

#[test]
fn a_batch_that_does_not_fit_is_repeated_with_half_the_clips() {
    let Some(device) = device::unshared() else { return };
    let net = ModelConfig::new(BackboneKind::R3dTiny, &Schema::mvfoul().unwrap()).init(1, &device);
    let batch = batch([2, 16, 16]);
    let options = |max_clips| PredictOptions {
        batch_size: 2,
        workers: 0,
        max_clips,
        inputs: Vec::new(),
        averaging: Averaging::NONE,
        temperatures: Vec::new(),
        thresholds: Vec::new(),
    };
    let (all, two, one) = (options(usize::MAX), options(2), options(1));
    let expected = Passes::new(&net, &two, &device).unwrap().predict(&batch, false).unwrap();

    let mut passes = Passes::new(&net, &all, &device).unwrap();
    device::simulate_out_of_memory(&device);
    assert_eq!(passes.predict(&batch, false).unwrap(), expected);
    assert_eq!(passes.most, 2);
    // The limit stays for later batches.
    passes.predict(&batch, true).unwrap();
    assert_eq!(passes.most, 2);

    let mut passes = Passes::new(&net, &one, &device).unwrap();
    device::simulate_out_of_memory(&device);
    let error = passes.predict(&batch, true).unwrap_err().to_string();
    assert_eq!(error, "the device is out of memory with a single clip");
    // The next request succeeds, …
    assert_eq!(passes.predict(&batch, false).unwrap().len(), 2);
    // … but where weights may be missing, nothing is predicted.
    device::simulate_out_of_memory(&device);
    for _ in 0..2 {
        let error = Passes::new(&net, &all, &device).map(|_| ()).unwrap_err().to_string();
        assert_eq!(error, "the device is out of memory with the network alone");
    }
}
