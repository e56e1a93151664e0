//! `polyview check-data`.

use std::io::Cursor;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use image::{ImageFormat, RgbImage};

use super::source::SourceArgs;
use super::{CommandResult, Failure, Terminal, print_json, print_text};
use crate::atomic_file;
use crate::config::{ClipConfig, MAX_FRAMES, WindowChoice};
use crate::data::check::check_dataset;
use crate::data::video::verify_clip;
use crate::options::{between, positive};
use crate::sheet::data_set_sheet;

/// Options as typed.
#[derive(Debug, Args)]
pub(super) struct CheckDataArgs {
    #[command(flatten)]
    source: SourceArgs,
    #[command(flatten)]
    window: WindowChoice,
    /// Rate at which the window is sampled, frames per second
    #[arg(long, value_name = "FPS", value_parser = positive)]
    #[arg(default_value_t = ClipConfig::default().target_fps)]
    target_fps: f64,
    /// Frames sampled from each clip
    #[arg(long, value_name = "N", value_parser = between(1, MAX_FRAMES))]
    #[arg(default_value_t = ClipConfig::default().frames_per_clip)]
    frames_per_clip: usize,
    /// Also draw the window of some actions of each split (PNG)
    #[arg(long, value_name = "FILE.png")]
    sheet: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl CheckDataArgs {
    pub(super) fn run(&self, terminal: &Terminal) -> CommandResult {
        let source = self.source.open()?;
        let clips = ClipConfig {
            window: self.window,
            target_fps: self.target_fps,
            frames_per_clip: self.frames_per_clip,
            ..ClipConfig::default()
        };
        let window = clips.window(source.schema()).map_err(Failure::usage)?;
        if let Some(path) = &self.sheet {
            // A check can take hours.
            writable(path).map_err(|reason| {
                Failure::usage(format!("--sheet {}: {reason}", path.display()))
            })?;
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
            write_png(path, &sheet).map_err(|reason| {
                Failure::runtime(format!(
                    "--sheet {}: cannot be written: {reason}; choose another file or make room on \
                     the disk",
                    path.display()
                ))
            })?;
            let (width, height) = sheet.dimensions();
            terminal.line(&format!("contact sheet: {}, {width}×{height} pixels", path.display()));
        }
        Ok(ExitCode::from(u8::from(report.has_errors())))
    }
}

/// Refuses what cannot become a PNG file, with the reason and what to do.
fn writable(path: &Path) -> Result<(), String> {
    if !path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("png")) {
        return Err("the sheet is a PNG image; give a name that ends with .png".to_owned());
    }
    if path.is_dir() {
        return Err("is a folder; give the name of a file".to_owned());
    }
    let folder = match path.parent() {
        Some(folder) if folder.as_os_str().is_empty() => Path::new("."),
        Some(folder) => folder,
        None => return Err("is no file name".to_owned()),
    };
    if !folder.is_dir() {
        return Err(format!("there is no folder {}; create it", folder.display()));
    }
    // The file is written beside its name first, and so is this one, which vanishes again.
    match tempfile::Builder::new().prefix(".polyview").tempfile_in(folder) {
        Ok(_) => Ok(()),
        Err(error) => Err(format!("cannot be written: {error}; choose another file")),
    }
}

fn write_png(path: &Path, image: &RgbImage) -> Result<(), String> {
    let mut png = Cursor::new(Vec::new());
    image.write_to(&mut png, ImageFormat::Png).map_err(|error| error.to_string())?;
    atomic_file::replace(path, png.get_ref()).map_err(|error| error.to_string())
}
