//! The recipe's options in a run: their effect on its history, its network and its files.

use std::path::Path;
use std::sync::atomic::AtomicBool;

use burn::tensor::Device;
use polyview::checkpoint;
use polyview::config::Config;
use polyview::losses::{Targets, TaskLoss};
use polyview::model::state_dict;
use polyview::schema::Schema;
use polyview::train::{self, Objective};
use serde_json::Value;
use tempfile::TempDir;

use crate::common::data::small_set;
use crate::common::program::{polyview, text, train as train_command};
use crate::common::run::{run, small_config, try_run, with};

/// Returns a configuration that trains all layers for three epochs, without phases.
fn flat(folder: &TempDir) -> Config {
    with(&small_config(folder), "--no-gradual-finetuning --epochs 3 --lr 1e-3")
}

#[test]
fn rates_in_the_history_follow_the_schedule() {
    let folder = TempDir::new().unwrap();
    let base = with(&flat(&folder), "--no-use-class-balanced-sampler --epochs 4");
    let rates = |config: Config| -> Vec<f64> {
        run(&config).history.iter().map(|record| record.rates["heads"]).collect()
    };
    let near = |ours: Vec<f64>, theirs: [f64; 4]| {
        for (ours, theirs) in ours.iter().zip(theirs) {
            assert!((ours - theirs).abs() < 1e-9, "{ours} is not {theirs}");
        }
    };
    let warm = with(&base, "--lr-warmup --warmup-epochs 2 --scheduler exponential");
    // Two steps per epoch: the last step of the first epoch is halfway through the warm-up.
    near(rates(warm), [5e-4, 1e-3, 1e-3, 5e-4]);
    let cycle = with(&base, "--scheduler onecycle");
    let one = train::schedule::OneCycle { steps: 8, rise: 0.3 };
    near(rates(cycle), [1, 3, 5, 7].map(|step| one.rate(1e-3, step)));
    // Nothing changes, so every epoch but the first is bad, but cuts of less than 1e-8 are ignored.
    let plateau = with(
        &base,
        "--scheduler reduce_on_plateau --plateau-patience 0 --gamma 0.1 --lr 1e-12 --min-lr 0.0 \
         --weight-decay 0.0 --freezing-strategy adaptive",
    );
    near(rates(plateau), [1e-12; 4]);
}

#[test]
fn auxiliary_heads_learn_from_known_properties_and_are_evaluated() {
    let folder = TempDir::new().unwrap();
    let config = with(&flat(&folder), "--auxiliary-task-weight 0.5 --epochs 1");
    // Every third action is annotated with the contact, every fourth with the body part.
    annotate(&config.data.dataset_root, "train", |index, action| {
        if index % 3 == 0 {
            action.insert("Contact".into(), "With contact".into());
        }
        if index % 4 == 0 {
            action.insert("Bodypart".into(), "Upper body".into());
        }
    });
    let outcome = run(&config);
    let record = &outcome.history[0];
    let heads = &record.train.auxiliary;
    assert_eq!(heads.len(), 8);
    let annotated = |name: &str| -> u64 {
        let head = heads.iter().find(|head| head.task == name).unwrap();
        head.confusion.iter().flatten().sum()
    };
    // The balanced sampler may draw an action more than once, yet not every one is annotated.
    assert!(annotated("contact") > 0 && annotated("contact") < record.train.actions as u64);
    assert!(annotated("body_part") > 0);
    assert_eq!(annotated("handball"), 0);
    assert!(heads.iter().all(|head| head.loss.is_finite()));
    let contact = heads.iter().find(|head| head.task == "contact").unwrap();
    assert!(contact.loss > 0.0);
    // The head's weights are in the checkpoint, under the property's name.
    let (net, info) = polyview::checkpoint::load(
        &config.run.save_dir.join("last.safetensors"),
        &burn::tensor::Device::flex(),
    )
    .unwrap();
    let state = state_dict::collect_net(&net, &info.model).unwrap();
    assert_eq!(state["auxiliary.contact.2.weight"].shape().to_vec(), [2, 256]);
    // With a weight of 0 there are no such heads.
    let plain = run(&with(&config, "--auxiliary-task-weight 0.0"));
    assert!(plain.history[0].train.auxiliary.is_empty());
    assert_ne!(plain.history[0].train.loss, record.train.loss);
}

/// Changes the annotation of every action of a split.
fn annotate(
    root: &Path,
    split: &str,
    change: impl Fn(usize, &mut serde_json::Map<String, serde_json::Value>),
) {
    let path = root.join("mvfouls").join(split).join("annotations.json");
    let mut file: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
    let actions = file["Actions"].as_object_mut().unwrap();
    for (index, action) in actions.values_mut().enumerate() {
        change(index, action.as_object_mut().unwrap());
    }
    std::fs::write(&path, file.to_string()).unwrap();
}

