//! The parameters of the convolution kernels, as their shaders declare them.

use crate::kernels::layout::{Element, wgsl_struct};

wgsl_struct! {
    /// `Params` of `include/conv_pack_params.wgsl`.
    pub(super) struct PackParams as "Params" {
        rows: u32,
        padded_rows: u32,
        quads: u32,
        channels: u32,
        depth: u32,
        row_stride: u32,
        channel_stride: u32,
        block: u32,
        block_step: u32,
        tap_count: u32,
    }
    then taps: [Element::Value("vec2<u32>")]
}

wgsl_struct! {
    /// `Phase` of `include/conv_phase.wgsl`.
    pub(super) struct PhaseRecord as "Phase" {
        lattice: [u32; 3],
        columns: u32,
        taps: [u32; 3],
        first_tap: u32,
        origin: [i32; 3],
        dst_start: u32,
        tap_step: [u32; 3],
        tap_count: u32,
    }
}

wgsl_struct! {
    /// `Params` of `conv_gather.wgsl`.
    pub(super) struct GatherParams as "Params" {
        rows: u32,
        quads: u32,
        channels: u32,
        depth: u32,
        src_size: [u32; 3],
        dst_plane: u32,
        dst_size: [u32; 3],
        parts: u32,
        part_steps: u32,
        dst_len: u32,
        row_tiles: u32,
        one_phase: u32,
        stride: [u32; 3],
        src_plane: u32,
        dst_step: [u32; 3],
        tap_steps: u32,
    }
    then phases: [Element::Struct(PhaseRecord::LAYOUT)]
}

wgsl_struct! {
    /// `TableRow` of `include/conv_load_table.wgsl`.
    pub(super) struct TableRow as "TableRow" {
        offset: u32,
        tap_bits: u32,
    }
}

wgsl_struct! {
    /// `Params` of `conv_weight.wgsl`.
    pub(super) struct WeightParams as "Params" {
        in_size: [u32; 3],
        in_plane: u32,
        out_size: [u32; 3],
        out_plane: u32,
        stride: [u32; 3],
        in_image: u32,
        padding: [i32; 3],
        positions: u32,
        window: [u32; 3],
        taps: u32,
        out_row: u32,
        part_positions: u32,
        rows: u32,
        columns: u32,
        row_tiles: u32,
        row_step: u32,
        column_step: u32,
        tap_step: u32,
    }
}

wgsl_struct! {
    /// `Params` of `conv_sum.wgsl`.
    pub(super) struct SumParams as "Params" {
        total: u32,
        parts: u32,
        channels: u32,
        taps: u32,
    }
}

wgsl_struct! {
    /// `Params` of `conv_sum_half.wgsl`.
    pub(super) struct SumHalfParams as "Params" {
        total: u32,
        parts: u32,
    }
}

wgsl_struct! {
    /// `Tensor` of `include/conv_tensor.wgsl`.
    pub(super) struct TensorRecord as "Tensor" {
        size: [u32; 3],
        channels: u32,
        extent: [u32; 3],
        depth: u32,
        low: [i32; 3],
        total: u32,
    }
}

wgsl_struct! {
    /// `Params` of `conv_soft_pack.wgsl`.
    pub(super) struct SoftPackParams as "Params" {
        first_group: [u32; 4],
    }
    then tensors: [Element::Struct(TensorRecord::LAYOUT)]
}

wgsl_struct! {
    /// `Params` of `conv_soft_weights.wgsl`.
    pub(super) struct SoftPackWeightsParams as "Params" {
        rows: u32,
        padded_rows: u32,
        channels: u32,
        depth: u32,
        row_stride: u32,
        channel_stride: u32,
        tap_count: u32,
    }
    then window: [Element::Value("u32")]
}

wgsl_struct! {
    /// `Params` of `conv_soft_gather.wgsl`.
    pub(super) struct SoftGatherParams as "Params" {
        src_extent: [u32; 3],
        depth: u32,
        dst_size: [u32; 3],
        channels: u32,
        stride: [u32; 3],
        direction: i32,
        dst_step: [u32; 3],
        row_tiles: u32,
        weight_step: [u32; 3],
        rows: u32,
    }
    then phases: [Element::Struct(PhaseRecord::LAYOUT)]
}

wgsl_struct! {
    /// `Params` of `conv_soft_weight.wgsl`.
    pub(super) struct SoftWeightParams as "Params" {
        out_size: [u32; 3],
        images: u32,
        x_extent: [u32; 3],
        row_tiles: u32,
        stride: [u32; 3],
        columns: u32,
        window: [u32; 3],
        taps: u32,
        rows: u32,
        channels: u32,
        x_depth: u32,
        dy_depth: u32,
    }
}

/// Converts sizes to the type that kernels use.
pub(super) fn u32s<const N: usize>(sizes: [usize; N]) -> [u32; N] {
    sizes.map(|size| size as u32)
}
