//! What several devices would gain: a model of the exchange after each step, played with step times that
//! were measured on one. `docs/scaling.md` has its derivation.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::Serialize;

use crate::timing::median;

/// How devices are connected.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Link {
    /// What it is called.
    pub name: &'static str,
    /// Bytes per second between two devices, each way.
    pub bytes_per_s: f64,
    /// Seconds from a message's sending to its arrival.
    pub latency_s: f64,
    /// Whether the devices are in one process.
    pub one_process: bool,
}

/// Links of machines that people have: PCIe 4.0 ×16 as copies through the host reach it, and the two
/// common kinds of Ethernet at 93 % of their rate (TCP's and Ethernet's headers).
pub const LINKS: [Link; 3] = [
    Link { name: "PCIe", bytes_per_s: 12e9, latency_s: 20e-6, one_process: true },
    Link { name: "25 GbE", bytes_per_s: 2.9e9, latency_s: 40e-6, one_process: false },
    Link { name: "100 GbE", bytes_per_s: 11.6e9, latency_s: 30e-6, one_process: false },
];

/// Between a device and its host, bytes per second.
const HOST_LINK: f64 = 12e9;
/// What the host adds up, bytes of each operand per second: two reads and a write of its memory.
const HOST_SUM: f64 = 10e9;
/// Rounds of small messages in a step: what was read, its outcome.
const ROUNDS: f64 = 2.0;
/// Those of a group of gradients: which there are, the slices, their sums.
const GROUP_ROUNDS: f64 = 3.0;
/// The groups in which gradients leave a device: the share of them, and of the step after which they are
/// there. Parameters and multiply-adds of r3d_18's last, third, second and first stages, with a third of
/// the step for the forward pass; r2plus1d_18's are within 0.02 of them. Networks of 34 and 50 layers have
/// about 0.13 of their parameters in the third stage that these have in the last one.
const GROUPS: [(f64, f64); 4] = [(0.751, 0.373), (0.188, 0.453), (0.047, 0.613), (0.014, 1.0)];
/// Steps that are played.
const STEPS: usize = 1000;

/// A number of devices at a link.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Scaled {
    /// The link.
    pub link: &'static str,
    /// Devices, each with a share of the batch as large as the one that was measured.
    pub devices: usize,
    /// A whole step, median.
    pub step_ms: f64,
    /// The exchange in it, as far as the backward pass does not hide it.
    pub exchange_ms: f64,
    /// Waiting for the slowest device, mean.
    pub waiting_ms: f64,
    /// Clips per second of all.
    pub clips_per_s: f64,
    /// Share of the rate that as many devices would have without each other.
    pub efficiency: f64,
}

/// What the exchange adds to a step of `step` seconds, seconds: `bytes` of gradients on each of `devices`.
pub fn exchange(link: &Link, devices: usize, bytes: f64, step: f64) -> f64 {
    if devices < 2 {
        return 0.0;
    }
    let n = devices as f64;
    // To sum a group: each device's to its host first.
    let sum = |bytes: f64| {
        let down = bytes / HOST_LINK;
        if link.one_process {
            return down + (n - 1.0) * bytes / HOST_SUM;
        }
        // Each rank receives one slice of everyone, adds them, and sends the sum to everyone.
        let wire = 2.0 * (n - 1.0) / n * bytes / link.bytes_per_s;
        down + wire + (n - 1.0) / n * bytes / HOST_SUM + GROUP_ROUNDS * link.latency_s
    };
    // One group after the other, each as soon as it is there.
    let done = GROUPS
        .iter()
        .fold(0.0, |done: f64, (share, ready)| done.max(ready * step) + sum(share * bytes));
    // The sum to each device. In one process the first device's new weights go to the host and to the
    // others.
    let up = bytes / HOST_LINK;
    let rest = match link.one_process {
        true => up + 2.0 * bytes / link.bytes_per_s,
        false => up + ROUNDS * link.latency_s,
    };
    done - step + rest
}

/// Plays steps of `clips` clips on each device, whose times are drawn from `steps_ms`; `bytes` is the size
/// of the gradients.
pub fn simulate(steps_ms: &[f64], clips: usize, bytes: u64, devices: &[usize]) -> Vec<Scaled> {
    let alone = steps_ms.iter().sum::<f64>() / steps_ms.len().max(1) as f64;
    let mut scaled = Vec::new();
    for link in &LINKS {
        // One machine holds so many.
        let most = if link.one_process { 8 } else { usize::MAX };
        for &devices in devices.iter().filter(|devices| **devices <= most) {
            let mut rng = ChaCha8Rng::seed_from_u64(devices as u64);
            let mut draw = || steps_ms[rng.random_range(0..steps_ms.len())];
            let exchange_ms = 1e3 * exchange(link, devices, bytes as f64, alone / 1e3);
            let slowest: Vec<f64> =
                (0..STEPS).map(|_| (0..devices).map(|_| draw()).fold(0.0, f64::max)).collect();
            let mean = slowest.iter().sum::<f64>() / STEPS as f64 + exchange_ms;
            scaled.push(Scaled {
                link: link.name,
                devices,
                step_ms: median(slowest.iter().map(|step| step + exchange_ms).collect()),
                exchange_ms,
                waiting_ms: (mean - exchange_ms - alone).max(0.0),
                clips_per_s: (devices * clips) as f64 * 1e3 / mean,
                efficiency: alone / mean,
            });
        }
    }
    scaled
}