#[test]
fn annotation_inputs_reach_the_heads_and_no_label_does() {
    let folder = TempDir::new().unwrap();
    let config = with(&flat(&folder), "--annotation-inputs --epochs 1");
    let schema = Schema::mvfoul().unwrap();
    let model = config.model(&schema);
    let names: Vec<&str> = model.inputs.iter().map(|input| input.name.as_str()).collect();
    assert_eq!(names.len(), 8);
    for task in &schema.tasks {
        assert!(!names.contains(&task.name.as_str()));
    }
    let width: usize = model.inputs.iter().map(|input| input.width).sum();
    assert_eq!(width, 16 + 32 + 16 + 8 * 5);
    let unknown = run(&config);
    annotate(&config.data.dataset_root, "valid", |_, action| {
        action.insert("Contact".into(), "With contact".into());
    });
    let known = run(&config);
    // Training is the same; validation differs, since the contact is annotated there.
    assert_eq!(known.history[0].train.loss, unknown.history[0].train.loss);
    assert_ne!(known.history[0].valid.loss, unknown.history[0].valid.loss);
    let best = config.run.save_dir.join(polyview::checkpoint::BEST);
    let (net, _) = polyview::checkpoint::load(&best, &burn::tensor::Device::flex()).unwrap();
    let state = state_dict::collect_net(&net, &model).unwrap();
    assert_eq!(state["inputs.body_part.weight"].shape().to_vec(), [3, 32]);
    assert_eq!(state["heads.action_class.0.weight"].shape().to_vec(), [256, 64 + width]);
}

#[test]
fn the_objective_follows_the_options() {
    use burn::tensor::{Device, Tensor, TensorData};
    let folder = TempDir::new().unwrap();
    let config = with(&flat(&folder), "--label-smoothing 0.0");
    let schema = Schema::mvfoul().unwrap();
    let data = polyview::data::Dataset::open(
        &config.data.dataset_root,
        "train",
        &schema,
        config.clips.window(&schema).unwrap(),
        [16, 16],
        None,
    )
    .unwrap();
    // Class counts of the set's 12 actions, which are uneven.
    let counts = data.class_counts(0, 4);
    let logits = || {
        let values: Vec<f32> = (0..8).map(|i| (i as f32 * 0.7).sin()).collect();
        Tensor::<2>::from_data(TensorData::new(values, [2, 4]), &Device::flex())
    };
    let targets = Targets::new(&[1, 3], 4);
    let value = |loss: &dyn TaskLoss| loss.loss(logits(), &targets).into_scalar::<f32>();
    let objective = |config: &Config| Objective::new(config, &schema, &data);
    let of = |loss_function: &str| {
        let config = with(&config, &format!("--loss-function {loss_function}"));
        let objective = objective(&config);
        assert_eq!(objective.tasks[0].weight, 3.0);
        // The other task uses plain cross-entropy, whatever the imbalanced one uses.
        let other = format!("{:?}", objective.tasks[1].loss);
        assert!(other.starts_with("CrossEntropy { class_weights: None"), "{other}");
        format!("{:?}", objective.tasks[0].loss)
    };
    assert!(of("plain").starts_with("CrossEntropy { class_weights: None"));
    assert!(of("weighted").starts_with("CrossEntropy { class_weights: Some"));
    assert!(of("focal").starts_with("Focal { gamma: [2.0, 2.0, 2.0, 2.0]"));
    let adaptive = of("adaptive_focal");
    let largest = counts.iter().max().unwrap();
    let gammas: Vec<f32> =
        counts.iter().map(|c| 2.0 * (2.0 - *c as f32 / *largest as f32)).collect();
    assert!(adaptive.starts_with(&format!("Focal {{ gamma: {gammas:?}")), "{adaptive}");
    let weighted = with(&config, "--main-task-weights 1.0 0.25");
    let tasks = objective(&weighted).tasks;
    assert_eq!([tasks[0].weight, tasks[1].weight], [1.0, 0.25]);
    let plain = with(&config, "--class-weighting-strategy none");
    let (a, b) = (objective(&plain), Objective::plain(&schema));
    assert_eq!(value(a.tasks[0].loss.as_ref()), value(b.tasks[0].loss.as_ref()));
}

