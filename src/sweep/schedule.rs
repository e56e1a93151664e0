//! Scheduling of a sweep's runs.

use std::path::Path;
use std::process::ExitStatus;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use super::folder::{check, has_checkpoint, read_result};
use super::job::{Job, NotStarted, claim};
use super::results::{protect_other_sweep, results_csv};
use super::{Run, RunResult, Status, Sweep, SweepError, TABLE};
use crate::checkpoint::{CheckpointError, FAILURE, write_atomically};

/// Interval at which the child processes are polled.
const POLL_INTERVAL: Duration = Duration::from_millis(50);
/// Exit status of a run that was interrupted.
const INTERRUPTED: i32 = 130;

/// Event in the course of a sweep.
#[derive(Debug)]
pub enum SweepEvent<'a> {
    /// A run was started or resumed.
    Started {
        /// Index of the run, from 0.
        index: usize,
        /// Whether it continues from a checkpoint.
        resumes: bool,
    },
    /// A run is left to another process that is working on it.
    Elsewhere {
        /// Index of the run, from 0.
        index: usize,
    },
    /// A run's process has ended, or could not be started.
    Ended {
        /// Index of the run, from 0.
        index: usize,
        /// Status and results of the run.
        result: &'a RunResult,
        /// How long the process ran.
        took: Duration,
    },
}

impl Sweep {
    /// Returns the status and results of each run, in order.
    pub fn results(&self) -> Vec<RunResult> {
        self.runs.iter().map(read_result).collect()
    }

    /// Refuses folders that hold runs with other options, and a table of another sweep.
    ///
    /// # Errors
    /// [`SweepError::Folder`], [`SweepError::Others`].
    pub fn check(&self) -> Result<(), SweepError> {
        protect_other_sweep(self)?;
        let mut moved = 0;
        for run in &self.runs {
            let saved = check(run)?;
            moved += usize::from(
                saved.is_some_and(|saved| saved.data.dataset_root != run.config.data.dataset_root),
            );
        }
        if moved > 0 {
            log::warn!("dataset-root has changed since {moved} of the runs began");
        }
        Ok(())
    }

    /// Trains every run that is not finished, `jobs` at once, in child processes of `program`, the polyview
    /// executable. Runs that another process is working on are left to it. Raising `stop` asks the children
    /// to end and waits for them. The table in [`TABLE`] is written after each run. Returns the status and
    /// results of each run, in order.
    ///
    /// # Errors
    /// A folder that holds another run, before any is started; a table that cannot be written, after all
    /// have ended. A run that fails is not an error.
    pub fn run(
        &self,
        program: &Path,
        jobs: usize,
        stop: &AtomicBool,
        observer: &mut dyn FnMut(&SweepEvent),
    ) -> Result<Vec<RunResult>, SweepError> {
        std::fs::create_dir_all(&self.out)
            .map_err(|source| CheckpointError::Write { path: self.out.clone(), source })?;
        self.check()?;
        let count = self.runs.len();
        let mut schedule = Schedule {
            sweep: self,
            program,
            observer,
            results: self.results(),
            failures: self.runs.iter().map(failure_time).collect(),
            settled: vec![false; count],
            elsewhere: vec![false; count],
            jobs: Vec::new(),
        };
        schedule.write_table()?;
        // Only the end of a run makes room for another.
        let mut room = true;
        loop {
            let stopping = stop.load(Ordering::Relaxed);
            if schedule.close_ended(stopping) {
                room = true;
                if let Err(error) = schedule.write_table() {
                    log::warn!("{error}");
                }
            }
            if stopping {
                schedule.jobs.iter_mut().for_each(Job::stop);
            } else if std::mem::take(&mut room) {
                schedule.fill(jobs);
            }
            if schedule.jobs.is_empty() {
                break;
            }
            std::thread::sleep(POLL_INTERVAL);
        }
        schedule.write_table()?;
        Ok(schedule.results)
    }
}

/// Returns when a run failed, if it did.
fn failure_time(run: &Run) -> Option<SystemTime> {
    run.folder.join(FAILURE).metadata().and_then(|file| file.modified()).ok()
}

struct Schedule<'a> {
    sweep: &'a Sweep,
    program: &'a Path,
    observer: &'a mut dyn FnMut(&SweepEvent),
    results: Vec<RunResult>,
    /// When each run had failed before this process began; such runs are tried again.
    failures: Vec<Option<SystemTime>>,
    /// Whether this process is done with each run.
    settled: Vec<bool>,
    /// Whether another process was working on each run when it was last checked.
    elsewhere: Vec<bool>,
    jobs: Vec<Job>,
}

