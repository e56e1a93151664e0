//! Tests that cannot run on this machine.

use std::fmt::Display;
use std::fs::OpenOptions;
use std::io::Write;

/// Environment variable that names the file that collects the skips; `scripts/test.sh` sets it and
/// counts the lines.
const RECORD: &str = "POLYVIEW_SKIPS";

/// Reports that the calling test, or a part of it, does not run, and why. Every skip goes through
/// here, so that none goes unnoticed: the reason is printed and appended to the file named by
/// `POLYVIEW_SKIPS` as a line "test name, tab, reason".
pub fn skip(why: impl Display) {
    let why = why.to_string().replace('\n', " ");
    println!("skipped: {why}");
    let Some(path) = std::env::var_os(RECORD) else { return };
    let thread = std::thread::current();
    // libtest names a test's thread after the test.
    let line = format!("{}\t{why}\n", thread.name().unwrap_or("unnamed test"));
    let file = OpenOptions::new().create(true).append(true).open(path);
    // One write per line: tests append concurrently.
    let written = file.and_then(|mut file| file.write_all(line.as_bytes()));
    written.expect("the file named by POLYVIEW_SKIPS can be written");
}

/// Reports a skip, or fails if the environment variable `required` is 1.
pub fn skip_unless_required(required: &str, why: impl Display) {
    assert!(!forbidden(required), "{required}=1, but {why}");
    skip(why);
}

/// Checks whether the environment forbids skipping: `POLYVIEW_REQUIRE_…=1`.
pub fn forbidden(variable: &str) -> bool {
    std::env::var_os(variable).is_some_and(|value| value == "1")
}
