//! The report page of a run.

use std::sync::LazyLock;

use polyview::report::caption::Caption;
use polyview::report::charts::WIDTH;
use polyview::report::html::{Example, ReportData, RunStatus, Strip, render};
use polyview::report::{EpochRecord, RunSummary, TaskRecord, best_epoch};
use polyview::schema::Schema;

use crate::common::page::sound;
use crate::common::report;

/// Renders the page of a history, with default values for everything else.
fn page(history: &[EpochRecord]) -> String {
    with(history, |_| ())
}

static SCHEMA: LazyLock<Schema> = LazyLock::new(|| Schema::mvfoul().unwrap());
static SUMMARY: LazyLock<RunSummary> = LazyLock::new(report::summary);

fn with<'a>(history: &'a [EpochRecord], change: impl FnOnce(&mut ReportData<'a>)) -> String {
    let mut data = ReportData {
        title: "run-1",
        state: RunStatus::Running,
        epochs: 23,
        device: "cpu",
        schema: &SCHEMA,
        history,
        summary: &SUMMARY,
        configuration: &[],
        best: &[],
        worst: &[],
        earlier_examples: None,
    };
    change(&mut data);
    let page = render(&data).unwrap();
    sound(&page);
    page
}

/// Returns the element from its opening tag up to its closing tag.
fn element<'a>(page: &'a str, opening: &str, name: &str) -> &'a str {
    let start = page.find(opening).unwrap_or_else(|| panic!("no {opening}"));
    let length = page[start..].find(&format!("</{name}>")).unwrap();
    &page[start..start + length]
}

fn count(text: &str, word: &str) -> usize {
    text.matches(word).count()
}

