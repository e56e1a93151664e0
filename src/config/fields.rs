//! The options of a training run, with their defaults.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{
    Auto, CacheChoice, FreezingKind, LossFunction, OptimizerKind, SchedulerKind, WeightingStrategy,
};
use crate::augment::{AugmentConfig, Strength};
use crate::model::BackboneKind;

/// All options of a training run; field names are the options' names. `Default` has the values
/// that a plain `polyview train` uses.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Config {
    /// Folder of the data set.
    pub dataset_root: PathBuf,
    /// Schema file; empty means the built-in one for SoccerNet-MVFoul.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub schema: Option<PathBuf>,
    /// Passes over the training split.
    pub epochs: usize,
    /// Actions per step.
    pub batch_size: usize,
    /// Highest learning rate of a run without gradual fine-tuning.
    pub lr: f64,
    /// Weight decay: AdamW's decoupled one, Adam's and SGD's added to the gradient.
    pub weight_decay: f64,
    /// Decoding threads; 0 decodes in the training thread.
    pub num_workers: usize,
    /// Batches that they read ahead.
    pub prefetch: usize,
    /// Bound on the frames that they hold in main memory, megabytes.
    pub loader_memory: u64,
    /// Where decoded frames are kept.
    pub cache: CacheChoice,
    /// Bound on the kept frames, gigabytes.
    pub cache_size: f64,
    /// Seed of everything random.
    pub seed: u64,
    /// Device, in the form `polyview devices` lists.
    pub device: String,
    /// Folder for checkpoints, history and configuration.
    pub save_dir: PathBuf,
    /// The 3D ResNet.
    pub backbone_name: BackboneKind,
    /// Frames that a clip has in the network, T.
    pub frames_per_clip: usize,
    /// Rate at which the window's frames are taken, frames per second.
    pub target_fps: f64,
    /// First frame of the window.
    pub start_frame: usize,
    /// Last frame of the window, included.
    pub end_frame: usize,
    /// Height of a frame in the network, pixels.
    pub img_height: usize,
    /// Width of a frame in the network, pixels.
    pub img_width: usize,
    /// Most views of an action that are used; all when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_views: Option<usize>,
    /// Merge views by attention; off: by their mean.
    pub attention_aggregation: bool,
    /// Dropout on each view's feature and inside the heads; absent: 0.4 and 0.6.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dropout_rate: Option<f64>,
    /// Weight file to start from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pretrained: Option<PathBuf>,
    /// Annotated properties as inputs of the heads.
    pub annotation_inputs: bool,
    /// Which rule turns gradients into updates.
    pub optimizer: OptimizerKind,
    /// SGD's momentum.
    pub momentum: f64,
    /// Bound on the global gradient norm; 0 is off.
    pub gradient_clip_norm: f64,
    /// Half-precision arithmetic where the device and the build can; else f32, with a word.
    pub mixed_precision: bool,
    /// Clips that pass through the network at once; their gradients are added up over the step.
    /// Auto: as many as the device's memory is estimated to hold.
    pub micro_batch: Auto,
    /// Keep less of the forward pass for the way back, and compute it again there.
    pub gradient_checkpointing: bool,
    /// Try the ways to compute each convolution on the device before the start, and take the
    /// fastest; what was found is kept for later runs.
    pub tune: bool,
    /// Epochs without a better score after which the run ends; 0 never. Auto:
    /// [`Config::patience`].
    pub early_stopping_patience: Auto,
    /// How the learning rate changes; with gradual fine-tuning, in its second phase.
    pub scheduler: SchedulerKind,
    /// Linear warm-up over the first `warmup-epochs`.
    pub lr_warmup: bool,
    /// Epochs of the warm-up.
    pub warmup_epochs: usize,
    /// Epochs between two cuts of the step schedule.
    pub step_size: usize,
    /// Factor of the step, exponential and plateau schedules.
    pub gamma: f64,
    /// Epochs without improvement that reduce_on_plateau bears.
    pub plateau_patience: usize,
    /// Rate below which no plateau goes.
    pub min_lr: f64,
    /// Loss of the imbalanced task.
    pub loss_function: LossFunction,
    /// Weight of each task's loss, in the schema's order; 3 each when empty.
    pub main_task_weights: Vec<f64>,
    /// Share of the target spread over all classes.
    pub label_smoothing: f64,
    /// Exponent of the focal losses.
    pub focal_gamma: f64,
    /// Weight of the heads that predict the other annotated properties; 0: no such heads.
    pub auxiliary_task_weight: f64,
    /// How class weights come from class counts.
    pub class_weighting_strategy: WeightingStrategy,
    /// Largest class weight over the smallest, for balanced_capped.
    pub max_weight_ratio: f64,
    /// Draw rarer classes more often.
    pub use_class_balanced_sampler: bool,
    /// Rarer classes are drawn at most so many times as often as they occur.
    pub oversample_factor: f64,
    /// Let the oversampling factor rise over the first epochs.
    pub progressive_class_balancing: bool,
    /// Factor of the first epoch.
    pub progressive_start_factor: f64,
    /// Factor at the end of the rise.
    pub progressive_end_factor: f64,
    /// Epochs of the rise.
    pub progressive_epochs: usize,
    /// Task whose classes the sampler balances, or `alternate` for each in turn; the imbalanced
    /// one when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub balance_task: Option<String>,
    /// Which stages train when.
    pub freezing_strategy: FreezingKind,
    /// Epochs without improvement that unfreeze the next stage.
    pub adaptive_patience: usize,
    /// What counts as improvement there.
    pub adaptive_min_improvement: f64,
    /// Each deeper stage gets half the rate of the one above it.
    pub exponential_lr_decay: bool,
    /// Each deeper stage gets 1/2.6 of the rate of the one above it.
    pub discriminative_lr: bool,
    /// Two phases: heads only, then some stages with rates of their own.
    pub gradual_finetuning: bool,
    /// Epochs of the first phase.
    pub phase1_epochs: usize,
    /// Epochs of the second phase.
    pub phase2_epochs: usize,
    /// The heads' rate in the first phase.
    pub head_lr: f64,
    /// The backbone's rate in the second phase.
    pub backbone_lr: f64,
    /// Stages that the fixed strategy trains in the second phase, counted from the heads.
    pub unfreeze_blocks: usize,
    /// Factor of `backbone-lr` in the second phase.
    pub phase2_backbone_lr_scale_factor: f64,
    /// The heads' rate over the backbone's in the second phase.
    pub phase2_head_lr_ratio: f64,
    /// Epochs without improvement that the first phase's plateau schedule bears.
    pub phase1_plateau_patience: usize,
    /// Its factor.
    pub phase1_plateau_factor: f64,
    /// How strong the augmentation is.
    pub augmentation_strength: Strength,
    /// Largest shift in time, frames.
    pub temporal_jitter_strength: usize,
    /// Probability that a frame becomes black.
    pub dropout_prob: f64,
    /// Smallest scale of a crop's sides.
    pub spatial_crop_strength: f64,
    /// Largest deviation of brightness and contrast from 1.
    pub color_aug_strength: f64,
    /// Largest standard deviation of the noise.
    pub noise_strength: f64,
    /// Stronger settings for rarer classes.
    pub severity_aware_augmentation: bool,
    /// Augment on the device where it can; off: on the host, with the same pixels.
    pub gpu_augmentation: bool,
    /// Each batch takes one of three sizes.
    pub multi_scale: bool,
    /// Checkpoint to go on from (either of its files), or `auto`: the save-dir's last one, if any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resume: Option<String>,
    /// Best score to beat after a resume, in place of the checkpoint's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resume_best_acc: Option<f64>,
    /// Minutes between two checkpoints within an epoch; 0: only at its end.
    pub checkpoint_minutes: f64,
    /// How many epochs' checkpoints are kept beside the last and the best one.
    pub keep: usize,
    /// One epoch of `test-batches` batches that leaves no file behind.
    pub test_run: bool,
    /// Batches of a test run, per split.
    pub test_batches: usize,
    /// Try a batch that the device is expected not to hold.
    pub force_batch_size: bool,
    /// The same run with and without freezing, for comparison.
    pub compare_freezing: bool,
}

