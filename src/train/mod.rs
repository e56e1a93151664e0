//! Training. [`run`] is the whole job behind `polyview train`: data, device, network, epochs,
//! checkpoints and report. [`Trainer`] is the training loop inside it, for programs that bring their
//! own data order, loss or freezing; read it first.

mod agreement;
mod augmenter;
mod average;
mod best;
mod checkpoints;
mod compare;
mod devices;
mod early_stopping;
mod error;
mod examples;
pub mod freezing;
mod lanes;
mod loss_scale;
mod lr_find;
mod memory;
mod metrics;
mod mixing;
mod objective;
mod optimizer;
mod pair;
mod recording;
mod reporting;
mod run;
mod run_data;
mod run_schedule;
pub mod schedule;
mod shared_start;
mod stage_gradients;
mod start;
mod state;
mod step;
mod summary;
mod trainer;
mod tune;

pub use augmenter::{Augmenter, Rarity};
pub use average::WeightAverage;
pub use compare::{Comparison, compare_freezing};
pub use early_stopping::EarlyStopping;
pub use error::TrainError;
pub use lanes::Lanes;
pub use loss_scale::LossScale;
pub(crate) use lr_find::FEWEST as FEWEST_LR_STEPS;
pub use lr_find::{LrCurve, LrEnd, LrPoint, lr_find};
pub use memory::StepMemory;
pub use metrics::PassProgress;
pub use mixing::Mixing;
pub use objective::{Objective, TaskObjective};
pub use optimizer::{Optimizer, Rule};
pub use recording::Recorder;
pub use run::{Outcome, is_finished, run, run_on_cluster};
pub use run_schedule::Rates;
pub use trainer::{TrainPass, Trainer};

/// Names of a run's files other than checkpoints and history.
pub use crate::checkpoint::{METRICS, REPORT, TENSORBOARD};

// For the integration tests.
#[doc(hidden)]
pub use augmenter::multi_scale_sizes;
#[doc(hidden)]
pub use pair::load_pair;
#[doc(hidden)]
pub use run_schedule::RunSchedule;
