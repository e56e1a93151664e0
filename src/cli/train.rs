//! `polyview train`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::Args;
use serde::Serialize;

use super::augmentation::AugmentationArgs;
use super::{CommandResult, EXIT_INTERRUPTED, Failure, Terminal};
use crate::config::Config;
use crate::model::BackboneKind;
use crate::train::{self, TrainError};

/// Options as typed; what is absent comes from `--config` or the defaults.
#[derive(Debug, Args, Serialize)]
#[command(allow_negative_numbers = true)]
#[serde(rename_all = "kebab-case")]
pub struct TrainArgs {
    /// TOML file of options; the command line wins over it [e.g. SAVE_DIR/config.toml]
    #[arg(long, value_name = "FILE", help_heading = "Basic")]
    #[serde(skip)]
    config: Option<PathBuf>,
    /// Folder that holds mvfouls/{train,valid}, or the split folders themselves
    #[arg(long, value_name = "DIR", help_heading = "Basic")]
    dataset_root: Option<PathBuf>,
    /// Schema of another data set (TOML) [default: SoccerNet-MVFoul]
    #[arg(long, value_name = "FILE", help_heading = "Basic")]
    schema: Option<PathBuf>,
    /// Passes over the training split [default: 50]
    #[arg(long, value_name = "N", help_heading = "Basic")]
    epochs: Option<usize>,
    /// Actions per step [default: 8]
    #[arg(long, value_name = "N", help_heading = "Basic")]
    batch_size: Option<usize>,
    /// Highest learning rate [default: 2e-4]
    #[arg(long, value_name = "RATE", help_heading = "Basic")]
    lr: Option<f64>,
    /// AdamW's weight decay [default: 1e-4]
    #[arg(long, value_name = "W", help_heading = "Basic")]
    weight_decay: Option<f64>,
    /// Decoding threads; 0 decodes in the training thread [default: 4]
    #[arg(long, value_name = "N", help_heading = "Basic")]
    num_workers: Option<usize>,
    /// Seed of everything random [default: 42]
    #[arg(long, value_name = "N", help_heading = "Basic")]
    seed: Option<u64>,
    /// auto, gpu, cpu, wgpu[:N|:cpu], vulkan, metal, dx12 or cuda[:N] [default: auto]
    #[arg(long, value_name = "DEVICE", help_heading = "Basic")]
    device: Option<String>,
    /// Folder for checkpoints, history and configuration [default: checkpoints]
    #[arg(long, value_name = "DIR", help_heading = "Basic")]
    save_dir: Option<PathBuf>,

    /// r2plus1d_18, r3d_18 (or resnet3d_18), mc3_18, r3d_tiny [default: r2plus1d_18]
    #[arg(long, value_name = "NAME", value_parser = backbone, help_heading = "Model")]
    backbone_name: Option<BackboneKind>,
    /// Frames of a clip in the network [default: 16]
    #[arg(long, value_name = "N", help_heading = "Model")]
    frames_per_clip: Option<usize>,
    /// Rate at which the window's frames are taken [default: 15]
    #[arg(long, value_name = "FPS", help_heading = "Model")]
    target_fps: Option<f64>,
    /// First frame of the window [default: 67]
    #[arg(long, value_name = "N", help_heading = "Model")]
    start_frame: Option<usize>,
    /// Last frame of the window, included [default: 82]
    #[arg(long, value_name = "N", help_heading = "Model")]
    end_frame: Option<usize>,
    /// Height of a frame in the network, pixels [default: 224]
    #[arg(long, value_name = "PX", help_heading = "Model")]
    img_height: Option<usize>,
    /// Width of a frame in the network, pixels [default: 398]
    #[arg(long, value_name = "PX", help_heading = "Model")]
    img_width: Option<usize>,
    /// Most views of an action that are used [default: all]
    #[arg(long, value_name = "N", help_heading = "Model")]
    max_views: Option<usize>,
    /// Merge views by a learned attention [default]
    #[arg(long, help_heading = "Model", overrides_with = "no_attention_aggregation")]
    #[serde(skip)]
    attention_aggregation: bool,
    /// Merge views by their mean
    #[arg(long, help_heading = "Model")]
    #[serde(skip)]
    no_attention_aggregation: bool,
    /// Dropout on each view's feature and in the heads [default: 0.4 and 0.6]
    #[arg(long, value_name = "P", help_heading = "Model")]
    dropout_rate: Option<f64>,
    /// Weights to start from (.pth, .pt, .safetensors; torchvision's names)
    #[arg(long, value_name = "FILE", help_heading = "Model")]
    pretrained: Option<PathBuf>,

