//! Judging a trained network: predictions, figures, SoccerNet's official evaluator.

mod figures;
mod judge;
pub mod official;
mod predictions;

pub use figures::{Figures, Mistake, TaskFigures, figures};
pub use judge::{Judged, judge};
pub use predictions::{WriteError, write_predictions};
