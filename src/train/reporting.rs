//! A run's reports on disk: `report.html`, `metrics.csv` and TensorBoard event files.

use std::fmt::Display;

use burn::tensor::Device;

use super::augmenter::Augmenter;
use super::examples::{Explain, examples};
use super::run::Outcome;
use crate::augment::Normalisation;
use crate::checkpoint::{METRICS, REPORT, TENSORBOARD, write_atomically};
use crate::config::Config;
use crate::data::{Batch, Dataset};
use crate::evaluate::ActionPrediction;
use crate::report::csv::metrics_csv;
use crate::report::html::{Example, ReportData, RunStatus, examples_of, render};
use crate::report::tensorboard::{EventWriter, Summary, epoch_summary};
use crate::report::{EndReason, EpochRecord, Event, RunSummary};
use crate::schema::Schema;
use crate::sheet::{Row, contact_sheet, pictures};

/// Writes the reports of a run. A failure to write one is logged and does not end the training.
pub(super) struct Reporter<'a> {
    config: &'a Config,
    writes: bool,
    schema: Schema,
    summary: RunSummary,
    device: String,
    epochs: usize,
    events: Option<EventWriter>,
    correct: Vec<Example>,
    wrong: Vec<Example>,
    /// Examples of the best epoch before the run was resumed, taken from its HTML report; dropped at the
    /// next best epoch.
    earlier: Option<String>,
}

impl<'a> Reporter<'a> {
    /// Creates a reporter of a run with `done` finished epochs. Nothing is written unless `writes`
    /// is set.
    pub(super) fn open(
        config: &'a Config,
        schema: Schema,
        summary: RunSummary,
        device: String,
        done: usize,
        writes: bool,
    ) -> Self {
        let epochs = config.total_epochs();
        let events = if !writes {
            None
        } else {
            let from = (done > 0).then_some(done + 1);
            logged(EventWriter::create(&config.run.save_dir.join(TENSORBOARD), from))
        };
        let (correct, wrong) = (Vec::new(), Vec::new());
        let page = config.run.save_dir.join(REPORT);
        let page = (writes && done > 0).then(|| std::fs::read_to_string(page).ok()).flatten();
        let earlier = page.as_deref().and_then(examples_of).map(str::to_owned);
        Self { config, writes, schema, summary, device, epochs, events, correct, wrong, earlier }
    }

    /// Writes the augmented clips of a batch to TensorBoard, augmented as in the first epoch.
    pub(super) fn augmented(&mut self, augmenter: &Augmenter, batch: &Batch, device: &Device) {
        let Some(events) = &mut self.events else {
            return;
        };
        let draw = || -> Result<Summary, Box<dyn std::error::Error>> {
            let clips = augmenter.clips(batch, 1, 0, device)?;
            let frames = clips.dims()[2];
            let all = pictures(clips, &Normalisation::default())?;
            let mut names = batch.actions.iter().zip(&batch.view_counts).flat_map(|(action, n)| {
                (0..*n).map(move |view| format!("action {action}, view {view}"))
            });
            let rows: Vec<Row> = all
                .chunks(frames)
                .map(|clip| Row {
                    caption: names.next().expect("each clip has a name"),
                    frames: clip.to_vec(),
                })
                .collect();
            let mut summary = Summary::new();
            summary.picture("augmented/clips", &contact_sheet("Augmented clips", &rows))?;
            Ok(summary)
        };
        if let Some(summary) = logged(draw()) {
            logged(events.write(0, &summary));
        }
    }

    /// Writes all reports after an epoch. `predictions` are those of its validation; the HTML report
    /// shows examples from the best epoch.
    pub(super) fn epoch(
        &mut self,
        history: &[EpochRecord],
        predictions: &[ActionPrediction],
        valid: &Dataset,
        explain: &Explain<'_>,
    ) {
        let Some(record) = history.last().filter(|_| self.writes) else {
            return;
        };
        if record.best {
            [self.correct, self.wrong] = examples(&self.schema, predictions, valid, explain);
            self.earlier = None;
        }
        if let Some(events) = &mut self.events
            && let Some(summary) = logged(epoch_summary(record, &self.schema))
        {
            logged(events.write(record.epoch, &summary));
        }
        self.files(history, RunStatus::Running);
    }

    /// Writes the reports of a run that has ended. A resumed run may have been killed before it had
    /// written those of its last epoch.
    pub(super) fn end(&self, history: &[EpochRecord], state: RunStatus) {
        if self.writes {
            self.files(history, state);
        }
    }

    /// Writes the table of metrics and the HTML report with the given status of the run.
    fn files(&self, history: &[EpochRecord], state: RunStatus) {
        if !history.is_empty()
            && let Some(table) = logged(metrics_csv(history))
        {
            logged(write_atomically(&self.config.run.save_dir.join(METRICS), table.as_bytes()));
        }
        self.page(history, state);
    }

    fn page(&self, history: &[EpochRecord], state: RunStatus) {
        let table = toml::Table::try_from(self.config).expect("a configuration is a table");
        let configuration: Vec<(String, String)> = table
            .into_iter()
            .map(|(name, value)| {
                let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                (name, text)
            })
            .collect();
        let title = self.config.run.save_dir.file_name();
        let page = render(&ReportData {
            title: &title.map_or_else(String::new, |name| name.to_string_lossy().into_owned()),
            state,
            epochs: self.epochs,
            device: &self.device,
            schema: &self.schema,
            history,
            summary: &self.summary,
            configuration: &configuration,
            best: &self.correct,
            worst: &self.wrong,
            earlier_examples: self.earlier.as_deref(),
        });
        if let Some(page) = logged(page) {
            logged(write_atomically(&self.config.run.save_dir.join(REPORT), page.as_bytes()));
        }
    }
}

/// Returns the last event of a run that ended with this status.
pub(super) fn finished(outcome: &Outcome, status: RunStatus) -> Event {
    let best = outcome.best();
    Event::Finished {
        reason: match status {
            _ if outcome.was_finished => EndReason::WasFinished,
            RunStatus::Interrupted => EndReason::Interrupted,
            RunStatus::StoppedEarly => EndReason::EarlyStopping,
            RunStatus::Finished | RunStatus::Running => EndReason::AllEpochs,
        },
        epochs: outcome.history.len(),
        best_epoch: best.map(|record| record.epoch),
        score: best.map(|record| record.score),
        files: outcome.files.clone(),
    }
}

fn logged<T, E: Display>(result: Result<T, E>) -> Option<T> {
    result.map_err(|error| log::warn!("the report is incomplete: {error}")).ok()
}
