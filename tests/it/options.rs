//! Command-line options: each one reaches the configuration, and each rule refuses what violates
//! it.

use polyview::cli::train_config;
use polyview::config::Config;
use toml::{Table, Value};

use crate::common::program::{polyview, text};

use crate::common::run::with;

/// Resolves a command line, to which a data set is added.
fn resolve(args: &[&str]) -> Result<Config, String> {
    train_config(["--dataset-root", "data"].iter().chain(args))
}

fn table(config: &Config) -> Table {
    Table::try_from(config).unwrap()
}

/// Returns every option with a non-default value, and the value that it has in the configuration.
fn options() -> Vec<(&'static str, &'static str, Value)> {
    let text = |text: &str| Value::String(text.to_owned());
    vec![
        ("dataset-root", "elsewhere", text("elsewhere")),
        ("schema", "mine.toml", text("mine.toml")),
        ("format", "folders", text("folders")),
        ("split", "0.7,0.3", text("0.7,0.3")),
        ("split-seed", "3", Value::Integer(3)),
        ("fold", "2/5", text("2/5")),
        ("rand-augment", "2", Value::Integer(2)),
        ("ema", "0.99", Value::Float(0.99)),
        ("mixup", "0.4", Value::Float(0.4)),
        ("cutmix", "0.5", Value::Float(0.5)),
        ("epochs", "7", Value::Integer(7)),
        ("batch-size", "3", Value::Integer(3)),
        ("lr", "0.5", Value::Float(0.5)),
        ("weight-decay", "0.5", Value::Float(0.5)),
        ("num-workers", "9", Value::Integer(9)),
        ("prefetch", "9", Value::Integer(9)),
        ("loader-memory", "9", Value::Integer(9)),
        ("cache", "somewhere", text("somewhere")),
        ("cache-size", "0.5", Value::Float(0.5)),
        ("seed", "1", Value::Integer(1)),
        ("device", "cpu", text("cpu")),
        ("save-dir", "here", text("here")),
        ("backbone-name", "mc3_18", text("mc3_18")),
        ("frames-per-clip", "8", Value::Integer(8)),
        ("target-fps", "25", Value::Float(25.0)),
        ("window", "dense", text("dense")),
        ("start-frame", "3", Value::Integer(3)),
        ("end-frame", "99", Value::Integer(99)),
        ("img-height", "112", Value::Integer(112)),
        ("img-width", "199", Value::Integer(199)),
        ("max-views", "2", Value::Integer(2)),
        ("no-attention-aggregation", "", Value::Boolean(false)),
        ("dropout-rate", "0.5", Value::Float(0.5)),
        ("pretrained", "k400.pth", text("k400.pth")),
        ("annotation-inputs", "", Value::Boolean(true)),
        ("optimizer", "sgd", text("sgd")),
        ("momentum", "0.5", Value::Float(0.5)),
        ("gradient-clip-norm", "0", Value::Float(0.0)),
        ("lanes", "2", Value::Integer(2)),
        ("sync-batch-norm", "", Value::Boolean(true)),
        ("rank-timeout", "60", Value::Integer(60)),
        ("micro-batch", "4", Value::Integer(4)),
        ("gradient-checkpointing", "", Value::Boolean(true)),
        ("tune", "", Value::Boolean(true)),
        ("precision", "auto", text("auto")),
        ("early-stopping-patience", "12", Value::Integer(12)),
        ("scheduler", "onecycle", text("onecycle")),
        ("warmup-epochs", "2", Value::Integer(2)),
        ("lr-warmup", "", Value::Boolean(true)),
        ("step-size", "4", Value::Integer(4)),
        ("gamma", "0.3", Value::Float(0.3)),
        ("plateau-patience", "2", Value::Integer(2)),
        ("min-lr", "1e-9", Value::Float(1e-9)),
        ("loss-function", "adaptive_focal", text("adaptive_focal")),
        ("label-smoothing", "0.2", Value::Float(0.2)),
        ("focal-gamma", "1.5", Value::Float(1.5)),
        ("auxiliary-task-weight", "0.5", Value::Float(0.5)),
        ("class-weighting-strategy", "effective_number", text("effective_number")),
        ("max-weight-ratio", "5", Value::Float(5.0)),
        ("no-use-class-balanced-sampler", "", Value::Boolean(false)),
        ("oversample-factor", "2", Value::Float(2.0)),
        ("progressive-class-balancing", "", Value::Boolean(true)),
        ("progressive-start-factor", "2", Value::Float(2.0)),
        ("progressive-end-factor", "5", Value::Float(5.0)),
        ("progressive-epochs", "5", Value::Integer(5)),
        ("balance-task", "alternate", text("alternate")),
        ("freezing-strategy", "progressive", text("progressive")),
        ("adaptive-patience", "5", Value::Integer(5)),
        ("adaptive-min-improvement", "0.5", Value::Float(0.5)),
        ("exponential-lr-decay", "", Value::Boolean(true)),
        ("discriminative-lr", "", Value::Boolean(true)),
        ("layer-decay", "0.7", Value::Float(0.7)),
        ("no-gradual-finetuning", "", Value::Boolean(false)),
        ("phase1-epochs", "6", Value::Integer(6)),
        ("phase2-epochs", "5", Value::Integer(5)),
        ("head-lr", "0.5", Value::Float(0.5)),
        ("backbone-lr", "0.5", Value::Float(0.5)),
        ("unfreeze-blocks", "1", Value::Integer(1)),
        ("phase2-backbone-lr-scale-factor", "0.5", Value::Float(0.5)),
        ("phase2-head-lr-ratio", "2", Value::Float(2.0)),
        ("phase1-plateau-patience", "1", Value::Integer(1)),
        ("phase1-plateau-factor", "0.5", Value::Float(0.5)),
        ("augmentation-strength", "mild", text("mild")),
        ("no-gpu-augmentation", "", Value::Boolean(false)),
        ("temporal-jitter-strength", "1", Value::Integer(1)),
        ("dropout-prob", "0.5", Value::Float(0.5)),
        ("flip-prob", "0.25", Value::Float(0.25)),
        ("reversal-prob", "0", Value::Float(0.0)),
        ("spatial-crop-strength", "0.5", Value::Float(0.5)),
        ("color-aug-strength", "0.5", Value::Float(0.5)),
        ("noise-strength", "0.5", Value::Float(0.5)),
        ("severity-aware-augmentation", "", Value::Boolean(true)),
        ("multi-scale", "", Value::Boolean(true)),
        ("overwrite", "", Value::Boolean(true)),
        ("resume", "auto", text("auto")),
        ("checkpoint-minutes", "0.5", Value::Float(0.5)),
        ("keep", "3", Value::Integer(3)),
        ("record", "steps", text("steps")),
        ("test-run", "", Value::Boolean(true)),
        ("test-batches", "5", Value::Integer(5)),
        ("force-batch-size", "", Value::Boolean(true)),
        ("compare-freezing", "", Value::Boolean(true)),
    ]
}

