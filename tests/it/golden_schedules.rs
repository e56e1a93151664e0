//! Learning-rate schedules against PyTorch's schedulers.

use polyview::train::schedule::{self, OneCycle, Plateau, Position, Schedule};
use serde_json::Value;

use crate::common::reference::{self, count, entries, field, floats, list, number, text};

/// Largest error, as a share of the base rate: the files carry nine significant digits.
const TOLERANCE: f64 = 2e-8;

/// Compares a list of rates, one per epoch or step, with `ours`. An entry is a number, or a list
/// with one number per parameter group; `bases` are the groups' own rates.
fn compare(case: &Value, key: &str, bases: &[f64], ours: impl Fn(usize, f64) -> f64) {
    let name = text(case, "name");
    for (t, expected) in entries(case, key).iter().enumerate() {
        let expected = floats(expected);
        assert_eq!(expected.len(), bases.len(), "{name} {key}[{t}]: groups");
        for (base, expected) in bases.iter().zip(expected) {
            let ours = ours(t, *base);
            let error = (ours - expected).abs();
            assert!(error < TOLERANCE * base, "{name} {key}[{t}]: {ours} {expected}");
        }
    }
}

fn one_cycle(case: &Value) {
    assert_eq!(text(case, "anneal_strategy"), "cos", "the only form that polyview has");
    let steps = count(case, "epochs") * count(case, "steps_per_epoch");
    let cycle = OneCycle { steps, rise: number(case, "pct_start") };
    let bases = floats(field(case, "max_lr"));
    let [start, end] = ["div_factor", "final_div_factor"].map(|key| number(case, key));
    assert_eq!(entries(case, "lrs").len(), steps);
    compare(case, "lrs", &bases, |t, lr| cycle.between(t, lr / start, lr, lr / start / end));
    if (start, end) == (schedule::DIV_FACTOR, schedule::FINAL_DIV_FACTOR) {
        compare(case, "lrs", &bases, |t, lr| cycle.rate(lr, t));
    }
    // Only recorded for optimizers that have a beta1.
    if case.get("beta1").is_some() {
        compare(case, "beta1", &[1.0], |t, _| cycle.momentum(t));
    }
}

/// Compares a case; returns false for a mode that polyview does not offer.
fn plateau(case: &Value) -> bool {
    let options = field(case, "options");
    match text(options, "mode") {
        "max" => {}
        "min" => return false,
        other => panic!("unknown mode {other}"),
    }
    let plateau = Plateau {
        factor: number(options, "factor"),
        patience: count(options, "patience"),
        min_lr: number(options, "min_lr"),
    };
    // null stands for NaN.
    let score = |m: &Value| if m.is_null() { f64::NAN } else { floats(m)[0] };
    let scores: Vec<f64> = list(field(case, "metrics")).iter().map(score).collect();
    assert_eq!(entries(case, "lrs_after").len(), scores.len());
    let bases = floats(field(case, "lr"));
    compare(case, "lrs_after", &bases, |t, lr| plateau.rate(lr, &scores[..=t]));
    true
}

#[test]
fn golden_cosine_of_steps_is_the_cosine_over_all_steps() {
    let file = reference::load("schedules.json");
    let is_cosine = |case: &&Value| text(case, "kind") == "CosineAnnealingLR";
    for case in entries(&file, "cases").iter().filter(is_cosine) {
        let t_max = count(case, "T_max");
        for epochs in (1..=t_max).filter(|epochs| t_max.is_multiple_of(*epochs)) {
            let (steps, schedule) = (t_max / epochs, Schedule::CosineStep { epochs });
            for t in 0..t_max {
                let (epoch, step) = (t / steps, t % steps);
                let at = Position { epoch, steps_before: 0, step, steps, scores: &[] };
                let expected = schedule::cosine(0.5, 0.005, t_max, t);
                assert!((schedule.rate(0.5, &at) - expected).abs() < 1e-12);
            }
        }
    }
}

#[test]
fn golden_schedules() {
    let file = reference::load("schedules.json");
    let mut compared = 0;
    for case in entries(&file, "cases") {
        match text(case, "kind") {
            "CosineAnnealingLR" => {
                let bases = floats(field(case, "lr"));
                let (t_max, eta_min) = (count(case, "T_max"), number(case, "eta_min"));
                let ours = |t, lr| schedule::cosine(lr, eta_min, t_max, t);
                compare(case, "lrs", &bases, ours);
                if case.get("closed_form").is_some() {
                    compare(case, "closed_form", &bases, ours);
                }
            }
            "OneCycleLR" => one_cycle(case),
            "StepLR" => {
                let (size, gamma) = (count(case, "step_size"), number(case, "gamma"));
                let ours = |t, lr| schedule::step(lr, size, gamma, t);
                compare(case, "lrs", &floats(field(case, "lr")), ours);
            }
            "ExponentialLR" => {
                let gamma = number(case, "gamma");
                let ours = |t, lr| schedule::exponential(lr, gamma, t);
                compare(case, "lrs", &floats(field(case, "lr")), ours);
            }
            "ReduceLROnPlateau" if !plateau(case) => {
                let name = text(case, "name");
                println!("golden schedules: {name} left out: polyview's score only rises");
                continue;
            }
            "ReduceLROnPlateau" => {}
            other => panic!("unknown schedule {other}"),
        }
        compared += 1;
    }
    assert!(compared > 0, "no case of a schedule that is offered");
    println!("golden schedules: {compared} cases within {TOLERANCE:e} of the rate");
}
