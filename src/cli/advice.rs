//! Advice on the library's errors, in terms of this program's options and commands. The library's own
//! messages say what is wrong and where; they do not know which option led to it.

use std::error::Error;
use std::io;

use super::{EXIT_FAILURE, EXIT_USAGE, Failure};
use crate::bench::BenchError;
use crate::checkpoint::CheckpointError;
use crate::cluster::ClusterError;
use crate::config::{ConfigError, OptionError};
use crate::device::DeviceError;
use crate::evaluate::EvaluateError;
use crate::serve::ServeError;
use crate::sweep::SweepError;

mod data;
mod train;

/// An error that reaches the user as one line: what, where, what to do.
pub(super) trait Advice: Error {
    /// Returns the option whose value the error's message begins with.
    fn option(&self) -> Option<&'static str> {
        None
    }

    /// Returns what precedes the error's message on a command line.
    fn prefix(&self) -> String {
        self.option().map_or_else(String::new, |option| format!("{option} "))
    }

    /// Returns what the user can do about the error.
    fn advice(&self) -> Option<String> {
        None
    }

    /// Returns the exit status of a command that ends with this error.
    fn status(&self) -> u8 {
        EXIT_FAILURE
    }
}

/// Formats an error as one line: `--option value: what is wrong; what to do`.
pub(super) fn message(error: &impl Advice) -> String {
    let advice = error.advice().map_or_else(String::new, |advice| format!("; {advice}"));
    format!("{}{error}{advice}", error.prefix())
}

impl<E: Advice> From<E> for Failure {
    fn from(error: E) -> Self {
        Self { message: message(&error), status: error.status() }
    }
}

/// Returns advice on a failed write: another `target` and, if the disk is full, freeing space.
pub(super) fn write_advice(target: &str, error: &io::Error) -> String {
    use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
    match error.kind() {
        StorageFull | QuotaExceeded | FileTooLarge => {
            format!("choose another {target} or make room on the disk")
        }
        _ => format!("choose another {target}"),
    }
}

/// Returns the failure for a file, named by `option`, that could not be written.
pub(super) fn output_failure(option: &str, error: &CheckpointError) -> Failure {
    match error {
        CheckpointError::Write { source, .. } => {
            Failure::runtime(format!("{option} {error}; {}", write_advice("file", source)))
        }
        other => Failure::runtime(message(other)),
    }
}

impl Advice for DeviceError {
    fn option(&self) -> Option<&'static str> {
        Some("--device")
    }

    fn advice(&self) -> Option<String> {
        match self {
            Self::Absent { .. } => Some("`polyview devices` lists all devices".to_owned()),
            Self::Driver { .. } => Some("`polyview doctor` checks the drivers".to_owned()),
            Self::List { .. } => {
                Some("e.g. wgpu:0,wgpu:1; all; cpu*2 for two on the same hardware".to_owned())
            }
            Self::Unknown(_) => None,
        }
    }

    fn status(&self) -> u8 {
        match self {
            Self::List { .. } | Self::Unknown(_) => EXIT_USAGE,
            _ => EXIT_FAILURE,
        }
    }
}

impl Advice for ClusterError {
    fn advice(&self) -> Option<String> {
        match self {
            Self::Alone { .. } => Some(
                "start it with mpirun, srun --mpi=pmix or the like, with POLYVIEW_MPI naming the \
                 launcher's libmpi if it is not found; to train in one process, unset that variable"
                    .to_owned(),
            ),
            Self::Message { .. } => Some("use one version of polyview on all machines".to_owned()),
            Self::Library { .. } | Self::Call { .. } => None,
        }
    }
}

impl Advice for CheckpointError {
    fn option(&self) -> Option<&'static str> {
        match self {
            Self::InUse { .. } | Self::Occupied { .. } => Some("--save-dir"),
            Self::Resume { .. } => Some("--resume"),
            Self::Moved { .. } => Some("--pretrained"),
            Self::Write { .. }
            | Self::Read { .. }
            | Self::NotFinite { .. }
            | Self::BeyondHalf { .. }
            | Self::Unfit { .. } => None,
        }
    }

    /// Advises on failures in a run's folder; use [`output_failure`] for single files.
    fn advice(&self) -> Option<String> {
        match self {
            Self::Write { source, .. } => Some(write_advice("--save-dir", source)),
            Self::InUse { .. } => Some("wait for it, or choose another --save-dir".to_owned()),
            Self::Occupied { .. } => Some(
                "continue it with --resume auto, move its files aside with --overwrite, or choose \
                 another --save-dir"
                    .to_owned(),
            ),
            Self::NotFinite { .. } => {
                Some("the training diverged: use an earlier checkpoint, or train again with a lower --lr"
                    .to_owned())
            }
            Self::BeyondHalf { .. } => Some("export without --half".to_owned()),
            Self::Moved { .. } => {
                Some("copy it to another folder, or choose another --save-dir".to_owned())
            }
            Self::Read { .. } | Self::Resume { .. } | Self::Unfit { .. } => None,
        }
    }
}

impl Advice for EvaluateError {
    fn option(&self) -> Option<&'static str> {
        match self {
            Self::Data(error) => error.option(),
            Self::Input(_)
            | Self::Compute(_)
            | Self::Execution(_)
            | Self::OutOfMemory
            | Self::NetworkOutOfMemory
            | Self::NotFinite { .. } => None,
        }
    }

    fn advice(&self) -> Option<String> {
        match self {
            Self::Data(error) => error.advice(),
            Self::NotFinite { .. } => {
                Some("the weights have diverged: use an earlier checkpoint".to_owned())
            }
            Self::OutOfMemory => Some("try --precision f16 or --device cpu".to_owned()),
            Self::NetworkOutOfMemory => Some("try --device cpu".to_owned()),
            Self::Input(_) | Self::Compute(_) | Self::Execution(_) => None,
        }
    }
}