#[test]
fn every_option_reaches_the_configuration_and_nothing_else_changes() {
    let plain = table(&resolve(&[]).unwrap());
    let mut seen = Vec::new();
    for (name, typed, expected) in options() {
        for name in [name.to_owned(), name.replace('-', "_")] {
            let option = format!("--{name}");
            let args: &[&str] = if typed.is_empty() { &[&option] } else { &[&option, typed] };
            let ours = table(&resolve(args).unwrap_or_else(|error| panic!("{name}: {error}")));
            let name = name.replace('_', "-");
            let field = name.strip_prefix("no-").unwrap_or(&name).to_owned();
            assert_eq!(ours.get(&field), Some(&expected), "{name}");
            for (other, value) in &ours {
                assert!(*other == field || plain.get(other) == Some(value), "{name} sets {other}");
            }
            assert_ne!(plain.get(&field), Some(&expected), "{name}: the test proves nothing");
            // The same option in a file has the same effect.
            let file = Table::from_iter([
                ("dataset-root".to_owned(), "data".into()),
                (field.clone(), expected.clone()),
            ]);
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("c.toml");
            std::fs::write(&path, file.to_string()).unwrap();
            assert_eq!(table(&Config::load(&path).unwrap()), ours, "{name}");
            seen.push(field);
        }
    }
    let weights = resolve(&["--main_task_weights", "2.0", "3.0", "--lr", "1"]).unwrap();
    assert_eq!(weights.loss.main_task_weights, [2.0, 3.0]);
    seen.push("main-task-weights".to_owned());
    let tasks = resolve(&["--tasks", "action_class", "other", "--lr", "1"]).unwrap();
    assert_eq!(tasks.data.tasks, ["action_class", "other"]);
    seen.push("tasks".to_owned());
    let resumed = resolve(&["--resume", "auto", "--resume-best-acc", "0.5"]).unwrap();
    assert_eq!(resumed.run.resume_best_acc, Some(0.5));
    seen.push("resume-best-acc".to_owned());
    // No field of the configuration is without an option, so none is missing above.
    let mut every = table(&Config::default());
    for (name, value) in table(&weights) {
        every.insert(name, value);
    }
    for name in every.keys() {
        assert!(seen.contains(name), "{name} is not in the list");
    }
}

