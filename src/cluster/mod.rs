//! Several processes, on one or more machines, that train one network together through MPI. Each
//! process is a *rank*. Ranks send messages directly to each other and never wait forever: if a
//! rank stays silent for too long, the job is aborted with an error message that names the rank.

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

/// Error of the communication between ranks.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// A library could not be opened, or is not an MPI library.
    #[error("{reason}")]
    Library {
        /// Error message of the system.
        reason: String,
    },
    /// An MPI call failed.
    #[error("{call} failed with status {status}")]
    Call {
        /// Name of the MPI function.
        call: &'static str,
        /// Status that it returned.
        status: i32,
    },
    /// Several processes were started that are not connected by MPI: each would train alone, and all of
    /// them would write to the same folder.
    #[error("{variable} says that there are {size} processes, but {found}")]
    Alone {
        /// Name of the environment variable.
        variable: &'static str,
        /// Value of the variable.
        size: usize,
        /// What was found instead.
        found: String,
    },
    /// A message could not be decoded.
    #[error("rank {rank} ({host}) sent a message that cannot be decoded: {reason}")]
    Message {
        /// Rank of the sender.
        rank: usize,
        /// Host name of the sender.
        host: String,
        /// Error message of the decoder.
        reason: String,
    },
}

/// The communication of one rank with the other ranks of its job. Dropping it finalises MPI.
pub struct Cluster {
    mpi: Mpi,
    rank: usize,
    hosts: Vec<String>,
    timeout: Duration,
    traffic: Cell<Traffic>,
}

/// Returns the number of processes that an MPI launcher started, including this one; 1 without a
/// launcher.
pub(crate) fn processes_launched() -> usize {
    let launcher = Launcher::detect();
    launcher.size.filter(|_| launcher.mpi).map_or(1, |(size, _)| size)
}

/// Amount of data that a rank has sent and received.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Traffic {
    /// Bytes sent.
    pub sent: u64,
    /// Bytes received.
    pub received: u64,
    /// Time spent on it, including waiting for slower ranks.
    pub time: Duration,
}

impl Traffic {
    /// Describes the traffic per step since `before`, which was `steps` steps ago.
    pub(crate) fn since(&self, before: &Self, steps: usize) -> String {
        let each = 1.0 / steps.max(1) as f64;
        let bytes = |now: u64, before: u64| ByteSize(((now - before) as f64 * each) as u64);
        let time = (self.time - before.time).as_secs_f64() * 1e3 * each;
        let (sent, received) =
            (bytes(self.sent, before.sent), bytes(self.received, before.received));
        format!("{sent} sent, {received} received, {time:.1} ms of exchange per step")
    }
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "rank {} of {:?}", self.rank, self.hosts)
    }
}

impl Cluster {
    /// Joins the job for which `mpirun`, `srun` or a similar launcher started this process; `None` for a
    /// process that was started on its own. No rank may be silent for longer than `timeout`.
    ///
    /// # Errors
    /// Several processes that do not form one MPI job.
    pub fn join(timeout: Duration) -> Result<Option<Self>, ClusterError> {
        let launcher = Launcher::detect();
        if !launcher.mpi && !launcher.is_multi_process() {
            return Ok(None);
        }
        let alone = |found: String| match launcher.size.filter(|(size, _)| *size > 1) {
            Some((size, variable)) => Err(ClusterError::Alone { variable, size, found }),
            None => Ok(None),
        };
        if !launcher.mpi {
            return alone("they were not started by an MPI launcher".to_owned());
        }
        let mut reasons = Vec::new();
        for (name, abi) in &launcher.libraries {
            match started_within(timeout, || Mpi::open(name, *abi)) {
                Ok(mpi) if mpi.size()? > 1 => return Self::new(mpi, timeout).map(Some),
                Ok(mpi) => {
                    mpi.finalize();
                    return alone(format!("{name} says 1: it is not the launcher's MPI"));
                }
                Err(ClusterError::Library { reason }) => reasons.push(reason),
                Err(error) => return Err(error),
            }
        }
        alone(format!("no MPI library could be opened ({})", reasons.join("; ")))
    }

    fn new(mpi: Mpi, timeout: Duration) -> Result<Self, ClusterError> {
        let (rank, size) = (mpi.rank()?, mpi.size()?);
        let hosts = (0..size).map(|_| String::new()).collect();
        let traffic = Cell::new(Traffic::default());
        let mut cluster = Self { mpi, rank, hosts, timeout, traffic };
        let own = sysinfo::System::host_name().unwrap_or_else(|| "unknown host".to_owned());
        cluster.hosts = cluster.all_gather(&own)?;
        Ok(cluster)
    }

    /// Returns the number of this rank.
    pub fn rank(&self) -> usize {
        self.rank
    }

    /// Returns whether this rank is the lead, which writes the run's files and shows its progress.
    pub fn is_lead(&self) -> bool {
        self.rank == 0
    }

    /// Returns the number of ranks.
    pub fn size(&self) -> usize {
        self.hosts.len()
    }

    /// Returns the host name of each rank.
    pub fn hosts(&self) -> &[String] {
        &self.hosts
    }

    /// Returns the number of this rank among those of its host, and the number of ranks on that host.
    pub fn place(&self) -> (usize, usize) {
        let here =
            |ranks: &[String]| ranks.iter().filter(|host| **host == self.hosts[self.rank]).count();
        (here(&self.hosts[..self.rank]), here(&self.hosts))
    }

