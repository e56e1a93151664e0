//! The wgpu device that tests run on: a GPU if there is one, else a software rasteriser.

use burn::tensor::Device;

/// `None`, with the reason printed, where the machine has no adapter at all. With
/// `POLYVIEW_REQUIRE_WGPU=1` that is a failure instead.
pub fn device() -> Option<Device> {
    let opened = polyview::device::open("gpu").or_else(|_| polyview::device::open("wgpu:cpu"));
    match opened {
        Ok(compute) => Some(compute.device),
        Err(error) if std::env::var_os("POLYVIEW_REQUIRE_WGPU").is_some_and(|v| v == "1") => {
            panic!("POLYVIEW_REQUIRE_WGPU=1, but {error}")
        }
        Err(error) => {
            println!("skipped: {error}");
            None
        }
    }
}
