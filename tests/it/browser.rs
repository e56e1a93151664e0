//! The report in a real browser: its contents, and that it makes no network requests.

use std::path::Path;
use std::process::Command;

use polyview::report::EpochRecord;
use tempfile::TempDir;

use crate::common::browser::{QUIET, browser};
use crate::common::run::{run, small_config, with};

/// Returns a file's URL: `file:///tmp/x`, on Windows `file:///C:/x`.
fn address(path: &Path) -> String {
    let path = path.to_str().unwrap().replace(std::path::MAIN_SEPARATOR, "/");
    format!("file:///{}", path.trim_start_matches('/'))
}

/// Opens a page; returns its DOM after loading, its console messages, and its network log.
fn open(browser: &str, page: &Path, folder: &Path) -> (String, Vec<String>, String) {
    let log = folder.join("net.json");
    let output = Command::new(browser)
        .args(QUIET)
        .args(["--disable-gpu", "--enable-logging=stderr", "--dump-dom"])
        .arg("--virtual-time-budget=2000")
        .arg(format!("--log-net-log={}", log.display()))
        .arg(format!("--user-data-dir={}", folder.join("profile").display()))
        .arg(address(page))
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    let console = stderr.lines().filter(|line| line.contains(":CONSOLE")).map(str::to_owned);
    let net = std::fs::read_to_string(&log).unwrap_or_default();
    (String::from_utf8(output.stdout).unwrap(), console.collect(), net)
}

/// Returns the part of the page from `start` up to `end`.
fn element<'a>(page: &'a str, start: &str, end: &str) -> &'a str {
    let from = page.find(start).unwrap_or_else(|| panic!("{start} is not in the page"));
    let length = page[from..].find(end).unwrap();
    &page[from..from + length]
}

/// Returns the whole numbers in the text between the tags.
fn numbers(html: &str) -> Vec<u64> {
    let mut text = String::new();
    let mut inside = false;
    for letter in html.chars() {
        match letter {
            '<' => inside = true,
            '>' => {
                inside = false;
                text.push(' ');
            }
            other if !inside => text.push(other),
            _ => {}
        }
    }
    text.split_whitespace().filter_map(|word| word.parse().ok()).collect()
}

#[test]
fn the_report_shows_the_run_without_network_requests() {
    let Some(browser) = browser() else { return };
    let folder = TempDir::new().unwrap();
    let config = with(&small_config(&folder), "--phase1-epochs 2 --phase2-epochs 2");
    let outcome = run(&config);
    let page = config.run.save_dir.join(polyview::train::REPORT);
    let (dom, console, net) = open(browser, &page, folder.path());
    assert!(console.is_empty(), "{console:?}");
    assert!(!net.is_empty(), "no network log was written");
    // The browser itself contacts its vendor's hosts; there may be no other requests.
    for request in net.split("\"url\":\"http").skip(1) {
        let url: String = request.chars().take_while(|letter| *letter != '"').collect();
        let host = url.split('/').nth(2).unwrap_or_default();
        let own = ["google.com", "googleapis.com", "gvt1.com", "gstatic.com"];
        let own = own.into_iter().any(|vendor| host.ends_with(vendor));
        assert!(own, "the page requested http{url}");
    }
    for outside in ["src=\"http", "href=\"http", "url(http", "@import", "<script"] {
        assert!(!dom.contains(outside), "{outside} is in the page");
    }
    // Curves: each figure has lines.
    for id in ["loss", "score", "rates", "data-wait", "task-action_class"] {
        let figure = element(&dom, &format!("<figure id=\"{id}\""), "</figure>");
        assert!(figure.contains("<svg") && figure.contains("<poly"), "{id}: {figure}");
    }
    // Matrices: those of the best epoch, number by number.
    let best: &EpochRecord = outcome.best().unwrap();
    for task in &best.valid.tasks {
        let all: Vec<u64> = task.confusion.concat();
        let start = format!("data-task=\"{}\"", task.task);
        let table = element(&dom, &start, "</table>");
        let shown = numbers(table);
        let found = shown.windows(all.len()).any(|window| window == all);
        // Rows may end with totals; then each row is compared separately.
        let rows = task.confusion.iter().all(|row| shown.windows(row.len()).any(|w| w == row));
        assert!(found || rows, "{}: {all:?} is not in {shown:?}", task.task);
    }
    for word in ["finished", "r3d_tiny", "phase2-epochs", "data:image/"] {
        assert!(dom.contains(word), "{word} is not in the page");
    }
}
