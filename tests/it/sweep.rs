//! A sweep's file and its runs.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

use polyview::config::CacheChoice;
use polyview::sweep::{Run, Sweep};
use tempfile::TempDir;

/// Loads a sweep whose file has this text, beside a configuration `base.toml`.
fn load(folder: &TempDir, text: &str) -> Result<Sweep, String> {
    let base = "dataset-root = \"data\"\nsave-dir = \"elsewhere\"\noverwrite = true\nlr = 0.5\n\
                resume = \"auto\"\nresume-best-acc = 0.5\nrecord = \"steps\"\n";
    fs::write(folder.path().join("base.toml"), base).unwrap();
    let path = folder.path().join("sweep.toml");
    fs::write(&path, text).unwrap();
    Sweep::load(&path, Path::new("out")).map_err(|error| error.to_string())
}

fn loaded(text: &str) -> Sweep {
    let folder = TempDir::new().unwrap();
    load(&folder, &format!("config = \"base.toml\"\n{text}")).unwrap()
}

fn names(sweep: &Sweep) -> Vec<&str> {
    sweep.runs.iter().map(|run| run.name.as_str()).collect()
}

#[test]
fn every_combination_is_a_run_and_later_tables_win() {
    let sweep = loaded(
        "seeds = [3, 0]\n[base]\nlr = 0.25\nepochs = 5\n[variants.plain]\nsimple_training = true\n\
         [variants.mixup]\nmixup = 0.2\nepochs = 7\n[grid]\nweight_decay = [1e-3, 0.0]\n\
         batch-size = [4]\n",
    );
    assert_eq!(
        names(&sweep),
        [
            "plain_batch-size=4_weight-decay=0.001_seed=3",
            "plain_batch-size=4_weight-decay=0.001_seed=0",
            "plain_batch-size=4_weight-decay=0_seed=3",
            "plain_batch-size=4_weight-decay=0_seed=0",
            "mixup_batch-size=4_weight-decay=0.001_seed=3",
            "mixup_batch-size=4_weight-decay=0.001_seed=0",
            "mixup_batch-size=4_weight-decay=0_seed=3",
            "mixup_batch-size=4_weight-decay=0_seed=0",
        ]
    );
    assert_eq!(sweep.varied().collect::<Vec<_>>(), ["weight-decay", "batch-size"]);
    let [first, .., last] = &sweep.runs[..] else { panic!("8 runs") };
    for run in [first, last] {
        let (config, folder) = (&run.config, Path::new("out").join(&run.name));
        assert_eq!((&config.run.save_dir, &run.folder), (&folder, &folder));
        assert_eq!((config.optimizer.batch_size, config.schedule.lr), (4, 0.25));
        assert_eq!(config.data.cache, CacheChoice::Folder(PathBuf::from("out/frames")));
        assert!(!config.run.overwrite && config.run.resume.is_none());
        assert!(config.run.resume_best_acc.is_none() && config.run.record.is_none());
    }
    assert_eq!((first.config.schedule.epochs, last.config.schedule.epochs), (5, 7));
    assert_eq!((first.config.run.seed, last.config.run.seed), (3, 0));
    assert_eq!((first.config.mixing.mixup, last.config.mixing.mixup), (None, Some(0.2)));
    assert_eq!(first.config.loss.label_smoothing, 0.0);
    assert!(last.config.loss.label_smoothing > 0.0);
}

#[test]
fn more_values_do_not_change_the_names_of_other_runs() {
    let few = loaded("[grid]\nlr = [1e-3]\nlabel-smoothing = [0]\n");
    let more = loaded("[grid]\nlabel_smoothing = [0.1, 0.0]\nlr = [0.01, 0.0010]\n");
    assert_eq!(names(&few), ["label-smoothing=0_lr=0.001"]);
    assert!(names(&more).contains(&names(&few)[0]) && more.runs.len() == 4);
    assert_eq!(names(&loaded("")), ["run"]);
    let lists = loaded("[grid]\nmain-task-weights = [[1, 2], [3.0, 0.5]]\ntune = [true, false]\n");
    assert_eq!(names(&lists)[0], "main-task-weights=1,2_tune=true");
    assert_eq!(lists.runs[3].config.loss.main_task_weights, [3.0, 0.5]);
    let long = format!("[grid]\npretrained = [\"{}.pth\", \"a/b.pth\"]\n", "x".repeat(300));
    assert!(names(&loaded(&long)).iter().all(|name| name.len() <= 120 && !name.contains('/')));
}

