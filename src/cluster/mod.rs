//! Several processes, on one machine or many, that train one network together, through MPI. Each is a
//! *rank*. Messages go from rank to rank; nothing waits for ever: a rank that stays silent for too long
//! ends the job with a line that names it.

mod launcher;
mod mpi;

use std::cell::Cell;
use std::fmt;
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};

use serde::Serialize;
use serde::de::DeserializeOwned;

use launcher::Launcher;
use mpi::Mpi;

use crate::units::ByteSize;

/// Why ranks cannot work together.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// A library that could not be opened, or is no MPI.
    #[error("{reason}")]
    Library {
        /// What the system says.
        reason: String,
    },
    /// MPI refused a call.
    #[error("{call} failed with status {status}")]
    Call {
        /// MPI's function.
        call: &'static str,
        /// Its result.
        status: i32,
    },
    /// Started several times by something that MPI knows nothing of: each would train alone, and all
    /// would write to one folder.
    #[error("{variable} says that there are {size} processes, but {found}")]
    Alone {
        /// The environment variable.
        variable: &'static str,
        /// Its value.
        size: usize,
        /// What MPI says.
        found: String,
    },
    /// A message that this version does not understand.
    #[error("rank {rank} ({host}) sent what cannot be understood: {reason}")]
    Message {
        /// The sender.
        rank: usize,
        /// Its machine.
        host: String,
        /// The decoder's words.
        reason: String,
    },
}

/// The ranks of this job, as one of them sees it. Dropping it ends MPI.
pub struct Cluster {
    mpi: Mpi,
    rank: usize,
    hosts: Vec<String>,
    timeout: Duration,
    traffic: Cell<Traffic>,
}

/// How many processes a launcher of MPI started, of which this is one; 1 without one.
pub(crate) fn processes_launched() -> usize {
    let launcher = Launcher::here();
    launcher.size.filter(|_| launcher.mpi).map_or(1, |(size, _)| size)
}

/// What a rank has sent and received.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Traffic {
    /// Bytes sent.
    pub sent: u64,
    /// Bytes received.
    pub received: u64,
    /// Time of it, waiting for slower ranks included.
    pub time: Duration,
}

impl Traffic {
    /// What came after `before`, in so many steps, as a line.
    pub(crate) fn since(&self, before: &Self, steps: usize) -> String {
        let each = 1.0 / steps.max(1) as f64;
        let bytes = |now: u64, before: u64| ByteSize(((now - before) as f64 * each) as u64);
        let time = (self.time - before.time).as_secs_f64() * 1e3 * each;
        let (sent, received) =
            (bytes(self.sent, before.sent), bytes(self.received, before.received));
        format!("{sent} sent, {received} received, {time:.1} ms of exchange in a step")
    }
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "rank {} of {:?}", self.rank, self.hosts)
    }
}

impl Cluster {
    /// Joins the job that `mpirun`, `srun` or the like started this process for; `None` for a process
    /// that was started alone. No rank may be silent for longer than `timeout`.
    ///
    /// # Errors
    /// Several processes that are not one job of MPI.
    pub fn join(timeout: Duration) -> Result<Option<Self>, ClusterError> {
        let launcher = Launcher::here();
        if !launcher.mpi && !launcher.is_several() {
            return Ok(None);
        }
        let alone = |found: String| match launcher.size.filter(|(size, _)| *size > 1) {
            Some((size, variable)) => Err(ClusterError::Alone { variable, size, found }),
            None => Ok(None),
        };
        if !launcher.mpi {
            return alone("none of them was started for MPI".to_owned());
        }
        let mut reasons = Vec::new();
        for (name, abi) in &launcher.libraries {
            match started_within(timeout, || Mpi::open(name, *abi)) {
                Ok(mpi) if mpi.size()? > 1 => return Self::new(mpi, timeout).map(Some),
                Ok(mpi) => {
                    mpi.finalize();
                    return alone(format!("{name} says 1: it is not the MPI of the launcher"));
                }
                Err(ClusterError::Library { reason }) => reasons.push(reason),
                Err(error) => return Err(error),
            }
        }
        alone(format!("no MPI could be opened ({})", reasons.join("; ")))
    }