#[test]
fn defaults_are_the_specified_ones() {
    let config = resolve(&[]).unwrap();
    assert_eq!(config.total_epochs(), 8 + 15);
    assert_eq!(config.patience(), 8 + 15 / 2);
    assert_eq!(config.loss.task_weight(1), 3.0);
    let flat = resolve(&["--no-gradual-finetuning"]).unwrap();
    assert_eq!((flat.total_epochs(), flat.patience()), (50, 10));
    assert_eq!(resolve(&["--test-run"]).unwrap().total_epochs(), 1);
    // A switch that is on by default may be given, and the last occurrence wins.
    assert!(resolve(&["--gradual-finetuning"]).unwrap().freezing.gradual_finetuning);
    let last = ["--no-gradual-finetuning", "--gradual_finetuning"];
    assert!(resolve(&last).unwrap().freezing.gradual_finetuning);
    assert_eq!(resolve(&["--early-stopping-patience", "auto"]).unwrap(), config);
}

#[test]
fn shortcuts_stand_for_several_options() {
    let simple = resolve(&["--simple-training"]).unwrap();
    let spelled = resolve(&[
        "--loss-function=plain",
        "--class-weighting-strategy=none",
        "--no-use-class-balanced-sampler",
        "--augmentation-strength=none",
        "--no-gradual-finetuning",
        "--label-smoothing=0",
    ])
    .unwrap();
    assert_eq!(simple, spelled);
    // An option that is given explicitly wins over the shortcut.
    let mixed = resolve(&["--simple-training", "--label-smoothing", "0.3"]).unwrap();
    assert_eq!(mixed, with(&simple, "--label-smoothing 0.3"));
    let mixed = resolve(&["--simple-training", "--extreme-augmentation"]).unwrap();
    assert_eq!(mixed.augment.augmentation_strength.name(), "extreme");
    // A shortcut on the command line wins over a whole file.
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.toml");
    std::fs::write(&path, toml::to_string(&resolve(&[]).unwrap()).unwrap()).unwrap();
    let path = path.to_str().unwrap();
    assert_eq!(resolve(&["--simple-training", "--config", path]).unwrap(), simple);
    // A file may hold a shortcut.
    let short = folder.path().join("short.toml");
    std::fs::write(&short, "simple-training = true\nepochs = 3\n").unwrap();
    let ours = resolve(&["--config", short.to_str().unwrap()]).unwrap();
    assert_eq!(ours, with(&simple, "--epochs 3"));

    let off = resolve(&["--disable-class-balancing"]).unwrap();
    assert_eq!(off.balance.class_weighting_strategy.name(), "none");
    assert!(!off.balance.use_class_balanced_sampler);
    for (shortcut, field, word) in [
        ("--disable-augmentation", "augmentation-strength", "none"),
        ("--aggressive-augmentation", "augmentation-strength", "aggressive"),
        ("--extreme_augmentation", "augmentation-strength", "extreme"),
        ("--no-cache", "cache", "off"),
        ("--mixed_precision", "precision", "f16"),
        ("--use_focal_loss", "loss-function", "focal"),
        ("--use_class_weighted_loss", "loss-function", "weighted"),
        ("--freezing_strategy=advanced", "freezing-strategy", "gradient_guided"),
    ] {
        let ours = table(&resolve(&[shortcut]).unwrap());
        assert_eq!(ours[field].as_str(), Some(word), "{shortcut}");
    }
    let nothing = ["--disable_in_model_augmentation", "--memory_cleanup_interval", "20"];
    assert_eq!(resolve(&nothing).unwrap(), resolve(&[]).unwrap());
}

