//! A browser accepts every shader: Chromium's compiler follows the WGSL standard where naga is lenient.

use std::collections::{BTreeMap, BTreeSet};

use polyview::kernels::web::{browser_text, uses_f16, uses_matrix_units};
use polyview::shaders::shader_texts;
use serde::Deserialize;
use serde_json::json;

use super::uniformity::{UNIFORM, VARYING, shader};
use crate::common::browser::run_script;

#[derive(Deserialize)]
struct Answer {
    /// Features of the device that shaders can use.
    features: Vec<String>,
    /// Names of the texts that were refused, with the line and the reason.
    refused: BTreeMap<String, String>,
}

fn compile(texts: &BTreeMap<String, String>) -> Option<Answer> {
    let answer = run_script(include_str!("compile.js"), &json!({ "texts": texts }))?;
    Some(serde_json::from_value(answer).unwrap())
}

#[test]
fn browsers_take_every_text() {
    let mut texts = shader_texts();
    // Texts for matrix units use wgpu's extension of WGSL, which no browser has. The other texts include
    // the same tiles with ordinary multiply-adds.
    texts.retain(|text| !uses_matrix_units(&text.source));
    let f16: BTreeSet<_> =
        texts.iter().filter(|text| uses_f16(&text.source)).map(|text| text.name.clone()).collect();
    let texts: BTreeMap<_, _> = texts
        .into_iter()
        .map(|text| (text.name, browser_text(&text.source).into_owned()))
        .collect();
    let Some(Answer { features, mut refused }) = compile(&texts) else { return };
    println!("{} texts, device with {features:?}", texts.len());
    // A browser whose device has no f16 refuses every text that enables it; such a device gets the texts
    // for packed values.
    if !features.iter().any(|feature| feature == "shader-f16") {
        refused.retain(|name, reason| !(f16.contains(name) && reason.contains("f16")));
    }
    assert!(refused.is_empty(), "{} refused: {refused:#?}", refused.len());
}

/// The control-flow check in `uniformity.rs` is as strict as the browser.
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
