use polyview::metrics::{ConfusionMatrix, METRICS, MetricsError};
use polyview::report::TaskRecord;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::Value;

use crate::common::reference::{self, count, counts, entries, field, list, number, text};

fn close(ours: f64, theirs: f64, what: &str) {
    assert!((ours - theirs).abs() <= 1e-8, "{what}: {ours} against {theirs}");
}

#[test]
fn golden_metrics() {
    let golden = reference::load("metrics.json");
    for case in entries(&golden, "cases") {
        let name = text(case, "name");
        let labels = counts(field(case, "labels"));
        let predictions = counts(field(case, "predictions"));
        let classes = count(case, "num_classes");
        let matrix = ConfusionMatrix::from_pairs(classes, &labels, &predictions).unwrap();

        let theirs = |key: &str| number(case, key);
        close(matrix.accuracy(), theirs("accuracy"), name);
        close(matrix.balanced_accuracy(), theirs("balanced_accuracy"), name);
        close(matrix.f1_weighted(), theirs("f1_weighted"), name);
        close(matrix.f1_macro(), theirs("f1_macro"), name);
        let ours: Vec<Vec<usize>> =
            matrix.rows().iter().map(|row| row.iter().map(|n| *n as usize).collect()).collect();
        let theirs: Vec<_> = entries(case, "confusion_matrix").iter().map(counts).collect();
        assert_eq!(ours, theirs, "{name}");
        assert_eq!(matrix.per_class().len(), classes, "{name}");
        for (c, ours) in matrix.per_class().iter().enumerate() {
            let theirs = |key: &str| -> &Value { &list(field(field(case, "per_class"), key))[c] };
            close(ours.precision, theirs("precision").as_f64().unwrap(), name);
            close(ours.recall, theirs("recall").as_f64().unwrap(), name);
            close(ours.f1, theirs("f1").as_f64().unwrap(), name);
            assert_eq!(Some(ours.support), theirs("support").as_u64(), "{name}");
        }
    }
}

/// Computes precision, recall, F1 (their harmonic mean) and support from the pairs themselves,
/// without a confusion matrix.
fn by_definition(class: usize, pairs: &[(usize, usize)]) -> (f64, f64, f64, usize) {
    let count = |f: &dyn Fn(usize, usize) -> bool| pairs.iter().filter(|(l, p)| f(*l, *p)).count();
    let right = count(&|l, p| l == class && p == class) as f64;
    let support = count(&|l, _| l == class);
    let predicted = count(&|_, p| p == class);
    let precision = if predicted == 0 { 0.0 } else { right / predicted as f64 };
    let recall = if support == 0 { 0.0 } else { right / support as f64 };
    let both = precision + recall;
    let f1 = if both == 0.0 { 0.0 } else { 2.0 * precision * recall / both };
    (precision, recall, f1, support)
}

#[test]
fn random_pairs_agree_with_the_definitions() {
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    for round in 0..400 {
        let classes = rng.random_range(1..10);
        let count = rng.random_range(1..60);
        // Only some of the classes, so that some are absent from labels, predictions or both.
        let (few, some) = (rng.random_range(1..=classes), rng.random_range(1..=classes));
        let pairs: Vec<(usize, usize)> =
            (0..count).map(|_| (rng.random_range(0..few), rng.random_range(0..some))).collect();
        let mut matrix = ConfusionMatrix::new(classes);
        let mut second = ConfusionMatrix::new(classes);
        for (i, (label, prediction)) in pairs.iter().enumerate() {
            let part = if i % 3 == 0 { &mut second } else { &mut matrix };
            part.add(*label, *prediction).unwrap();
        }
        matrix.merge(&second).unwrap();

        let what = format!("round {round}");
        let (mut recalls, mut f1s, mut weighted) = (Vec::new(), Vec::new(), 0.0);
        for (c, ours) in matrix.per_class().iter().enumerate() {
            let (precision, recall, f1, support) = by_definition(c, &pairs);
            close(ours.precision, precision, &what);
            close(ours.recall, recall, &what);
            close(ours.f1, f1, &what);
            assert_eq!(ours.support as usize, support);
            weighted += f1 * support as f64 / count as f64;
            if support > 0 {
                recalls.push(recall);
            }
            if pairs.iter().any(|(l, p)| *l == c || *p == c) {
                f1s.push(f1);
            }
        }
        let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
        let right = pairs.iter().filter(|(l, p)| l == p).count();
        close(matrix.accuracy(), right as f64 / count as f64, &what);
        close(matrix.balanced_accuracy(), mean(&recalls), &what);
        close(matrix.f1_macro(), mean(&f1s), &what);
        close(matrix.f1_weighted(), weighted, &what);
    }
}

#[test]
fn records_have_the_metrics_of_the_table() {
    let matrix =
        ConfusionMatrix::from_rows(&[vec![3, 1, 0], vec![2, 2, 0], vec![1, 0, 1]]).unwrap();
    let record = TaskRecord::new("task", 1.0, &matrix);
    let values = METRICS.map(|metric| (metric.of)(&matrix));
    assert_eq!(record.metrics(), Some(values));
    assert!(values.windows(2).all(|pair| pair[0] != pair[1]), "{values:?}");
    let json = serde_json::to_value(&record).unwrap();
    for (metric, value) in METRICS.iter().zip(values) {
        assert_eq!(json[metric.name], value, "{}", metric.name);
    }
    let unlabelled = TaskRecord::new("task", 0.0, &ConfusionMatrix::new(3));
    assert_eq!(unlabelled.metrics(), None);
}

#[test]
fn an_empty_matrix_gives_zeros() {
    let matrix = ConfusionMatrix::new(4);
    let all =
        [matrix.accuracy(), matrix.balanced_accuracy(), matrix.f1_weighted(), matrix.f1_macro()];
    assert_eq!(all, [0.0; 4]);
    assert_eq!(matrix.total(), 0);
}

#[test]
fn wrong_indices_are_errors() {
    let mut matrix = ConfusionMatrix::new(2);
    let error = MetricsError::OutOfRange { label: 0, prediction: 2, classes: 2 };
    assert_eq!(matrix.add(0, 2), Err(error));
    assert!(matrix.add(2, 0).is_err());
    assert!(matrix.merge(&ConfusionMatrix::new(3)).is_err());
    assert!(ConfusionMatrix::from_pairs(2, &[0], &[0, 1]).is_err());
    assert_eq!(matrix.total(), 0);
}
