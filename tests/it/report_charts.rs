//! Charts and their axes.

use polyview::report::best_epoch;
use polyview::report::charts::{Chart, HEIGHT, Line, Mark, Scale, WIDTH};
use polyview::report::curves::curves;
use polyview::report::ticks::{epoch_ticks, linear_ticks, log_ticks, percent_ticks};
use polyview::schema::Schema;

use crate::common::report;

fn line(colour: usize, values: &[f64]) -> Line {
    Line { name: format!("line {colour}"), colour, values: values.to_vec(), dot: None }
}

fn chart(scale: Scale, values: &[f64]) -> Chart {
    Chart { scale, lines: vec![line(1, values)], marks: Vec::new() }
}

/// Returns the points of each line drawn in this colour.
fn drawn(body: &str, colour: usize) -> Vec<Vec<(f64, f64)>> {
    let is_line =
        |tag: &&str| tag.starts_with("polyline") && tag.contains(&format!("--c{colour})"));
    let points = |tag: &str| {
        let list = tag.split("points=\"").nth(1).unwrap().split('"').next().unwrap().trim();
        let pair = |pair: &str| {
            let (x, y) = pair.split_once(',').unwrap();
            (x.parse().unwrap(), y.parse().unwrap())
        };
        list.split(' ').map(pair).collect()
    };
    body.split('<').filter(is_line).map(points).collect()
}

fn inside_the_drawing(body: &str) {
    for word in ["NaN", "inf", "#0", "<svg", "</svg"] {
        assert!(!body.contains(word), "{word} in {body}");
    }
    for points in (1..=8).flat_map(|colour| drawn(body, colour)) {
        for (x, y) in points {
            assert!((0.0..=f64::from(WIDTH)).contains(&x), "{x}");
            assert!((0.0..=f64::from(HEIGHT)).contains(&y), "{y}");
        }
    }
}

#[test]
fn lines_follow_the_values() {
    let drawing = chart(Scale::Percent, &[0.2, 0.4, 0.4, 0.8]).draw().unwrap().unwrap();
    inside_the_drawing(&drawing.body);
    let lines = drawn(&drawing.body, 1);
    let [points] = &lines[..] else { panic!("{lines:?}") };
    assert_eq!(points.len(), 4);
    // Even steps to the right; upwards in proportion to the values, except for rounding.
    let step = points[1].0 - points[0].0;
    assert!(points.windows(2).all(|p| (p[1].0 - p[0].0 - step).abs() <= 1.0));
    assert_eq!(points[1].1, points[2].1);
    let (first, second) = (points[0].1 - points[1].1, points[2].1 - points[3].1);
    assert!(first > 20.0 && (second - 2.0 * first).abs() <= 2.0, "{first} {second}");
    // 0 % is the lower edge of the stripes.
    let bottom = f64::from(drawing.top + drawing.height);
    assert!((bottom - points[0].1 - first).abs() <= 2.0);
    assert_eq!(drawing.stripes.len(), 4);
    assert_eq!(drawing.stripes[1].tooltip, "Epoch 2\nline 1: 40.0 %");
}

#[test]
fn values_that_are_not_finite_are_gaps() {
    let values = [1.0, 2.0, f64::NAN, 3.0, f64::INFINITY, 4.0, 5.0, 6.0];
    let drawing = chart(Scale::Linear, &values).draw().unwrap().unwrap();
    inside_the_drawing(&drawing.body);
    let lengths: Vec<usize> = drawn(&drawing.body, 1).iter().map(Vec::len).collect();
    assert_eq!(lengths, [2, 3]);
    assert_eq!(drawing.body.matches("<circle").count(), 1);
    assert_eq!(drawing.stripes[2].tooltip, "Epoch 3\nline 1: –");
}

#[test]
fn odd_values_are_drawn() {
    assert_eq!(chart(Scale::Linear, &[]).draw().unwrap(), None);
    for scale in [Scale::Linear, Scale::Percent, Scale::Log] {
        for values in [
            vec![f64::NAN; 3],
            vec![0.0],
            vec![-1.0, 0.0],
            vec![1e300, -1e300],
            vec![f64::MAX, f64::MIN],
            vec![1e-300, 1e-290],
            vec![5.0; 40],
            (0..5000).map(|k| f64::from(k % 7)).collect(),
        ] {
            let drawing = chart(scale, &values).draw().unwrap().unwrap();
            inside_the_drawing(&drawing.body);
            assert!(drawing.stripes.len() <= 130);
            assert!(drawing.body.len() < 120_000, "{scale:?} {}", drawing.body.len());
        }
    }
}

