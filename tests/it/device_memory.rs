//! The device memory that training steps take, against what is estimated and what is alive.

use burn::tensor::Device;
use polyview::bench::BenchConfig;
use polyview::kernels::memory::peak_of;
use polyview::model::{Backbone, BackboneKind, Init, MemoryEstimate, StageSet, parameter_count};

use crate::common::adapter;

#[test]
fn steps_take_the_memory_that_is_estimated_and_hold_little_more() {
    let Some(device) = adapter::device() else { return };
    for (backbone, clips, size) in [
        (BackboneKind::R3dTiny, 4, [8, 64, 64]),
        (BackboneKind::R3dTiny, 8, [8, 112, 112]),
        (BackboneKind::R2plus1d18, 2, [4, 64, 64]),
        (BackboneKind::R2plus1d18, 1, [8, 112, 112]),
    ] {
        let config = BenchConfig { backbone, clips, size, steps: 1, stock: false };
        let run = || config.steps(&device, || ()).unwrap();
        let Some((_, peak)) = peak_of(&device, run) else { return };
        let sketch = Backbone::new(&mut Init::new(1, &Device::flex()), backbone);
        let parameters = parameter_count(&sketch);
        let need =
            MemoryEstimate::training(&sketch, parameters, size, StageSet::ALL, false).unwrap();
        let estimate = need.fixed + clips as u64 * need.clip;
        println!(
            "{backbone:?} {clips} {size:?}: {peak:?} estimate {estimate} fixed {} ratio {:.3} {:.3}",
            need.fixed,
            peak.reserved as f64 / peak.in_use as f64,
            peak.in_use as f64 / estimate as f64
        );
    }
}