/// Loads a sweep that draws from ranges and a list.
fn drawn(draws: usize, seed: usize, more: &str) -> Sweep {
    loaded(&format!(
        "[random]\ndraws = {draws}\nseed = {seed}\n[random.options]\n\
         weight-decay = {{ from = 1e-5, to = 1e-2, log = true }}\n\
         dropout-rate = {{ from = 0.25, to = 0.5 }}\nbatch-size = {{ from = 2, to = 4 }}\n\
         epochs = {{ from = 1, to = 100, log = true }}\nlabel-smoothing = [0.0, 0.1]\n{more}"
    ))
}

#[test]
fn draws_are_determined_by_the_seed_and_their_number() {
    let (few, many) = (drawn(3, 0, ""), drawn(120, 0, ""));
    assert_eq!(names(&many)[..3], names(&few)[..]);
    assert!(names(&drawn(3, 1, "")).iter().all(|name| !names(&many).contains(name)));
    // An additional option does not change the values of the others.
    let with = drawn(3, 0, "optimizer = [\"adamw\", \"sgd\"]\n");
    for (run, other) in few.runs.iter().zip(&with.runs) {
        assert!(run.options.iter().all(|(name, value)| other.options[name] == *value));
    }
    let column =
        |value: &dyn Fn(&Run) -> f64| -> Vec<f64> { many.runs.iter().map(value).collect() };
    let below = |values: &[f64], limit: f64| values.iter().filter(|value| **value < limit).count();
    let decays = column(&|run| run.config.optimizer.weight_decay);
    assert!(decays.iter().all(|value| (1e-5..=1e-2).contains(value)));
    // A third of the draws falls into each power of ten.
    for (limit, expected) in [(1e-4, 40), (1e-3, 80)] {
        assert!(below(&decays, limit).abs_diff(expected) < 20, "{}", below(&decays, limit));
    }
    let rates = column(&|run| run.config.network.dropout_rate.unwrap());
    assert!(rates.iter().all(|value| (0.25..=0.5).contains(value)));
    assert!(below(&rates, 0.375).abs_diff(60) < 20);
    let sizes: HashSet<usize> =
        many.runs.iter().map(|run| run.config.optimizer.batch_size).collect();
    assert_eq!(sizes, HashSet::from([2, 3, 4]));
    let epochs = column(&|run| run.config.schedule.epochs as f64);
    assert!(epochs.iter().all(|value| (1.0..=100.0).contains(value)));
    assert!(below(&epochs, 10.0) > 45, "{}", below(&epochs, 10.0));
    assert!(
        many.runs.iter().all(|run| run.options["weight-decay"].len() <= 9),
        "{:?}",
        names(&few)
    );
    // Equal draws make one run.
    let all = loaded("[random]\ndraws = 50\n[random.options]\nlabel-smoothing = [0.0, 0.1]\n");
    assert_eq!(all.runs.len(), 2);
}

