//! Options and loading of a trained network, shared by `evaluate`, `predict` and `serve`.

use std::path::{Path, PathBuf};

use clap::Args;

use super::Failure;
use super::averaging::AveragingArgs;
use super::input::InputArgs;
use crate::checkpoint::{self, CheckpointInfo};
use crate::config::Config;
use crate::config::data::usual_workers;
use crate::data::InputSpec;
use crate::device::{self, Compute, DeviceInfo};
use crate::evaluate::{
    ActionPrediction, Calibration, PredictOptions, annotation_inputs, clips_per_pass,
};
use crate::half::{self, Precision};
use crate::model::MultiViewNet;
use crate::options::{at_least, between, choice, file_or_folder, unit};
use crate::schema::Schema;

/// Command-line options.
#[derive(Debug, Args)]
pub(super) struct TrainedArgs {
    /// Weights that `train` wrote, or a run's folder for its best ones
    #[arg(long, value_name = "FILE", value_parser = file_or_folder(checkpoint::BEST, None))]
    pub checkpoint: Option<PathBuf>,
    /// Schema of the data set (TOML) [default: the checkpoint's]
    #[arg(long, value_name = "FILE")]
    pub schema: Option<PathBuf>,
    /// auto, gpu, cpu, wgpu[:N|:cpu], vulkan, metal, dx12 or cuda[:N]
    #[arg(long, value_name = "DEVICE", default_value = "auto")]
    pub device: String,
    /// f32; f16: activations in half precision, arithmetic in f32; auto: f16 on GPUs, f32 elsewhere
    #[arg(long, value_name = "NAME", value_parser = choice::<Precision>())]
    #[arg(default_value_t = Precision::F32)]
    pub precision: Precision,
    /// Actions per batch
    #[arg(long, value_name = "N", value_parser = at_least(1), default_value_t = 1)]
    pub batch_size: usize,
    /// Decoding threads; 0 decodes in the main thread
    #[arg(long, value_name = "N", value_parser = between(0, 256))]
    #[arg(default_value_t = usual_workers())]
    pub num_workers: usize,
    /// Print probabilities as the network computes them, without the validation split's calibration
    #[arg(long)]
    pub uncalibrated: bool,
    /// Apply per-class thresholds, fitted on the validation split to maximise balanced accuracy
    #[arg(long, conflicts_with = "uncalibrated")]
    pub class_thresholds: bool,
    /// Leave a task undecided if the probability of its most probable class is below P
    #[arg(long, value_name = "P", value_parser = unit)]
    pub min_confidence: Option<f64>,
    #[command(flatten)]
    pub input: InputArgs,
    #[command(flatten)]
    pub averaging: AveragingArgs,
}

/// A trained network on its device.
pub(super) struct Trained {
    pub net: MultiViewNet,
    pub info: CheckpointInfo,
    pub input: InputSpec,
    pub schema: Schema,
    pub compute: Compute,
    pub options: PredictOptions,
    checkpoint: PathBuf,
}

impl Trained {
    /// Returns a line about the checkpoint, the device and the precision.
    pub(super) fn describe(&self) -> String {
        let DeviceInfo { id, name, .. } = &self.compute.info;
        format!(
            "{}: epoch {}, {} on {name} ({id}), {}{}",
            self.checkpoint.display(),
            self.info.epoch,
            self.info.model.backbone,
            half::describe(self.net.backbone.is_half(), &self.compute.device),
            self.calibration()
        )
    }

    /// Warns if the network takes annotated properties as inputs, which bare clips do not have.
    pub(super) fn warn_of_inputs(&self) {
        if let [first, rest @ ..] = self.info.model.inputs.as_slice() {
            let names = rest.iter().fold(first.name.clone(), |all, i| format!("{all}, {}", i.name));
            log::warn!(
                "{}: trained with annotated properties as inputs ({names}), which are unknown for \
                 bare clips",
                self.checkpoint.display()
            );
        }
    }

