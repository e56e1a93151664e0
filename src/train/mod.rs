//! Training. [`run`] is the whole job as `polyview train` does it: data, device, network, epochs,
//! checkpoints, report. [`Trainer`] is the loop inside it, for programs that bring their own data
//! order, loss or freezing; read it first.

mod augmenter;
mod checkpoints;
mod compare;
mod early_stopping;
mod error;
mod examples;
pub mod freezing;
mod memory;
mod metrics;
mod objective;
mod optimizer;
mod pair;
mod reporting;
mod run;
mod run_data;
mod run_schedule;
pub mod schedule;
mod stage_gradients;
mod start;
mod state;
mod step;
mod summary;
mod trainer;
mod tune;

pub use augmenter::{Augmenter, multi_scale_sizes};
pub use compare::{Comparison, compare_freezing};
pub use early_stopping::EarlyStopping;
pub use error::TrainError;
pub use memory::StepMemory;
pub use metrics::PassProgress;
pub use objective::{Cost, KnownTargets, Losses, Objective, TaskObjective, task_weights};
pub use optimizer::{Moments, Optimizer, Rule, global_norm};
pub use pair::{Saved, load_pair, save_pair};
pub use reporting::{METRICS, REPORT, TENSORBOARD};
pub use run::{Outcome, run};
pub use run_schedule::{EpochPlan, Phase, Rates, RunSchedule};
pub use stage_gradients::stage_gradients;
pub use state::{MemoryState, RunState};
pub use trainer::{TrainPass, Trainer};
