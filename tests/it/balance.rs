//! Samplers: how often each class is drawn, and what determines the order.

use polyview::config::{Config, WeightingStrategy};
use polyview::data::Dataset;
use polyview::data::balance::{Sampling, balanced, class_weights, draws};
use polyview::data::sampler::Sampler;
use polyview::schema::Schema;
use tempfile::TempDir;

use crate::common::run::small_config;

fn counts_of(order: &[usize], labels: &[usize], classes: usize) -> Vec<usize> {
    let mut counts = vec![0; classes];
    order.iter().for_each(|&index| counts[labels[index]] += 1);
    counts
}

#[test]
fn rarer_classes_are_drawn_up_to_the_factor() {
    assert_eq!(draws(&[80, 40, 20, 10], 4.0), [80, 80, 80, 40]);
    assert_eq!(draws(&[80, 40, 20, 10], 1.0), [80, 40, 20, 10]);
    assert_eq!(draws(&[10, 3, 0], 2.5), [10, 7, 0]);
    assert_eq!(draws(&[10, 3], 100.0), [10, 10], "never more than the largest class");
    assert_eq!(draws(&[], 2.0), Vec::<usize>::new());
}

#[test]
fn seed_and_epoch_determine_the_order_and_the_largest_class_is_drawn_once() {
    let labels: Vec<usize> = [vec![0; 24], vec![1; 8], vec![2; 3], vec![4; 24]].concat();
    let known: Vec<Option<usize>> = labels.iter().copied().map(Some).collect();
    let order = balanced(&known, 5, 4.0, 7, 2);
    assert_eq!(order, balanced(&known, 5, 4.0, 7, 2));
    assert_ne!(order, balanced(&known, 5, 4.0, 7, 3));
    assert_ne!(order, balanced(&known, 5, 4.0, 8, 2));
    assert_eq!(counts_of(&order, &labels, 5), [24, 24, 12, 0, 24]);
    // Classes 0 and 4 are as large as the largest: each of their actions exactly once.
    for index in (0..24).chain(35..59) {
        assert_eq!(order.iter().filter(|i| **i == index).count(), 1, "action {index}");
    }
    // Drawn with replacement: 24 draws from 8 actions are not three rounds of all.
    let times: Vec<usize> = (24..32).map(|i| order.iter().filter(|o| **o == i).count()).collect();
    assert!(times.iter().any(|t| *t != 3), "{times:?}");
    // Shuffled: the classes are mixed.
    assert!(order.windows(12).any(|w| counts_of(w, &labels, 5).iter().all(|c| *c < 12)));
}

#[test]
fn the_factor_rises_over_the_epochs() {
    let sampling = Sampling::Progressive { start: 1.5, end: 3.0, epochs: 16 };
    let factors = [0, 5, 15, 16, 100].map(|epoch| sampling.factor(epoch).unwrap());
    assert_eq!(factors, [1.5, 2.0, 3.0, 3.0, 3.0]);
    assert_eq!(Sampling::Plain.factor(0), None);
    let at_once = Sampling::Progressive { start: 1.5, end: 3.0, epochs: 1 };
    assert_eq!(at_once.factor(1), Some(3.0));
}

#[test]
fn a_class_without_samples_counts_as_one() {
    let weights = class_weights(WeightingStrategy::Sqrt, &[100, 0], 10.0);
    assert_eq!(weights, [1.0, 10.0]);
    let all = [
        WeightingStrategy::BalancedCapped,
        WeightingStrategy::None,
        WeightingStrategy::Log,
        WeightingStrategy::EffectiveNumber,
    ];
    for strategy in all {
        let weights = class_weights(strategy, &[0, 0, 5], 10.0);
        assert!(weights.iter().all(|w| w.is_finite() && *w >= 1.0), "{strategy}: {weights:?}");
    }
}

#[test]
fn tasks_are_balanced_in_turn() {
    let folder = TempDir::new().unwrap();
    let mut config = small_config(&folder);
    let schema = Schema::mvfoul().unwrap();
    let size = [16, 16];
    let root = &config.data.dataset_root;
    let window = config.clips.window(&schema).unwrap();
    let data = Dataset::open(root, "train", &schema, window, size, None).unwrap();
    let sampler = |config: &Config| {
        let tasks: Vec<(usize, usize)> = config
            .balance
            .balanced_tasks(&schema)
            .into_iter()
            .map(|task| (task, schema.tasks[task].classes.len()))
            .collect();
        Sampler::new(&data, config.balance.sampling(), &tasks, 5, 1)
    };
    let per_class = |sampler: &Sampler, epoch: usize, task: usize| {
        let labels: Vec<usize> = data.samples.iter().map(|s| s.labels[task].unwrap()).collect();
        let plan = sampler.plan(epoch);
        assert_eq!(plan.len(), sampler.batches(epoch));
        counts_of(&plan.concat(), &labels, schema.tasks[task].classes.len())
    };
    config.balance.balance_task = Some("alternate".to_owned());
    let alternating = sampler(&config);
    for epoch in 0..4 {
        let task = epoch % 2;
        let expected = draws(&data.class_counts(task, schema.tasks[task].classes.len()), 4.0);
        assert_eq!(per_class(&alternating, epoch, task), expected, "epoch {epoch}");
    }
    config.balance.balance_task = Some("action_class".to_owned());
    let one = sampler(&config);
    let expected = draws(&data.class_counts(1, 8), 4.0);
    assert_eq!(per_class(&one, 0, 1), expected);
    config.balance.balance_task = None;
    config.balance.use_class_balanced_sampler = false;
    let plain = sampler(&config);
    let mut all = plain.plan(3).concat();
    all.sort_unstable();
    assert_eq!(all, (0..12).collect::<Vec<_>>());
}

#[test]
fn actions_of_unknown_class_are_drawn_once() {
    let labels = [vec![Some(0); 8], vec![None; 5], vec![Some(1); 2]].concat();
    for epoch in 0..4 {
        let order = balanced(&labels, 2, 4.0, 3, epoch);
        assert_eq!(order.len(), 8 + 5 + 8);
        for index in 8..13 {
            assert_eq!(order.iter().filter(|i| **i == index).count(), 1, "action {index}");
        }
    }
}
