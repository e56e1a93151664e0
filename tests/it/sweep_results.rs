//! The results of a sweep's runs, read from their folders, and their table.

use std::fs;

use polyview::report::EpochRecord;
use polyview::sweep::{Run, RunResult, Scored, Status, Sweep, combinations, results_csv, scored};
use tempfile::TempDir;

use crate::common::report::history;

/// Writes the history of a run: an epoch per score, and that many better than those before.
fn write_history(run: &Run, scores: &[f64]) {
    let mut records: Vec<EpochRecord> = history(scores.len());
    let mut best = f64::NEG_INFINITY;
    for (record, score) in records.iter_mut().zip(scores) {
        (record.score, record.best) = (*score, *score > best);
        best = best.max(*score);
        record.valid.tasks[0].balanced_accuracy = score - 0.125;
        record.valid.tasks[1].balanced_accuracy = score + 0.125;
        (record.train.seconds, record.valid.seconds) = (2.0, 0.5);
    }
    fs::create_dir_all(&run.folder).unwrap();
    fs::write(run.folder.join("history.json"), serde_json::to_vec(&records).unwrap()).unwrap();
}

/// Removes the tasks from a run's history that it does not train. The only task left has the score.
fn keep_tasks(run: &Run) {
    let path = run.folder.join("history.json");
    let mut records: Vec<EpochRecord> = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    for record in &mut records {
        record.valid.tasks.retain(|task| run.config.data.tasks.contains(&task.task));
        if let [only] = &mut record.valid.tasks[..] {
            only.balanced_accuracy = record.score;
        }
    }
    fs::write(&path, serde_json::to_vec(&records).unwrap()).unwrap();
}

/// A sweep with these seeds and this grid, whose runs train for three epochs.
fn sweep(folder: &TempDir, seeds: &str, grid: &str) -> Sweep {
    let path = folder.path().join("sweep.toml");
    let text = format!(
        "{seeds}\n[base]\ndataset-root = \"data\"\ngradual-finetuning = false\nepochs = 3\n\
         early-stopping-patience = 2\n[grid]\n{grid}\n"
    );
    fs::write(&path, text).unwrap();
    Sweep::load(&path, &folder.path().join("out")).unwrap()
}

#[test]
fn results_are_read_from_folders_and_seeds_are_merged() {
    let folder = TempDir::new().unwrap();
    let sweep = sweep(&folder, "seeds = [0, 1]", "lr = [0.1, 0.2, 0.3]");
    let runs = &sweep.runs;
    write_history(&runs[0], &[0.25, 0.5, 0.375]);
    // Stopped early.
    write_history(&runs[1], &[0.75, 0.5, 0.5]);
    write_history(&runs[2], &[0.5, 0.875, 0.75]);
    fs::write(runs[2].folder.join("error.txt"), "an earlier failure\n").unwrap();
    write_history(&runs[3], &[0.875]);
    write_history(&runs[4], &[0.25]);
    fs::write(runs[4].folder.join("error.txt"), "--lr 1: too much\n").unwrap();
    let results = sweep.results();
    let statuses: Vec<Status> = results.iter().map(|result| result.status).collect();
    let expected = [
        Status::Finished,
        Status::Finished,
        Status::Finished,
        Status::Interrupted,
        Status::Failed,
        Status::Waiting,
    ];
    assert_eq!(statuses, expected);
    let reasons: Vec<_> = results.iter().filter_map(|result| result.reason.as_deref()).collect();
    assert_eq!(reasons, ["--lr 1: too much"]);

    let combinations = combinations(&sweep, &results);
    let lrs: Vec<&String> = combinations.iter().map(|c| &c.options["lr"]).collect();
    assert_eq!(lrs, ["0.2", "0.1", "0.3"]);
    let [single, both, none] = &combinations[..] else { panic!("3 rates") };
    let score = both.score.unwrap();
    assert!((score.mean - 0.625).abs() < 1e-12 && score.n == 2);
    // s = 0.125 √2 of 0.5 and 0.75, over √2.
    assert!((score.error.unwrap() - 0.125).abs() < 1e-12);
    let task = both.tasks["action_class"].unwrap();
    assert!((task.mean - 0.75).abs() < 1e-12);
    let score = single.score.unwrap();
    assert_eq!((score.mean, score.error, score.n), (0.875, None, 1));
    assert_eq!((single.count(Status::Interrupted), none.count(Status::Failed)), (1, 1));
    assert_eq!((none.score, none.tasks["action_class"]), (None, None));

    let rows: Vec<String> =
        results_csv(&sweep, &results).unwrap().lines().map(str::to_owned).collect();
    let expected = [
        "name,lr,seed,status,epochs_done,best_epoch,score,balanced_accuracy/offence_severity,\
         balanced_accuracy/action_class,seconds",
        "lr=0.1_seed=0,0.1,0,finished,3,2,0.5,0.375,0.625,7.5",
        "lr=0.1_seed=1,0.1,1,finished,3,1,0.75,0.625,0.875,7.5",
        "lr=0.2_seed=0,0.2,0,finished,3,2,0.875,0.75,1,7.5",
        "lr=0.2_seed=1,0.2,1,interrupted,1,1,0.875,0.75,1,2.5",
        "lr=0.3_seed=0,0.3,0,failed,1,1,0.25,0.125,0.375,2.5",
        "lr=0.3_seed=1,0.3,1,waiting,0,,,,,",
    ];
    assert_eq!(rows, expected);

    // A history that cannot be read is no result.
    fs::write(runs[0].folder.join("history.json"), "[").unwrap();
    let result: RunResult = sweep.results().swap_remove(0);
    assert_eq!((result.status, result.best), (Status::Interrupted, None));
    assert!(result.reason.unwrap().starts_with("history.json cannot be read"));
}

