//! `polyview sweep`: runs as child processes.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use polyview::checkpoint::{self, FolderLock};
use serde_json::Value;
use tempfile::TempDir;

use crate::common::data::small_set;
use crate::common::program::{command, last_error, text};

/// Options of a run that takes about a second.
const SMALL: &str = "simple-training = true\nbackbone-name = \"r3d_tiny\"\nimg-height = 16\n\
    img-width = 16\nframes-per-clip = 2\nstart-frame = 2\nend-frame = 5\ntarget-fps = 25\n\
    batch-size = 6\nnum-workers = 0\ndevice = \"cpu\"\n";

/// Folder with a data set and a sweep on it.
struct Place {
    folder: TempDir,
}

impl Place {
    fn new(sweep: &str) -> Self {
        let folder = TempDir::new().unwrap();
        small_set(&folder.path().join("data"));
        fs::write(folder.path().join("base.toml"), format!("dataset-root = \"data\"\n{SMALL}"))
            .unwrap();
        let place = Self { folder };
        place.write(sweep);
        place
    }

    fn write(&self, sweep: &str) {
        let path = self.folder.path().join("sweep.toml");
        fs::write(path, format!("config = \"base.toml\"\n{sweep}")).unwrap();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn command(&self, more: &[&str]) -> Command {
        let mut command = command(&["sweep", "sweep.toml", "--out", "out"]);
        command.args(more).current_dir(self.folder.path());
        command
    }

    fn run(&self, more: &[&str]) -> Output {
        self.command(more).output().unwrap()
    }

    /// Rows of the table without its header, each as status and name.
    fn statuses(&self) -> Vec<(String, String)> {
        let mut table = csv::Reader::from_path(self.path("out/sweep.csv")).unwrap();
        let header = table.headers().unwrap().clone();
        let status = header.iter().position(|name| name == "status").unwrap();
        let rows = table.records().map(Result::unwrap);
        rows.map(|row| (row[status].to_owned(), row[0].to_owned())).collect()
    }
}

fn read(path: &Path) -> Vec<u8> {
    fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn a_failed_run_does_not_stop_the_others_and_is_retried() {
    const SWEEP: &str = "seeds = [0, 1]\n[base]\nepochs = 1\n[variants.scratch]\n\
        [variants.tuned]\npretrained = \"weights.safetensors\"\n";
    let place = Place::new(SWEEP);
    let planned = place.run(&["--dry-run"]);
    let words = text(&planned.stdout);
    assert!(planned.status.success() && !place.path("out").exists());
    assert!(
        words.contains("4 of 4  tuned_seed=1: pretrained weights.safetensors, seed 1"),
        "{words}"
    );

    let output = place.run(&["--jobs", "2"]);
    let (shown, news) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(1), "{news}");
    assert!(news.contains("1 of 4  scratch_seed=0: started"), "{news}");
    assert!(news.contains("1 of 4  scratch_seed=0: score 0."), "{news}");
    assert!(
        news.contains("3 of 4  tuned_seed=0: failed: --pretrained weights.safetensors: "),
        "{news}"
    );
    assert!(!news.contains("epoch 1/1"), "{news}");
    assert!(shown.contains("4 runs: 2 finished, 2 failed"), "{shown}");
    assert!(shown.contains(" ±\u{a0}") && shown.contains("0 of 2"), "{shown}");
    let expected = [
        ("finished", "scratch_seed=0"),
        ("finished", "scratch_seed=1"),
        ("failed", "tuned_seed=0"),
        ("failed", "tuned_seed=1"),
    ];
    let pairs = |expected: [(&str, &str); 4]| expected.map(|(a, b)| (a.to_owned(), b.to_owned()));
    assert_eq!(place.statuses(), pairs(expected));
    let log = text(&read(&place.path("out/scratch_seed=0/log.txt")));
    assert!(log.contains("epoch 1/1") && log.contains("done after 1 epoch"), "{log}");
    assert!(place.path("out/frames").exists());

    // The missing file exists now; finished runs stay as they are.
    let weights = place.path("out/scratch_seed=0").join(checkpoint::LAST);
    let before = (read(&weights), weights.metadata().unwrap().modified().unwrap());
    fs::copy(&weights, place.path("weights.safetensors")).unwrap();
    let output = place.run(&["--json", "--jobs", "2"]);
    let news = text(&output.stderr);
    assert!(output.status.success(), "{news}");
    assert!(!news.contains("scratch") && news.contains("tuned_seed=1: score 0."), "{news}");
    assert_eq!((read(&weights), weights.metadata().unwrap().modified().unwrap()), before);
    let json: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(json["runs"][3]["result"]["status"], "finished");
    assert_eq!(json["runs"][3]["result"]["best"]["epoch"], 1);
    assert_eq!(json["combinations"][0]["runs"]["finished"], 2);
    assert_eq!(json["combinations"][0]["score"]["n"], 2);
    assert!(!place.path("out/tuned_seed=0/error.txt").exists());

    // Nothing is left to do.
    let output = place.run(&[]);
    let news = text(&output.stderr);
    assert!(output.status.success() && !news.contains("started"), "{news}");
    assert!(text(&output.stdout).contains("4 runs: 4 finished"));

    // Another path to the same data is allowed, and reported.
    let base = fs::read_to_string(place.path("base.toml")).unwrap();
    fs::write(place.path("base.toml"), base.replace("\"data\"", "\"./data\"")).unwrap();
    let news = text(&place.run(&["--dry-run"]).stderr);
    assert!(news.contains("dataset-root has changed since 4 of the runs began"), "{news}");
    fs::write(place.path("base.toml"), base).unwrap();

    // Another sweep in the same folder, which would replace the table of this one.
    let table = read(&place.path("out/sweep.csv"));
    place.write(&SWEEP.replace("[variants.scratch]", "[variants.other]"));
    for more in [&[][..], &["--dry-run"]] {
        let output = place.run(more);
        assert_eq!(output.status.code(), Some(2));
        let error = last_error(&output);
        let why =
            "lists runs that are not part of this sweep: scratch_seed=0 and 1 more; choose another";
        assert!(error.starts_with("error: --out ") && error.contains(why), "{error}");
    }
    assert!(read(&place.path("out/sweep.csv")) == table);

    // Other options in the same folder.
    place.write(&SWEEP.replace("epochs = 1", "epochs = 2\nlr = 0.5"));
    for more in [&[][..], &["--dry-run"]] {
        let output = place.run(more);
        assert_eq!(output.status.code(), Some(2));
        let error = last_error(&output);
        let folder = Path::new("out").join("scratch_seed=0");
        let start = format!("error: --out {}: it holds a run with other options", folder.display());
        assert!(error.starts_with(&start), "{error}");
        assert!(error.contains("epochs was 1, is 2, lr was 0.0002, is 0.5"), "{error}");
    }
    assert_eq!(read(&weights), before.0);
}

#[test]
fn processes_share_the_runs() {
    let place = Place::new("[base]\nepochs = 1\n[grid]\nlr = [1e-3, 2e-3, 3e-3, 4e-3]\n");
    // Another run is writing to one of the folders.
    let held = place.path("out/lr=0.002");
    fs::create_dir_all(&held).unwrap();
    let lock = FolderLock::take(&held).unwrap();
    let start = || {
        let mut command = place.command(&[]);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().unwrap()
    };
    let outputs = [start(), start()].map(|child| child.wait_with_output().unwrap());
    for output in &outputs {
        let news = text(&output.stderr);
        assert!(output.status.success(), "{news}");
        assert!(news.contains("2 of 4  lr=0.002: another process is training it"), "{news}");
    }
    let statuses: Vec<String> = place.statuses().into_iter().map(|(status, _)| status).collect();
    let expected =
        ["finished", if lock.is_locked() { "running" } else { "finished" }, "finished", "finished"];
    assert_eq!(statuses, expected);
    // Each run was started once.
    for run in ["lr=0.001", "lr=0.003", "lr=0.004"] {
        let log = text(&read(&place.path("out").join(run).join("log.txt")));
        assert_eq!(log.matches("starting from scratch").count(), 1, "{log}");
    }
    assert!(!held.join("log.txt").exists());
    drop(lock);
    assert!(place.run(&[]).status.success());
    assert!(place.statuses().iter().all(|(status, _)| status == "finished"));
}

#[cfg(unix)]
#[test]
fn an_interrupted_sweep_resumes_to_the_same_weights() {
    use crate::common::wait::until;

    const SWEEP: &str = "[base]\nepochs = 10\nearly-stopping-patience = 0\n[grid]\nseed = [5, 6]\n";
    let place = Place::new(SWEEP);
    let last = |out: &str| place.path(out).join("seed=5").join(checkpoint::LAST);
    let mut command_line = place.command(&[]);
    let mut child = command_line.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    until("the first epoch", || last("out").exists());
    let id = child.id().to_string();
    assert!(Command::new("kill").args(["-s", "TERM", &id]).status().unwrap().success());
    assert_eq!(child.wait().unwrap().code(), Some(130));
    let statuses: Vec<String> = place.statuses().into_iter().map(|(status, _)| status).collect();
    assert_eq!(statuses, ["interrupted", "waiting"]);

    let output = place.run(&[]);
    let news = text(&output.stderr);
    assert!(output.status.success(), "{news}");
    assert!(news.contains("1 of 2  seed=5: resumed") && news.contains("2 of 2  seed=6: started"));
    let mut other = command(&["sweep", "sweep.toml", "--out", "other"]);
    place.write(&SWEEP.replace("[5, 6]", "[5]"));
    assert!(other.current_dir(place.folder.path()).output().unwrap().status.success());
    assert!(read(&last("out")) == read(&last("other")));
}
