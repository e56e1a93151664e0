//! `polyview serve` as a user runs it.
#![cfg(unix)]

use std::env::{join_paths, split_paths};
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use polyview::checkpoint;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::common::http::{answer, form, get, post, send_form};
use crate::common::program::{command, last_error, text};
use crate::common::serve::{clips, network};
use crate::common::wait;

/// Running server program, with a folder for the files that it stores.
struct Program {
    child: Child,
    address: SocketAddr,
    checkpoint: PathBuf,
    folder: TempDir,
}

fn serve(checkpoint: &Path, temporary: &Path, more: &[&str]) -> Command {
    let mut serve = command(&["serve", "--device", "cpu", "--checkpoint"]);
    serve.arg(checkpoint).args(more).env("TMPDIR", temporary).stdout(Stdio::piped());
    serve
}

impl Program {
    fn start(more: &[&str]) -> Self {
        Self::start_in(TempDir::new().unwrap(), more)
    }

    /// Starts a server that stores files in this folder and finds programs in its `bin`, if there
    /// is one, before others.
    fn start_in(folder: TempDir, more: &[&str]) -> Self {
        let checkpoint = folder.path().join("best.safetensors");
        let (net, info) = network([2, 16, 16]);
        checkpoint::save(&checkpoint, &net, &info).unwrap();
        let temporary = folder.path().join("tmp");
        fs::create_dir(&temporary).unwrap();
        let more = [&["--port", "0"], more].concat();
        let others = std::env::var_os("PATH").unwrap_or_default();
        let programs = [folder.path().join("bin")].into_iter().chain(split_paths(&others));
        let mut serve = serve(&checkpoint, &temporary, &more);
        serve.env("PATH", join_paths(programs).unwrap()).stderr(Stdio::piped());
        let mut child = serve.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("http://").and_then(|l| l.strip_suffix('/'));
        let address = address.unwrap_or_else(|| panic!("{line:?}")).parse().unwrap();
        Self { child, address, checkpoint, folder }
    }

    /// Returns the number of folders that the server has created, and of the uploads in them.
    fn stored(&self) -> (usize, usize) {
        let inside: Vec<PathBuf> = fs::read_dir(self.folder.path().join("tmp"))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        let uploads = inside.iter().map(|folder| fs::read_dir(folder).unwrap().count()).sum();
        (inside.len(), uploads)
    }

    /// Returns what the server has written to stderr until it ended.
    fn log(&mut self) -> String {
        let mut log = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut log).unwrap();
        log
    }

    /// Sends the signal and returns the exit code.
    fn end(&mut self, signal: &str) -> Option<i32> {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args(["-s", signal, &id]).status().unwrap().success());
        self.child.wait().unwrap().code()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // Both fail on a child that has already been waited for.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_prediction_equals_that_of_predict() {
    let mut program = Program::start(&["--min-confidence", "0.5"]);
    let [first, second] = clips();
    let names = ["clip_0.mp4", "broken.mp4", "clip_1.mp4"];
    let contents: [&[u8]; 3] = [first, b"x", second];
    let given: Vec<(&str, &[u8])> = names.into_iter().zip(contents).collect();
    let answer = post(program.address, &given);
    assert_eq!(answer.status, 200, "{answer:?}");
    let mut served = answer.json();
    for key in ["seconds", "waited"] {
        let seconds = served.as_object_mut().unwrap().remove(key).unwrap();
        assert!(seconds.as_f64().unwrap() >= 0.0);
    }
    for (name, content) in &given {
        fs::write(program.folder.path().join(name), content).unwrap();
    }
    let mut predict = command(&["predict", "--json", "--device=cpu", "--min-confidence=0.5"]);
    let predict = predict.args(["--top", "99"]).arg("--checkpoint").arg(&program.checkpoint);
    let predicted = predict.args(names).current_dir(program.folder.path()).output().unwrap();
    assert!(predicted.status.success(), "{}", text(&predicted.stderr));
    let predicted: Value = serde_json::from_slice(&predicted.stdout).unwrap();
    assert_eq!(json!([served]), predicted);
    assert!(!served["undecided"].as_array().unwrap().is_empty());
    let classes: usize =
        served["tasks"].as_object().unwrap().values().map(|t| t.as_array().unwrap().len()).sum();
    let about = get(program.address, "/api/model").json();
    let tasks = about["tasks"].as_array().unwrap();
    let listed: usize = tasks.iter().map(|task| task["classes"].as_array().unwrap().len()).sum();
    assert_eq!(classes, listed);
    assert_eq!((&about["checkpoint"], &about["epoch"]), (&"best.safetensors".into(), &3.into()));
    assert_eq!(about["input"]["window"], "2..5");

    // The port is taken.
    let port = program.address.port().to_string();
    let mut again = serve(&program.checkpoint, program.folder.path(), &["--port", &port]);
    let again = again.output().unwrap();
    assert_eq!(again.status.code(), Some(1));
    let error = last_error(&again);
    assert!(error.contains(&format!("127.0.0.1:{port}: ")) && error.contains("--port"), "{error}");

    assert_eq!(program.stored(), (1, 0));
    assert_eq!(program.end("INT"), Some(0));
    let log = program.log();
    assert_eq!(log.matches("POST /api/predictions: 200 OK in ").count(), 1, "{log}");
    assert!(!log.contains("/api/model"), "{log}");
    assert_eq!(program.stored(), (0, 0));
}