#[test]
fn folds_are_merged_like_seeds() {
    let folder = TempDir::new().unwrap();
    let sweep = sweep(&folder, "seeds = [0, 1]", "fold = [\"1/2\", \"2/2\"]\nlr = [0.1, 0.2]");
    // The best single run, on the second fold, has the worse rate.
    for run in &sweep.runs {
        let score = match (run.options["fold"].as_str(), run.options["lr"].as_str()) {
            ("1/2", "0.1") => 0.25,
            ("1/2", _) => 0.5,
            (_, "0.1") => 0.75,
            _ => 0.625,
        };
        write_history(run, &[score, 0.25, 0.25]);
    }
    let results = sweep.results();
    let found = combinations(&sweep, &results);
    let [better, worse] = &found[..] else { panic!("2 rates: {found:?}") };
    for (combination, lr, mean) in [(better, "0.2", 0.5625), (worse, "0.1", 0.5)] {
        let options: Vec<_> = combination.options.iter().map(|(n, v)| (&n[..], &v[..])).collect();
        assert_eq!(options, [("lr", lr)]);
        let score = combination.score.unwrap();
        assert!((score.mean - mean).abs() < 1e-12 && score.n == 4, "{score:?}");
    }
    // The table of runs keeps a row for each.
    let table = results_csv(&sweep, &results).unwrap();
    assert_eq!(table.lines().count(), 9);
    assert!(table.starts_with("name,fold,lr,seed,status,"), "{table}");
}

#[test]
fn scores_over_different_tasks_are_not_ranked_together() {
    let of = |tasks: &str| format!("tasks = [{tasks}]");
    let (severity, kind) = ("[\"offence_severity\"]", "[\"action_class\"]");
    let both = "[\"offence_severity\", \"action_class\"]";
    // The balanced accuracies are the score ∓ 1/8 with both tasks.
    for (grid, scores, expected, order) in [
        (of(&format!("{kind}, {both}")), [0.75, 0.6875], Some([0.8125, 0.75]), [1, 0]),
        (of(&format!("{severity}, {both}")), [0.5, 0.6875], Some([0.5625, 0.5]), [1, 0]),
        (of(&format!("{severity}, {kind}")), [0.5, 0.6875], None, [0, 1]),
    ] {
        let folder = TempDir::new().unwrap();
        let sweep = sweep(&folder, "", &grid);
        for (run, score) in sweep.runs.iter().zip(scores) {
            write_history(run, &[score, 0.25, 0.25]);
            keep_tasks(run);
        }
        let results = sweep.results();
        let found = combinations(&sweep, &results);
        let names: Vec<&String> = found.iter().map(|c| &c.options["tasks"]).collect();
        let ordered = order.map(|run: usize| &sweep.runs[run].options["tasks"]);
        assert_eq!(names, ordered, "{grid}");
        let shown: Vec<f64> = found.iter().map(|c| c.score.unwrap().mean).collect();
        assert_eq!(shown, expected.unwrap_or(scores), "{grid}");
        // Each run's own score stays in the table of runs.
        let table = results_csv(&sweep, &results).unwrap();
        assert!(scores.iter().all(|score| table.contains(&format!(",1,{score},"))), "{table}");
        let comparable = expected.is_some();
        assert_eq!(matches!(scored(&results), Scored::Common(_)), comparable, "{grid}");
        assert_eq!(scored(&results) == Scored::Own, !comparable, "{grid}");
    }
}

#[test]
fn times_are_wall_times_and_scores_are_checked() {
    let folder = TempDir::new().unwrap();
    let sweep = sweep(&folder, "", "lr = [0.1]");
    let run = &sweep.runs[0];
    write_history(run, &[0.25, 0.5, 0.375]);
    let path = run.folder.join("history.json");
    let mut records: Vec<EpochRecord> = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    let mut result = |change: &dyn Fn(&mut [EpochRecord])| {
        change(&mut records);
        fs::write(&path, serde_json::to_vec(&records).unwrap()).unwrap();
        sweep.results().swap_remove(0)
    };
    // Older versions did not record the wall time of an epoch.
    let found = result(&|records| (1..3).for_each(|epoch| records[epoch].wall_seconds = Some(4.0)));
    assert_eq!((found.status, found.seconds), (Status::Finished, 10.5));
    let found = result(&|records| records[1].score = 7.0);
    assert_eq!((found.status, found.best), (Status::Interrupted, None));
    let reason = "history.json cannot be read: epoch 2: a score of 7e0 is not from 0 to 1";
    assert_eq!(found.reason.as_deref(), Some(reason));
}
