//! Freezing: what each strategy trains when, and that frozen is frozen.

use std::sync::atomic::AtomicBool;

use burn::tensor::{Device, TensorData};
use polyview::checkpoint;
use polyview::config::{Config, FreezingKind, LossFunction, SchedulerKind};
use polyview::model::{STAGES, StageSet, stage_of, state_dict};
use polyview::report::{EpochRecord, Event};
use polyview::train::freezing::{EpochOutcome, strategy};
use polyview::train::{self, Course, Outcome};
use tempfile::TempDir;

use crate::common::run::{run, small_config};

/// All numbers of a stage (weights and running statistics), after each epoch of a run.
fn snapshots(config: &Config) -> (Outcome, Vec<[Vec<TensorData>; STAGES.len()]>) {
    let device = Device::flex();
    let path = config.save_dir.join(checkpoint::LAST);
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
    // The start: a run whose rates change nothing to speak of is not the same as no run, so it is
    // taken from the model itself.
    let schema = config.load_schema().unwrap();
    let model = config.model(&schema);
    let start = model.init(config.seed, &device);
    let mut first: [Vec<TensorData>; STAGES.len()] = Default::default();
    for (name, data) in state_dict::collect_net(&start, &model).unwrap() {
        if let Some(stage) = stage_of(&name) {
            first[stage].push(data);
        }
    }
    let mut all = vec![first];
    let outcome = train::run(config, &AtomicBool::new(false), &mut |event: &Event| {
        if let Event::Epoch(_) = event {
            all.push(read());
        }
    })
    .unwrap();
    (outcome, all)
}

/// Runs six epochs; per epoch the trainable stages. Asserts that exactly those changed.
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

/// Six epochs in phases of 2 and 4.
fn phased(folder: &TempDir) -> Config {
    Config {
        phase1_epochs: 2,
        phase2_epochs: 4,
        head_lr: 1e-3,
        backbone_lr: 1e-3,
        early_stopping_patience: polyview::config::Auto::Number(0),
        ..small_config(folder)
    }
}

#[test]
fn fixed_trains_the_heads_then_the_last_stages_too() {
    let folder = TempDir::new().unwrap();
    let config = Config {
        unfreeze_blocks: 2,
        scheduler: SchedulerKind::Step,
        step_size: 3,
        ..phased(&folder)
    };
    let (trained, history) = follow(&config);
    let (none, two) = (StageSet::NONE, StageSet::last(2));
    assert_eq!(trained, names(&[none, none, two, two, two, two]));
    let phases: Vec<usize> = history.iter().map(|record| record.phase).collect();
    assert_eq!(phases, [1, 1, 2, 2, 2, 2]);
    // The second phase has rates of its own, and its schedule starts anew.
    let heads: Vec<f64> = history.iter().map(|record| record.rates["heads"]).collect();
    assert_eq!(heads, [1e-3, 1e-3, 5e-3, 5e-3, 5e-3, 2.5e-3]);
    assert_eq!(history[2].rates["layer4"], 1e-3);
    assert_eq!(history[5].rates["layer3"], 5e-4);
}

#[test]
fn adaptive_unfreezes_when_the_score_stalls() {
    let folder = TempDir::new().unwrap();
    let config = Config {
        freezing_strategy: FreezingKind::Adaptive,
        gradual_finetuning: false,
        epochs: 6,
        adaptive_patience: 2,
        // Nothing is an improvement, so every second epoch stalls.
        adaptive_min_improvement: 10.0,
        ..phased(&folder)
    };
    let (trained, _) = follow(&config);
    let sets = [0, 0, 0, 1, 1, 2].map(StageSet::last);
    assert_eq!(trained, names(&sets));
}

