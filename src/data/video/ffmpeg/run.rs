//! Runs the ffmpeg program.

use std::io::{self, BufRead, BufReader, Read};
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::super::cancel::{self, Cancel};

/// Options of every run: the log contains only errors, each preceded by its level, and none is
/// summarised as "last message repeated".
const QUIET: [&str; 5] = ["-hide_banner", "-nostdin", "-nostats", "-v", "repeat+level+error"];

/// Maximum number of log messages that are kept.
const MAX_MESSAGES: usize = 256;

/// Maximum number of bytes of a line that are read at once.
const MAX_LINE: u64 = 4096;

/// Maximum number of characters of a message that are kept.
const MAX_MESSAGE: usize = 200;

/// Interval at which a cancellable run is checked for cancellation.
const TICK: Duration = Duration::from_millis(20);

/// Returns a command for ffmpeg, which is found on the PATH, with the options of every run.
pub(super) fn command() -> Command {
    let mut command = Command::new("ffmpeg");
    command.args(QUIET).env("AV_LOG_FORCE_NOCOLOR", "1").stdin(Stdio::null());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    #[cfg(unix)]
    {
        // ffmpeg gets its own process group: Ctrl-C is sent to the terminal's whole group, and the
        // current clip would fail.
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        // Statically linked programs crash in the C library's character conversion, which opens
        // modules of another version. ffmpeg uses it for the names of TV services, not for pictures.
        command.env("GCONV_PATH", "/nonexistent");
    }
    // Without a console window, which could receive Ctrl-C and would flash up.
    #[cfg(windows)]
    std::os::windows::process::CommandExt::creation_flags(&mut command, 0x0800_0000);
    command
}

/// A running ffmpeg. It is killed when dropped, so that an error on our side leaves no process
/// behind, and when the reading of its clip is cancelled.
pub(super) struct Run {
    child: Arc<Mutex<Child>>,
    /// Whether another thread may kill the process.
    cancellable: bool,
    log: Option<JoinHandle<Log>>,
}

/// The result of a run.
pub(super) struct Ended {
    pub status: ExitStatus,
    pub log: Log,
}

impl Run {
    /// Starts the process and a thread that reads its log; without it, ffmpeg would block on a full
    /// pipe. If the reading can be cancelled, another thread kills the process on cancellation,
    /// which also ends a blocking read of its output.
    pub(super) fn start(command: &mut Command) -> io::Result<Self> {
        let cancel = cancel::current();
        if cancel.as_ref().is_some_and(Cancel::has_ended) {
            return Err(io::ErrorKind::Interrupted.into());
        }
        let child = Arc::new(Mutex::new(command.spawn()?));
        let mut run = Self { child, cancellable: cancel.is_some(), log: None };
        let stderr = run.child().stderr.take();
        if let Some(stderr) = stderr {
            let reader = thread::Builder::new().name("ffmpeg log".into());
            run.log = Some(reader.spawn(|| Log::read(stderr))?);
        }
        if let Some(cancel) = cancel {
            let child = Arc::downgrade(&run.child);
            let watcher = thread::Builder::new().name("ffmpeg end".into());
            watcher.spawn(move || watch(&child, &cancel))?;
        }
        Ok(run)
    }

    fn child(&self) -> MutexGuard<'_, Child> {
        lock(&self.child)
    }

    /// Returns the standard input, if it is piped.
    pub(super) fn input(&mut self) -> Option<ChildStdin> {
        self.child().stdin.take()
    }

    /// Returns the standard output.
    pub(super) fn output(&mut self) -> Option<ChildStdout> {
        self.child().stdout.take()
    }

    /// Waits until the process ends.
    pub(super) fn end(mut self) -> io::Result<Ended> {
        // The process would block on unread output in the pipe.
        drop(self.output());
        let status = self.wait()?;
        let log = self.log.take().and_then(|log| log.join().ok()).unwrap_or_default();
        Ok(Ended { status, log })
    }

    fn wait(&self) -> io::Result<ExitStatus> {
        if !self.cancellable {
            return self.child().wait();
        }
        // The lock must not be held while waiting: the thread that kills the process needs it.
        loop {
            if let Some(status) = self.child().try_wait()? {
                return Ok(status);
            }
            thread::sleep(TICK / 10);
        }
    }
}

/// Kills the process when the reading is cancelled, unless it ends before.
fn watch(child: &Weak<Mutex<Child>>, cancel: &Cancel) {
    while let Some(child) = child.upgrade() {
        if cancel.has_ended() {
            // This fails if the process has already ended.
            let _ = lock(&child).kill();
            return;
        }
        drop(child);
        thread::sleep(TICK);
    }
}

fn lock(child: &Mutex<Child>) -> MutexGuard<'_, Child> {
    child.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Drop for Run {
    fn drop(&mut self) {
        // Both fail if the process has already ended, which is fine.
        let mut child = self.child();
        let _ = child.kill();
        let _ = child.wait();
    }
}

