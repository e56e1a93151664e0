//! What `evaluate` and `predict` share: a checkpoint, opened.

use std::path::{Path, PathBuf};

use clap::Args;

use super::Failure;
use crate::checkpoint::{self, CheckpointInfo, InputSpec};
use crate::config::{Config, load_schema};
use crate::device::{self, Compute};
use crate::model::MultiViewNet;
use crate::schema::Schema;

/// Options as typed.
#[derive(Debug, Args)]
pub struct TrainedArgs {
    /// Weights that `train` wrote [e.g. SAVE_DIR/best.safetensors]
    #[arg(long, value_name = "FILE")]
    pub checkpoint: Option<PathBuf>,
    /// Schema of another data set (TOML) [default: SoccerNet-MVFoul]
    #[arg(long, value_name = "FILE")]
    pub schema: Option<PathBuf>,
    /// auto, gpu, cpu, wgpu[:N|:cpu], vulkan, metal, dx12 or cuda[:N]
    #[arg(long, value_name = "DEVICE", default_value = "auto")]
    pub device: String,
    /// Actions per step
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub batch_size: usize,
    /// Decoding threads; 0 decodes in the main thread
    #[arg(long, value_name = "N", default_value_t = 4)]
    pub num_workers: usize,
}

/// A network ready to be asked.
pub(super) struct Trained {
    pub net: MultiViewNet,
    pub info: CheckpointInfo,
    pub input: InputSpec,
    pub schema: Schema,
    pub compute: Compute,
}

impl TrainedArgs {
    pub(super) fn schema(&self) -> Result<Schema, Failure> {
        Ok(load_schema(self.schema.as_deref())?)
    }

    pub(super) fn open(&self, checkpoint: &Path) -> Result<Trained, Failure> {
        let schema = self.schema()?;
        let compute = device::open(&self.device)?;
        if let Some(note) = &compute.note {
            log::warn!("{note}");
        }
        let (net, info) = checkpoint::load(checkpoint, &compute.device)?;
        let fresh = CheckpointInfo::new(&schema, info.model.clone());
        if fresh.schema != info.schema || fresh.classes != info.classes {
            return Err(Failure::usage(format!(
                "{}: trained with the schema {}, not with these classes of {}: give --schema",
                checkpoint.display(),
                info.schema,
                schema.name
            )));
        }
        let input = info.input.clone().unwrap_or_else(|| {
            log::warn!("{}: no word on its input, taking the defaults", checkpoint.display());
            Config::default().input()
        });
        Ok(Trained { net, info, input, schema, compute })
    }
}