    fn new(mpi: Mpi, timeout: Duration) -> Result<Self, ClusterError> {
        let (rank, size) = (mpi.rank()?, mpi.size()?);
        let hosts = (0..size).map(|_| String::new()).collect();
        let traffic = Cell::new(Traffic::default());
        let mut cluster = Self { mpi, rank, hosts, timeout, traffic };
        let own = sysinfo::System::host_name().unwrap_or_else(|| "unknown host".to_owned());
        cluster.hosts = cluster.all(&own)?;
        Ok(cluster)
    }

    /// The number of this rank.
    pub fn rank(&self) -> usize {
        self.rank
    }

    /// Whether this rank writes the run's files and shows its progress.
    pub fn leads(&self) -> bool {
        self.rank == 0
    }

    /// Number of ranks.
    pub fn size(&self) -> usize {
        self.hosts.len()
    }

    /// The machine of each rank.
    pub fn hosts(&self) -> &[String] {
        &self.hosts
    }

    /// Number of this rank among those of its machine, and how many they are.
    pub fn place(&self) -> (usize, usize) {
        let here =
            |ranks: &[String]| ranks.iter().filter(|host| **host == self.hosts[self.rank]).count();
        (here(&self.hosts[..self.rank]), here(&self.hosts))
    }

    /// A rank with its machine, as messages name it.
    pub fn name(&self, rank: usize) -> String {
        format!("rank {rank} ({})", self.hosts[rank])
    }

    /// What has been sent and received so far.
    pub fn traffic(&self) -> Traffic {
        self.traffic.get()
    }

    /// Every rank's value, in their order.
    ///
    /// # Errors
    /// A message that cannot be understood.
    pub fn all<T: Serialize + DeserializeOwned>(&self, own: &T) -> Result<Vec<T>, ClusterError> {
        let mut message = Vec::new();
        ciborium::into_writer(own, &mut message).expect("memory can be written to");
        let messages = self.all_bytes(message);
        let read = |(rank, message): (usize, Vec<u8>)| {
            ciborium::from_reader(&message[..]).map_err(|error| ClusterError::Message {
                rank,
                host: self.hosts[rank].clone(),
                reason: error.to_string(),
            })
        };
        messages.into_iter().enumerate().map(read).collect()
    }

    /// Every rank's bytes, in their order. Nobody knows how many the others send: short ones come with
    /// their number at once, long ones in a second message.
    fn all_bytes(&self, own: Vec<u8>) -> Vec<Vec<u8>> {
        let split = |length: usize| length.min(SHORT - HEAD);
        let mut first = (own.len() as u64).to_le_bytes().to_vec();
        first.extend_from_slice(&own[..split(own.len())]);
        let mut heads = vec![vec![0; SHORT]; self.size()];
        let others = || (0..self.size()).filter(|rank| *rank != self.rank);
        let sends: Vec<(usize, &[u8])> = others().map(|rank| (rank, &first[..])).collect();
        let receives = heads.iter_mut().enumerate().filter(|(rank, _)| *rank != self.rank);
        self.transfer(&sends, receives.map(|(rank, head)| (rank, &mut head[..])).collect());

        let mut messages: Vec<Vec<u8>> = heads
            .iter()
            .map(|head| {
                let (length, body) = head.split_first_chunk().expect("longer than its number");
                let length = u64::from_le_bytes(*length) as usize;
                let mut message = body[..split(length)].to_vec();
                message.resize(length, 0);
                message
            })
            .collect();
        let unused: usize = others().map(|rank| SHORT - HEAD - split(messages[rank].len())).sum();
        let rest = &own[split(own.len())..];
        let sends: Vec<(usize, &[u8])> =
            others().filter(|_| !rest.is_empty()).map(|rank| (rank, rest)).collect();
        let receives = messages.iter_mut().enumerate().filter(|(rank, _)| *rank != self.rank);
        let receives = receives
            .map(|(rank, message)| {
                let from = split(message.len());
                (rank, &mut message[from..])
            })
            .filter(|(_, rest)| !rest.is_empty())
            .collect();
        self.transfer(&sends, receives);
        let mut traffic = self.traffic.get();
        traffic.received -= unused as u64;
        self.traffic.set(traffic);
        messages[self.rank] = own;
        messages
    }

