//! Messages where the ffmpeg program itself is the problem. Each case runs polyview with its own
//! PATH.
#![cfg(unix)]

use std::fs::{copy, create_dir_all, set_permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;

use serde_json::{Value, json};

use crate::common::clips::{case, encoded, ffmpeg, have_ffmpeg};
use crate::common::data::{action, write_split};
use crate::common::program::{command, text};

/// Checks a data set of one clip with `script` as ffmpeg, and returns the report.
fn check(clip: &str, script: Option<&str>, mode: u32) -> Value {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bin");
    create_dir_all(&path).unwrap();
    if let Some(script) = script {
        // Written by another process: a file that this one had open for writing may be inherited by
        // a child that another test has just started, and could then not be executed.
        let write = r#"printf '%s' "$1" > "$2""#;
        let program = path.join("ffmpeg");
        let mut shell = Command::new("/bin/sh");
        shell.args(["-c", write, "sh", script]).arg(&program);
        assert!(shell.status().unwrap().success());
        set_permissions(&program, PermissionsExt::from_mode(mode)).unwrap();
    }
    let clip = case(clip);
    let name = format!("clip_0.{}", clip.extension().unwrap().to_str().unwrap());
    let data = folder.path().join("data");
    for split in ["train", "valid"] {
        let actions =
            json!({"0": action("Tackling", "Offence", "1.0", &[&format!("action_0/{name}")])});
        write_split(&data.join("mvfouls"), split, &json!({"Actions": actions}).to_string());
        let actions = data.join("mvfouls").join(split).join("action_0");
        create_dir_all(&actions).unwrap();
        copy(&clip, actions.join(&name)).unwrap();
    }
    let mut command = command(&["check-data", "--json", "--start-frame", "0", "--end-frame", "9"]);
    let output = command.arg("--dataset-root").arg(&data).env("PATH", &path).output().unwrap();
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", text(&output.stderr)))
}

/// Returns the kind and the message of the only problem, which both splits have.
fn problem(report: &Value) -> (String, String) {
    let text = report.to_string();
    let splits = report["splits"].as_array().unwrap_or_else(|| panic!("{text}"));
    let problems = splits.iter().flat_map(|split| split["problems"].as_array().unwrap());
    let problems: Vec<&Value> = problems.filter(|problem| problem["level"] == "error").collect();
    assert_eq!(problems.len(), 2, "{text}");
    let field = |name: &str| problems[0][name].as_str().unwrap().to_owned();
    (field("kind"), field("message"))
}

/// Returns the path of the ffmpeg on the PATH.
fn real() -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut programs = std::env::split_paths(&path).map(|folder| folder.join("ffmpeg"));
    programs.find(|program| program.is_file()).expect("have_ffmpeg has found one")
}

/// Writes more to both pipes than they hold.
const FLOOD: &str = "i=0; while [ $i -lt 9000 ]; do echo '[error] no' >&2; echo 0,1,2,3,4; \
                     i=$((i+1)); done; exit 1";

const CLIP: &str = "ffmpeg_older_than_5_1/clip_0.mkv";

#[test]
fn an_old_ffmpeg_gets_the_options_that_it_knows() {
    if !have_ffmpeg() {
        return;
    }
    let mut command = ffmpeg();
    command.args(["-f", "lavfi", "-i", "color=size=2x2:duration=0.1", "-vsync", "passthrough"]);
    command.args(["-enc_time_base", "-1", "-f", "null", "-"]);
    if !encoded(&mut command) {
        return;
    }
    let script = format!(
        "#!/bin/sh\nfor word; do if [ \"$word\" = -fps_mode ]; then\n\
         echo \"Unrecognized option 'fps_mode'.\" >&2; exit 1; fi; done\nexec '{}' \"$@\"\n",
        real().display()
    );
    let report = check(CLIP, Some(&script), 0o755);
    let splits = report["splits"].as_array().unwrap();
    assert!(splits.iter().all(|split| split["clips"]["ok"] == 1), "{report}");
}

#[test]
fn an_ffmpeg_that_does_not_work_is_not_blamed_on_the_clip() {
    let cases = [
        (
            "echo \"Unrecognized option 'fps_mode'.\" >&2; exit 1",
            "is older than 4.0, or incomplete",
        ),
        (
            "echo 'libx.so.5: cannot open shared object file' >&2; exit 127",
            "libx.so.5: cannot open",
        ),
        ("exit 0", "it decodes nothing"),
        ("kill -9 $$", "it decodes nothing"),
        (FLOOD, "(no)"),
    ];
    for (script, reason) in cases {
        let (kind, message) = problem(&check(CLIP, Some(&format!("#!/bin/sh\n{script}\n")), 0o755));
        assert_eq!(kind, "clip-unsupported", "{script}: {message}");
        assert!(message.contains("cannot be used") && message.contains(reason), "{message}");
        assert_eq!(message.lines().count(), 1, "{message}");
    }
}

#[test]
fn an_ffmpeg_that_cannot_be_started_is_reported() {
    let (kind, message) = problem(&check(CLIP, Some("#!/bin/sh\n"), 0o644));
    assert_eq!(kind, "clip-unsupported", "{message}");
    assert!(message.contains("cannot be started"), "{message}");
}

#[test]
fn without_ffmpeg_the_clip_is_unsupported() {
    let (kind, message) = problem(&check(CLIP, None, 0));
    assert_eq!(kind, "clip-unsupported");
    assert!(message.contains("install ffmpeg"), "{message}");
}

#[test]
fn a_confined_ffmpeg_is_reported() {
    if !have_ffmpeg() {
        return;
    }
    // As a snap does for a folder outside of the home folder.
    let script = format!(
        "#!/bin/sh\nfor word; do case \"$word\" in file:*)\n\
         echo \"[error] $word: Permission denied\" >&2; exit 1;; esac; done\nexec '{}' \"$@\"\n",
        real().display()
    );
    let (kind, message) = problem(&check(CLIP, Some(&script), 0o755));
    assert_eq!(kind, "clip-unsupported", "{message}");
    assert!(message.contains("cannot open the file"), "{message}");
    assert!(message.contains("(Permission denied)") && message.contains("snap"), "{message}");
}

#[test]
fn an_ffmpeg_that_crashes_is_reported() {
    if !have_ffmpeg() {
        return;
    }
    let script = format!(
        "#!/bin/sh\nfor word; do case \"$word\" in file:*) kill -11 $$;; esac; done\n\
         exec '{}' \"$@\"\n",
        real().display()
    );
    let (kind, message) = problem(&check(CLIP, Some(&script), 0o755));
    assert_eq!(kind, "clip-unsupported", "{message}");
    assert!(message.contains("ended early") && message.contains("signal"), "{message}");
}
