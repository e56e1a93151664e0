//! A browser takes every shader: Chromium's compiler follows WGSL where naga is lenient.

use std::collections::BTreeMap;

use polyview::kernels::texts::shader_texts;
use polyview::kernels::web::browser_text;
use serde::Deserialize;
use serde_json::json;

use super::uniformity::{UNIFORM, VARYING, shader};
use crate::common::browser::run_script;

#[derive(Deserialize)]
struct Answer {
    /// Features of the device that concern shaders.
    features: Vec<String>,
    /// The texts that were refused, with the line and the reason.
    refused: BTreeMap<String, String>,
}

fn compile(texts: &BTreeMap<String, String>) -> Option<Answer> {
    let answer = run_script(include_str!("compile.js"), &json!({ "texts": texts }))?;
    Some(serde_json::from_value(answer).unwrap())
}

#[test]
fn browsers_take_every_text() {
    let texts = shader_texts().into_iter();
    let texts: BTreeMap<_, _> =
        texts.map(|text| (text.name, browser_text(&text.source).into_owned())).collect();
    let Some(Answer { features, refused }) = compile(&texts) else { return };
    println!("{} texts, device with {features:?}", texts.len());
    assert!(refused.is_empty(), "{} refused: {refused:#?}", refused.len());
}

/// The check of control flow by itself, in `uniformity.rs`, is as strict as the browser.
#[test]
fn browsers_refuse_varying_control_flow_in_shaders() {
    let texts: BTreeMap<_, _> =
        UNIFORM.iter().chain(&VARYING).map(|body| ((*body).to_owned(), shader(body))).collect();
    let Some(Answer { refused, .. }) = compile(&texts) else { return };
    let refused: Vec<&str> = refused.keys().map(String::as_str).collect();
    let mut varying = VARYING;
    varying.sort_unstable();
    assert_eq!(refused, varying);
}
