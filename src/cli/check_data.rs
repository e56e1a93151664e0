//! `polyview check-data`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::out_file::{check_out_file, protect_data_set, write_png};
use super::sampled_window::SampledWindow;
use super::source::SourceArgs;
use super::{CommandResult, Terminal, print_json, print_text};
use crate::config::PartitionChoice;
use crate::data::check::check_dataset;
use crate::data::video::verify_clip;
use crate::sheet::data_set_sheet;

/// Command-line options.
#[derive(Debug, Args)]
pub(super) struct CheckDataArgs {
    #[command(flatten)]
    source: SourceArgs,
    #[command(flatten)]
    partition: PartitionChoice,
    #[command(flatten)]
    window: SampledWindow,
    /// Also draw the window of some actions of each split (PNG)
    #[arg(long, value_name = "FILE.png")]
    sheet: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl CheckDataArgs {
    pub(super) fn run(&self, terminal: &Terminal) -> CommandResult {
        let source = self.source.open_with(self.partition.partition())?;
        let clips = self.window.clips();
        let window = clips.window(source.schema())?;
        if let Some(path) = &self.sheet {
            // Checked first, because checking the data can take hours.
            check_out_file("--sheet", path, "png")?;
            protect_data_set("--sheet", path, &source)?;
        }
        let bar = terminal.counter("clips");
        let report = check_dataset(&source, &window, verify_clip, |done, of| {
            bar.set_length(of as u64);
            bar.set_position(done as u64);
        });
        bar.finish_and_clear();
        if self.json {
            print_json(&report)?;
        } else {
            print_text(&report.render())?;
        }
        if let Some(path) = &self.sheet {
            let sheet = data_set_sheet(&source, &window);
            write_png("--sheet", path, &sheet)?;
            let (width, height) = sheet.dimensions();
            terminal.line(&format!("contact sheet: {}, {width}×{height} pixels", path.display()));
        }
        Ok(ExitCode::from(u8::from(report.has_errors())))
    }
}
