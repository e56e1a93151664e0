//! A tiny network with random weights to serve, and clips for it.

use std::sync::OnceLock;

use burn::tensor::Device;
use polyview::checkpoint::CheckpointInfo;
use polyview::data::sampling::WindowSpec;
use polyview::data::{InputSpec, Window};
use polyview::model::{BackboneKind, ModelConfig, MultiViewNet};
use polyview::schema::Schema;
use tempfile::TempDir;

use super::data::{clip, small_set};

/// Returns a network for clips of `size`, `[T, H, W]`, and its checkpoint's information.
pub fn network(size: [usize; 3]) -> (MultiViewNet, CheckpointInfo) {
    let schema = Schema::mvfoul().expect("the built-in schema is valid");
    let config = ModelConfig::new(BackboneKind::R3dTiny, &schema);
    let net = config.init(7, &Device::flex());
    let window = Window::Frames { start: 2, end: 5 };
    let window = WindowSpec { window, target_fps: 25.0, frames_per_clip: size[0] };
    let input = InputSpec { window, size: [size[1], size[2]], max_views: None };
    (net, CheckpointInfo { input: Some(input), epoch: 3, ..CheckpointInfo::new(&schema, config) })
}

/// Returns two clips of an action.
pub fn clips() -> &'static [Vec<u8>; 2] {
    static CLIPS: OnceLock<[Vec<u8>; 2]> = OnceLock::new();
    CLIPS.get_or_init(|| {
        let folder = TempDir::new().expect("a temporary folder");
        small_set(folder.path());
        [0, 1].map(|view| std::fs::read(clip(folder.path(), 0, view)).expect("it was written"))
    })
}
