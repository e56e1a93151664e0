//! Freezing: which stages each strategy trains in which epoch, and that frozen stages do not change.

use burn::tensor::{Device, TensorData};
use polyview::checkpoint;
use polyview::config::{Config, FreezingKind};
use polyview::model::{STAGES, StageSet, stage_of, state_dict};
use polyview::report::{EpochRecord, Event};
use polyview::schema::Schema;
use polyview::train::freezing::{EpochOutcome, strategy};
use polyview::train::{Outcome, RunSchedule};
use tempfile::TempDir;

use crate::common::run::{defaults_with, run, run_observed, small_config, with};

/// Runs and returns the tensors of each stage (weights and running statistics), at the start and after
/// each epoch.
fn snapshots(config: &Config) -> (Outcome, Vec<[Vec<TensorData>; STAGES.len()]>) {
    let device = Device::flex();
    let path = config.run.save_dir.join(checkpoint::LAST);
    let read = || -> [Vec<TensorData>; STAGES.len()] {
        let (net, info) = checkpoint::load(&path, &device).unwrap();
        let state = state_dict::collect_net(&net, &info.model).unwrap();
        let mut stages: [Vec<TensorData>; STAGES.len()] = Default::default();
        for (name, data) in state {
            if let Some(stage) = stage_of(&name) {
                stages[stage].push(data);
            }
        }
        stages
    };
    // Even a run with tiny rates changes something, so the model itself gives the start.
    let schema = Schema::mvfoul().unwrap();
    let model = config.model(&schema);
    let start = model.init(config.run.seed, &device);
    let mut first: [Vec<TensorData>; STAGES.len()] = Default::default();
    for (name, data) in state_dict::collect_net(&start, &model).unwrap() {
        if let Some(stage) = stage_of(&name) {
            first[stage].push(data);
        }
    }
    let mut all = vec![first];
    let outcome = run_observed(config, |event| {
        if let Event::Epoch(_) = event {
            all.push(read());
        }
    });
    (outcome, all)
}

/// Runs six epochs and returns the trainable stages of each. Asserts that exactly those changed.
fn follow(config: &Config) -> (Vec<Vec<String>>, Vec<EpochRecord>) {
    let (outcome, all) = snapshots(config);
    assert_eq!(outcome.history.len(), 6);
    for (epoch, record) in outcome.history.iter().enumerate() {
        for (stage, name) in STAGES.iter().enumerate() {
            let same = all[epoch][stage] == all[epoch + 1][stage];
            let trains = record.trainable.iter().any(|trained| trained == name);
            assert_eq!(same, !trains, "epoch {}, {name}: trains {trains}", epoch + 1);
            assert_eq!(record.rates.contains_key(*name), trains);
        }
        assert!(record.rates.contains_key("heads"));
    }
    let trained = outcome.history.iter().map(|record| record.trainable.clone()).collect();
    (trained, outcome.history)
}

fn names(sets: &[StageSet]) -> Vec<Vec<&'static str>> {
    sets.iter().map(StageSet::names).collect()
}

/// Returns a configuration of six epochs in phases of 2 and 4.
fn phased(folder: &TempDir) -> Config {
    with(
        &small_config(folder),
        "--phase1-epochs 2 --phase2-epochs 4 --head-lr 1e-3 --backbone-lr 1e-3 \
         --early-stopping-patience 0",
    )
}

#[test]
fn fixed_trains_the_heads_then_the_last_stages_too() {
    let folder = TempDir::new().unwrap();
    let config = with(&phased(&folder), "--unfreeze-blocks 2 --scheduler step --step-size 3");
    let (trained, history) = follow(&config);
    let (none, two) = (StageSet::NONE, StageSet::last(2));
    assert_eq!(trained, names(&[none, none, two, two, two, two]));
    let phases: Vec<usize> = history.iter().map(|record| record.phase).collect();
    assert_eq!(phases, [1, 1, 2, 2, 2, 2]);
    // The second phase has its own rates, and its schedule starts again.
    let heads: Vec<f64> = history.iter().map(|record| record.rates["heads"]).collect();
    assert_eq!(heads, [1e-3, 1e-3, 5e-3, 5e-3, 5e-3, 2.5e-3]);
    assert_eq!(history[2].rates["layer4"], 1e-3);
    assert_eq!(history[5].rates["layer3"], 5e-4);
}

#[test]
fn adaptive_unfreezes_when_the_score_stalls() {
    let folder = TempDir::new().unwrap();
    // Nothing is an improvement, so every second epoch stalls.
    let config = with(
        &phased(&folder),
        "--freezing-strategy adaptive --no-gradual-finetuning --epochs 6 --adaptive-patience 2 \
         --adaptive-min-improvement 10.0",
    );
    let (trained, _) = follow(&config);
    let sets = [0, 0, 0, 1, 1, 2].map(StageSet::last);
    assert_eq!(trained, names(&sets));
}

#[test]
fn progressive_unfreezes_at_intervals() {
    let folder = TempDir::new().unwrap();
    // 5 epochs of phase 2 over 5 stages: one each.
    let config = with(
        &phased(&folder),
        "--freezing-strategy progressive --phase1-epochs 1 --phase2-epochs 5",
    );
    let (trained, _) = follow(&config);
    assert_eq!(trained, names(&[0, 1, 2, 3, 4, 5].map(StageSet::last)));
}