    /// Returns the name of a rank for messages, which includes its host.
    pub fn name(&self, rank: usize) -> String {
        format!("rank {rank} ({})", self.hosts[rank])
    }

    /// Returns the traffic so far.
    pub fn traffic(&self) -> Traffic {
        self.traffic.get()
    }

    /// Gathers the values of all ranks on every rank, in the order of the ranks.
    ///
    /// # Errors
    /// A message that cannot be decoded.
    pub fn all_gather<T: Serialize + DeserializeOwned>(
        &self,
        own: &T,
    ) -> Result<Vec<T>, ClusterError> {
        let mut message = Vec::new();
        ciborium::into_writer(own, &mut message).expect("writing to memory does not fail");
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

    /// Gathers the bytes of all ranks on every rank, in the order of the ranks. The lengths are not
    /// known in advance: a first message of fixed size has the length and the first bytes, a second
    /// one any remaining bytes.
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
                let (length, body) =
                    head.split_first_chunk().expect("longer than the length field");
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

    /// Sends the lead's bytes to all ranks and returns them; `own` is ignored on other ranks.
    pub fn broadcast(&self, own: Vec<u8>) -> Vec<u8> {
        let mut length = (own.len() as u64).to_le_bytes();
        if self.is_lead() {
            // The messages arrive in this order.
            let to = |rank: usize| [(rank, &length[..]), (rank, &own[..])];
            self.transfer(&(1..self.size()).flat_map(to).collect::<Vec<_>>(), Vec::new());
            return own;
        }
        self.transfer(&[], vec![(0, &mut length[..])]);
        let mut bytes = vec![0; u64::from_le_bytes(length) as usize];
        self.transfer(&[], vec![(0, &mut bytes[..])]);
        bytes
    }

    /// Performs all of these sends and receives, each to or from a rank. A message must be as long
    /// as the buffer on the receiving side, or may be shorter if that is a single piece. Aborts the
    /// job if a rank stays silent.
    pub fn transfer(&self, sends: &[(usize, &[u8])], receives: Vec<(usize, &mut [u8])>) {
        let began = Instant::now();
        let mut traffic = self.traffic.get();
        traffic.sent += sends.iter().map(|(_, bytes)| bytes.len() as u64).sum::<u64>();
        traffic.received += receives.iter().map(|(_, bytes)| bytes.len() as u64).sum::<u64>();
        let (mut heard, mut rounds) = (began, 0_u32);
        // Higher ranks wait a little longer, so that normally only the lowest one reports the silence.
        let patience = self.timeout + Duration::from_secs(2) * self.rank.min(2) as u32;
        let mut wait = |ranks: &[usize], progress: bool| {
            if progress {
                (heard, rounds) = (Instant::now(), 0);
            } else if heard.elapsed() > patience {
                self.end_silent(ranks);
            }
            rounds = rounds.saturating_add(1);
            // MPI only transfers bytes while it is being called, but the cores are needed for computing.
            match rounds {
                0..100 => std::thread::yield_now(),
                100..2000 => std::thread::sleep(Duration::from_micros(100)),
                _ => std::thread::sleep(Duration::from_millis(1)),
            }
        };
        self.mpi
            .transfer(sends, receives, &mut wait, &|error| self.abort(&error.to_string(), FAILED));
        traffic.time += began.elapsed();
        self.traffic.set(traffic);
    }

    /// Aborts the job because these ranks have not answered.
    fn end_silent(&self, ranks: &[usize]) -> ! {
        let mut silent = ranks.to_vec();
        silent.sort_unstable();
        silent.dedup();
        let names: Vec<String> = silent.iter().map(|&rank| self.name(rank)).collect();
        let seconds = self.timeout.as_secs();
        let names = names.join(", ");
        let message =
            format!("no answer from {names} for {seconds} s (rank-timeout): aborting the job");
        self.abort(&message, FAILED)
    }

    /// Aborts all ranks after logging an error message that names this one.
    pub fn abort(&self, message: &str, status: u8) -> ! {
        log::error!("{}: {message}", self.name(self.rank));
        std::thread::sleep(FORWARDING);
        self.mpi.abort(status)
    }
}

/// Size of the first message in bytes, including the length field. The batch statistics of the
/// widest layers fit.
const SHORT: usize = 16 << 10;
/// Size of the length field in bytes.
const HEAD: usize = 8;

/// Time that launchers get to forward a rank's last output before they end.
const FORWARDING: Duration = Duration::from_millis(500);
/// How long a rank waits for the others at the start before it logs so.
const NOTICE: Duration = Duration::from_secs(5);
/// Minimum timeout for all ranks to start.
const SHORTEST_START: Duration = Duration::from_secs(15);

/// Starts MPI, which waits for all ranks. Ends the process if that takes longer than a rank may be
/// silent: some launchers do not notice a rank that ended before it joined.
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
            std::thread::sleep(FORWARDING);
            std::process::exit(FAILED.into());
        }
    });
    let result = start();
    drop(started);
    result
}

/// Exit status of a job that cannot continue.
const FAILED: u8 = 1;

impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.abort("panicked", 101);
        }
        self.mpi.finalize();
    }
}
