//! Suggestions at the start of a run, and options that have no effect.

use polyview::config::Config;
use polyview::config::advice::{advice, data_wait_advice, label_advice, schema_advice};
use polyview::schema::Schema;

use crate::common::run::{defaults_with, with};

#[test]
fn classes_that_the_augmentation_exchanges_and_tasks_without_weight_are_named() {
    let schema = |task: &str, one: &str, other: &str| {
        let text = format!(
            "name = 'x'\ntitle = 'X'\nsplit = [{{ name = 'train' }}]\n[[task]]\nname = '{task}'\n\
             title = 'T'\nfield = 'F'\nclass = [{{ name = '{one}' }}, {{ name = '{other}' }}]\n"
        );
        Schema::parse(&text, "x.toml").unwrap()
    };
    let lines = |options: &str, one: &str, other: &str| {
        schema_advice(&defaults_with(options), &schema("t", one, other))
    };
    assert_eq!(
        lines("", "Left hand", "right_hand"),
        ["if a flip turns \"Left hand\" into \"right_hand\", give --flip-prob 0"]
    );
    assert!(lines("", "backward", "Forward")[0].ends_with("give --reversal-prob 0"));
    for (options, one, other) in [
        ("--flip-prob 0", "left", "right"),
        ("--disable-augmentation", "left", "right"),
        ("", "left", "middle"),
        ("", "left to right", "none"),
        ("", "aright", "cleft"),
    ] {
        assert_eq!(lines(options, one, other), Vec::<String>::new(), "{options} {one}");
    }
    let mvfoul = Schema::mvfoul().unwrap();
    let idle = schema_advice(&defaults_with("--main-task-weights 0 1"), &mvfoul);
    let idle = idle.iter().find(|line| line.contains("weight of 0 offence_severity is")).unwrap();
    assert!(idle.contains("--tasks action_class in place of --main-task-weights"), "{idle}");
    assert_eq!(schema_advice(&defaults_with(""), &mvfoul), Vec::<String>::new());
}

#[test]
fn tasks_without_labels_are_named() {
    assert_eq!(label_advice(("train", &[]), ("valid", &[])), Vec::<String>::new());
    let lines = label_advice(("train", &["a"]), ("valid", &["a", "b"]));
    assert_eq!(lines[0], "no action of the train split has a label for a: it cannot be learned");
    assert!(
        lines[1].starts_with("no action of the valid split has a label for a and b: they have")
    );
    assert_eq!(lines.len(), 2);
}

#[test]
fn waiting_for_data_names_the_option_to_change() {
    let config = defaults_with("--num-workers 2");
    assert_eq!(data_wait_advice(&config, 0.1, 8), None);
    let more = |config: &Config| data_wait_advice(config, 0.4, 8).unwrap();
    assert!(more(&config).starts_with("40 % of the epoch"), "{}", more(&config));
    assert!(more(&config).contains("--num-workers 8"));
    let busy = with(&config, "--num-workers 8");
    assert!(more(&busy).contains("--loader-memory"));
    let uncached = with(&busy, "--cache off");
    assert!(more(&uncached).contains("--cache DIR"));
}

#[test]
fn advice_depends_on_the_data_set_and_the_options_in_use() {
    let config = defaults_with("");
    let few = advice(&config, 60, &[30, 30]).join("\n");
    for word in ["60 actions", "--pretrained", "--unfreeze-blocks 1", "--batch-size 4"] {
        assert!(few.contains(word), "{few}");
    }
    // The heads' dropout is already that high by default.
    assert!(!few.contains("--dropout-rate"), "{few}");
    assert!(advice(&config, 300, &[150, 150])[0].contains("--unfreeze-blocks 2"));
    assert!(advice(&config, 800, &[400, 400])[0].contains("--severity-aware-augmentation"));
    let random = advice(&config, 3000, &[1500, 1500]);
    assert!(random[0].contains("frozen backbone of random weights"), "{random:?}");
    for option in ["--pretrained k400.pth", "--no-gradual-finetuning"] {
        let lines = advice(&with(&config, option), 3000, &[1500, 1500]);
        assert_eq!(lines, Vec::<String>::new());
    }
    let done = with(
        &config,
        "--pretrained k400.pth --unfreeze-blocks 1 --batch-size 4 --dropout-rate 0.5",
    );
    assert_eq!(advice(&done, 60, &[30, 30]), Vec::<String>::new());
    let off =
        "--class-weighting-strategy none --no-use-class-balanced-sampler --pretrained k400.pth";
    let off = with(&config, off);
    assert!(advice(&off, 3000, &[2700, 300])[0].contains("--use-class-balanced-sampler"));
    assert!(advice(&off, 3000, &[2995, 5]).iter().any(|line| line.contains("only 5")));
}