    /// Sends the lead's bytes to all; others give none. Returns them.
    pub fn from_lead(&self, own: Vec<u8>) -> Vec<u8> {
        let mut length = (own.len() as u64).to_le_bytes();
        if self.leads() {
            // They arrive in this order.
            let to = |rank: usize| [(rank, &length[..]), (rank, &own[..])];
            self.transfer(&(1..self.size()).flat_map(to).collect::<Vec<_>>(), Vec::new());
            return own;
        }
        self.transfer(&[], vec![(0, &mut length[..])]);
        let mut bytes = vec![0; u64::from_le_bytes(length) as usize];
        self.transfer(&[], vec![(0, &mut bytes[..])]);
        bytes
    }

    /// Sends and receives all of these, each with a rank; what is sent must be as long as what the other
    /// side receives, or shorter if that is a single piece.
    /// Ends the job if a rank stays silent.
    pub fn transfer(&self, sends: &[(usize, &[u8])], receives: Vec<(usize, &mut [u8])>) {
        let began = Instant::now();
        let mut traffic = self.traffic.get();
        traffic.sent += sends.iter().map(|(_, bytes)| bytes.len() as u64).sum::<u64>();
        traffic.received += receives.iter().map(|(_, bytes)| bytes.len() as u64).sum::<u64>();
        let (mut heard, mut rounds) = (began, 0_u32);
        // The first rank that can speaks for all.
        let patience = self.timeout + Duration::from_secs(2) * self.rank.min(2) as u32;
        let mut wait = |ranks: &[usize], heard_of_one: bool| {
            if heard_of_one {
                (heard, rounds) = (Instant::now(), 0);
            } else if heard.elapsed() > patience {
                self.end_silent(ranks);
            }
            rounds = rounds.saturating_add(1);
            // MPI moves bytes only while it is called; the cores are for those who compute.
            match rounds {
                0..100 => std::thread::yield_now(),
                100..2000 => std::thread::sleep(Duration::from_micros(100)),
                _ => std::thread::sleep(Duration::from_millis(1)),
            }
        };
        if let Err(error) = self.mpi.transfer(sends, receives, &mut wait) {
            self.abort(&error.to_string(), FAILED);
        }
        traffic.time += began.elapsed();
        self.traffic.set(traffic);
    }

    /// Ends the job for want of an answer from these ranks.
    fn end_silent(&self, ranks: &[usize]) -> ! {
        let mut silent = ranks.to_vec();
        silent.sort_unstable();
        silent.dedup();
        let names: Vec<String> = silent.iter().map(|&rank| self.name(rank)).collect();
        let seconds = self.timeout.as_secs();
        let names = names.join(", ");
        let message =
            format!("no answer from {names} for {seconds} s (--rank-timeout): aborting the job");
        self.abort(&message, FAILED)
    }

    /// Ends all ranks, with a line that names this one.
    pub fn abort(&self, message: &str, status: u8) -> ! {
        log::error!("{}: {message}", self.name(self.rank));
        std::thread::sleep(PASSED_ON);
        self.mpi.abort(status)
    }
}

/// Bytes of a message that is sent with its length: what batch norm says of the widest layers fits.
const SHORT: usize = 16 << 10;
/// Bytes of that length.
const HEAD: usize = 8;

/// A launcher may end before it has passed on what a rank wrote this long before.
const PASSED_ON: Duration = Duration::from_millis(500);
/// How long ranks wait for each other at the start before they say so, and at least.
const NOTICE: Duration = Duration::from_secs(5);
const SHORTEST_START: Duration = Duration::from_secs(15);

/// Starts MPI, which waits for all ranks. Ends the process where that takes longer than a rank may be
/// silent: some launchers do not notice that a rank ended before.
fn started_within<T>(timeout: Duration, start: impl FnOnce() -> T) -> T {
    let timeout = timeout.max(SHORTEST_START);
    let (started, waits) = std::sync::mpsc::channel::<()>();
    std::thread::spawn(move || {
        let over = |time| waits.recv_timeout(time) == Err(RecvTimeoutError::Timeout);
        if !over(NOTICE) {
            return;
        }
        log::info!("waiting for the other ranks to start");
        if over(timeout - NOTICE) {
            let seconds = timeout.as_secs();
            log::error!("not all ranks have started within {seconds} s");
            std::thread::sleep(PASSED_ON);
            std::process::exit(FAILED.into());
        }
    });
    let result = start();
    drop(started);
    result
}

/// Exit status of a job that cannot go on.
const FAILED: u8 = 1;

impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.abort("panicked", 101);
        }
        self.mpi.finalize();
    }
}
