//! Runs in half precision: gradients beyond its range cost a step but nothing else.

use std::sync::Arc;

use polyview::checkpoint;
use polyview::config::Config;
use polyview::data::Dataset;
use polyview::data::loader::{Loader, in_order};
use polyview::model::{BackboneKind, ModelConfig, state_dict};
use polyview::report::{EpochRecord, PassRecord};
use polyview::schema::Schema;
use polyview::train::{LossScale, Objective, Optimizer, Rates, Rule, Trainer};
use serde_json::Value;
use tempfile::TempDir;

use crate::common::adapter;
use crate::common::data::small_set;
use crate::common::program::{polyview, text};
use crate::common::run::{run, small_config, with, write_config};

struct Set {
    train: Arc<Dataset>,
    model: ModelConfig,
    schema: Schema,
    _folder: TempDir,
}

impl Set {
    fn new() -> Self {
        let folder = TempDir::new().unwrap();
        small_set(folder.path());
        let config = Config::default();
        let schema = Schema::mvfoul().unwrap();
        let window = config.clips.window(&schema).unwrap();
        let size = [16, 24];
        let train = Dataset::open(folder.path(), "train", &schema, window, size, None).unwrap();
        let model = ModelConfig::new(BackboneKind::R3dTiny, &schema);
        Self { train: Arc::new(train), model, schema, _folder: folder }
    }

    /// Trains a network in half precision for `steps` steps on the first actions.
    fn pass(&self, steps: usize, scale: LossScale) -> Option<(Vec<f32>, PassRecord)> {
        let device = adapter::device()?;
        let net = self.model.init(1, &device.clone().autodiff()).with_half(true);
        let rule = Rule::AdamW { beta1: 0.9, weight_decay: 0.0 };
        let optimizer = Optimizer::new(rule, 1.0);
        let mut trainer = Trainer::new(net, optimizer, Objective::plain(&self.schema), &device);
        assert_eq!(trainer.loss_scale, Some(LossScale::default()));
        trainer.loss_scale = Some(scale);
        let plan = in_order(2 * steps, 2).into_iter();
        let plan = plan.map(|batch| batch.iter().map(|n| n % self.train.samples.len()).collect());
        let plan: Vec<Vec<usize>> = plan.collect();
        let loader = Loader::new(Arc::clone(&self.train), plan, 0);
        let record = trainer.train_one_epoch(loader, |_| Rates::new(1e-3, 1e-3)).unwrap();
        let weights = state_dict::collect(&trainer.into_net()).unwrap();
        let weights = weights.into_iter().flat_map(|(_, data)| data.try_into_vec::<f32>().unwrap());
        Some((weights.collect(), record))
    }
}

#[test]
fn steps_with_gradients_beyond_the_range_are_left_out() {
    let set = Set::new();
    let Some((start, _)) = set.pass(0, LossScale::default()) else { return };
    // With too large a scale nothing changes, not even batch norm's statistics, …
    let huge = LossScale::new(2f64.powi(40));
    let (unchanged, record) = set.pass(1, huge).unwrap();
    assert_eq!((record.left_out, record.loss_scale), (1, Some(2f64.powi(39))));
    assert!(unchanged == start && record.loss.is_finite());
    assert_eq!(record.gradient_norm, None);
    // … until the scale is small enough.
    let (trained, record) = set.pass(40, huge).unwrap();
    assert!((10..40).contains(&record.left_out), "{record:?}");
    assert_eq!(record.loss_scale, Some(2f64.powi(40 - record.left_out as i32)));
    assert!(record.gradient_norm.is_some_and(|norm| norm > 0.0 && norm.is_finite()), "{record:?}");
    assert!(trained != start && trained.iter().all(|weight| weight.is_finite()));
}

