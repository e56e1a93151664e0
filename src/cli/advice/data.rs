//! Advice on the errors of data sets.

use super::Advice;
use crate::cli::{EXIT_FAILURE, EXIT_USAGE};
use crate::data::{DataError, DatasetError};

impl Advice for DataError {
    fn advice(&self) -> Option<String> {
        match self {
            Self::NoRoot { .. } => Some("give the data set's folder as --dataset-root".to_owned()),
            Self::OneSplit { .. } => Some(
                "give the folder above it as --dataset-root (--format folders treats its folders as \
                 classes; --format manifest or list reads a table or a list in it)"
                    .to_owned(),
            ),
            Self::NoClasses { .. } => Some("give a schema with --schema".to_owned()),
            Self::NothingToDivide { .. } => {
                Some("leave --split out, or give --fold, which makes new ones from them".to_owned())
            }
            Self::HasTest { .. } => Some("give --split two shares".to_owned()),
            // A run always uses these two splits, whatever its --split says.
            Self::NoSplit { split, .. } if split != "train" && split != "valid" => {
                Some("give one of them with --split".to_owned())
            }
            Self::UnknownSplit { .. }
            | Self::NoSplit { .. }
            | Self::Layout { .. }
            | Self::Line { .. }
            | Self::Schema(_)
            | Self::Io { .. }
            | Self::Json { .. } => None,
        }
    }

    fn status(&self) -> u8 {
        match self {
            Self::Schema(_) => EXIT_USAGE,
            _ => EXIT_FAILURE,
        }
    }
}

impl Advice for DatasetError {
    fn option(&self) -> Option<&'static str> {
        match self {
            Self::Annotations(error) => error.option(),
            _ => None,
        }
    }

    fn advice(&self) -> Option<String> {
        match self {
            Self::Annotations(error) => error.advice(),
            Self::NoActions { .. } => Some("`polyview check-data` lists the reasons".to_owned()),
            Self::Unlabelled { .. } => Some(
                "training and validation need labels: add them, or leave the split out, and part of the \
                 training split is held out instead"
                    .to_owned(),
            ),
            Self::BeyondClips { .. } => Some(
                "give an earlier --start-frame and --end-frame, or --window center for any length"
                    .to_owned(),
            ),
            Self::Worker => Some("--num-workers 0 shows where".to_owned()),
            Self::TooManyUnreadable { .. } => {
                Some("`polyview check-data` lists all of them".to_owned())
            }
        }
    }

    fn status(&self) -> u8 {
        match self {
            Self::Annotations(error) => error.status(),
            _ => EXIT_FAILURE,
        }
    }
}
