//! Training of a run in a child process.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Instant;

use super::folder::check;
use super::{Run, SweepError};
use crate::checkpoint::{self, CONFIG, CheckpointError, FAILURE, FolderLock, LOG};

/// Number of bytes at the end of a log that are searched for an error.
const TAIL_BYTES: u64 = 1 << 16;
/// Prefix of an error in a log.
const ERROR: &str = "error: ";

/// Why a run was not started.
pub(super) enum NotStarted {
    /// Another process is working on it.
    InUse,
    /// It could not be started, for this reason.
    Failed(String),
}

impl From<CheckpointError> for NotStarted {
    fn from(error: CheckpointError) -> Self {
        match error {
            CheckpointError::InUse { .. } => Self::InUse,
            other => Self::Failed(other.to_string()),
        }
    }
}

impl From<SweepError> for NotStarted {
    fn from(error: SweepError) -> Self {
        Self::Failed(error.to_string())
    }
}

/// Creates a run's folder and claims it.
pub(super) fn claim(run: &Run) -> Result<FolderLock, NotStarted> {
    let fail = |source| CheckpointError::Write { path: run.folder.clone(), source };
    fs::create_dir_all(&run.folder).map_err(fail)?;
    Ok(FolderLock::claim(&run.folder)?)
}

/// A started run.
pub(super) struct Job {
    /// Index of the run in the sweep.
    pub index: usize,
    pub started: Instant,
    child: Child,
    /// Length of the log before this start.
    log: u64,
    /// Whether the run has been asked to end.
    stopped: bool,
    _claim: FolderLock,
}

impl Job {
    /// Starts or resumes a run with `program`, the polyview executable.
    pub(super) fn start(
        run: &Run,
        index: usize,
        program: &Path,
        claim: FolderLock,
    ) -> Result<Self, NotStarted> {
        check(run)?;
        let config = run.folder.join(CONFIG);
        checkpoint::write_text(&config, toml::to_string(&run.config))?;
        let path = run.folder.join(LOG);
        let fail = |source| CheckpointError::Write { path: path.clone(), source };
        let log = OpenOptions::new().create(true).append(true).open(&path).map_err(fail)?;
        let length = log.metadata().map_err(fail)?.len();
        let other = log.try_clone().map_err(fail)?;
        let failure = run.folder.join(FAILURE);
        match checkpoint::patiently(|| fs::remove_file(&failure)) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                return Err(CheckpointError::Write { path: failure, source }.into());
            }
            _ => {}
        }
        let mut command = Command::new(program);
        command.args(["train", "--config"]).arg(&config).args(["--resume", "auto"]);
        command.stdin(Stdio::null()).stdout(log).stderr(other);
        let child = command.spawn().map_err(|error| {
            NotStarted::Failed(format!("{} cannot be started: {error}", program.display()))
        })?;
        Ok(Self {
            index,
            started: Instant::now(),
            child,
            log: length,
            stopped: false,
            _claim: claim,
        })
    }

    /// Returns the exit status of the run; `None` while it is running.
    pub(super) fn ended(&mut self) -> io::Result<Option<ExitStatus>> {
        self.child.try_wait()
    }

    /// Asks the run to end, once. This is done by SIGTERM, because a terminal's Ctrl-C has already reached
    /// the run and would end it at once the second time. Windows has no such signal; there, the console's
    /// events reach all processes.
    pub(super) fn stop(&mut self) {
        if std::mem::replace(&mut self.stopped, true) {
            return;
        }
        #[cfg(unix)]
        {
            use sysinfo::{Pid, ProcessesToUpdate, Signal, System};
            // A child that has not been waited for keeps its process ID.
            let id = Pid::from_u32(self.child.id());
            let mut system = System::new();
            system.refresh_processes(ProcessesToUpdate::Some(&[id]), false);
            let sent = system.process(id).and_then(|process| process.kill_with(Signal::Term));
            if sent != Some(true) {
                log::debug!("process {id} could not be asked to end");
            }
        }
    }

    /// Returns why the run failed: the error that it printed, or how its process ended.
    pub(super) fn reason(&self, run: &Run, status: &str) -> String {
        let printed = error_in(&run.folder.join(LOG), self.log).ok().flatten();
        printed.unwrap_or_else(|| format!("its process ended ({status})"))
    }
}

/// Returns the last error in a log, ignoring the first `from` bytes. If it introduces a list, the first
/// entry is included.
fn error_in(log: &Path, from: u64) -> io::Result<Option<String>> {
    let mut file = File::open(log)?;
    let from = from.max(file.metadata()?.len().saturating_sub(TAIL_BYTES));
    file.seek(SeekFrom::Start(from))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().collect();
    let Some(index) = lines.iter().rposition(|line| line.starts_with(ERROR)) else {
        return Ok(None);
    };
    let error = &lines[index][ERROR.len()..];
    let entry = lines.get(index + 1).filter(|line| error.ends_with(':') && line.starts_with(' '));
    Ok(Some(match entry {
        Some(entry) => format!("{error} {}", entry.trim()),
        None => error.to_owned(),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_error_is_found_with_the_first_entry_of_its_list() {
        let folder = tempfile::tempdir().expect("a folder for temporary files");
        let log = folder.path().join(LOG);
        let found = |text: &str, from: u64| {
            std::fs::write(&log, text).expect("the folder is writable");
            error_in(&log, from).expect("the log is there")
        };
        assert_eq!(found("epoch 1\n", 0), None);
        assert_eq!(found("error: a\nmore\nerror: b\n", 0).as_deref(), Some("b"));
        assert_eq!(found("error: a\nmore\n", 9), None);
        let list = found("error: two clips:\n  x.mp4: empty\n  y.mp4: empty\n", 0);
        assert_eq!(list.as_deref(), Some("two clips: x.mp4: empty"));
        assert_eq!(found("error: odd:\n", 0).as_deref(), Some("odd:"));
    }
}