#[test]
fn a_loss_scale_changes_little_else() {
    let set = Set::new();
    let Some((small, _)) = set.pass(1, LossScale::new(64.0)) else { return };
    let (large, record) = set.pass(1, LossScale::new(512.0)).unwrap();
    assert_eq!(record.left_out, 0);
    // Adam's first step moves each weight by the learning rate whatever the size of its gradient, so
    // weights differ only if their gradients are close to 0.
    let different = small.iter().zip(&large).filter(|(a, b)| (*a - *b).abs() > 1e-4).count();
    assert!(different * 20 < small.len(), "{different} of {}", small.len());
}

/// Runs in half precision with this weight of both tasks' losses, by which their gradients are
/// multiplied; returns what the run prints to stderr, its exit status and its history.
fn weighted(device: &str, weight: &str, epochs: &str) -> (String, Option<i32>, Vec<EpochRecord>) {
    let folder = TempDir::new().unwrap();
    let options = format!(
        "--device {device} --precision f16 --no-gradual-finetuning --epochs {epochs} \
         --main-task-weights {weight} {weight}"
    );
    let config = with(&small_config(&folder), &options);
    let output = polyview(&["train", "--config", &write_config(&config, folder.path())]);
    let history = std::fs::read(config.run.save_dir.join(checkpoint::HISTORY));
    let history = history.map(|history| serde_json::from_slice(&history).unwrap());
    (text(&output.stderr), output.status.code(), history.unwrap_or_default())
}

#[test]
fn a_run_that_trains_nothing_says_so_and_fails() {
    let Some(device) = adapter::name() else { return };
    // Two steps per epoch, all of which are left out.
    let (said, status, history) = weighted(device, "1e5", "2");
    assert_eq!((status, history.len()), (Some(1), 2), "{said}");
    for epoch in ["1", "2"] {
        let warning = format!(
            "warn: epoch {epoch}: all 2 steps were skipped because gradients overflowed f16"
        );
        assert!(said.contains(&warning), "{said}");
    }
    assert_eq!(said.matches(", 2 steps skipped").count(), 2, "{said}");
    let last = said.lines().last().unwrap();
    assert!(last.starts_with("error: nothing was trained: gradients overflowed f16"), "{said}");
    assert!(last.contains("in all 4 steps") && last.contains("--precision f32"), "{said}");
    let norms = history.iter().map(|epoch| epoch.train.gradient_norm);
    assert_eq!(norms.collect::<Vec<_>>(), [None, None]);

    // The smallest scale is 1; at that scale no more steps are left out.
    let (said, status, history) = weighted(device, "1e7", "40");
    assert_eq!((status, history.len()), (Some(1), 8), "{said}");
    let last = said.lines().last().unwrap();
    for words in ["with a loss scale of 1, is NaN in epoch 9, step 1", "or --precision f32"] {
        assert!(last.starts_with("error: the gradient norm") && last.contains(words), "{said}");
    }
}

/// Overflows in the middle of training cost their steps; the run continues with a smaller scale.
#[test]
fn a_run_recovers_from_gradients_beyond_the_range() {
    let Some(device) = adapter::name() else { return };
    let (said, status, history) = weighted(device, "1e3", "12 --lr 3e-3");
    assert_eq!((status, history.len()), (Some(0), 12), "{said}");
    let left_out: usize = history.iter().map(|epoch| epoch.train.left_out).sum();
    assert!((4..20).contains(&left_out), "{left_out}");
    let scales: Vec<f64> = history.iter().filter_map(|epoch| epoch.train.loss_scale).collect();
    assert_eq!(*scales.last().unwrap(), 65536.0 / 2f64.powi(left_out as i32), "{scales:?}");
    let [first, .., last] = &history[..] else { panic!("12 epochs") };
    assert_eq!((first.train.gradient_norm, first.train.left_out), (None, 2));
    assert!(last.train.gradient_norm.is_some_and(f64::is_finite) && last.train.left_out == 0);
    assert!(last.train.loss < first.train.loss, "{said}");
}

