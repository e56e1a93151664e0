//! `polyview augment`: draws a contact sheet of what augmentation does to an action.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use image::RgbImage;

use super::out_file::{check_out_file, protect_data_set, write_gif, write_png};
use super::sampled_window::SampledWindow;
use super::source::SourceArgs;
use super::{CommandResult, Failure, print_text};
use crate::augment::{
    AugmentConfig, ClipRecord, Frames, Normalisation, augment, augment_on_host, plan_clip,
};
use crate::config::Typed;
use crate::data::{Batch, Dataset, Reading};
use crate::device;
use crate::options::{between, seed, whole, within};
use crate::sheet::{Row, contact_sheet, pictures};
use crate::train::Rarity;

/// Maximum number of frames of a clip per row.
const COLUMNS: usize = 8;

/// Command-line options.
#[derive(Debug, Args)]
#[command(allow_negative_numbers = true)]
pub(super) struct AugmentArgs {
    #[command(flatten)]
    source: SourceArgs,
    /// Split of the action
    #[arg(long, value_name = "NAME", default_value = "train")]
    split: String,
    /// Action to show, as its annotation names it
    #[arg(long, value_name = "ID")]
    action: String,
    /// View of the action, counted from 0
    #[arg(long, value_name = "N", value_parser = whole, default_value_t = 0)]
    view: usize,
    /// Number of draws, one per row
    #[arg(long, value_name = "N", value_parser = within::<u64>(1, 1000), default_value_t = 8)]
    seeds: u64,
    /// First seed; each row takes the next
    #[arg(long, value_name = "N", value_parser = seed, default_value_t = 42)]
    seed: u64,
    /// auto, gpu, cpu, wgpu[:N|:cpu], vulkan, metal, dx12 or cuda[:N]
    #[arg(long, value_name = "DEVICE", default_value = "auto")]
    device: String,
    /// Height of a frame, pixels
    #[arg(long, value_name = "PX", value_parser = between(16, 4096), default_value_t = 112)]
    img_height: usize,
    /// Width of a frame, pixels
    #[arg(long, value_name = "PX", value_parser = between(16, 4096), default_value_t = 199)]
    img_width: usize,
    #[command(flatten)]
    window: SampledWindow,
    /// Picture to write (PNG)
    #[arg(long, value_name = "FILE.png")]
    out: PathBuf,
    /// Also write the first draw as an animated GIF
    #[arg(long, value_name = "FILE.gif")]
    gif: Option<PathBuf>,
    #[command(flatten)]
    augmentation: Typed<AugmentConfig>,
}

impl AugmentArgs {
    pub(super) fn run(&self) -> CommandResult {
        let options = self.augmentation.clone().resolve()?;
        let source = self.source.open()?;
        let schema = source.schema();
        let size = [self.img_height, self.img_width];
        let clips = self.window.clips();
        let window = clips.window(schema)?;
        let dataset = Dataset::of_source(&source, &self.split, window, size, None)?;
        let index = self.find(&dataset)?;
        for (option, path, extension) in
            [("--out", Some(&self.out), "png"), ("--gif", self.gif.as_ref(), "gif")]
        {
            if let Some(path) = path {
                check_out_file(option, path, extension)?;
                protect_data_set(option, path, &source)?;
            }
        }
        let read = |reading| {
            let batch = dataset.read_one(index, self.view, &reading, &mut dataset.resizer());
            batch.map_err(Failure::runtime)
        };
        let batch = read(Reading::MIDDLE)?;
        let rarity = Rarity::of(schema, &dataset).map_or(0.0, |rarity| rarity.of_action(&batch, 0));
        if options.severity_aware_augmentation && schema.imbalanced_task().is_none() {
            log::warn!(
                "--severity-aware-augmentation has an effect only with a schema in which a task has \
                 `imbalanced = true`"
            );
        }

        let compute = device::open(&self.device)?;
        if let Some(note) = &compute.note {
            log::warn!("{note}");
        }
        let draw = |batch: &Batch, record: &ClipRecord| -> Result<Vec<RgbImage>, Failure> {
            let records = std::slice::from_ref(record);
            let normalisation = Normalisation::default();
            let frames = Frames::U8(&batch.frames);
            let device = &compute.device;
            let augment = if options.gpu_augmentation { augment } else { augment_on_host };
            let clips = augment(frames, batch.size, records, size, &normalisation, device)
                .map_err(Failure::runtime)?;
            pictures(clips, &normalisation).map_err(Failure::runtime)
        };
        let original = draw(&batch, &ClipRecord::identity(batch.size[0]))?;
        let mut rows = vec![row("original".to_owned(), &original)];
        let mut first = None;
        for seed in self.seed..self.seed.saturating_add(self.seeds) {
            let record = plan_clip(&options, seed, 1, &self.action, self.view, batch.size, rarity);
            // Draws the window that the first epoch of a run with this seed draws.
            let drawn = window.window.varies().then(|| read(Reading::drawn(seed, 1)));
            let frames = draw(drawn.transpose()?.as_ref().unwrap_or(&batch), &record)?;
            rows.push(row(format!("seed {seed}\n{}", record.describe()), &frames));
            first.get_or_insert(frames);
        }
        let title = format!(
            "{} action {} view {}: augmentation {} on {}",
            self.split, self.action, self.view, options.augmentation_strength, compute.info.name
        );
        let sheet = contact_sheet(&title, &rows);
        write_png("--out", &self.out, &sheet)?;
        print_text(&format!(
            "{}: {} rows, {}×{} pixels",
            self.out.display(),
            rows.len(),
            sheet.width(),
            sheet.height()
        ))?;
        if let (Some(path), Some(frames)) = (&self.gif, first) {
            write_gif("--gif", path, frames, clips.target_fps)?;
            print_text(&format!("{}: seed {}", path.display(), self.seed))?;
        }
        Ok(ExitCode::SUCCESS)
    }

    /// Returns the index of the requested action, which must have the requested view.
    fn find(&self, dataset: &Dataset) -> Result<usize, Failure> {
        let position = dataset.samples.iter().position(|sample| sample.action == self.action);
        let index = position.ok_or_else(|| {
            let some: Vec<&str> =
                dataset.samples.iter().take(5).map(|sample| sample.action.as_str()).collect();
            Failure::usage(format!(
                "--action {}: the {} split has no usable action of that name; it has {} …",
                self.action,
                self.split,
                some.join(", ")
            ))
        })?;
        let views = dataset.samples[index].views.len();
        if self.view >= views {
            return Err(Failure::usage(format!(
                "--view {}: action {} has views 0 to {}",
                self.view,
                self.action,
                views.saturating_sub(1)
            )));
        }
        Ok(index)
    }
}

/// Makes a row of up to [`COLUMNS`] evenly spaced frames of a clip.
fn row(caption: String, frames: &[RgbImage]) -> Row {
    let columns = frames.len().min(COLUMNS);
    let pick = |column: usize| frames[column * frames.len() / columns.max(1)].clone();
    Row { caption, frames: (0..columns).map(pick).collect() }
}
