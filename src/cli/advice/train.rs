//! Advice on a training run's errors.

use super::Advice;
use crate::checkpoint::CheckpointError;
use crate::cli::{EXIT_FAILURE, EXIT_USAGE};
use crate::device::DeviceError;
use crate::train::TrainError;

impl Advice for TrainError {
    fn option(&self) -> Option<&'static str> {
        match self {
            Self::Device(error) => error.option(),
            Self::Data(error) => error.option(),
            Self::Checkpoint(error) => error.option(),
            Self::Pretrained(_) => Some("--pretrained"),
            Self::RecordLanes { .. } | Self::RecordOccupied { .. } => Some("--record"),
            _ => None,
        }
    }

    fn prefix(&self) -> String {
        match self {
            Self::Config(error) => error.prefix(),
            _ => self.option().map_or_else(String::new, |option| format!("{option} ")),
        }
    }

    fn advice(&self) -> Option<String> {
        const SMALLER: &str = "a smaller --img-height and --img-width, fewer --frames-per-clip";
        match self {
            Self::Device(error) => error.advice(),
            Self::Data(error) => error.advice(),
            Self::Checkpoint(error) => error.advice(),
            Self::TooLarge { .. } => {
                Some(format!("try {SMALLER} or --device cpu (--force-batch-size tries it anyway)"))
            }
            Self::TooSmall { .. } => Some("use a larger --img-height and --img-width".to_owned()),
            Self::NotFinite { half, .. } | Self::ValidationNotFinite { half, .. } => {
                let precision = if *half { ", or --precision f32" } else { "" };
                Some(format!(
                    "try a lower --lr (in two phases: --head-lr, --backbone-lr){precision}"
                ))
            }
            Self::AllLeftOut { .. } => Some(
                "train with --precision f32, or continue with --resume auto and more epochs: the \
                 loss scale is halved at each such step"
                    .to_owned(),
            ),
            Self::OutOfMemory => {
                Some(format!("try --gradient-checkpointing, {SMALLER} or --device cpu"))
            }
            Self::Tune(_) => Some("train without --tune".to_owned()),
            Self::FewActions { .. } => {
                Some("use a larger --batch-size, fewer --lanes or fewer devices".to_owned())
            }
            Self::Cluster(error) => error.advice(),
            Self::Drift { .. } => {
                Some("continue with --resume auto on identical machines".to_owned())
            }
            Self::RecordLanes { .. } => Some("use --lanes 1".to_owned()),
            Self::RecordOccupied { .. } => Some("choose another folder".to_owned()),
            Self::FewLanes { .. } => {
                Some("use --lanes auto, more --lanes or fewer devices".to_owned())
            }
            Self::OtherData { .. } => {
                Some("all ranks need the same annotations and the same --max-views".to_owned())
            }
            Self::Config(_)
            | Self::Pretrained(_)
            | Self::Augment(_)
            | Self::Metrics(_)
            | Self::Worker { .. }
            | Self::Compute(_)
            | Self::Execution(_) => None,
        }
    }

    fn status(&self) -> u8 {
        match self {
            Self::Data(error) => error.status(),
            Self::Config(_)
            | Self::TooLarge { .. }
            | Self::RecordLanes { .. }
            | Self::RecordOccupied { .. }
            | Self::FewLanes { .. }
            | Self::FewActions { .. }
            | Self::Device(DeviceError::List { .. })
            | Self::Checkpoint(CheckpointError::Occupied { .. } | CheckpointError::Moved { .. }) => {
                EXIT_USAGE
            }
            _ => EXIT_FAILURE,
        }
    }
}