/// Checkpoints contain f32 and the loss scale; a run may be resumed in another precision.
#[test]
fn the_precision_may_change_when_a_run_is_resumed() {
    let Some(device) = adapter::name() else { return };
    let folder = TempDir::new().unwrap();
    let base = with(
        &small_config(&folder),
        &format!("--device {device} --no-gradual-finetuning --epochs 2 --resume auto"),
    );
    let half = run(&with(&base, "--precision f16"));
    let [.., last] = &half.history[..] else { panic!("no epochs") };
    assert!(last.train.loss_scale.is_some() && last.train.loss.is_finite());
    let text = std::fs::read(base.run.save_dir.join(checkpoint::LAST)).unwrap();
    let header = String::from_utf8_lossy(&text[..text.len().min(1 << 16)]).into_owned();
    assert!(header.contains("\"F32\"") && !header.contains("\"F16\""));
    let whole = run(&with(&base, "--precision f32 --epochs 3"));
    assert_eq!(whole.history[..2], half.history[..]);
    assert_eq!(whole.history[2].train.loss_scale, None);
    let back = run(&with(&base, "--precision f16 --epochs 4"));
    assert!(back.history[3].train.loss_scale.is_some());
}

/// The start of a run reports how activations are stored; networks can be evaluated in both precisions.
#[test]
fn the_program_reports_and_accepts_a_precision() {
    let Some(device) = adapter::name() else { return };
    let folder = TempDir::new().unwrap();
    let config = with(&small_config(&folder), "--no-gradual-finetuning --epochs 1");
    let file = write_config(&config, folder.path());
    let train = |options: &[&str]| {
        let output = polyview(&[&["train", "--config", &file, "--test-run"], options].concat());
        assert!(output.status.success(), "{}", text(&output.stderr));
        text(&output.stderr)
    };
    let said = train(&["--device", device, "--mixed-precision"]);
    assert!(said.contains("activations in f16 ("), "{said}");
    for option in ["--precision=f16", "--mixed-precision"] {
        let said = train(&["--device", "cpu", option]);
        let note = "warn: half precision: activations are stored in f32 on cpu (";
        assert!(said.contains(note) && !said.contains("activations in f16"), "{said}");
    }
    if device == "wgpu:cpu" {
        let said = train(&["--device", device, "--precision", "auto"]);
        assert!(!said.contains("f16"), "{said}");
    }

    run(&config);
    let best = config.run.save_dir.join(checkpoint::BEST);
    let root = &config.data.dataset_root;
    let clips = root.join("mvfouls/test/action_0");
    let [best, root, clips] = [&best, root, &clips].map(|path| path.to_str().unwrap());
    let scores = |precision: &str| -> Vec<f64> {
        let options = ["--device", device, "--precision", precision, "--checkpoint", best];
        let evaluate = ["evaluate", "--json", "--dataset-root", root];
        let evaluated = polyview(&[&evaluate, &options[..]].concat());
        assert!(evaluated.status.success(), "{}", text(&evaluated.stderr));
        let predicted =
            polyview(&[&["predict", "--json", "--top=8", clips], &options[..]].concat());
        let how = if precision == "f16" { "activations in f16 (" } else { "f32" };
        for output in [&evaluated, &predicted] {
            let (said, line) = (text(&output.stderr), format!(" ({device}), {how}"));
            assert!(said.contains(&format!("{best}: epoch 1, r3d_tiny on ")), "{said}");
            assert!(said.contains(&line), "{said}");
        }
        let evaluated: Value = serde_json::from_slice(&evaluated.stdout).unwrap();
        assert_eq!(evaluated["precision"], precision);
        assert_eq!(evaluated["device"]["id"], device);
        let predicted: Value = serde_json::from_slice(&predicted.stdout).unwrap();
        let tasks = predicted[0]["tasks"].as_object().unwrap().values();
        let classes = tasks.flat_map(|task| task.as_array().unwrap());
        classes.map(|class| class["confidence"].as_f64().unwrap()).collect()
    };
    let (whole, half) = (scores("f32"), scores("f16"));
    assert!(!whole.is_empty() && whole != half, "{whole:?}");
    assert!(whole.iter().zip(&half).all(|(a, b)| (a - b).abs() < 5e-3), "{whole:?}, {half:?}");
}
