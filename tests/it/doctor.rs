//! `polyview doctor`, shell completions and the manual page.

use serde_json::Value;
use tempfile::TempDir;

use crate::common::adapter;
use crate::common::program::{polyview, polyview_with, text};

fn doctor(args: &[&str], variables: &[(&str, &str)]) -> Value {
    let args = [&["doctor", "--json"], args].concat();
    let output = polyview_with(&args, variables);
    assert!(output.status.success(), "{}", text(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn problems(report: &Value) -> Vec<String> {
    let problems = report["problems"].as_array().unwrap();
    problems.iter().map(|problem| problem.as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_bug_report_has_program_machine_folders_and_devices() {
    let folder = TempDir::new().unwrap();
    let save = folder.path().join("not/there/yet");
    let (save_dir, cache) = (save.to_str().unwrap(), save.join("frames"));
    let cache = cache.to_str().unwrap();
    let report = doctor(&["--no-self-test", "--save-dir", save_dir, "--cache", cache], &[]);
    assert_eq!(report["build"]["version"], env!("CARGO_PKG_VERSION"));
    let machine = &report["machine"];
    let cores = std::thread::available_parallelism().unwrap().get();
    assert_eq!(machine["usable_cores"], cores);
    assert!(machine["cores"].as_u64().unwrap() >= cores as u64);
    assert!(machine["memory_bytes"].as_u64() >= machine["free_memory_bytes"].as_u64());
    let folders = report["folders"].as_array().unwrap();
    assert_eq!(folders[0]["path"], save_dir);
    assert_eq!(folders[1]["path"], cache);
    for folder in &folders[..2] {
        assert!(folder["free_bytes"].as_u64().unwrap() > 0);
        assert_eq!(folder["refused"], Value::Null);
    }
    assert!(!save.exists(), "examining makes no folders");
    let devices = report["devices"].as_array().unwrap();
    assert_eq!(devices.last().unwrap()["id"], "cpu");
    assert_eq!(report["self_tests"].as_array().unwrap().len(), 0);
}

#[test]
fn the_cpu_passes_its_self_test() {
    let report = doctor(&["--device", "cpu"], &[]);
    let test = &report["self_tests"][0];
    assert_eq!(test["device"], "cpu");
    assert_eq!(test["result"]["sound"], true, "{test}");
    assert!(test["result"]["conv_error"].as_f64().unwrap() < 1e-5);
    assert!(test["result"]["half_error"].is_null(), "{test}");
    assert!(test["result"]["step_ms"].as_f64().unwrap() > 0.0);
}

#[test]
fn the_adapter_passes_its_self_test() {
    if adapter::device().is_none() {
        return;
    }
    let listed = polyview(&["devices", "--json"]);
    let devices: Value = serde_json::from_slice(&listed.stdout).unwrap();
    let id = devices[0]["id"].as_str().unwrap();
    assert!(devices[0]["features"]["f16"].is_boolean());
    let report = doctor(&["--device", id], &[]);
    let result = &report["self_tests"][0]["result"];
    assert_eq!(result["sound"], true, "{report}");
    // The result is rounded, but no worse than that.
    let error = result["half_error"].as_f64().unwrap();
    assert!((1e-5..2e-3).contains(&error), "{report}");
}

#[test]
fn missing_pieces_are_listed_with_what_to_do() {
    let none = TempDir::new().unwrap();
    let file = none.path().join("file");
    std::fs::write(&file, "").unwrap();
    let below = file.join("run");
    let path = none.path().to_str().unwrap();
    let args = ["--no-self-test", "--save-dir", below.to_str().unwrap()];
    let report = doctor(&args, &[("PATH", path), ("VK_DRIVER_FILES", "/nonexistent.json")]);
    let problems = problems(&report);
    let about = |what: &str| {
        problems.iter().find(|line| line.contains(what)).unwrap_or_else(|| panic!("{problems:?}"))
    };
    assert_eq!(report["ffmpeg"]["version"], Value::Null);
    assert!(about("ffmpeg is not installed").contains("only H.264 in mp4"));
    assert!(about("--save-dir").contains("is not a folder"));
    if cfg!(target_os = "linux") {
        assert_eq!(report["vulkan"]["drivers"].as_array().unwrap().len(), 0);
        assert!(about("Vulkan").contains("VK_DRIVER_FILES"));
    }
}

#[cfg(unix)]
#[test]
fn faulty_programs_and_odd_names_are_reported() {
    use std::os::unix::ffi::OsStrExt;

    let folder = TempDir::new().unwrap();
    let ffmpeg = folder.path().join("ffmpeg");
    for (script, words) in [
        ("echo nonsense", "prints no version"),
        ("echo broken library >&2; exit 3", "broken library"),
        ("echo ffmpeg version 3.4.11 built", "3.4.11 is too old"),
    ] {
        // Another process writes the script: if this one did, a child that another test starts at the
        // same time could inherit the open file, and the script could not be executed.
        let write = r#"printf '#!/bin/sh\n%s\n' "$1" > "$2" && chmod +x "$2""#;
        let args = ["-c", write, "sh", script, ffmpeg.to_str().unwrap()];
        assert!(std::process::Command::new("sh").args(args).status().unwrap().success());
        let path = folder.path().to_str().unwrap();
        let report = doctor(&["--no-self-test"], &[("PATH", path)]);
        assert!(problems(&report)[0].contains(words), "{script}: {report}");
    }
    let odd = std::ffi::OsStr::from_bytes(b"not\xffutf8");
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_polyview"));
    let output =
        command.args(["doctor", "--json", "--no-self-test", "--save-dir"]).arg(odd).output();
    let output = output.unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    serde_json::from_slice::<Value>(&output.stdout).unwrap();
}

#[test]
fn a_device_that_is_not_there_fails_its_test_and_the_command() {
    let output = polyview(&["doctor", "--device", "wgpu:99"]);
    assert_eq!(output.status.code(), Some(1));
    let page = text(&output.stdout);
    assert!(page.contains("self-test       wgpu:99: FAILED: --device wgpu:99"), "{page}");
    assert!(page.contains("problem         self-test on wgpu:99 failed"), "{page}");
    assert!(page.contains("\nprocessor       "), "{page}");
}

#[test]
fn completions_and_manual_know_every_command() {
    let man = polyview(&["man"]);
    let man = text(&man.stdout);
    assert!(man.contains(".TH polyview 1"), "{man}");
    let help = polyview(&["--help"]);
    let help = text(&help.stdout);
    let commands = [
        "train",
        "evaluate",
        "predict",
        "serve",
        "export",
        "check-data",
        "augment",
        "synth",
        "devices",
        "doctor",
        "bench",
        "completions",
        "man",
    ];
    for command in commands {
        assert!(man.contains(&format!("polyview\\-{}", command.replace('-', "\\-"))), "{command}");
        assert!(help.contains(&format!("\n  {command} ")), "{command}: {help}");
    }
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let script = polyview(&["completions", shell]);
        assert!(script.status.success());
        let script = text(&script.stdout);
        for word in commands.into_iter().chain(["early-stopping-patience"]) {
            assert!(script.contains(word), "{shell}: {word}");
        }
    }
    let folder = TempDir::new().unwrap();
    let out = polyview(&["man", "--out-dir", folder.path().to_str().unwrap()]);
    assert!(out.status.success(), "{}", text(&out.stderr));
    assert!(folder.path().join("polyview-train.1").exists());
}