impl Default for Config {
    fn default() -> Self {
        let augment = AugmentConfig::default();
        Self {
            dataset_root: PathBuf::new(),
            schema: None,
            epochs: 50,
            batch_size: 8,
            lr: 2e-4,
            weight_decay: 1e-4,
            num_workers: 4,
            prefetch: 4,
            loader_memory: 2048,
            cache: CacheChoice::Auto,
            cache_size: 64.0,
            seed: 42,
            device: "auto".to_owned(),
            save_dir: PathBuf::from("checkpoints"),
            backbone_name: BackboneKind::R2plus1d18,
            frames_per_clip: 16,
            target_fps: 15.0,
            start_frame: 67,
            end_frame: 82,
            img_height: 224,
            img_width: 398,
            max_views: None,
            attention_aggregation: true,
            dropout_rate: None,
            pretrained: None,
            annotation_inputs: false,
            optimizer: OptimizerKind::AdamW,
            momentum: 0.9,
            gradient_clip_norm: 1.0,
            mixed_precision: false,
            micro_batch: Auto::Auto,
            gradient_checkpointing: false,
            tune: false,
            early_stopping_patience: Auto::Auto,
            scheduler: SchedulerKind::Cosine,
            lr_warmup: false,
            warmup_epochs: 5,
            step_size: 10,
            gamma: 0.5,
            plateau_patience: 5,
            min_lr: 1e-6,
            loss_function: LossFunction::Weighted,
            main_task_weights: Vec::new(),
            label_smoothing: 0.1,
            focal_gamma: 2.0,
            auxiliary_task_weight: 0.0,
            class_weighting_strategy: WeightingStrategy::BalancedCapped,
            max_weight_ratio: 10.0,
            use_class_balanced_sampler: true,
            oversample_factor: 4.0,
            progressive_class_balancing: false,
            progressive_start_factor: 1.5,
            progressive_end_factor: 3.0,
            progressive_epochs: 15,
            balance_task: None,
            freezing_strategy: FreezingKind::Fixed,
            adaptive_patience: 3,
            adaptive_min_improvement: 0.001,
            exponential_lr_decay: false,
            discriminative_lr: false,
            gradual_finetuning: true,
            phase1_epochs: 8,
            phase2_epochs: 15,
            head_lr: 1e-3,
            backbone_lr: 1e-5,
            unfreeze_blocks: 3,
            phase2_backbone_lr_scale_factor: 1.0,
            phase2_head_lr_ratio: 5.0,
            phase1_plateau_patience: 3,
            phase1_plateau_factor: 0.2,
            augmentation_strength: augment.augmentation_strength,
            temporal_jitter_strength: augment.temporal_jitter_strength,
            dropout_prob: augment.dropout_prob,
            spatial_crop_strength: augment.spatial_crop_strength,
            color_aug_strength: augment.color_aug_strength,
            noise_strength: augment.noise_strength,
            severity_aware_augmentation: augment.severity_aware_augmentation,
            gpu_augmentation: true,
            multi_scale: false,
            resume: None,
            resume_best_acc: None,
            checkpoint_minutes: 10.0,
            keep: 0,
            test_run: false,
            test_batches: 2,
            force_batch_size: false,
            compare_freezing: false,
        }
    }
}
