//! `polyview export`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::advice::output_failure;
use super::{CommandResult, print_text};
use crate::checkpoint::{self, Layout};

/// Options as typed.
#[derive(Debug, Args)]
pub(super) struct ExportArgs {
    /// Checkpoint to read [e.g. SAVE_DIR/best.safetensors]
    #[arg(long, value_name = "FILE")]
    checkpoint: PathBuf,
    /// File to write (safetensors)
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Naming scheme: polyview (all weights) or torchvision (the backbone alone, with its public names)
    #[arg(long = "for", value_name = "NAMES", default_value_t = Layout::Polyview)]
    layout: Layout,
    /// Store weights as f16; biases and the numbers of batch norm stay f32
    #[arg(long)]
    half: bool,
}

impl ExportArgs {
    pub(super) fn run(&self) -> CommandResult {
        let tensors = checkpoint::export(&self.checkpoint, &self.out, self.layout, self.half)
            .map_err(|error| output_failure("--out", &error))?;
        let half = if self.half { ", weights in f16" } else { "" };
        print_text(&format!("{}: {tensors} tensors{half}", self.out.display()))?;
        Ok(ExitCode::SUCCESS)
    }
}