    /// Describes how probabilities are changed: by temperatures, if any differs from 1, and by thresholds.
    fn calibration(&self) -> String {
        let temperatures = &self.options.temperatures;
        let mut text = String::new();
        if temperatures.iter().any(|temperature| *temperature != 1.0) {
            let texts: Vec<String> = temperatures.iter().map(|t| format!("{t:.2}")).collect();
            text = format!(", calibrated (temperature {})", texts.join(", "));
        }
        if !self.options.thresholds.is_empty() {
            text.push_str(", by class thresholds");
        }
        text
    }
}

/// Returns how many predictions were averaged for each action, and a line about it if there were several.
/// Actions of which something could not be read may have fewer.
pub(super) fn averaged(predictions: &[ActionPrediction]) -> (usize, Option<String>) {
    let most = predictions.iter().map(|prediction| prediction.averaged).max().unwrap_or(0);
    (most, (most > 1).then(|| format!("{most} predictions averaged for each action")))
}

/// Returns the input that a checkpoint's network was trained on; if that is unknown, the defaults, with a
/// warning.
pub(super) fn trained_input(
    checkpoint: &Path,
    info: &CheckpointInfo,
    schema: &Schema,
) -> Result<InputSpec, Failure> {
    if let Some(input) = info.input.clone() {
        return Ok(input);
    }
    let shown = checkpoint.display();
    log::warn!("{shown}: does not say what its input is; using the defaults");
    Ok(Config::default().input(schema)?)
}

impl TrainedArgs {
    pub(super) fn open(&self, checkpoint: &Path) -> Result<Trained, Failure> {
        let given = self.schema.as_deref().map(Schema::load).transpose();
        let given = given.map_err(Failure::usage)?;
        let compute = device::open(&self.device)?;
        if let Some(note) = &compute.note {
            log::warn!("{note}");
        }
        let (net, info) = checkpoint::load(checkpoint, &compute.device)?;
        let schema = match given {
            Some(schema) => schema,
            None => info.load_schema(checkpoint).map_err(Failure::runtime)?,
        };
        let (half, note) = self.precision.on(&compute);
        if let Some(note) = note {
            log::warn!("{note}");
        }
        let net = net.with_half(half);
        let expected = CheckpointInfo::new(&schema, info.model.clone());
        let inputs = annotation_inputs(&info.model, &schema);
        let (Some(inputs), true) =
            (inputs, expected.schema == info.schema && expected.classes == info.classes)
        else {
            return Err(Failure::usage(format!(
                "{}: trained with the schema {}, whose classes or inputs differ from those of {}: \
                 give --schema",
                checkpoint.display(),
                info.schema,
                schema.name
            )));
        };
        let input = self.input.over(trained_input(checkpoint, &info, &schema)?)?;
        let averaging = self.averaging.averaging(input.window.window)?;
        let size = [input.window.frames_per_clip, input.size[0], input.size[1]];
        let max_clips = clips_per_pass(&net, size, &compute.info).ok_or_else(|| {
            let size = size.map(|side| side.to_string()).join("×");
            let shown = checkpoint.display();
            Failure::runtime(format!("{shown}: clips of {size} are too small for the network"))
        })?;
        log::debug!("up to {max_clips} clips per forward pass");
        let (batch_size, workers) = (self.batch_size, self.num_workers);
        let calibration = info.calibration.as_ref().filter(|_| !self.uncalibrated);
        let temperatures = calibration.map_or_else(Vec::new, Calibration::temperatures);
        let thresholds = match self.class_thresholds {
            false => Vec::new(),
            true => calibration.and_then(Calibration::thresholds).ok_or_else(|| {
                let shown = checkpoint.display();
                Failure::usage(format!(
                    "--class-thresholds: {shown} has none, because they need 20 labelled actions of each \
                     task in the validation split: leave it out"
                ))
            })?,
        };
        let options = PredictOptions {
            batch_size,
            workers,
            max_clips,
            inputs,
            averaging,
            temperatures,
            thresholds,
        };
        let checkpoint = checkpoint.to_owned();
        Ok(Trained { net, info, input, schema, compute, options, checkpoint })
    }
}