#[test]
fn options_without_effect_in_two_phases_are_named() {
    let lines = |config: &Config| advice(config, 3000, &[1500, 1500]);
    let given = defaults_with("--epochs 2 --lr 1e-3 --pretrained k400.pth");
    let [epochs, lr] = &lines(&given)[..] else { panic!("{:?}", lines(&given)) };
    assert!(
        epochs.starts_with("--epochs 2 has an effect only with --no-gradual-finetuning"),
        "{epochs}"
    );
    assert!(epochs.contains("--phase1-epochs 8 and --phase2-epochs 15"), "{epochs}");
    assert!(lr.starts_with("--lr 1e-3") && lr.contains("--head-lr"), "{lr}");
    let counts = with(&given, "--no-gradual-finetuning");
    assert_eq!(lines(&counts), Vec::<String>::new());
}

#[test]
fn options_without_the_option_that_they_need_are_named() {
    let lines = |config: &Config| advice(config, 3000, &[1500, 1500]).join("\n");
    let two = "--pretrained k400.pth";
    let one = "--pretrained k400.pth --no-gradual-finetuning";
    for (base, options, with_them, needs) in [
        (one, "--head-lr 5e-3 --backbone-lr 1e-4", two, "--gradual-finetuning"),
        (one, "--phase1-epochs 3", two, "--gradual-finetuning"),
        (one, "--unfreeze-blocks 2", two, "--freezing-strategy fixed"),
        (one, "--min-lr 1e-5", two, "--scheduler reduce_on_plateau"),
        (two, "--warmup-epochs 2", "--lr-warmup", "--lr-warmup"),
        (two, "--momentum 0.5", "--optimizer sgd", "--optimizer sgd"),
        (two, "--step-size 3 --gamma 0.3", "--scheduler step", "--scheduler step"),
        (two, "--focal-gamma 3", "--loss-function focal", "--loss-function focal"),
        (
            &format!("{two} --no-use-class-balanced-sampler"),
            "--oversample-factor 2",
            "--use-class-balanced-sampler",
            "--use-class-balanced-sampler",
        ),
        (
            &format!("{two} --augmentation-strength none"),
            "--noise-strength 0.1 --rand-augment 2",
            "--augmentation-strength mild",
            "an --augmentation-strength other than none",
        ),
    ] {
        let without = defaults_with(&format!("{base} {options}"));
        let said = lines(&without);
        for word in options.split(' ').filter(|word| word.starts_with("--")) {
            assert!(said.contains(word), "{word}: {said}");
        }
        assert!(said.contains("effect only with") && said.contains(needs), "{said}");
        let there = match with_them {
            base if base == two => defaults_with(&format!("{two} {options}")),
            more => with(&without, more),
        };
        assert!(!lines(&there).contains("effect"), "{options}: {}", lines(&there));
    }
}

#[test]
fn options_for_imbalanced_classes_need_a_task_that_is_imbalanced() {
    let known = Schema::mvfoul().unwrap();
    let mut level = known.clone();
    level.tasks.iter_mut().for_each(|task| task.imbalanced = false);
    assert_eq!(level.imbalanced_task(), None);
    let lines = |options: &str, schema: &Schema| schema_advice(&defaults_with(options), schema);
    let options = "--max-weight-ratio 3 --oversample-factor 2";
    assert_eq!(lines(options, &known), Vec::<String>::new());
    let [weights, sampler] = &lines(options, &level)[..] else { panic!("two lines") };
    assert!(
        weights.starts_with("--max-weight-ratio 3 has an effect only with a schema"),
        "{weights}"
    );
    assert!(
        sampler.starts_with("--oversample-factor 2 has an effect only with --balance"),
        "{sampler}"
    );
    let task = format!("{options} --balance-task {}", known.tasks[0].name);
    assert_eq!(lines(&task, &level).len(), 1);
    assert_eq!(lines("", &level), Vec::<String>::new());
    let [rarer] = &lines("--severity-aware-augmentation", &level)[..] else { panic!("a line") };
    assert!(rarer.starts_with("--severity-aware-augmentation has an effect only with"), "{rarer}");
    // This is already reported for the other option.
    assert_eq!(lines("--loss-function plain --max-weight-ratio 3", &level), Vec::<String>::new());
}