/// The errors that a run reported.
#[derive(Default)]
pub(super) struct Log {
    /// The first messages, without the reporting component, whose address differs between runs.
    pub messages: Vec<String>,
    /// Number of messages.
    pub count: usize,
    /// The last line that is not from ffmpeg's log, such as a message of the dynamic linker.
    other: Option<String>,
}

impl Log {
    fn read(stderr: ChildStderr) -> Self {
        let mut log = Self::default();
        let mut stderr = BufReader::new(stderr);
        let mut line = Vec::new();
        loop {
            line.clear();
            match stderr.by_ref().take(MAX_LINE).read_until(b'\n', &mut line) {
                Ok(0) | Err(_) => return log,
                Ok(_) => log.add(&String::from_utf8_lossy(&line)),
            }
        }
    }

    fn add(&mut self, line: &str) {
        let level = ["[error] ", "[fatal] ", "[panic] "];
        let start = level.iter().filter_map(|level| Some(line.find(level)? + level.len())).min();
        match start.filter(|_| line.starts_with('[')) {
            Some(start) if line[start..].trim().is_empty() => {}
            Some(start) => {
                self.count += 1;
                if self.messages.len() < MAX_MESSAGES {
                    self.messages.push(tidy(&line[start..]));
                }
            }
            None if line.trim().is_empty() => {}
            None => self.other = Some(tidy(line)),
        }
    }

    /// Returns the first error, which is the cause; the others are its consequences.
    pub(super) fn first(&self) -> Option<&str> {
        self.messages.first().or(self.other.as_ref()).map(String::as_str)
    }

    /// Returns the first message that occurs more often than in `opening`.
    pub(super) fn first_beyond(&self, opening: &Self) -> Option<&str> {
        let mut known: Vec<&String> = opening.messages.iter().collect();
        let mut all = self.messages.iter();
        all.find(|&message| match known.iter().position(|&known| known == message) {
            Some(at) => {
                known.swap_remove(at);
                false
            }
            None => true,
        })
        .map(String::as_str)
    }
}

/// Makes a message fit into a line: without control characters and shortened.
fn tidy(message: &str) -> String {
    let message = message.trim().trim_end_matches('.');
    let plain = message.chars().map(|c| if c.is_control() { ' ' } else { c });
    plain.take(MAX_MESSAGE).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(text: &str) -> Log {
        let mut log = Log::default();
        text.lines().for_each(|line| log.add(line));
        log
    }

    #[test]
    fn errors_are_recognised_by_their_level() {
        let log = log("ffmpeg: libx.so.9: version not found\n\
             [h264 @ 0x5581] [error] non-existing PPS 0 referenced\n\
             [in#0 @ 0x1] [dec:h264 @ 0x2] [error] Error submitting packet\n\
             [fatal] Stream map '0:V:0' matches no streams.\n\
             To ignore this, add a trailing '?' to the map.");
        assert_eq!(log.count, 3);
        assert_eq!(
            log.messages[1..],
            [
                "Error submitting packet".to_owned(),
                "Stream map '0:V:0' matches no streams".to_owned()
            ]
        );
        assert_eq!(log.first(), Some("non-existing PPS 0 referenced"));
        assert_eq!(self::log("not found\n\n").first(), Some("not found"));
    }

    /// The first script blocks a read of its output, the second one the wait for its end.
    #[cfg(unix)]
    #[test]
    fn a_run_ends_when_its_reading_is_cancelled() {
        let sleep = |script: &str| {
            let mut command = Command::new("/bin/sh");
            command.args(["-c", script]).stdout(Stdio::piped()).stderr(Stdio::piped());
            command
        };
        let path = std::path::Path::new("a.mkv");
        for script in ["exec sleep 600", "exec sleep 600 >&- 2>&-"] {
            let cancel = Cancel::default();
            let ended = cancel.reading(path, || {
                let mut run = Run::start(&mut sleep(script)).unwrap();
                let mut output = run.output().unwrap();
                cancel.after(Duration::from_millis(100));
                assert_eq!(output.read(&mut [0]).unwrap(), 0);
                assert!(!run.end().unwrap().status.success());
                assert!(Run::start(&mut sleep("exit 0")).is_err());
                Err::<(), _>(super::super::unusable(path, "killed"))
            });
            assert_eq!(ended.unwrap_err().kind(), "given up");
        }
    }

    #[test]
    fn messages_from_opening_a_file_are_not_counted_again() {
        let opening = log("[mp3 @ 0x1] [error] Header missing\n[fatal] no output file");
        let same = log("[mp3 @ 0x2] [error] Header missing");
        assert_eq!(same.first_beyond(&opening), None);
        let more = log("[mp3 @ 0x2] [error] Header missing\n[mp3 @ 0x2] [error] Header missing");
        assert_eq!(more.first_beyond(&opening), Some("Header missing"));
    }
}