#[test]
fn progressive_unfreezes_at_intervals() {
    let folder = TempDir::new().unwrap();
    let config = Config {
        freezing_strategy: FreezingKind::Progressive,
        // 5 epochs of phase 2 over 5 stages: one each.
        phase1_epochs: 1,
        phase2_epochs: 5,
        ..phased(&folder)
    };
    let (trained, _) = follow(&config);
    assert_eq!(trained, names(&[0, 1, 2, 3, 4, 5].map(StageSet::last)));
}

#[test]
fn gradient_guided_unfreezes_the_stage_with_the_largest_gradient() {
    let folder = TempDir::new().unwrap();
    let config = Config {
        freezing_strategy: FreezingKind::GradientGuided,
        gradual_finetuning: false,
        epochs: 6,
        adaptive_patience: 2,
        adaptive_min_improvement: 10.0,
        ..phased(&folder)
    };
    let (trained, history) = follow(&config);
    // The first epoch improves on nothing at all; stalls are at epochs 3 and 5.
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
    let config = Config {
        freezing_strategy: FreezingKind::None,
        gradual_finetuning: false,
        epochs: 6,
        ..phased(&folder)
    };
    assert_eq!(follow(&config).0, names(&[StageSet::ALL; 6]));
}

#[test]
fn strategies_answer_from_the_history_alone() {
    let epoch = |score| EpochOutcome { score, gradients: Some([0.1, 0.5, 0.3, 0.4, 0.2]) };
    let config = |kind| Config {
        freezing_strategy: kind,
        adaptive_patience: 2,
        adaptive_min_improvement: 0.01,
        phase2_epochs: 10,
        ..Config::default()
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
    let guided = |scores: &[f64]| ask(FreezingKind::GradientGuided, scores);
    assert_eq!(guided(&[0.4, 0.4, 0.4]), ["layer1", "layer4"]);
    assert_eq!(guided(&[0.4; 5]), ["layer1", "layer3", "layer4"]);
}

#[test]
fn deeper_stages_get_lower_rates_when_asked() {
    let rates = |config: Config| {
        let course = Course::new(&config, |_| 3);
        course.epoch(0, &[]).phase.rates
    };
    let flat = Config { gradual_finetuning: false, lr: 0.8, ..Config::default() };
    assert_eq!(rates(flat.clone()).stages, [0.8; 5]);
    let halved = rates(Config { exponential_lr_decay: true, ..flat.clone() });
    assert_eq!((halved.heads, halved.stages), (0.8, [0.05, 0.1, 0.2, 0.4, 0.8]));
    let shared = rates(Config { discriminative_lr: true, ..flat }).stages;
    for (deep, above) in shared.iter().zip(&shared[1..]) {
        assert!((above / deep - 2.6).abs() < 1e-9);
    }
    assert_eq!(halved.of("backbone.layer3.0.conv1.0.weight"), 0.4);
    assert_eq!(halved.of("backbone.stem.0.weight"), 0.05);
    assert_eq!(halved.of("heads.1.layers.0.bias"), 0.8);
    assert_eq!(halved.of("view_pool.attention.0.weight"), 0.8);
}

#[test]
fn early_stopping_ends_the_run_and_the_best_weights_come_back() {
    let folder = TempDir::new().unwrap();
    let config = Config {
        gradual_finetuning: false,
        epochs: 40,
        // No step changes anything, so no epoch is better than the first.
        lr: 1e-12,
        min_lr: 0.0,
        weight_decay: 0.0,
        freezing_strategy: FreezingKind::Adaptive,
        adaptive_patience: 100,
        loss_function: LossFunction::Plain,
        early_stopping_patience: polyview::config::Auto::Number(2),
        ..small_config(&folder)
    };
    let outcome = run(&config);
    assert_eq!(outcome.history.len(), 3);
    let best = checkpoint::load(&config.save_dir.join(checkpoint::BEST), &Device::flex()).unwrap();
    let state = |net| state_dict::collect(net).unwrap();
    assert_eq!(state(&outcome.network.unwrap()), state(&best.0));
    assert_eq!(best.1.epoch, 1);
}