impl Schedule<'_> {
    /// Starts runs until `jobs` of them are running.
    fn fill(&mut self, jobs: usize) {
        for index in 0..self.sweep.runs.len() {
            if self.jobs.len() >= jobs {
                return;
            }
            let ours = self.jobs.iter().any(|job| job.index == index);
            if ours || self.settled[index] || self.is_done(index) {
                continue;
            }
            match self.start(index) {
                Ok(job) => self.jobs.extend(job),
                Err(NotStarted::InUse) => {
                    if !std::mem::replace(&mut self.elsewhere[index], true) {
                        (self.observer)(&SweepEvent::Elsewhere { index });
                    }
                }
                Err(NotStarted::Failed(reason)) => self.fail(index, reason, Duration::ZERO),
            }
        }
    }

    /// Returns whether a run is finished, or has failed in another process since this one began; then its
    /// result is recorded.
    fn is_done(&mut self, index: usize) -> bool {
        let run = &self.sweep.runs[index];
        let result = read_result(run);
        let done = match result.status {
            Status::Finished => true,
            Status::Failed => failure_time(run) != self.failures[index],
            _ => false,
        };
        if done {
            (self.results[index], self.settled[index]) = (result, true);
        }
        done
    }

    /// Starts a run, unless another process has just finished it.
    fn start(&mut self, index: usize) -> Result<Option<Job>, NotStarted> {
        let run = &self.sweep.runs[index];
        let claim = claim(run)?;
        self.elsewhere[index] = false;
        if self.is_done(index) {
            return Ok(None);
        }
        let resumes = has_checkpoint(run);
        let job = Job::start(run, index, self.program, claim)?;
        self.results[index].status = Status::Running;
        (self.observer)(&SweepEvent::Started { index, resumes });
        Ok(Some(job))
    }

    /// Records the runs that have ended; returns whether any has.
    fn close_ended(&mut self, stopping: bool) -> bool {
        let (mut at, before) = (0, self.jobs.len());
        while let Some(job) = self.jobs.get_mut(at) {
            match job.ended() {
                Ok(None) => at += 1,
                Ok(Some(status)) => {
                    let job = self.jobs.swap_remove(at);
                    self.close(&job, status, stopping);
                }
                Err(error) => {
                    let job = self.jobs.swap_remove(at);
                    let reason = format!("its process was lost: {error}");
                    self.fail(job.index, reason, job.started.elapsed());
                }
            }
        }
        self.jobs.len() < before
    }

    fn close(&mut self, job: &Job, status: ExitStatus, stopping: bool) {
        let (run, took) = (&self.sweep.runs[job.index], job.started.elapsed());
        let result = read_result(run);
        // A run that is asked to end before it handles signals is killed by the signal.
        let interrupted = status.code() == Some(INTERRUPTED) || stopping && status.code().is_none();
        if result.status != Status::Finished && !interrupted {
            return self.fail(job.index, job.reason(run, &status.to_string()), took);
        }
        self.settle(job.index, result, took);
    }

    fn fail(&mut self, index: usize, reason: String, took: Duration) {
        let run = &self.sweep.runs[index];
        let file = run.folder.join(FAILURE);
        if let Err(error) = write_atomically(&file, format!("{reason}\n").as_bytes()) {
            log::warn!("{error}");
        }
        let result = RunResult { status: Status::Failed, reason: Some(reason), ..read_result(run) };
        self.settle(index, result, took);
    }

    fn settle(&mut self, index: usize, result: RunResult, took: Duration) {
        (self.observer)(&SweepEvent::Ended { index, result: &result, took });
        (self.results[index], self.settled[index]) = (result, true);
    }

    /// Writes the table from what is known now, also of other processes' runs.
    fn write_table(&mut self) -> Result<(), SweepError> {
        for (index, run) in self.sweep.runs.iter().enumerate() {
            if self.settled[index] || self.results[index].status == Status::Finished {
                continue;
            }
            let ours = self.jobs.iter().any(|job| job.index == index);
            let result = read_result(run);
            let unfinished = matches!(result.status, Status::Waiting | Status::Interrupted);
            self.results[index] = if unfinished && (ours || self.elsewhere[index]) {
                RunResult { status: Status::Running, ..result }
            } else {
                result
            };
        }
        let table = results_csv(self.sweep, &self.results)?;
        Ok(write_atomically(&self.sweep.out.join(TABLE), table.as_bytes())?)
    }
}