#[test]
fn some_of_the_tasks_can_be_trained() {
    let folder = TempDir::new().unwrap();
    let config = with(&flat(&folder), "--epochs 1 --tasks action_class");
    let outcome = run(&config);
    let tasks = &outcome.history[0].valid.tasks;
    assert_eq!(tasks.len(), 1);
    assert_eq!(outcome.history[0].score, tasks[0].balanced_accuracy);
    let best = config.run.save_dir.join(checkpoint::BEST);
    let (_, info) = checkpoint::load(&best, &Device::flex()).unwrap();
    let schema = info.load_schema(&best).unwrap();
    assert_eq!((schema.tasks.len(), &*schema.tasks[0].name), (1, "action_class"));
    // The program evaluates it by the schema that it was trained with.
    let root = config.data.dataset_root.to_str().unwrap();
    let best = best.to_str().unwrap();
    let args =
        ["evaluate", "--json", "--device", "cpu", "--checkpoint", best, "--dataset-root", root];
    let output = polyview(&args);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["figures"]["tasks"].as_array().unwrap().len(), 1);
    let error = try_run(&with(&config, "--tasks foul"), &AtomicBool::new(false), |_| {});
    assert!(error.unwrap_err().to_string().contains("\"foul\" is not a task of the schema"));
}

#[test]
fn a_test_run_trains_two_batches_and_leaves_nothing_behind() {
    let folder = TempDir::new().unwrap();
    let config = with(&small_config(&folder), "--test-run --batch-size 2");
    let outcome = run(&config);
    assert_eq!(outcome.history.len(), 1);
    assert_eq!((outcome.history[0].train.actions, outcome.history[0].valid.actions), (4, 4));
    assert!(!config.run.save_dir.exists());
    assert!(outcome.files.is_empty());
    let more = run(&with(&config, "--test-batches 3"));
    assert_eq!(more.history[0].train.actions, 6);
}

#[test]
fn comparing_freezing_trains_twice_from_the_same_start() {
    let folder = TempDir::new().unwrap();
    let config = with(
        &small_config(&folder),
        "--phase1-epochs 1 --phase2-epochs 1 --early-stopping-patience 0",
    );
    let stop = std::sync::atomic::AtomicBool::new(false);
    let comparison =
        train::compare_freezing(&config, None, &stop, &mut |_: &polyview::report::Event| {})
            .unwrap();
    let (frozen, unfrozen) = (&comparison.frozen.history, &comparison.unfrozen.history);
    assert_eq!((frozen.len(), unfrozen.len()), (2, 2));
    assert!(frozen[0].trainable.is_empty());
    assert_eq!(unfrozen[0].trainable.len(), 5);
    assert!(config.run.save_dir.join("frozen/best.safetensors").exists());
    assert!(config.run.save_dir.join("unfrozen/best.safetensors").exists());
}