#[test]
fn a_bad_file_is_refused_in_one_line_with_its_key() {
    for (text, expected) in [
        ("seeds = [", "line "),
        ("seed = [0]", "line 1: seed: there is no such key; did you mean seeds?"),
        ("epochs = 5", "line 1: epochs: there is no such key; known keys: config, seeds, base"),
        ("config = 3", "line 1: config: must be the path"),
        ("config = \"absent.toml\"", "line 1: config: "),
        (
            "config = \"sweep.toml\"\n[base]\nlr = 1",
            "sweep.toml: line 2: [base]: options belong at the top level",
        ),
        ("seeds = 3", "line 1: seeds: must be a list of whole numbers"),
        ("seeds = [0.5]", "line 1: seeds: must be a list of whole numbers"),
        ("seeds = [-1]", "line 1: seeds: must be a list of whole numbers of at least 0"),
        ("seeds = []", "line 1: seeds: must have a value"),
        ("seeds = [1, 1]", "line 1: seeds: 1 occurs twice"),
        ("base = 3", "line 1: base: must be a table"),
        ("[base]\nbatchsize = 3", "line 2: base.batchsize: there is no such option; did you mean"),
        ("[base]\nlr = \"x\"", "line 2: base.lr x: must be a number above 0"),
        ("[base]\nlr = [1, 2]", "line 2: base.lr 1 2: takes one value"),
        ("[base]\nsave-dir = \"x\"", "line 2: base.save-dir: each run has a folder of its own"),
        ("[variants.a]\nresume = \"auto\"", "line 2: variants.a.resume: an interrupted run"),
        ("[variants]\na = 3", "line 2: variants.a: must be a table"),
        ("[variants]", "line 1: variants: must have a table"),
        ("[variants.\"\"]", "line 1: variants.: a name must not be empty"),
        ("[variants.a]\nlr = 0", "line 2: variants.a.lr 0: must be a number above 0"),
        ("[variants.a]\ntune = 1", "line 2: variants.a.tune 1"),
        ("[grid]\nlr = 1e-3", "line 2: grid.lr: must be a list of values"),
        ("[grid]\nlr = []", "line 2: grid.lr: must have a value"),
        ("[grid]\nlr = [1e-3, -1]", "line 2: grid.lr -1: must be a number above 0"),
        ("[grid]\nlr = [1e-3, 0.001]", "line 2: grid.lr: 0.001 occurs twice"),
        ("[grid]\nlr = [{ a = 1 }]", "line 2: lr takes a value or a list"),
        ("[grid]\nmax_views = [1]\nmax-views = [2]", "line 3: grid.max-views: it occurs twice"),
        ("[grid]\ntest-run = [true]", "line 2: grid.test-run: it writes no files"),
        ("[grid]\nno-cache = [true]", "line 2: grid.no-cache: it stands for other options"),
        ("[grid]", "line 1: grid: must have an option"),
        ("[random]\ndraws = 3", "line 1: random: it needs options"),
        ("[random.options]\nlr = [1]", "random: it needs the number of draws"),
        ("[random]\ndraws = 0", "line 2: random.draws: must be a whole number between 1 and"),
        ("[random]\nseed = -1", "line 2: random.seed: must be a whole number of at least 0"),
        ("[random]\ndrawn = 3", "line 2: random.drawn: there is no such key; did you mean draws?"),
        ("[random.options]\nlr = 3", "line 2: random.options.lr: must be a list of values, or {"),
        (
            "[random.options]\nlr = { from = 1 }",
            "line 2: random.options.lr: a range needs from and",
        ),
        ("[random.options]\nlr = { from = 1, to = 2, step = 1 }", "there is no key step"),
        ("[random.options]\nlr = { from = 2.0, to = 1.0 }", "lr: from must be below to"),
        ("[random.options]\nlr = { from = -1.0, to = 1.0 }", "lr -1.0: must be a number above 0"),
        ("[random.options]\nmixup = { from = \"a\", to = 1 }", "random.options.mixup a: must be"),
        ("[random.options]\noptimizer = { from = \"sgd\", to = \"adam\" }", "must be numbers"),
        ("[random.options]\nlr = { from = 0.1, to = 0.2, log = 1 }", "log must be true or false"),
        (
            "[random.options]\nlabel-smoothing = { from = 0.0, to = 0.2, log = true }",
            "line 2: random.options.label-smoothing: a logarithmic range must begin above 0",
        ),
        ("seeds = [1]\n[grid]\nseed = [2]", "line 3: seed is given in grid, and in seeds too"),
        (
            "[variants.a]\nlr = 1\n[grid]\nlr = [2]",
            "line 4: lr is given in grid, and in variants too: leave one of the two out",
        ),
        (
            "[variants.a]\ndisable_augmentation = true\n[grid]\naugmentation-strength = [\"mild\"]",
            "line 4: augmentation-strength in grid sets the same option as disable-augmentation in \
             variants: leave one of the two out",
        ),
        (
            "[grid]\nprecision = [\"f32\"]\n[variants.a]\nmixed-precision = true",
            "line 4: mixed-precision in variants sets the same option as precision in grid",
        ),
        (
            "[variants.a]\nuse-focal-loss = true\n[random]\ndraws = 1\n[random.options]\n\
             loss-function = [\"plain\"]",
            "line 6: loss-function in random.options sets the same option as use-focal-loss in",
        ),
        (
            "[variants.a]\nsimple-training = true\n[grid]\nlabel-smoothing = [0.1]",
            "line 4: label-smoothing in grid sets the same option as simple-training in variants",
        ),
        (
            "[variants.a]\nwindow = \"center\"\n[grid]\nstart-frame = [3]",
            "line 4: start-frame in grid sets the same option as window in variants",
        ),
        ("[variants.frames]", "run frames: the sweep uses that name in its folder"),
        ("[variants.a]\n[variants.A]", "runs a and A would share a folder"),
    ] {
        let folder = TempDir::new().unwrap();
        let configured = text.starts_with("config");
        let text = if configured { text.to_owned() } else { format!("{text}\n") };
        // A run needs a data set: without `base.toml`, only errors that are found before that show.
        let error = match load(&folder, &text) {
            Err(error) if error.contains("dataset-root is required") => {
                load(&folder, &format!("config = \"base.toml\"\n{text}")).unwrap_err()
            }
            other => other.unwrap_err(),
        };
        assert!(error.contains(expected), "{text}: {error}");
        assert!(error.contains("sweep.toml: ") && !error.contains('\n'), "{text}: {error}");
    }
}

