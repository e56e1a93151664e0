//! `polyview lr-find`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use comfy_table::{CellAlignment, Table, presets};

use super::advice::output_failure;
use super::out_file::check_out_file;
use super::{CommandResult, EXIT_INTERRUPTED, Failure, Terminal, print_json, print_text};
use crate::atomic_file::linked;
use crate::checkpoint::write_atomically;
use crate::config::{Config, Typed};
use crate::options::{between, positive};
use crate::report::Event;
use crate::report::lr_chart::LrChart;
use crate::train::{FEWEST_LR_STEPS, LrCurve, LrEnd, LrPoint, lr_find};
use crate::units::plural;

/// Approximate number of rows of the table.
const ROWS: usize = 20;

/// Options of a run that have no effect here: accepted, so that a run's configuration can be used, but not
/// listed in the help.
pub(super) const WITHOUT_EFFECT: [&str; 9] = [
    "overwrite",
    "resume",
    "resume_best_acc",
    "checkpoint_minutes",
    "keep",
    "record",
    "test_run",
    "test_batches",
    "compare_freezing",
];

/// Command-line options, including those of `polyview train`.
#[derive(Debug, Args)]
pub(super) struct LrFindArgs {
    /// Maximum number of training steps
    #[arg(long, value_name = "N", value_parser = between(FEWEST_LR_STEPS, 1_000_000))]
    #[arg(default_value_t = 100)]
    steps: usize,
    /// Learning rate of the first step
    #[arg(long, value_name = "RATE", value_parser = positive, default_value = "1e-7")]
    from: f64,
    /// Learning rate of the last step
    #[arg(long, value_name = "RATE", value_parser = positive, default_value = "1")]
    to: f64,
    /// Picture to write (SVG)
    #[arg(long, value_name = "FILE.svg", default_value = "lr-find.svg")]
    out: PathBuf,
    /// Print every step and the suggestion as JSON
    #[arg(long)]
    json: bool,
    /// TOML file of training options, which the command line overrides [e.g. SAVE_DIR/config.toml]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    options: Typed<Config>,
}

impl LrFindArgs {
    pub(super) fn run(self, terminal: &Terminal) -> CommandResult {
        let config = Config::resolve(self.config.as_deref(), self.options)?;
        check_out_file("--out", &self.out, "svg")?;
        let stop = super::signals::stop_flag();
        let bar = terminal.counter("steps");
        let mut observer = |event: &Event| match event {
            Event::PassStarted { batches, .. } => bar.set_length(*batches as u64),
            Event::Step { done, .. } => bar.set_position(*done as u64),
            _ => {}
        };
        let curve = lr_find(&config, self.steps, self.from..=self.to, &stop, &mut observer)?;
        bar.finish_and_clear();
        // The picture is written last, so that a write error does not lose the results.
        if self.json {
            print_json(&curve)?;
        } else {
            print_text(&report(&curve, self.steps))?;
        }
        let picture = chart(&curve).draw().map_err(Failure::runtime)?;
        write_atomically(&linked(&self.out), picture.as_bytes())
            .map_err(|error| output_failure("--out", &error))?;
        if !self.json {
            print_text(&format!("{}: loss over learning rate", self.out.display()))?;
        }
        let interrupted = curve.end == LrEnd::Interrupted;
        Ok(if interrupted { ExitCode::from(EXIT_INTERRUPTED) } else { ExitCode::SUCCESS })
    }
}

fn chart(curve: &LrCurve) -> LrChart {
    let column = |value: fn(&LrPoint) -> f64| curve.points.iter().map(value).collect();
    LrChart {
        rates: column(|point| point.rate),
        losses: column(|point| point.loss),
        smoothed: column(|point| point.smoothed),
        suggestion: curve.suggestion,
    }
}

/// Formats a table of some of the points, and the suggestion.
fn report(curve: &LrCurve, steps: usize) -> String {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_header(["step", "rate", "loss", "smoothed"]);
    let every = curve.points.len().div_ceil(ROWS).max(1);
    let last = curve.points.len().saturating_sub(1);
    for (index, point) in curve.points.iter().enumerate() {
        if index % every == 0 || index == last {
            let (rate, loss) = (format!("{:.1e}", point.rate), format!("{:.4}", point.loss));
            table.add_row([(index + 1).to_string(), rate, loss, format!("{:.4}", point.smoothed)]);
        }
    }
    for column in table.column_iter_mut() {
        column.set_cell_alignment(CellAlignment::Right);
    }
    let done = curve.points.len();
    let end = match curve.end {
        LrEnd::Finished => plural(done, "step"),
        LrEnd::Diverged => format!("{done} of {steps} steps, then the loss had diverged"),
        LrEnd::Interrupted => format!("interrupted after {done} of {steps} steps"),
    };
    let mut lines = vec![table.to_string(), String::new(), end];
    lines.push(format!("trained at this rate: {}", curve.trained.join(", ")));
    if let Some(rate) = curve.tenth_of_lowest {
        lines.push(format!("a tenth of the rate of the lowest loss: {rate:.1e}"));
    }
    lines.push(match curve.suggestion {
        Some(rate) => {
            format!("suggestion, where the loss falls most clearly: --{} {rate:.1e}", curve.option)
        }
        None => {
            "no suggestion: the loss does not fall clearly anywhere; try more --steps, a larger \
             --batch-size or another range"
                .to_owned()
        }
    });
    lines.join("\n")
}