    /// Bound on the gradients' common norm; 0 is off [default: 1]
    #[arg(long, value_name = "NORM", help_heading = "Optimisation")]
    gradient_clip_norm: Option<f64>,
    /// Share of the target spread over all classes [default: 0.1]
    #[arg(long, value_name = "S", help_heading = "Optimisation")]
    label_smoothing: Option<f64>,
    /// Train all stages from the first epoch; this version always does
    #[arg(long, help_heading = "Optimisation")]
    #[serde(skip)]
    no_gradual_finetuning: bool,

    #[command(flatten)]
    #[serde(flatten)]
    augmentation: AugmentationArgs,
    /// Each batch takes one of three sizes: 1, 7/8 and 3/4 of the full one
    #[arg(long, help_heading = "Augmentation", overrides_with = "no_multi_scale")]
    #[serde(skip)]
    multi_scale: bool,
    /// All batches have the full size [default]
    #[arg(long, help_heading = "Augmentation")]
    #[serde(skip)]
    no_multi_scale: bool,
}

/// Reads a backbone's name; the old trainer's names are known too.
fn backbone(name: &str) -> Result<BackboneKind, String> {
    match name {
        "resnet3d_18" => return Ok(BackboneKind::R3d18),
        "resnet3d_50" => {
            return Err("there is no resnet3d_50 (the old trainer silently took r2plus1d_18 for \
                        it): name r2plus1d_18 if that is what you want"
                .to_owned());
        }
        _ => {}
    }
    let known = BackboneKind::ALL.into_iter().find(|kind| kind.name() == name);
    known.ok_or_else(|| {
        let names: Vec<&str> = BackboneKind::ALL.iter().map(|kind| kind.name()).collect();
        format!("unknown backbone; known are {}", names.join(", "))
    })
}

impl TrainArgs {
    fn resolve(&self) -> Result<Config, Failure> {
        let mut typed = toml::Table::try_from(self).map_err(Failure::usage)?;
        super::add_switch(
            &mut typed,
            "attention-aggregation",
            self.attention_aggregation,
            self.no_attention_aggregation,
        );
        super::add_switch(&mut typed, "multi-scale", self.multi_scale, self.no_multi_scale);
        self.augmentation.add_to(&mut typed);
        Config::resolve(self.config.as_deref(), typed).map_err(Failure::usage)
    }

    pub(super) fn run(&self, mut terminal: Terminal) -> CommandResult {
        let config = self.resolve()?;
        let stop = Arc::new(AtomicBool::new(false));
        let raised = Arc::clone(&stop);
        let installed = ctrlc::set_handler(move || {
            if raised.swap(true, Ordering::Relaxed) {
                // The second time means now.
                std::process::exit(i32::from(EXIT_INTERRUPTED));
            }
        });
        if let Err(error) = installed {
            log::warn!("Ctrl-C will end the run without a checkpoint: {error}");
        }
        let outcome = train::run(&config, &stop, &mut terminal).map_err(|error| match error {
            TrainError::Config(_) | TrainError::TooLarge { .. } => Failure::usage(error),
            other => Failure::runtime(other),
        })?;
        terminal.finish(&outcome);
        Ok(if outcome.interrupted { ExitCode::from(EXIT_INTERRUPTED) } else { ExitCode::SUCCESS })
    }
}
