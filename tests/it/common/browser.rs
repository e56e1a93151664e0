//! Headless Chromium, for tests of pages and of scripts that use WebGPU.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use serde::Serialize;
use serde_json::Value;

use super::skip;

/// Environment variable that, set to 1, makes tests fail on a machine without Chromium.
const REQUIRED: &str = "POLYVIEW_REQUIRE_BROWSER";

/// Returns the name of the Chromium program. Without one the test is skipped, or fails if
/// `POLYVIEW_REQUIRE_BROWSER=1`.
pub fn browser() -> Option<&'static str> {
    let names = ["chromium", "chromium-browser", "google-chrome"];
    let works = |name: &&str| Command::new(name).arg("--version").output().is_ok();
    let found = names.into_iter().find(works);
    if found.is_none() {
        skip::skip_unless_required(REQUIRED, "no Chromium on this machine");
    }
    found
}

/// Arguments for every start: no window, no sandbox (which needs privileges that containers lack), and
/// no background requests.
pub const QUIET: [&str; 7] = [
    "--headless",
    "--no-sandbox",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--disable-quic",
];

/// Arguments that select Chromium's own software adapter, which needs no GPU, and turn the watchdog
/// off: a shader that takes long on a busy machine must not count as a hang.
const WEBGPU: [&str; 3] =
    ["--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader", "--disable-gpu-watchdog"];

/// Time limit for the page's answer; long, for machines that are busy with other tests.
const PATIENCE: Duration = Duration::from_secs(300);

const PAGE: &str = r#"<!doctype html><meta charset="utf-8"><script type="module">
const answer = await (async () => {
  try {
    const { run } = await import('/script.js');
    return { done: await run(await (await fetch('/task.json')).json()) };
  } catch (error) {
    return { failed: `${error}\n${error.stack}` };
  }
})();
await fetch('/answer', { method: 'POST', body: JSON.stringify(answer) });
</script>"#;

/// Returns what the script's `run(task)` returns in a page with WebGPU, or `None` after reporting a
/// skip. This function serves the page itself: WebGPU needs a secure context, and 127.0.0.1 is one.
pub fn run_script(script: &str, task: &impl Serialize) -> Option<Value> {
    run_script_with(script, task, HashMap::new())
}

/// Like [`run_script`], for a script that may fetch `files` by name from `/files/`.
pub fn run_script_with(
    script: &str,
    task: &impl Serialize,
    files: HashMap<String, Vec<u8>>,
) -> Option<Value> {
    let browser = browser()?;
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}/", listener.local_addr().unwrap());
    let task = serde_json::to_string(task).unwrap();
    let served = Arc::new(Served { script: script.to_owned(), task, files });
    let (answered, answer) = mpsc::channel();
    // This thread runs until the tests end; without the browser it gets no requests.
    thread::spawn(move || {
        for stream in listener.incoming() {
            let (served, answered) = (served.clone(), answered.clone());
            thread::spawn(move || serve(stream.unwrap(), &served, &answered));
        }
    });
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    let mut child = KilledOnDrop(
        Command::new(browser)
            .args(QUIET)
            .args(WEBGPU)
            .arg(format!("--user-data-dir={}", folder.path().join("profile").display()))
            .arg(address)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&log).unwrap())
            .spawn()
            .unwrap(),
    );
    let start = Instant::now();
    let answer = loop {
        if let Ok(answer) = answer.recv_timeout(Duration::from_millis(500)) {
            break answer;
        }
        let ended = child.0.try_wait().unwrap();
        if ended.is_some() || start.elapsed() > PATIENCE {
            let log = fs::read_to_string(&log).unwrap();
            panic!("no answer from the page; {browser} ended: {ended:?}\n{log}");
        }
    };
    drop(child);
    let mut answer: Value = serde_json::from_str(&answer).unwrap();
    assert!(answer.get("failed").is_none(), "in the page: {}", answer["failed"]);
    Some(answer["done"].take())
}

/// A process that is killed when dropped.
struct KilledOnDrop(Child);

impl Drop for KilledOnDrop {
    fn drop(&mut self) {
        // It may have exited already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What the server offers besides the page.
struct Served {
    script: String,
    task: String,
    files: HashMap<String, Vec<u8>>,
}

/// Answers the only request of a connection.
fn serve(stream: TcpStream, served: &Served, answered: &mpsc::Sender<String>) {
    let mut reader = BufReader::new(&stream);
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        match reader.read_line(&mut line) {
            // The browser closed the connection without a request.
            Ok(0) | Err(_) => return,
            Ok(_) if line.trim().is_empty() => break,
            Ok(_) => lines.push(line.to_ascii_lowercase()),
        }
    }
    let path = lines[0].split(' ').nth(1).unwrap_or_default();
    let file = path.strip_prefix("/files/").and_then(|name| served.files.get(name));
    let (status, kind, body): (_, _, &[u8]) = match (path, file) {
        ("/", _) => ("200 OK", "text/html", PAGE.as_bytes()),
        ("/script.js", _) => ("200 OK", "text/javascript", served.script.as_bytes()),
        ("/task.json", _) => ("200 OK", "application/json", served.task.as_bytes()),
        ("/answer", _) => ("200 OK", "text/plain", b""),
        (_, Some(file)) => ("200 OK", "application/octet-stream", file),
        _ => ("404 Not Found", "text/plain", b""),
    };
    if path == "/answer" {
        let length = lines.iter().find_map(|line| line.strip_prefix("content-length:"));
        let mut posted = vec![0; length.unwrap().trim().parse().unwrap()];
        reader.read_exact(&mut posted).unwrap();
        // The receiver is gone if the test has failed in the meantime.
        let _ = answered.send(String::from_utf8(posted).unwrap());
    }
    let head = format!(
        "HTTP/1.1 {status}\r\ncontent-type: {kind}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        body.len()
    );
    // This fails if the browser is gone.
    let _ = (&stream).write_all(head.as_bytes()).and_then(|()| (&stream).write_all(body));
}