#[test]
fn marks_lie_between_epochs_and_their_labels_do_not_overlap() {
    let mark = |epoch: usize, label: &str| Mark { epoch, label: label.to_owned() };
    let marks = vec![mark(3, "phase 2 <&>"), mark(4, "+ layer4"), mark(10, "+ layer3")];
    let values: Vec<f64> = (0..10).map(f64::from).collect();
    let chart = Chart { marks, ..chart(Scale::Linear, &values) };
    let body = chart.draw().unwrap().unwrap().body;
    assert!(body.contains("phase 2 &lt;&amp;&gt;"), "{body}");
    assert_eq!(body.matches("var(--border)").count(), 3);
    // More marks than can be labelled: all lines are drawn, labels only where they fit.
    let many = (2..=10).map(|epoch| mark(epoch, "a long label, a long label")).collect();
    let body = Chart { marks: many, ..chart }.draw().unwrap().unwrap().body;
    assert_eq!(body.matches("var(--border)").count(), 9);
    assert!((1..9).contains(&body.matches("a long label, a").count()));
}

#[test]
fn axes_carry_round_numbers() {
    assert_eq!(linear_ticks(&(0.13..0.94)).labels(), ["0.2", "0.4", "0.6", "0.8"]);
    assert_eq!(linear_ticks(&(-1.0..1.0)).labels(), ["-1.0", "-0.5", "0.0", "0.5", "1.0"]);
    assert_eq!(percent_ticks(&(0.0..0.65)).labels()[..3], ["0 %", "20 %", "40 %"]);
    assert_eq!(percent_ticks(&(0.0..0.01)).labels()[1], "0.2 %");
    assert_eq!(log_ticks(&(-5.1..-2.9)).labels()[..4], ["1e-5", "2e-5", "5e-5", "1e-4"]);
    assert_eq!(log_ticks(&(-6.5..-1.5)).labels(), ["1e-6", "1e-5", "1e-4", "1e-3", "1e-2"]);
    assert_eq!(epoch_ticks(1).labels(), ["1"]);
    assert_eq!(epoch_ticks(4).labels(), ["1", "2", "3", "4"]);
    assert_eq!(epoch_ticks(23).labels(), ["1", "5", "10", "15", "20"]);
    assert_eq!(epoch_ticks(500).labels(), ["1", "100", "200", "300", "400", "500"]);
    for epochs in 1..2000 {
        let ticks = epoch_ticks(epochs);
        assert!(ticks.positions.len() <= 10 && ticks.positions[0] == 1.0, "{epochs}: {ticks:?}");
        assert!(ticks.positions.iter().all(|place| *place <= epochs as f64));
    }
}

#[test]
fn curves_of_a_run() {
    let schema = Schema::mvfoul().unwrap();
    let history = report::history(20);
    let all = curves(&history, &schema.tasks);
    let ids: Vec<&str> = all.iter().map(|curves| curves.id.as_str()).collect();
    let tasks = ["task-offence_severity", "task-action_class"];
    assert_eq!(ids, [&["loss", "score"][..], &tasks, &["rates", "data-wait"]].concat());
    assert_eq!(all[0].chart.lines[1].values[4], history[4].valid.loss);
    assert_eq!(all[2].chart.lines[0].values[4], history[4].train.tasks[0].balanced_accuracy);
    let dots: Vec<_> = all[1].chart.lines.iter().map(|line| line.dot).collect();
    assert_eq!(dots, [None, None, best_epoch(&history).map(|record| record.epoch)]);
    // The only task's accuracy is the score.
    let one = curves(&history, &schema.tasks[..1]);
    let names: Vec<&str> = one[1].chart.lines.iter().map(|line| line.name.as_str()).collect();
    assert_eq!(names, ["score"]);

    let rates = &all[4].chart;
    let names: Vec<&str> = rates.lines.iter().map(|line| line.name.as_str()).collect();
    assert_eq!(names, ["heads", "layer2 – layer4", "layer1"]);
    assert_eq!(rates.lines[1].values[8], history[8].rates["layer3"]);
    assert!(rates.lines[1].values[7].is_nan());
    let words: Vec<_> = rates.marks.iter().map(|m| (m.epoch, m.label.as_str())).collect();
    assert_eq!(words, [(9, "phase 2, + layer2 – layer4"), (16, "+ layer1")]);
    let elsewhere: Vec<_> =
        all[0].chart.marks.iter().map(|m| (m.epoch, m.label.as_str())).collect();
    assert_eq!(elsewhere, [(9, "phase 2")]);
}
