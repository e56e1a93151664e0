//! Shows a run on stderr: progress bars on a terminal, plain lines otherwise.

use std::fmt::Write as _;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use indicatif::{HumanDuration, ProgressBar, ProgressStyle};

use super::bars::Bars;
use super::quoted::quoted;
use super::start_summary::start_summary;
use super::visible::visible;
use crate::checkpoint;
use crate::config::Config;
use crate::report::{EpochRecord, Event, Observer, PassKind, SlowestRank, TaskRecord};
use crate::train::{Outcome, REPORT};
use crate::units::{metric, plural};

/// Interval between lines within a pass if stderr is not a terminal.
const PLAIN_INTERVAL: Duration = Duration::from_secs(15);
/// What an interrupted run says about continuing it.
pub(super) const HOW_TO_CONTINUE: &str = "to continue, run the same command with --resume auto";

/// Progress, logs and results of a command.
pub struct Terminal {
    bars: Bars,
    bar: Option<ProgressBar>,
    interactive: bool,
    quiet: bool,
    /// Name of the current pass, for plain lines.
    pass: String,
    batches: usize,
    last_line: Instant,
    started: Instant,
    epochs: usize,
    /// Number of epochs that have ended since the program was started.
    ended: usize,
}

/// Name of this rank among several processes; unset in the leading one.
static RANK: OnceLock<String> = OnceLock::new();

/// Makes this process's warnings begin with the name of its rank.
pub(super) fn warn_as(rank: String) {
    // A process has one rank only, so this is set once.
    let _ = RANK.set(rank);
}

/// Explains why a resumed run has nothing left to do, and how to continue it.
fn finished_already(epochs: usize, config: &Config) -> String {
    let total = config.total_epochs();
    if epochs < total {
        format!(
            "\nearly stopping had already ended it at epoch {epochs} of {total}: to train longer, give a \
             larger --early-stopping-patience, or 0"
        )
    } else {
        let option =
            if config.freezing.gradual_finetuning { "--phase2-epochs" } else { "--epochs" };
        format!("\nall its epochs were already finished: to train longer, give a larger {option}")
    }
}

impl Terminal {
    /// Installs a logger at `level` whose lines do not interfere with progress bars.
    pub fn new(level: log::LevelFilter) -> Self {
        let bars = Bars::new();
        let mut builder = env_logger::Builder::new();
        // Dependencies log errors only, and details with -vv.
        builder.filter_level(if level == log::LevelFilter::Trace {
            log::LevelFilter::Debug
        } else {
            log::LevelFilter::Error
        });
        // `wgpu_hal` reports an error on every machine without a desktop.
        builder.filter_module("wgpu_hal", log::LevelFilter::Off);
        builder.filter_module("polyview", level).format_timestamp(None).format_target(false);
        builder.format(|out, record| {
            use std::io::Write;
            let text = visible(&record.args().to_string()).into_owned();
            match record.level() {
                log::Level::Info => writeln!(out, "{text}"),
                level => {
                    let level = level.as_str().to_lowercase();
                    match RANK.get().filter(|_| record.level() == log::Level::Warn) {
                        Some(rank) => writeln!(out, "{level}: {rank}: {text}"),
                        None => writeln!(out, "{level}: {text}"),
                    }
                }
            }
        });
        builder.target(env_logger::Target::Pipe(Box::new(bars.clone())));
        // A logger that a user of the library has installed is kept.
        let _ = builder.try_init();
        log::set_max_level(level);
        Self {
            interactive: bars.are_shown(),
            bars,
            bar: None,
            quiet: level < log::LevelFilter::Info,
            pass: String::new(),
            batches: 0,
            last_line: Instant::now(),
            started: Instant::now(),
            epochs: 0,
            ended: 0,
        }
    }

    /// Prints a line on stderr, above the progress bars.
    pub fn line(&self, text: &str) {
        if !self.quiet {
            self.bars.print(&format!("{}\n", visible(text)));
        }
    }

    /// Returns a progress bar for work outside training; hidden with --quiet and without a terminal.
    pub fn counter(&self, what: &str) -> ProgressBar {
        if self.quiet || !self.interactive {
            return ProgressBar::hidden();
        }
        let bar = self.bars.add(ProgressBar::new(0));
        bar.set_style(style("{msg:>12} [{bar:30}] {pos}/{len}  {eta} left"));
        bar.set_message(what.to_owned());
        bar
    }