#[test]
fn invalid_options_are_refused_with_a_remedy() {
    for (args, words) in [
        (&["--freezing-strategy", "none"] as &[&str], &["--no-gradual-finetuning"] as &[&str]),
        (&["--discriminative-lr", "--exponential-lr-decay"], &["2.6", "leave one"]),
        (&["--discriminative-lr", "--layer-decay", "0.5"], &["--layer-decay 0.5", "leave one"]),
        (&["--mixup", "0.2", "--batch-size", "1"], &["--mixup", "--batch-size 1", "larger"]),
        (&["--lr-warmup", "--warmup-epochs", "8"], &["--warmup-epochs 8", "--phase1-epochs (8)"]),
        (
            &["--lr-warmup", "--no-gradual-finetuning", "--epochs", "5"],
            &["--warmup-epochs 5", "--epochs (5)"],
        ),
        (
            &["--lr-warmup", "--scheduler", "onecycle", "--no-gradual-finetuning"],
            &["onecycle has its own warm-up"],
        ),
        (
            &["--progressive-class-balancing", "--no-use-class-balanced-sampler"],
            &["--progressive-class-balancing", "--no-use-class-balanced-sampler"],
        ),
        (
            &["--balance-task", "alternate", "--no-use-class-balanced-sampler"],
            &["--balance-task", "--no-use-class-balanced-sampler"],
        ),
        (
            &["--progressive-start-factor", "4", "--progressive-class-balancing"],
            &["--progressive-end-factor 3", "--progressive-start-factor (4)"],
        ),
        (
            &["--annotation-inputs", "--auxiliary-task-weight", "1"],
            &["--annotation-inputs", "--auxiliary-task-weight"],
        ),
        (&["--resume", "auto", "--test-run"], &["--resume", "--test-run"]),
        (
            &["--resume", "run/last.safetensors", "--compare-freezing"],
            &["--resume run/last.safetensors", "--compare-freezing", "--resume auto"],
        ),
        (
            &["--resume", "auto", "--resume-best-acc", "0.5", "--compare-freezing"],
            &["--resume-best-acc", "--compare-freezing", "leave one"],
        ),
        (&["--record", "steps", "--test-run"], &["--record", "--test-run"]),
        (&["--record", "steps", "--compare-freezing"], &["--record", "--compare-freezing"]),
        (&["--resume-best-acc", "0.5"], &["--resume-best-acc", "--resume"]),
        (&["--resume", "auto", "--resume-best-acc", "50"], &["--resume-best-acc 50", "0 to 1"]),
        (&["--checkpoint-minutes", "-1"], &["--checkpoint-minutes"]),
        (&["--compare-freezing", "--test-run"], &["--compare-freezing", "--test-run"]),
        (
            &["--disable-class-balancing", "--use-class-balanced-sampler"],
            &["--disable-class-balancing", "use-class-balanced-sampler", "contradict"],
        ),
        (
            &["--disable-augmentation", "--augmentation-strength", "mild"],
            &["--disable-augmentation", "mild", "contradict"],
        ),
        (
            &["--aggressive-augmentation", "--extreme-augmentation"],
            &["aggressive-augmentation", "extreme-augmentation", "contradict"],
        ),
        (&["--use-focal-loss", "--loss-function", "plain"], &["use-focal-loss", "contradict"]),
        (&["--unfreeze-blocks", "6"], &["--unfreeze-blocks 6", "between 1 and 5"]),
        (&["--unfreeze-blocks", "0"], &["--unfreeze-blocks 0"]),
        (&["--phase1-epochs", "0"], &["--phase1-epochs 0"]),
        (&["--phase2-epochs", "0"], &["--phase2-epochs 0"]),
        (&["--test-batches", "0"], &["--test-batches 0"]),
        (&["--step-size", "0"], &["--step-size 0"]),
        (&["--warmup-epochs", "0"], &["--warmup-epochs 0"]),
        (&["--progressive-epochs", "0"], &["--progressive-epochs 0"]),
        (&["--adaptive-patience", "0"], &["--adaptive-patience 0"]),
        (&["--gamma", "1"], &["--gamma 1", "between 0 and 1"]),
        (&["--phase1-plateau-factor", "0"], &["--phase1-plateau-factor 0"]),
        (&["--momentum", "1"], &["--momentum 1"]),
        (&["--head-lr", "0"], &["--head-lr 0"]),
        (&["--backbone-lr", "-1"], &["--backbone-lr -1"]),
        (&["--phase2-backbone-lr-scale-factor", "0"], &["--phase2-backbone-lr-scale-factor"]),
        (&["--phase2-head-lr-ratio", "nan"], &["--phase2-head-lr-ratio nan"]),
        (&["--min-lr", "-1"], &["--min-lr"]),
        (&["--focal-gamma", "-1"], &["--focal-gamma"]),
        (&["--auxiliary-task-weight", "-1"], &["--auxiliary-task-weight"]),
        (&["--adaptive-min-improvement", "-1"], &["--adaptive-min-improvement"]),
        (&["--max-weight-ratio", "0.5"], &["--max-weight-ratio 0.5", "at least 1"]),
        (&["--oversample-factor", "0"], &["--oversample-factor 0"]),
        (&["--progressive-start-factor", "0.1"], &["--progressive-start-factor"]),
        (&["--progressive-end-factor", "inf"], &["--progressive-end-factor"]),
        (&["--main-task-weights", "1", "-1"], &["--main-task-weights -1"]),
        (&["--tasks", "b", "a", "a"], &["--tasks b a a", "a is named twice"]),
        (&["--main-task-weights", "0", "0"], &["--main-task-weights", "above 0"]),
        (&["--optimizer", "lion"], &["lion", "adamw, adam, sgd"]),
        (&["--scheduler", "linear"], &["linear", "cosine, cosine_step, onecycle, step"]),
        (&["--loss-function", "hinge"], &["hinge", "weighted, focal, adaptive_focal, plain"]),
        (&["--class-weighting-strategy", "x"], &["balanced_capped, none, sqrt, log"]),
        (&["--freezing-strategy", "x"], &["fixed, adaptive, progressive, gradient_guided, none"]),
        (&["--augmentation-strength", "x"], &["none, mild, moderate, aggressive, extreme"]),
        (&["--early-stopping-patience", "x"], &["must be auto or a whole number"]),
    ] {
        let error = resolve(args).expect_err(&format!("{args:?} was accepted"));
        for word in words {
            assert!(error.contains(word), "{args:?}: {word:?} is not in {error}");
        }
    }
    // The same in a file.
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("c.toml");
    for (text, words) in [
        ("optimizer = \"lion\"\n", &["line 1", "lion", "adamw, adam, sgd"] as &[&str]),
        ("epochs = 2\nearly-stopping-patience = \"never\"\n", &["line 2", "must be auto"]),
        ("seed = 1\nlr = [0.1, 0.2]\n", &["line 2: lr 0.1 0.2: takes one value"]),
        ("lr = []\n", &["line 1: lr: takes one value"]),
        ("cache = false\n", &["line 1: cache false: takes a value, not true or false"]),
        ("no-cache = 3\n", &["no-cache 3: must be true or false"]),
        ("\"seed=3\" = 4\n", &["line 1: `seed=3` is not the name of an option"]),
        ("tune = {a = 1}\n", &["line 1: tune takes a value"]),
        ("seed = 1\nbatchsize = 3\n", &["line 2: batchsize", "did you mean batch-size?"]),
    ] {
        std::fs::write(&path, text).unwrap();
        let error = resolve(&["--config", path.to_str().unwrap()]).unwrap_err();
        for word in words {
            assert!(error.contains(word), "{word:?} is not in {error}");
        }
    }
}

