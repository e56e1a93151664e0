//! Parameter structs of the kernels.

use crate::kernels::layout::{Element, wgsl_struct};

wgsl_struct! {
    /// Parameters of the passes over all elements.
    pub(super) struct EachParams as "Params" {
        planes: u32,
        channels: u32,
        plane: u32,
        lane_bits: u32,
        parts: u32,
        part: u32,
        values: u32,
        epsilon: f32,
        row: u32,
        mask: u32,
    }
}

wgsl_struct! {
    /// Parameters of the reductions.
    pub(super) struct ReduceParams as "Params" {
        channels: u32,
        plane: u32,
        elements: u32,
        chunk: u32,
        image_step: u32,
        plane_step: u32,
        row: u32,
        mask: u32,
        plane_words: u32,
        lane_bits: u32,
    }
}

wgsl_struct! {
    pub(super) struct CollectParams as "Params" {
        parts: u32,
        part: u32,
        values: u32,
    }
}

wgsl_struct! {
    pub(super) struct CollectSumsParams as "Params" {
        parts: u32,
    }
}

wgsl_struct! {
    /// One layer's running statistics.
    pub(super) struct BlendLayer as "Layer" {
        channels: u32,
        mean: u32,
        variance: u32,
        variance_share: f32,
    }
}

wgsl_struct! {
    pub(super) struct BlendParams as "Params" {
        keep: f32,
        mean_share: f32,
    }
    then layers: [Element::Struct(BlendLayer::LAYOUT)]
}