#[test]
fn gradient_guided_unfreezes_the_stage_with_the_largest_gradient() {
    let folder = TempDir::new().unwrap();
    let config = with(
        &phased(&folder),
        "--freezing-strategy gradient_guided --no-gradual-finetuning --epochs 6 \
         --adaptive-patience 2 --adaptive-min-improvement 10.0",
    );
    let (trained, history) = follow(&config);
    // The first epoch always counts as an improvement; training stalls at epochs 3 and 5.
    let mut set = StageSet::NONE;
    for epoch in 0..6 {
        assert_eq!(trained[epoch], set.names(), "epoch {}", epoch + 1);
        let gradients = history[epoch].gradients.unwrap();
        assert!(gradients.iter().all(|g| g.is_finite() && *g > 0.0), "{gradients:?}");
        if epoch == 2 || epoch == 4 {
            let frozen = (0..5).filter(|stage| !set.contains(*stage));
            set = set.with(frozen.max_by(|a, b| gradients[*a].total_cmp(&gradients[*b])).unwrap());
        }
    }
    assert_eq!(set.names().len(), 2);
}

#[test]
fn none_trains_everything() {
    let folder = TempDir::new().unwrap();
    let config =
        with(&phased(&folder), "--freezing-strategy none --no-gradual-finetuning --epochs 6");
    assert_eq!(follow(&config).0, names(&[StageSet::ALL; 6]));
}

#[test]
fn strategies_depend_on_the_history_alone() {
    let epoch = |score| EpochOutcome { score, gradients: Some([0.1, 0.5, 0.3, 0.4, 0.2]) };
    let config = |kind: FreezingKind| {
        let options = "--adaptive-patience 2 --adaptive-min-improvement 0.01 --phase2-epochs 10";
        with(&defaults_with(options), &format!("--freezing-strategy {kind}"))
    };
    let ask = |kind, scores: &[f64]| {
        let past: Vec<_> = scores.iter().map(|score| epoch(*score)).collect();
        strategy(&config(kind), StageSet::last(1)).trainable(&past).names()
    };
    let adaptive = |scores: &[f64]| ask(FreezingKind::Adaptive, scores);
    assert_eq!(adaptive(&[]), ["layer4"]);
    assert_eq!(adaptive(&[0.3, 0.35, 0.4]), ["layer4"]);
    // 0.405 is less than 0.01 better; two such epochs stall.
    assert_eq!(adaptive(&[0.4, 0.405, 0.402]), ["layer3", "layer4"]);
    assert_eq!(adaptive(&[0.4, 0.405, 0.402, 0.5, 0.5]), ["layer3", "layer4"]);
    assert_eq!(adaptive(&[0.4, 0.4, 0.4, 0.4, 0.4]), ["layer2", "layer3", "layer4"]);
    assert_eq!(adaptive(&[0.1; 40]), STAGES);
    let progressive = |epochs| ask(FreezingKind::Progressive, &vec![0.5; epochs]).len();
    assert_eq!([0, 1, 2, 3, 4, 7, 8, 30].map(progressive), [1, 1, 2, 2, 3, 4, 5, 5]);
    // A fifth of 9 epochs is not a whole number.
    let ninths = with(&config(FreezingKind::Progressive), "--phase2-epochs 9");
    let stages = |epochs| {
        let past = vec![epoch(0.5); epochs];
        strategy(&ninths, StageSet::last(1)).trainable(&past).names().len()
    };
    assert_eq!([1, 2, 3, 4, 5, 6, 7, 8].map(stages), [1, 2, 2, 3, 3, 4, 4, 5]);
    let guided = |scores: &[f64]| ask(FreezingKind::GradientGuided, scores);
    assert_eq!(guided(&[0.4, 0.4, 0.4]), ["layer1", "layer4"]);
    assert_eq!(guided(&[0.4; 5]), ["layer1", "layer3", "layer4"]);
}

#[test]
fn deeper_stages_get_lower_rates_on_request() {
    let rates = |config: Config| {
        let course = RunSchedule::new(&config, |_| 3);
        course.epoch(0, &[]).phase.rates
    };
    let flat = defaults_with("--no-gradual-finetuning --lr 0.8");
    assert_eq!(rates(flat.clone()).stages, [0.8; 5]);
    let halved = rates(with(&flat, "--exponential-lr-decay"));
    assert_eq!((halved.heads, halved.stages), (0.8, [0.05, 0.1, 0.2, 0.4, 0.8]));
    assert_eq!(rates(with(&flat, "--layer-decay 0.5")), halved);
    let shared = rates(with(&flat, "--discriminative-lr")).stages;
    for (deep, above) in shared.iter().zip(&shared[1..]) {
        assert!((above / deep - 2.6).abs() < 1e-9);
    }
    assert_eq!(halved.of("backbone.layer3.0.conv1.0.weight"), 0.4);
    assert_eq!(halved.of("backbone.stem.0.weight"), 0.05);
    assert_eq!(halved.of("heads.1.layers.0.bias"), 0.8);
    assert_eq!(halved.of("view_pool.attention.0.weight"), 0.8);
}

#[test]
fn early_stopping_ends_the_run_and_keeps_the_best_weights() {
    let folder = TempDir::new().unwrap();
    // No step changes anything, so no epoch is better than the first.
    let config = with(
        &small_config(&folder),
        "--no-gradual-finetuning --epochs 40 --lr 1e-12 --min-lr 0.0 --weight-decay 0.0 \
         --freezing-strategy adaptive --adaptive-patience 100 --loss-function plain \
         --early-stopping-patience 2",
    );
    let outcome = run(&config);
    assert_eq!(outcome.history.len(), 3);
    let best =
        checkpoint::load(&config.run.save_dir.join(checkpoint::BEST), &Device::flex()).unwrap();
    let last =
        checkpoint::load(&config.run.save_dir.join(checkpoint::LAST), &Device::flex()).unwrap();
    assert_eq!((best.1.epoch, last.1.epoch), (1, 3));
    let state = |net| state_dict::collect(net).unwrap();
    assert_ne!(state(&best.0), state(&last.0), "running statistics move without a rate");
}
