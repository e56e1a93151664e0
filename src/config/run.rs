//! Seed, files, checkpoints and resuming.

use std::path::PathBuf;

use clap::Args;
use serde::{Deserialize, Serialize};

use crate::checkpoint;
use crate::options::{self, ONE_START, RESUME_MAY_CHANGE, option_defaults};

/// Value of `resume` for the save-dir's last checkpoint, if there is one.
pub(crate) const AUTO: &str = "auto";

/// Options of the run as a whole.
#[derive(Debug, Clone, PartialEq, Args, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
#[command(next_help_heading = "Run and checkpoints")]
pub struct RunConfig {
    /// Folder for checkpoints, history, report and configuration
    #[arg(long, value_name = "DIR", group = RESUME_MAY_CHANGE)]
    #[arg(value_parser = options::path(), default_value = "checkpoints")]
    #[serde(with = "options::path_text")]
    pub save_dir: PathBuf,
    /// Random seed: initial weights, data order, windows, augmentation, dropout
    #[arg(long, value_name = "N", value_parser = options::seed, default_value_t = 42)]
    pub seed: u64,
    /// Move the files of an earlier run in SAVE_DIR aside, to a numbered folder there
    #[arg(long, groups = [RESUME_MAY_CHANGE, ONE_START])]
    pub overwrite: bool,
    /// Checkpoint to resume from, or a run's folder for its last one; auto: SAVE_DIR's, if there is one
    #[arg(long, value_name = "FILE", groups = [RESUME_MAY_CHANGE, ONE_START])]
    #[arg(value_parser = options::file_or_folder(checkpoint::LAST, Some(AUTO)))]
    #[serde(with = "options::optional_path_text", skip_serializing_if = "Option::is_none")]
    pub resume: Option<PathBuf>,
    /// Best score to beat after resuming, in place of the checkpoint's
    #[arg(long, value_name = "SCORE", groups = [RESUME_MAY_CHANGE, ONE_START], value_parser = options::unit)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resume_best_acc: Option<f64>,
    /// Minutes between two checkpoints within an epoch; 0: at its end only
    #[arg(long, value_name = "M", group = RESUME_MAY_CHANGE)]
    #[arg(value_parser = options::not_negative, default_value = "10")]
    pub checkpoint_minutes: f64,
    /// Number of epochs whose checkpoints are kept besides the last and the best
    #[arg(long, value_name = "N", group = RESUME_MAY_CHANGE)]
    #[arg(value_parser = options::whole, default_value_t = 0)]
    pub keep: usize,
    /// Write each step's inputs and results to DIR, as safetensors: clips, labels, dropout, rates, losses
    #[arg(long, value_name = "DIR", groups = [RESUME_MAY_CHANGE, ONE_START], value_parser = options::path())]
    #[serde(with = "options::optional_path_text", skip_serializing_if = "Option::is_none")]
    pub record: Option<PathBuf>,
    /// Run one epoch of a few batches and write no files
    #[arg(long)]
    pub test_run: bool,
    /// Batches per split in a test run
    #[arg(long, value_name = "N", value_parser = options::at_least(1), default_value_t = 2)]
    pub test_batches: usize,
    /// Train twice, with and without freezing, and compare
    #[arg(long)]
    pub compare_freezing: bool,
}

option_defaults!(RunConfig);
