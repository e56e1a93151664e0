//! The page of `polyview serve` in a browser, with answers that the test makes up.

use std::collections::HashMap;

use polyview::evaluate::Averaging;
use polyview::schema::Schema;
use polyview::web::served_page;
use serde_json::{Value, json};

use crate::common::browser::run_script_with;
use crate::common::serve::network;

fn page(averaging: Averaging) -> String {
    let (_, info) = network([2, 16, 16]);
    let input = info.input.clone().unwrap();
    served_page(&info, &Schema::mvfoul().unwrap(), &input, "best.safetensors", &averaging).unwrap()
}

#[test]
fn the_page_says_what_is_averaged() {
    let of = |clips, three_crops, flip| page(Averaging { clips, three_crops, flip });
    let one = of(1, false, false);
    assert!(one.contains("<small>what the network sees of each</small>"));
    for (several, inputs) in [(of(3, true, true), "up to 18"), (of(3, false, true), "6")] {
        let words =
            format!("<small>the middle of each; the network sees {inputs} inputs per view</");
        assert!(several.contains(&words) && !several.contains("what the network sees of each"));
    }
}

#[test]
fn an_answer_shows_what_qualifies_it() {
    let script = concat!(include_str!("web/open.js"), include_str!("web/served.js"));
    let class = |class: &str, confidence| json!({ "class": class, "confidence": confidence });
    let ranked = || json!([class("<b>\u{5d0}", 0.6), class("other", 0.4)]);
    let answer = json!({
        "action": "action",
        "tasks": { "offence_severity": ranked(), "action_class": ranked() },
        "undecided": ["action_class"],
        "views": [{ "clip": "a.mkv", "share": 1.0 }],
        "averaged": 18,
        "unreadable": [{ "view": 1, "clip": "b.mkv", "reason": "b.mkv: is damaged" }],
        "seconds": 1.0,
        "waited": 0.0,
    });
    let page = page(Averaging { clips: 3, three_crops: true, flip: true });
    let files = HashMap::from([("model.html".to_owned(), page.into_bytes())]);
    let Some(found) = run_script_with(script, &json!({ "answer": answer }), files) else { return };
    assert_eq!(found["seen"], json!([]), "{found}");
    // While the server works, an indeterminate progress bar moves.
    assert_eq!((&found["moves"], &found["indeterminate"]), (&1.into(), &true.into()), "{found}");
    assert_eq!(found["left"], "Left out: b.mkv: is damaged", "{found}");
    let views = found["views"].as_array().unwrap();
    assert_eq!((&views[0], &views[1]), (&Value::Null, &"Left out: is damaged".into()), "{found}");
    // Only a decided task has a winner.
    assert_eq!(found["winners"], json!([1, 0]), "{found}");
    assert_eq!(found["captions"][1], "Action class: undecided", "{found}");
    assert_eq!(found["averaged"], "averaged over 18 predictions", "{found}");
    assert_eq!(found["name"], "<b>\u{5d0}", "{found}");
    // Choosing another clip removes the marks of the answer.
    assert_eq!(found["after"], 0, "{found}");
}
