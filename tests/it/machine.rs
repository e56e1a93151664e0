//! Restricted machines: few cores, no home folder, no folder for temporary files, a read-only data
//! set.
#![cfg(target_os = "linux")]

use std::fs;
use std::process::Command;

use polyview::checkpoint;
use tempfile::TempDir;

use crate::common::data::small_set;
use crate::common::mount::Mount;
use crate::common::program::{command, text, train};
use crate::common::skip::skip;

#[test]
fn available_cores_determine_threads_and_workers() {
    let folder = TempDir::new().unwrap();
    let (data, save) = (folder.path().join("data"), folder.path().join("run"));
    small_set(&data);
    let file = folder.path().join("options.toml");
    let options = format!(
        "dataset-root = {data:?}\nsave-dir = {save:?}\nbackbone-name = \"r3d_tiny\"\nepochs = 1\n\
         gradual-finetuning = false\nimg-height = 16\nimg-width = 16\nframes-per-clip = 2\n\
         start-frame = 0\nend-frame = 9\ndevice = \"cpu\"\n"
    );
    fs::write(&file, options).unwrap();
    let mut limited = Command::new("taskset");
    limited.args(["-c", "0"]).arg(env!("CARGO_BIN_EXE_polyview")).arg("train").arg("--config");
    let output = match limited.arg(&file).output() {
        Ok(output) => output,
        Err(error) => return skip(format_args!("no taskset: {error}")),
    };
    let shown = text(&output.stderr);
    if !output.status.success() && shown.contains("affinity") {
        return skip("core 0 is not available to this process");
    }
    assert!(output.status.success(), "{shown}");
    assert!(shown.contains("CPU, 1 thread (cpu)"), "{shown}");
    assert!(shown.contains("1 decoding thread,"), "{shown}");
}

#[test]
fn a_home_and_a_temporary_folder_may_be_missing() {
    let folder = TempDir::new().unwrap();
    let data = folder.path().join("data");
    small_set(&data);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let absent = folder.path().join("nowhere");
    for (name, variables) in [
        ("none", &[][..]),
        ("absent", &["HOME", "TMPDIR", "XDG_CACHE_HOME"][..]),
        ("C", &["LC_ALL"][..]),
    ] {
        let save = folder.path().join(name);
        let mut run = train(&data, &save, &["--epochs", "1"]);
        run.env_clear().env("PATH", &path).envs(variables.iter().map(|name| (name, &absent)));
        let output = run.output().unwrap();
        assert!(output.status.success(), "{name}: {}", text(&output.stderr));
        assert!(save.join(checkpoint::BEST).is_file());
        assert!(!absent.exists(), "{name}");
    }
}

#[test]
fn nothing_is_written_to_a_data_set() {
    let folder = TempDir::new().unwrap();
    let (data, save) = (folder.path().join("data"), folder.path().join("run"));
    small_set(&data);
    let Some(_mount) = Mount::read_only(&data) else { return };
    assert!(fs::write(data.join("file"), b"").is_err());
    let run = train(&data, &save, &["--epochs", "1"]).output().unwrap();
    assert!(run.status.success(), "{}", text(&run.stderr));
    let mut check = command(&["check-data", "--start-frame", "2", "--end-frame", "9"]);
    let check = check.arg("--dataset-root").arg(&data).output().unwrap();
    assert!(check.status.success(), "{}", text(&check.stdout));
    let mut evaluate = command(&["evaluate", "--device", "cpu", "--dataset-root"]);
    evaluate.arg(&data).arg("--checkpoint").arg(save.join(checkpoint::BEST));
    let evaluated = evaluate.output().unwrap();
    assert!(evaluated.status.success(), "{}", text(&evaluated.stderr));
    // A cache there only causes a warning; a save-dir there is refused at the start.
    let cached = train(&data, &folder.path().join("other"), &["--epochs", "1", "--cache"])
        .arg(data.join("cache"))
        .output()
        .unwrap();
    assert!(cached.status.success());
    assert!(text(&cached.stderr).contains("continuing without"), "{}", text(&cached.stderr));
    let refused = train(&data, &data.join("run"), &[]).output().unwrap();
    assert_eq!(refused.status.code(), Some(1));
    let error = text(&refused.stderr);
    assert!(error.contains("Read-only") && error.contains("another --save-dir"), "{error}");
}
