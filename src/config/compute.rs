//! Device and memory.

use clap::Args;
use serde::{Deserialize, Serialize};

use super::Auto;
use crate::half::Precision;
use crate::options::{RESUME_MAY_CHANGE, at_least, choice, option_defaults};

/// Device, and how a step fits into its memory.
#[derive(Debug, Clone, PartialEq, Args, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
#[command(next_help_heading = "Device and memory")]
pub struct ComputeConfig {
    /// Device, by a name that `polyview devices` lists.
    #[arg(
        help = "auto, gpu, all, cpu, wgpu[:N|:cpu], vulkan, metal, dx12 or cuda[:N]; several with commas"
    )]
    #[arg(long, value_name = "DEVICE", group = RESUME_MAY_CHANGE, default_value = "auto")]
    pub device: String,
    /// Number of parts into which each batch is split; they are computed separately, on one or several
    /// devices, and their gradients are added in a fixed order; auto: one per device. Results depend on
    /// this number, not on the devices
    #[arg(long, value_name = "N", value_parser = Auto::at_least_one, default_value = "auto")]
    #[arg(group = RESUME_MAY_CHANGE)]
    pub lanes: Auto,
    /// Compute the statistics of batch norm over all lanes of a step, as one device would over the whole
    /// batch; lanes wait for each other at every such layer
    #[arg(long)]
    pub sync_batch_norm: bool,
    /// Seconds without an answer from a rank after which a job of several processes is aborted
    #[arg(long, value_name = "SECONDS", value_parser = at_least(1), default_value_t = 600)]
    #[arg(group = RESUME_MAY_CHANGE)]
    pub rank_timeout: usize,
    /// Clips per forward pass, with gradients accumulated over the step; auto: what fits in memory
    #[arg(long, value_name = "N", value_parser = Auto::at_least_one, default_value = "auto")]
    pub micro_batch: Auto,
    /// Save memory: recompute activations in the backward pass instead of keeping them
    #[arg(long, group = RESUME_MAY_CHANGE)]
    pub gradient_checkpointing: bool,
    /// Run a batch even if it is estimated not to fit in memory
    #[arg(long)]
    pub force_batch_size: bool,
    /// Time the convolution kernels on this GPU before training and remember the fastest
    #[arg(long)]
    pub tune: bool,
    /// f32; f16: activations and their gradients in half precision, arithmetic in f32; auto: f16 on
    /// GPUs, where much of a step is memory-bound, f32 on the CPU and software rasterisers
    #[arg(long, value_name = "NAME", value_parser = choice::<Precision>())]
    #[arg(default_value_t = Precision::F32)]
    pub precision: Precision,
}

option_defaults!(ComputeConfig);