#[test]
fn rules_that_need_the_schema() {
    let schema = polyview::schema::Schema::mvfoul().unwrap();
    let mut bare = schema.clone();
    bare.properties.clear();
    let refuse = |args: &[&str], schema, words: &[&str]| {
        let error = resolve(args).unwrap().validate_with(schema).unwrap_err().to_string();
        for word in words {
            assert!(error.contains(word), "{args:?}: {word:?} is not in {error}");
        }
    };
    refuse(&["--main-task-weights", "1"], &schema, &["offence_severity, action_class"]);
    refuse(&["--main-task-weights", "1", "2", "3"], &schema, &["1 2 3", "one number per task"]);
    refuse(&["--balance-task", "x"], &schema, &["offence_severity, action_class, alternate"]);
    refuse(&["--annotation-inputs"], &bare, &["annotation-inputs: ", "input = true"]);
    refuse(&["--auxiliary-task-weight", "1"], &bare, &["auxiliary = true"]);
    let fine = ["--main-task-weights", "1", "2", "--balance-task", "action_class"];
    resolve(&fine).unwrap().validate_with(&schema).unwrap();
}

#[test]
fn a_bad_value_is_refused_in_one_line_with_its_option() {
    for (args, expected) in [
        (
            &["--epochs", "-1"] as &[&str],
            "--epochs -1: must be a whole number between 1 and 100000",
        ),
        (&["--lr", "abc"], "--lr abc: must be a number above 0"),
        (&["--optimizer", "lion"], "--optimizer lion: must be one of adamw, adam, sgd"),
        (&["--batchsize", "2"], "--batchsize: there is no such option; did you mean --batch-size?"),
    ] {
        let output = polyview(&[&["train", "--dataset-root", "data"], args].concat());
        assert_eq!(output.status.code(), Some(2));
        assert_eq!(text(&output.stderr).trim_end(), format!("error: {expected}"));
    }
    // A configuration that is filled in by code is checked against the same ranges.
    let mut config = resolve(&[]).unwrap();
    config.schedule.epochs = 0;
    let error = config.validate().unwrap_err().to_string();
    assert_eq!(error, "epochs 0: must be a whole number between 1 and 100000");
}

#[test]
fn help_shows_the_form_of_a_switch_that_changes_something() {
    let output = polyview(&["train", "--help"]);
    let help = text(&output.stdout);
    for (shown, hidden) in [
        ("--no-attention-aggregation ", " --attention-aggregation"),
        ("--no-gradual-finetuning", " --gradual-finetuning"),
        (" --tune", "--no-tune"),
        (" --lr-warmup", "--no-lr-warmup"),
    ] {
        assert!(help.contains(shown) && !help.contains(hidden), "{shown}: {help}");
    }
    assert!(help.contains("Merge views by their mean, without attention"), "{help}");
}

#[test]
fn warnings_are_logged_once() {
    let args = ["train", "--dataset-root", "absent", "--test-run", "--use-focal-loss"];
    let output = polyview(&[&args[..], &["--early-stopping-patience", "3"]].concat());
    let stderr = text(&output.stderr);
    for warning in ["--use-focal-loss is now ", "--early-stopping-patience 3 may end"] {
        assert_eq!(stderr.matches(warning).count(), 1, "{stderr}");
    }
}