impl Advice for BenchError {
    fn advice(&self) -> Option<String> {
        match self {
            Self::OutOfMemory => Some("try fewer --clips, or smaller ones".to_owned()),
            Self::Device(_)
            | Self::Read(_)
            | Self::TooSmall(_)
            | Self::Norm(_)
            | Self::Train(_) => None,
        }
    }
}

impl Advice for ServeError {
    fn advice(&self) -> Option<String> {
        match self {
            Self::Listen { .. } => Some("choose another --port or --host".to_owned()),
            Self::Start(_) => None,
            Self::Model | Self::Device(_) => {
                Some("start it again; `polyview doctor` checks the device".to_owned())
            }
        }
    }
}

impl Advice for SweepError {
    fn option(&self) -> Option<&'static str> {
        match self {
            Self::Folder { .. } | Self::Others { .. } => Some("--out"),
            Self::File { .. } | Self::Run { .. } | Self::Write(_) => None,
        }
    }

    fn advice(&self) -> Option<String> {
        match self {
            Self::Folder { .. } => Some(
                "train into another --out, give the options another name as a variant, or remove \
                 that folder"
                    .to_owned(),
            ),
            Self::Others { .. } => Some(
                "choose another --out or, if they are no longer wanted, rename that table or remove their \
                 folders"
                    .to_owned(),
            ),
            Self::Write(CheckpointError::Write { source, .. }) => {
                Some(write_advice("--out", source))
            }
            Self::Write(_) => Some("choose another --out".to_owned()),
            Self::File { .. } | Self::Run { .. } => None,
        }
    }

    fn status(&self) -> u8 {
        match self {
            Self::Write(_) => EXIT_FAILURE,
            Self::File { .. } | Self::Run { .. } | Self::Folder { .. } | Self::Others { .. } => {
                EXIT_USAGE
            }
        }
    }
}

impl Advice for OptionError {
    fn prefix(&self) -> String {
        "--".to_owned()
    }

    fn status(&self) -> u8 {
        EXIT_USAGE
    }
}

impl Advice for ConfigError {
    fn prefix(&self) -> String {
        match self {
            Self::Option(error) => error.prefix(),
            Self::Required { .. } => "--".to_owned(),
            Self::File { .. } => "--config ".to_owned(),
            Self::Schema(_) => String::new(),
        }
    }

    fn status(&self) -> u8 {
        EXIT_USAGE
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;
    use crate::data::{DataError, DatasetError};
    use crate::train::TrainError;

    fn data(error: DataError) -> TrainError {
        TrainError::Data(DatasetError::Annotations(error))
    }

    #[test]
    fn a_message_has_the_option_the_error_and_what_to_do() {
        let absent = DeviceError::Absent { name: "cuda:3".into(), reason: "1 found".into() };
        let full = || CheckpointError::Write {
            path: "run/best.safetensors".into(),
            source: io::ErrorKind::StorageFull.into(),
        };
        let in_use = CheckpointError::InUse { path: "run".into(), owner: "process 7".into() };
        let resume = CheckpointError::Resume { path: "a".into(), reason: "its schema".into() };
        for (error, expected) in [
            (
                TrainError::Device(absent),
                "--device cuda:3: 1 found; `polyview devices` lists all devices",
            ),
            (
                data(DataError::NoRoot { root: "data".into() }),
                "data: no such folder; give the data set's folder as --dataset-root",
            ),
            (
                data(DataError::NothingToDivide { root: "data".into() }),
                "data: has the splits train and valid, so there is nothing to divide; leave --split \
                 out, or give --fold, which makes new ones from them",
            ),
            (
                data(DataError::NoClasses { path: "data".into(), reasons: "there is none".into() }),
                "data: no field has classes to learn (there is none); give a schema with --schema",
            ),
            (
                data(DataError::HasTest { root: "data".into() }),
                "data: has a test split, so only train and valid can be made; give --split two shares",
            ),
            (
                TrainError::Data(DatasetError::Worker),
                "a decoding thread panicked; --num-workers 0 shows where",
            ),
            (
                full().into(),
                "run/best.safetensors: cannot be written: no storage space; choose another --save-dir or \
                 make room on the disk",
            ),
            (
                in_use.into(),
                "--save-dir run: process 7 is writing there; wait for it, or choose another \
                 --save-dir",
            ),
            (resume.into(), "--resume a: its schema"),
            (
                TrainError::ValidationNotFinite { value: f64::NAN, epoch: 2, half: true },
                "the validation loss is NaN after epoch 2; its weights were not saved; try a lower --lr \
                 (in two phases: --head-lr, --backbone-lr), or --precision f32",
            ),
        ] {
            assert_eq!(message(&error), expected);
            assert_eq!(Failure::from(error).status, EXIT_FAILURE);
        }
        for (error, expected) in [
            (
                TrainError::FewActions { lanes: 3, actions: 2 },
                "3 lanes need a batch of at least 3 actions, but it has 2; use a larger --batch-size, fewer \
                 --lanes or fewer devices",
            ),
            (
                TrainError::Config(OptionError::new("lr", "abc", "must be a number").into()),
                "--lr abc: must be a number",
            ),
        ] {
            assert_eq!(message(&error), expected);
            assert_eq!(Failure::from(error).status, EXIT_USAGE);
        }
        let failure = output_failure("--out", &full());
        assert!(failure.message.starts_with("--out run/best.safetensors: cannot be written"));
        assert!(!failure.message.contains("--save-dir"), "{}", failure.message);
        // Free disk space does not help without write permission.
        let denied = io::ErrorKind::PermissionDenied.into();
        assert_eq!(write_advice("--out", &denied), "choose another --out");
    }
}
