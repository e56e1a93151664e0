//! The device memory that training steps take, against what is estimated and what is alive.

use burn::tensor::{Device, Tensor};
use polyview::bench::BenchConfig;
use polyview::kernels::memory::peak_of;
use polyview::kernels::{DeviceLimits, with_limits};
use polyview::model::{Backbone, BackboneKind, Init, MemoryEstimate, StageSet, parameter_count};

use crate::common::adapter;

#[test]
fn steps_take_the_memory_that_is_estimated_and_hold_little_more() {
    let Some(device) = adapter::device() else { return };
    for (backbone, clips, size, ks) in [
        (BackboneKind::R3dTiny, 8, [8, 64, 64], vec![0, 1, 2, 4, 8]),
        (BackboneKind::R3dTiny, 3, [8, 112, 112], vec![0, 4]),
        (BackboneKind::R2plus1d18, 2, [4, 48, 48], vec![0, 4]),
    ] {
        for (name, limits) in [("soft", (|limits| limits) as fn(DeviceLimits) -> DeviceLimits), ("tiles", |limits| DeviceLimits { software: false, ..limits })] {
            for &k in &ks {
                let device = device.clone();
                std::thread::spawn(move || {
                    let config = BenchConfig { backbone, clips, size, steps: 1, stock: false };
                    let sketch = Backbone::new(&mut Init::new(1, &Device::flex().autodiff()), backbone);
                    let parameters = parameter_count(&sketch);
                    let need = MemoryEstimate::training(&sketch, parameters, size, StageSet::ALL, false).unwrap();
                    let run = || {
                        if k > 0 {
                            drop(Tensor::<1>::empty([k * clips * need.widest as usize / 4], &device));
                        }
                        config.steps(&device, || ()).unwrap()
                    };
                    let Some((_, peak)) = with_limits(limits, || peak_of(&device, run)) else { return };
                    let estimate = need.fixed + clips as u64 * need.clip;
                    println!("{name} {k} {backbone:?} {clips} {size:?}: {peak:?} estimate {estimate} fixed {} widest {} ratio {:.3} {:.3}", need.fixed, need.widest, peak.reserved as f64 / peak.in_use as f64, peak.in_use as f64 / estimate as f64);
                }).join().unwrap();
            }
        }
    }
}