#[test]
fn a_client_that_disconnects_ends_the_decoding_of_its_clips() {
    // An ffmpeg that works but never finishes with a clip.
    let folder = TempDir::new().unwrap();
    let (bin, started) = (folder.path().join("bin"), folder.path().join("started"));
    fs::create_dir(&bin).unwrap();
    let script = format!(
        "#!/bin/sh\nfor word; do case \"$word\" in file:*) echo $$ > '{}'; exec sleep 600;; esac; done\n\
         cat > /dev/null; echo '0, 0, 0, 1, 12, 0x0'\n",
        started.display()
    );
    // Written by another process: see video_ffmpeg_program.rs.
    let write = r#"printf '%s' "$1" > "$2"; chmod 755 "$2""#;
    let mut shell = Command::new("/bin/sh");
    shell.args(["-c", write, "sh", &script]).arg(bin.join("ffmpeg"));
    assert!(shell.status().unwrap().success());
    let mut program = Program::start_in(folder, &[]);
    let waits = send_form(program.address, &form(&[("clip", "a.mkv", b"\x1A\x45\xDF\xA3")]));
    let number = || fs::read_to_string(&started).unwrap_or_default();
    wait::until("ffmpeg has a clip", || number().ends_with('\n'));
    drop(waits);
    // The next client does not wait for it.
    let [clip, _] = clips();
    assert_eq!(post(program.address, &[("a.mp4", clip)]).status, 200);
    let mut there = Command::new("kill");
    there.args(["-s", "0", number().trim()]).stderr(Stdio::null());
    assert!(!there.status().unwrap().success(), "ffmpeg still runs");
    assert_eq!(program.stored(), (1, 0));
    assert_eq!(program.end("TERM"), Some(0));
    let log = program.log();
    assert_eq!(log.matches("predictions: given up after").count(), 1, "{log}");
}

#[cfg(target_os = "linux")]
#[test]
fn forty_uploads_at_once_take_neither_memory_nor_disk() {
    use crate::common::program::peak_memory;

    let mut program = Program::start(&[]);
    let [clip, _] = clips();
    assert_eq!(post(program.address, &[("a.mp4", clip)]).status, 200);
    let before = peak_memory(&program.child);
    // A clip with a box of the container that holds no data.
    let mut large = [clip, &(4_u32 << 20).to_be_bytes()[..], b"free"].concat();
    large.resize(clip.len() + (4 << 20), 9);
    let body = form(&[("clip", "a.mp4", clip), ("clip", "large.mp4", &large)]);
    assert_eq!(
        answer(send_form(program.address, &body)).unwrap().json()["views"][1]["clip"],
        "large.mp4"
    );
    let statuses: Vec<u16> = std::thread::scope(|scope| {
        let upload = || answer(send_form(program.address, &body)).map_or(0, |answer| answer.status);
        let uploads: Vec<_> = (0..40).map(|_| scope.spawn(upload)).collect();
        uploads.into_iter().map(|upload| upload.join().unwrap()).collect()
    });
    assert!(statuses.iter().all(|status| [200, 503].contains(status)), "{statuses:?}");
    assert!(statuses.contains(&200), "{statuses:?}");
    let more = peak_memory(&program.child) - before;
    assert!(more < 64 << 20, "{more} bytes for 40 uploads");
    assert_eq!(program.stored(), (1, 0));
    // The server ends during an unfinished upload.
    let unfinished = send_form(program.address, &body[..body.len() - 1]);
    assert_eq!(program.end("TERM"), Some(0));
    assert_eq!(program.stored(), (0, 0));
    drop(unfinished);
}