#[test]
fn options_that_have_nothing_in_common_may_be_in_several_tables() {
    let sweep = loaded(
        "[variants.a]\nmixed-precision = false\nstart-frame = 3\n[grid]\nprecision = [\"f32\"]\n\
         end-frame = [9, 12]\n",
    );
    assert_eq!(names(&sweep), ["a_end-frame=9_precision=f32", "a_end-frame=12_precision=f32"]);
}

#[test]
fn rules_between_options_name_the_run() {
    let folder = TempDir::new().unwrap();
    let text = "config = \"base.toml\"\n[base]\nlr-warmup = true\ngradual-finetuning = false\n\
                [variants.short]\nepochs = 2\n[grid]\nwarmup-epochs = [1, 2]\n";
    let error = load(&folder, text).unwrap_err();
    let expected =
        "sweep.toml: run short_warmup-epochs=2: warmup-epochs 2: must be below --epochs (2)";
    assert!(error.contains(expected), "{error}");
    let error =
        load(&folder, "[base]\nlr-warmup = true\ndataset-root = \"data\"\nwarmup-epochs = 99\n");
    let error = error.unwrap_err();
    assert!(error.contains("sweep.toml: run: warmup-epochs 99: must be below"), "{error}");
    let many =
        format!("config = \"base.toml\"\nseeds = {:?}\n[grid]\n", (0..200).collect::<Vec<_>>());
    let values = (1..100).collect::<Vec<_>>();
    let error = load(&folder, &format!("{many}epochs = {values:?}\n")).unwrap_err();
    assert!(error.contains("more than 10000 runs"), "{error}");
    fs::write(folder.path().join("other.toml"), "test-run = true\n").unwrap();
    let error = load(&folder, "config = \"other.toml\"\n").unwrap_err();
    assert!(error.contains("test-run: it writes no files"), "{error}");
}