    /// Prints the results of a training run and the paths of its files.
    pub fn finish(&self, outcome: &Outcome, config: &Config) {
        let mut text = String::new();
        let epochs = outcome.history.len();
        let seconds = match self.ended < epochs {
            // Includes the epochs before the run was resumed.
            true => outcome.history.iter().map(EpochRecord::seconds).sum(),
            false => self.started.elapsed().as_secs_f64(),
        };
        let _ = write!(
            text,
            "\n{} after {}, {}",
            if outcome.interrupted { "stopped" } else { "done" },
            plural(epochs, "epoch"),
            HumanDuration(Duration::from_secs_f64(seconds))
        );
        if let Some(best) = outcome.best() {
            let _ = write!(text, "\nbest epoch {}: score {:.3}", best.epoch, best.score);
            for task in &best.valid.tasks {
                let shown = |value: f64| metric(task.labelled().map(|_| value));
                let _ = write!(
                    text,
                    "\n  {}: balanced accuracy {}, accuracy {}, macro F1 {}",
                    task.task,
                    shown(task.balanced_accuracy),
                    shown(task.accuracy),
                    shown(task.f1_macro)
                );
            }
        }
        if outcome.was_finished {
            text.push_str(&finished_already(epochs, config));
        } else if outcome.files.is_empty() {
            text.push_str("\nno checkpoint was written");
        }
        let report = outcome.save_dir.join(REPORT);
        if !outcome.files.is_empty() && report.exists() {
            let _ = write!(text, "\nreport: {}", report.display());
        }
        if outcome.interrupted {
            let _ = write!(text, "\n{HOW_TO_CONTINUE}");
        }
        for (name, file) in [("best", checkpoint::BEST), ("last", checkpoint::LAST)] {
            // A resumed run may not have replaced its best weights.
            let path = outcome.save_dir.join(file);
            if !outcome.files.is_empty() && path.exists() {
                let _ = write!(text, "\n{name} weights: {}", path.display());
            }
        }
        let best = outcome.save_dir.join(checkpoint::BEST);
        if !outcome.interrupted && !outcome.files.is_empty() && best.exists() {
            let _ = write!(
                text,
                "\nnext: polyview evaluate --checkpoint {} --dataset-root {}{} --split {}",
                quoted(&best),
                quoted(&config.data.dataset_root),
                config.data.format.map_or_else(String::new, |format| format!(" --format {format}")),
                // The data set may no longer be where it was.
                match config.open_data() {
                    Ok(data) if data.splits().iter().all(|split| split != "test") => "valid",
                    _ => "test",
                }
            );
        }
        self.line(&text);
    }

    fn tuned(&mut self, done: usize, of: usize) {
        if done == of {
            return self.end_pass();
        }
        if self.bar.is_none() && self.interactive && !self.quiet {
            let bar = self.bars.add(ProgressBar::new(of as u64));
            bar.set_style(style("{prefix:>20} [{bar:30}] {pos}/{len}  {eta} left"));
            bar.set_prefix("trying kernels");
            self.bar = Some(bar);
        }
        if let Some(bar) = &self.bar {
            bar.set_position(done as u64);
        } else if self.last_line.elapsed() >= PLAIN_INTERVAL {
            self.last_line = Instant::now();
            self.line(&format!("trying kernels {done}/{of}"));
        }
    }

    fn begin_pass(&mut self, epoch: usize, epochs: usize, phase: PassKind, batches: usize) {
        self.epochs = epochs;
        self.batches = batches;
        self.pass = match phase {
            PassKind::Train => format!("epoch {epoch}/{epochs} train"),
            PassKind::Validate => format!("epoch {epoch}/{epochs} valid"),
        };
        self.last_line = Instant::now();
        self.end_pass();
        if self.interactive && !self.quiet {
            let bar = self.bars.add(ProgressBar::new(batches as u64));
            // A line that is too long for the terminal would be drawn below the previous one at each step.
            let (_, columns) = console::Term::stderr().size();
            bar.set_style(style(if columns < WIDE { PASS_NARROW } else { PASS }));
            bar.set_prefix(self.pass.clone());
            bar.enable_steady_tick(Duration::from_millis(200));
            self.bar = Some(bar);
        }
    }

    fn step(&mut self, done: usize, loss: f64, rate: f64, waits: [Option<f64>; 2]) {
        let text = format!("loss {loss:.3}, {rate:.1} clips/s{}", shares(waits));
        if let Some(bar) = &self.bar {
            bar.set_position(done as u64);
            bar.set_message(text);
        } else if self.last_line.elapsed() >= PLAIN_INTERVAL {
            self.last_line = Instant::now();
            self.line(&format!("{} {done}/{}: {text}", self.pass, self.batches));
        }
    }

    fn end_pass(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }

    fn epoch(&self, record: &EpochRecord) {
        let width = self.epochs.to_string().len();
        let mut text = format!("epoch {:>width$}/{}", record.epoch, self.epochs);
        let indent = text.len();
        let _ = write!(
            text,
            "  phase {}  loss {:.3} → {:.3}",
            record.phase, record.train.loss, record.valid.loss
        );
        for task in &record.valid.tasks {
            let loss = task.labelled().map_or_else(String::new, |t| format!(" ({:.3})", t.loss));
            let _ = write!(text, "  {} {}{loss}", task.task, percent(task));
        }
        let mark = if record.best { " *" } else { "" };
        let _ = write!(text, "  score {:.3}{mark}", record.score);
        for task in &record.valid.auxiliary {
            let _ = write!(text, "\n{:indent$}  {} {}", "", task.task, percent(task));
        }
        let _ = write!(
            text,
            "\n{:indent$}  {}, {:.1} clips/s{}",
            "",
            rates(record),
            record.train.clips_per_second(),
            shares([Some(record.train.data_wait), record.train.exchange])
        );
        if let Some(SlowestRank { rank, host, longer }) = &record.train.slowest
            && *longer >= UNEVEN
        {
            let more = longer * 100.0;
            let _ =
                write!(text, ", rank {rank} ({host}) computes {more:.0} % longer than the mean");
        }
        if record.train.left_out > 0 {
            let _ = write!(text, ", {} skipped", plural(record.train.left_out, "step"));
        }
        let left = self.epochs.saturating_sub(record.epoch);
        if left > 0 {
            let each = self.started.elapsed().as_secs_f64() / self.ended.max(1) as f64;
            let left = Duration::from_secs_f64(each * left as f64);
            let _ = write!(text, ", {} left", HumanDuration(left));
        }
        self.line(&text);
    }

    /// Returns the number of columns of the terminal; `None` without a terminal, and if it is too narrow
    /// for lines to be broken.
    fn width(&self) -> Option<usize> {
        let (_, columns) = console::Term::stderr().size_checked().filter(|_| self.interactive)?;
        Some(usize::from(columns)).filter(|&columns| columns >= 40)
    }
}

/// Minimum excess of a rank's computing time over the mean, as a share, for the rank to be named.
const UNEVEN: f64 = 0.05;

/// Formats the shares of the time that were spent waiting for data and on exchange.
fn shares(shares: [Option<f64>; 2]) -> String {
    let named = ["data wait", "exchange"].into_iter().zip(shares);
    let text =
        |(name, share): (&str, Option<f64>)| Some(format!(", {name} {:.0} %", share? * 100.0));
    named.filter_map(text).collect()
}

/// Formats a task's balanced accuracy; a dash without labels.
fn percent(task: &TaskRecord) -> String {
    let share = task.labelled().map(|task| task.balanced_accuracy * 100.0);
    share.map_or_else(|| "–".to_owned(), |share| format!("{share:.1} %"))
}

/// Formats the learning rates of the trained groups; stages with the same rate are grouped.
fn rates(record: &EpochRecord) -> String {
    let mut groups: Vec<(Vec<&str>, f64)> = Vec::new();
    for (name, &rate) in &record.rates {
        match groups.last_mut() {
            Some((names, last)) if *last == rate => names.push(name),
            _ => groups.push((vec![name], rate)),
        }
    }
    let parts: Vec<String> = groups
        .iter()
        .map(|(names, rate)| match names.as_slice() {
            [first, .., last] if names.len() > 2 => format!("{first} to {last} {rate:.1e}"),
            names => format!("{} {rate:.1e}", names.join(" and ")),
        })
        .collect();
    parts.join(", ")
}

/// Line of a pass over a split, with a bar; without one if the terminal has fewer than [`WIDE`] columns.
const PASS: &str = "{prefix:>20} [{bar:30}] {pos}/{len}  {msg}  {eta} left";
const PASS_NARROW: &str = "{prefix} {pos}/{len}  {wide_msg}  {eta} left";
const WIDE: u16 = 120;

/// Returns the style of a progress bar; `template` must be valid.
fn style(template: &str) -> ProgressStyle {
    let style = ProgressStyle::with_template(template);
    style.expect("the template is valid").progress_chars("=> ")
}

impl Observer for Terminal {
    fn observe(&mut self, event: &Event) {
        match event {
            Event::Started(summary) => {
                self.started = Instant::now();
                self.line(&start_summary(summary, self.width()));
            }
            Event::Tuned { done, of } => self.tuned(*done, *of),
            Event::PassStarted { epoch, epochs, phase, batches } => {
                self.begin_pass(*epoch, *epochs, *phase, *batches);
            }
            Event::Step { done, loss, clips_per_second, data_wait, exchange, .. } => {
                self.step(*done, *loss, *clips_per_second, [Some(*data_wait), *exchange]);
            }
            Event::Epoch(record) => {
                self.end_pass();
                self.ended += 1;
                self.epoch(record);
            }
            Event::StoppedEarly { epochs } => {
                let epochs = plural(*epochs, "epoch");
                self.line(&format!("no better score for {epochs}: stopping early"));
            }
            Event::Saved { path } => log::debug!("wrote {}", path.display()),
            Event::Interrupted => {
                self.end_pass();
                self.line("interrupted: the step is finished, the last checkpoint is written");
            }
            Event::Finished { .. } => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finished_run_says_how_to_train_longer() {
        let config = Config::default();
        let stopped = finished_already(5, &config);
        assert!(stopped.contains("epoch 5 of 23") && stopped.contains("--early-stopping-patience"));
        assert!(finished_already(23, &config).contains("--phase2-epochs"));
    }
}
