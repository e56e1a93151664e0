//! A made-up run for tests of reports.

use indexmap::IndexMap;
use polyview::evaluate::{Calibration, TaskCalibration, Thresholds};
use polyview::metrics::ConfusionMatrix;
use polyview::report::{
    BalanceSummary, EpochRecord, PassRecord, RunSummary, SplitSummary, TaskRecord,
};
use polyview::schema::Schema;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Returns the records of `epochs` epochs: the heads alone are trained for eight, then three stages
/// with them, then a fourth.
pub fn history(epochs: usize) -> Vec<EpochRecord> {
    let schema = Schema::mvfoul().expect("the built-in schema is valid");
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    let mut best = f64::NEG_INFINITY;
    (1..=epochs)
        .map(|epoch| {
            let phase = if epoch <= 8 { 1 } else { 2 };
            let skill = 1.0 - (-(epoch as f64) / 14.0).exp();
            let stages: &[&str] = match epoch {
                0..=8 => &[],
                9..=15 => &["layer2", "layer3", "layer4"],
                _ => &["layer1", "layer2", "layer3", "layer4"],
            };
            let rate = if phase == 1 { 1e-3 } else { 5e-5 * (1.0 - epoch as f64 / 600.0) };
            let mut rates = IndexMap::from([("heads".to_owned(), rate)]);
            rates.extend(stages.iter().map(|stage| (stage.to_string(), rate / 5.0)));
            let train = pass(&schema, &mut rng, skill, 2319, 96.0);
            let valid = pass(&schema, &mut rng, skill * 0.62, 321, 11.0);
            let score = valid.score();
            let is_best = score > best;
            best = best.max(score);
            EpochRecord {
                epoch,
                phase,
                trainable: stages.iter().map(|stage| stage.to_string()).collect(),
                rates,
                gradients: None,
                train,
                valid,
                score,
                calibration: Some(calibration(skill)),
                best: is_best,
                wall_seconds: None,
            }
        })
        .collect()
}

/// Returns the calibration of a network that becomes overconfident.
fn calibration(skill: f64) -> Calibration {
    let task = TaskCalibration {
        temperature: 1.0 + skill,
        ece_before: 0.05 + 0.1 * skill,
        ece_after: 0.02 + 0.02 * skill,
        actions: 321,
        thresholds: Some(Thresholds {
            classes: vec![1.0; 8],
            before: 0.1 + 0.3 * skill,
            after: 0.15 + 0.3 * skill,
        }),
    };
    Calibration { tasks: vec![task.clone(), task] }
}

fn pass(
    schema: &Schema,
    rng: &mut ChaCha8Rng,
    skill: f64,
    actions: usize,
    seconds: f64,
) -> PassRecord {
    let shares: [&[f64]; 2] =
        [&[0.12, 0.58, 0.28, 0.02], &[0.15, 0.44, 0.04, 0.13, 0.05, 0.07, 0.1, 0.02]];
    let mut task = |index: usize| {
        let task = &schema.tasks[index];
        let mut matrix = ConfusionMatrix::new(task.classes.len());
        let draw = |rng: &mut ChaCha8Rng| {
            let mut left = rng.random::<f64>();
            let found = shares[index].iter().position(|share| {
                left -= share;
                left < 0.0
            });
            found.expect("the shares sum to 1")
        };
        for _ in 0..actions {
            let label = draw(rng);
            let right = rng.random_bool(skill.clamp(0.02, 0.98));
            let prediction = if right { label } else { draw(rng) };
            matrix.add(label, prediction).expect("both are classes");
        }
        TaskRecord::new(&task.name, 1.9 - skill * 1.4 + rng.random::<f64>() * 0.08, &matrix)
    };
    let tasks: Vec<TaskRecord> = (0..schema.tasks.len()).map(&mut task).collect();
    PassRecord {
        loss: tasks.iter().map(|task| task.loss * 3.0).sum(),
        tasks,
        auxiliary: Vec::new(),
        gradient_norm: Some(2.0),
        left_out: 0,
        loss_scale: None,
        actions,
        clips: actions * 2,
        seconds: seconds + rng.random::<f64>() * 4.0,
        data_wait: 0.04 + 0.3 * (1.0 - skill) * rng.random::<f64>(),
        exchange: None,
        slowest: None,
    }
}

/// Returns the summary at the start of such a run.
pub fn summary() -> RunSummary {
    let schema = Schema::mvfoul().expect("the built-in schema is valid");
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let counts: [[&[usize]; 2]; 2] =
        [[&[280, 1340, 660, 39], &[402, 1290, 590, 37]], [&[39, 186, 90, 6], &[60, 170, 80, 11]]];
    let action_counts: [&[usize]; 2] =
        [&[352, 1010, 97, 300, 120, 160, 240, 40], &[50, 138, 15, 44, 16, 22, 30, 6]];
    let split = |index: usize, name: &str, actions, views| SplitSummary {
        split: name.to_owned(),
        actions,
        views,
        left_out: 40,
        classes: schema
            .tasks
            .iter()
            .zip([counts[index][0], action_counts[index]])
            .map(|(task, counts)| {
                let names = task.class_names().into_iter();
                (task.name.clone(), names.zip(counts.iter().copied()).collect())
            })
            .collect(),
    };
    let rows = [(280, 4.79, 1120), (1340, 1.0, 1340), (660, 2.03, 1339), (39, 10.0, 156)];
    let names = schema.tasks[0].class_names();
    RunSummary {
        settings: vec![
            pair("device", "NVIDIA GeForce RTX 4070 (wgpu:0)"),
            pair("network", "r2plus1d_18, attention over views, 31.62 M parameters"),
            pair("clip", "16 frames of 224×398 from frames 67 to 82 at 15 fps"),
            pair(
                "training",
                "23 epochs (stops after 15 epochs without a better score), 8 actions a step, AdamW \
                 lr heads 0.001, then heads 0.00005 and backbone 0.00001 (cosine), weight decay \
                 0.0001, gradient norm ≤ 1, seed 42",
            ),
            pair(
                "loss",
                "weighted, label smoothing 0.1, task weights (offence_severity 3, action_class 3)",
            ),
            pair("files", "runs/severity-01"),
        ],
        splits: vec![split(0, "train", 2319, 5432), split(1, "valid", 321, 741)],
        balance: vec![BalanceSummary {
            task: schema.tasks[0].title.clone(),
            classes: names
                .into_iter()
                .zip(rows)
                .map(|(name, (count, weight, draws))| (name, count, weight, draws))
                .collect(),
        }],
        advice: vec!["39 actions of the rarest class: --oversample-factor 6 may help".to_owned()],
    }
}