#[test]
fn a_run_in_progress() {
    let history = report::history(21);
    let page = page(&history);
    assert!(page.contains("<title>run-1 – running, epoch 21 of 23</title>"));
    assert!(page.contains(r#"<progress value="21" max="23""#));
    for id in ["loss", "score", "task-offence_severity", "task-action_class", "data-wait", "rates"]
    {
        let figure = element(&page, &format!(r#"<figure id="{id}""#), "figure");
        assert!(figure.contains(&format!(r#"viewBox="0 0 {WIDTH} "#)));
        assert_eq!(count(figure, r#"class="stripe""#), 21, "{id}");
        assert!(count(figure, "<polyline") >= 2, "{id}");
        assert!(figure.contains("phase 2"), "{id}");
    }
    let loss = element(&page, r#"<figure id="loss""#, "figure");
    let words = format!("validation: {:.4}", history[6].valid.loss);
    assert!(loss.contains(&words));
}

#[test]
fn matrices_and_classes_of_the_best_epoch() {
    let history = report::history(21);
    let best = best_epoch(&history).unwrap();
    assert_ne!(best.epoch, 21, "the fixture's best epoch is not its last one");
    let page = page(&history);
    assert!(page.contains(&format!("epoch {}, the best so far", best.epoch)));
    for task in &best.valid.tasks {
        let opening = format!(r#"<table class="confusion" data-task="{}""#, task.task);
        let table = element(&page, &opening, "table");
        let cells: Vec<u64> = table
            .split("</td>")
            .filter(|cell| cell.contains("--share"))
            .map(|cell| cell.rsplit('>').next().unwrap().parse().unwrap())
            .collect();
        assert_eq!(cells, task.confusion.concat());
        assert_eq!(count(table, "class=\"right"), task.confusion.len());
        let opening = format!(r#"<table class="per-class numbers" data-task="{}""#, task.task);
        let table = element(&page, &opening, "table");
        for (class, row) in task.confusion.iter().enumerate() {
            let support: u64 = row.iter().sum();
            let recall = row[class] as f64 / support as f64 * 100.0;
            assert!(table.contains(&format!("<td>{recall:.1}</td>")), "{recall}");
            assert!(table.contains(&format!("<td>{support}</td>")), "{support}");
        }
        assert!(page.contains(&format!("<dd>{:.1} %</dd>", task.f1_macro * 100.0)));
    }
    let epochs = element(&page, r#"<table class="numbers" id="epochs""#, "table");
    assert_eq!(count(epochs, "<tr"), 22);
    assert_eq!(count(epochs, r#"class="shown""#), 1);
}

#[test]
fn no_epoch_one_epoch_and_five_hundred_epochs() {
    let none = page(&[]);
    assert!(none.contains("epoch 0 of 23") && none.contains("No epoch is finished yet."));
    assert!(!none.contains("<svg") && none.contains("Class balance"));

    let one = page(&report::history(1));
    assert_eq!(count(&one, "<svg"), 6);
    assert!(one.contains("1 min") && one.contains("Best score"));

    let history = report::history(500);
    let long = with(&history, |data| (data.state, data.epochs) = (RunStatus::Finished, 500));
    assert!(long.contains("finished, epoch 500 of 500") && long.len() < 600_000, "{}", long.len());
    assert!(long.contains("the best</small>"));
}

#[test]
fn values_that_are_not_numbers() {
    let mut history = report::history(12);
    for record in &mut history[3..] {
        record.train.loss = f64::NAN;
        record.valid.loss = f64::INFINITY;
        record.score = f64::NAN;
        record.valid.tasks[0].balanced_accuracy = f64::NAN;
        record.train.seconds = f64::NAN;
        record.train.data_wait = f64::NEG_INFINITY;
        record.rates.insert("heads".to_owned(), 0.0);
        record.best = false;
    }
    page(&history);
    // No best epoch at all, a matrix of another size, a task that is missing.
    for record in &mut history {
        record.best = false;
        record.valid.tasks[0].confusion.pop();
        record.valid.tasks.truncate(1);
    }
    let page = page(&history);
    assert!(page.contains("Last score") && page.contains("epoch 12, the last so far"));
    assert!(!page.contains(r#"class="confusion""#));
}

#[test]
fn a_task_without_labels_has_dashes() {
    let mut history = report::history(1);
    let valid = &mut history[0].valid;
    valid.tasks[1].confusion = vec![vec![0; 8]; 8];
    valid.auxiliary = vec![TaskRecord { task: "odd".to_owned(), ..valid.tasks[1].clone() }];
    history[0].calibration.as_mut().unwrap().tasks[1].actions = 0;
    let page = page(&history);
    let title = &SCHEMA.tasks[1].title;
    for shown in [
        &*format!("<dt>{title}</dt><dd><b>–</b><small>no labelled actions</small>"),
        "<dt>Macro F1</dt><dd>–</dd>",
        "<dt>after calibration</dt><dd>–</dd>",
        r#"<tr><th scope="row">odd</th><td>–</td><td>–</td></tr>"#,
    ] {
        assert!(page.contains(shown), "{shown} is not in {page}");
    }
    let epochs = element(&page, r#"<table class="numbers" id="epochs""#, "table");
    assert_eq!(count(epochs, "<td>–</td>"), 1, "{epochs}");
    let curve = element(&page, r#"<figure id="task-action_class""#, "figure");
    assert!(curve.contains("validation: –") && !curve.contains("training: –"), "{curve}");
}

#[test]
fn classes_without_an_action() {
    let mut history = report::history(1);
    history[0].valid.tasks[0].confusion =
        vec![vec![3, 0, 0, 1], vec![0; 4], vec![0; 4], vec![0, 0, 0, 2]];
    let page = page(&history);
    let table =
        element(&page, r#"<table class="per-class numbers" data-task="offence_severity""#, "table");
    // 0/0 is not 0.
    let row = "Offence + No card</th><td>–</td><td>–</td><td>–</td><td>0</td><td>0</td>";
    assert!(table.contains(row), "{table}");
}

#[test]
fn everything_is_escaped() {
    const EVIL: &str = "<b onload=\"x\">&'</b></style></title>";
    let mut schema = SCHEMA.clone();
    schema.title = EVIL.to_owned();
    for task in &mut schema.tasks {
        (task.title, task.classes[0].name) = (EVIL.to_owned(), EVIL.to_owned());
    }
    let mut history = report::history(10);
    for record in &mut history {
        record.trainable.push(format!("{EVIL}{}", record.epoch));
        record.rates.insert(EVIL.to_owned(), 1e-3);
    }
    let pairs = [(EVIL.to_owned(), EVIL.to_owned())];
    let mut summary: RunSummary = report::summary();
    summary.settings = pairs.to_vec();
    summary.advice = vec![EVIL.to_owned()];
    summary.splits[0].split = EVIL.to_owned();
    let caption = || Caption::default().words(EVIL).name(EVIL);
    let strip = Strip { title: caption(), frames: vec![EVIL.into()] };
    let examples = [Example { caption: caption(), strips: vec![strip] }];
    let page = with(&history, |data| {
        *data = ReportData {
            title: EVIL,
            device: EVIL,
            schema: &schema,
            summary: &summary,
            configuration: &pairs,
            best: &examples,
            worst: &examples,
            earlier_examples: None,
            ..*data
        };
    });
    assert!(!page.contains("<b ") && !page.contains("\"x\""));
    assert!(count(&page, "&#60;b onload") + count(&page, "&lt;b onload") > 30);
}

#[test]
fn images_are_embedded() {
    let png = b"\x89PNG\r\n\x1a\n rest".to_vec();
    let jpeg = b"\xff\xd8\xff\xe0 rest".to_vec();
    let frames = vec![png, jpeg, b"GIF89a".to_vec(), b"BM".to_vec(), Vec::new()];
    let history = report::history(2);
    let examples = [Example {
        caption: Caption::default().words("Action ").name("7"),
        strips: vec![Strip { title: Caption::default(), frames }],
    }];
    let page = with(&history, |data| data.worst = &examples);
    let strip = element(&page, r#"<figure class="strip""#, "figure");
    assert!(strip.contains(r#"<img src="data:image/png;base64,iVBORw0KGgogcmVzdA==""#), "{strip}");
    assert!(strip.contains("data:image/jpeg;base64,/9j/4CByZXN0"));
    assert!(strip.contains("data:image/gif;base64,R0lGODlh"));
    assert_eq!(count(strip, "no image"), 2);
    assert!(page.contains(r#"<article id="worst">"#) && !page.contains(r#"<article id="best">"#));
}

#[test]
fn the_time_is_the_wall_time_where_it_is_known() {
    let mut history = report::history(3);
    let time = |page: &str| element(page, "<dt>Time</dt>", "div").to_owned();
    let passes: f64 = history.iter().map(EpochRecord::seconds).sum();
    assert!(300.0 < passes && passes < 400.0, "{passes}");
    let old = time(&page(&history));
    assert!(old.contains("<b>5 min ") && old.contains("; for 3 epochs, the passes only<"), "{old}");
    history.iter_mut().for_each(|record| record.wall_seconds = Some(200.0));
    let known = "<dt>Time</dt><dd><b>10 min 00 s</b><small>3 min 20 s per epoch</small></dd>";
    assert_eq!(time(&page(&history)), known);
}

#[test]
fn class_balance_and_configuration() {
    let history = report::history(1);
    let options = [("seed".to_owned(), "42".to_owned())];
    let page = with(&history, |data| data.configuration = &options);
    let section = element(&page, r#"<section id="classes""#, "section");
    assert!(section.contains("<td>39</td><td>6</td><td>10.00</td><td>156</td>"), "{section}");
    // The other task is neither weighted nor balanced by the sampler.
    assert!(section.contains("<td>40</td><td>6</td></tr>"));
    assert!(section.contains("--oversample-factor 6 may help"));
    assert!(page.contains("<dt>seed</dt><dd>42</dd>"));
    assert!(page.contains(
        "<dt>loss</dt><dd>weighted, label smoothing 0.1, task weights (offence_severity 3, action_class 3)</dd>"
    ));
}