#[test]
fn command_lines_of_the_original_trainer_run() {
    let folder = TempDir::new().unwrap();
    let data = folder.path().join("data");
    small_set(&data);
    let root = data.to_str().unwrap();
    // Only their sizes, which are for a large GPU, are replaced.
    let small = [
        "--test-run",
        "--backbone_name=r3d_tiny",
        "--frames_per_clip=2",
        "--start_frame=2",
        "--end_frame=5",
        "--img_height=16",
        "--img_width=16",
        "--device=cpu",
    ];
    for line in [
        "--dataset_root ROOT",
        "--dataset_root ROOT --epochs 50 --batch_size 16",
        "--dataset_root ROOT --gradual_finetuning --aggressive_augmentation --loss_function focal",
        "--dataset_root ROOT --epochs 50 --batch_size 16 --lr 2e-4 --backbone_name r2plus1d_18 \
         --freezing_strategy adaptive --loss_function focal --use_class_balanced_sampler \
         --progressive_class_balancing --aggressive_augmentation --gpu_augmentation \
         --severity_aware_augmentation --mixed_precision --scheduler cosine --label_smoothing 0.1 \
         --num_workers 12 --save_dir checkpoints",
        "--dataset_root ROOT --main_task_weights 3.0 3.0 --freezing_strategy advanced \
         --use_focal_loss --memory_cleanup_interval 10 --disable_in_model_augmentation",
    ] {
        let mut args = vec!["train"];
        args.extend(line.split(' ').filter(|word| !word.is_empty()));
        args.extend(small);
        let args: Vec<&str> =
            args.into_iter().map(|word| if word == "ROOT" { root } else { word }).collect();
        let output = polyview(&args);
        let stderr = text(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{line}: {stderr}");
        assert!(stderr.contains("epoch 1/1"), "{line}: {stderr}");
        if line.contains("mixed_precision") {
            assert!(stderr.contains("activations are stored in f32"), "{stderr}");
        }
        if line.contains("advanced") {
            for word in ["gradient_guided", "--loss-function focal", "--memory-cleanup-interval"] {
                assert!(stderr.contains(word), "{word}: {stderr}");
            }
        }
    }
}

#[test]
fn the_start_reports_configuration_balance_and_advice() {
    let folder = TempDir::new().unwrap();
    let data = folder.path().join("data");
    small_set(&data);
    let root = data.to_str().unwrap();
    let save = folder.path().join("run");
    let args = "--phase1-epochs 1 --phase2-epochs 1 --backbone-name r3d_tiny --frames-per-clip 2 \
                --start-frame 2 --end-frame 5 --img-height 16 --img-width 16 --device cpu";
    let mut args: Vec<&str> = args.split_whitespace().collect();
    args.splice(0..0, ["train", "--dataset-root", root, "--save-dir", save.to_str().unwrap()]);
    let output = polyview(&args);
    let stderr = text(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    for word in [
        "class weights balanced_capped (at most 10)",
        "sampler balances offence_severity",
        "1 epoch heads only, then 1 with the last 3 stages",
        "draws per epoch",
        "Offence + Red card",
        "advice: 12 actions are fewer than 100",
        "phase 1",
        "phase 2",
        "heads 1.0e-3",
        "layer4 to layer2 1.0e-5",
        "data wait",
    ] {
        assert!(stderr.contains(word), "{word:?} is not in {stderr}");
    }
    let args: Vec<&str> = args.iter().copied().chain(["--compare-freezing"]).collect();
    let output = polyview(&args);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let table = text(&output.stdout);
    for word in ["with freezing", "without", "score", "clips/s", "action_class"] {
        assert!(table.contains(word), "{table}");
    }
    // Both folders are runs, whose predictions can be compared.
    let [frozen, unfrozen] = ["frozen", "unfrozen"].map(|name| save.join(name));
    let runs = [&frozen, &unfrozen].map(|run| run.to_str().unwrap());
    let output = polyview(&["compare", runs[0], runs[1], "--json"]);
    let found: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (&found["runs"][0]["name"], &found["runs"][1]["name"]),
        (&"frozen".into(), &"unfrozen".into())
    );
    assert_eq!(
        (&found["differences"][0]["actions"], &found["notes"]),
        (&16.into(), &serde_json::json!([]))
    );
    assert!(
        found["options"].as_array().unwrap().iter().any(|o| o["option"] == "gradual-finetuning")
    );
}

#[test]
fn a_comparison_can_be_read_by_programs() {
    let folder = TempDir::new().unwrap();
    let data = folder.path().join("data");
    small_set(&data);
    let args = [
        "--compare-freezing",
        "--gradual-finetuning",
        "--phase1-epochs",
        "1",
        "--phase2-epochs",
        "1",
        "--progress",
        "json",
    ];
    let output = train_command(&data, &folder.path().join("run"), &args).output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    let shown = text(&output.stdout);
    let last: serde_json::Value = serde_json::from_str(shown.lines().last().unwrap()).unwrap();
    assert_eq!(last["event"], "comparison");
    for run in ["frozen", "unfrozen"] {
        assert!(last[run]["score"].is_number(), "{last}");
    }
}

#[test]
fn progress_can_be_read_by_programs() {
    let folder = TempDir::new().unwrap();
    let data = folder.path().join("data");
    small_set(&data);
    let args = "--simple-training --epochs 2 --backbone-name r3d_tiny --frames-per-clip 2 \
                --start-frame 2 --end-frame 5 --img-height 16 --img-width 16 --device cpu \
                --ema 0.9 --progress json --log-level warn";
    let mut args: Vec<&str> = args.split_whitespace().collect();
    let save = folder.path().join("run");
    args.splice(0..0, ["train", "--dataset-root", data.to_str().unwrap()]);
    args.extend(["--save-dir", save.to_str().unwrap()]);
    let output = polyview(&args);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let events: Vec<serde_json::Value> =
        text(&output.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let count = |name: &str| events.iter().filter(|event| event["event"] == name).count();
    assert_eq!((count("started"), count("epoch"), count("pass_started")), (1, 2, 4));
    assert!(count("step") >= 4 && count("saved") >= 3);
    let last = events.iter().rfind(|event| event["event"] == "epoch").unwrap();
    assert_eq!(last["epoch"], 2);
    assert!(last["valid"]["tasks"][1]["confusion"].is_array());
    for file in ["report.html", "metrics.csv"] {
        assert!(save.join(file).is_file(), "{file} is missing");
    }
    // Each view of an example has a strip with the regions that decided each of the two tasks.
    let page = std::fs::read_to_string(save.join("report.html")).unwrap();
    let (examples, strips) = ("<figure class=\"strip\">", "warmer regions count more towards");
    let counts = [examples, strips].map(|text| page.matches(text).count());
    assert!(counts[0] >= 3 && counts[1] == 2 * counts[0], "{counts:?}");
    let events = std::fs::read_dir(save.join("tensorboard")).unwrap().count();
    assert_eq!(events, 1);
    let table = std::fs::read_to_string(save.join("metrics.csv")).unwrap();
    assert_eq!(table.lines().count(), 3, "{table}");
}
