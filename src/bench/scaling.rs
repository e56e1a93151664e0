//! What several devices would gain: a model of the exchange after each step, simulated with step
//! times that were measured on one device. `docs/scaling.md` derives it.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::Serialize;

use crate::timing::median;

/// A connection between devices.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Link {
    /// Name of the link.
    pub name: &'static str,
    /// Bytes per second between two devices, each way.
    pub bytes_per_s: f64,
    /// Seconds from sending a message to its arrival.
    pub latency_s: f64,
    /// Whether the devices are in one process.
    pub one_process: bool,
}

/// Links of common machines: PCIe 4.0 ×16 at the rate of copies through the host, and the two
/// common kinds of Ethernet at 93 % of their rate (because of the headers of TCP and Ethernet).
pub const LINKS: [Link; 3] = [
    Link { name: "PCIe", bytes_per_s: 12e9, latency_s: 20e-6, one_process: true },
    Link { name: "25 GbE", bytes_per_s: 2.9e9, latency_s: 40e-6, one_process: false },
    Link { name: "100 GbE", bytes_per_s: 11.6e9, latency_s: 30e-6, one_process: false },
];

/// Bandwidth between a device and its host, bytes per second.
const HOST_LINK: f64 = 12e9;
/// Rate at which the host adds, bytes of each operand per second: two reads and a write of its
/// memory.
const HOST_SUM: f64 = 10e9;
/// Rounds of small messages in a step: what was read, and the step's outcome.
const ROUNDS: f64 = 2.0;
/// Rounds of messages for a group of gradients: which gradients there are, the slices, and their
/// sums.
const GROUP_ROUNDS: f64 = 3.0;
/// The groups in which gradients leave a device: their share of all gradients, and the share of the
/// step after which they are available. From the parameters and multiply-adds of r3d_18's last,
/// third, second and first stages, with a third of the step for the forward pass; r2plus1d_18's are
/// within 0.02 of them. In networks of 34 and 50 layers, about 0.13 of the parameters that these
/// have in the last stage are in the third one.
const GROUPS: [(f64, f64); 4] = [(0.751, 0.373), (0.188, 0.453), (0.047, 0.613), (0.014, 1.0)];
/// Number of simulated steps.
const STEPS: usize = 1000;

/// Simulated result for a number of devices on a link.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Scaled {
    /// Name of the link.
    pub link: &'static str,
    /// Number of devices, each with a share of the batch as large as the one that was measured.
    pub devices: usize,
    /// Median time of a whole step.
    pub step_ms: f64,
    /// Time of the exchange that is not hidden behind the backward pass.
    pub exchange_ms: f64,
    /// Mean time of waiting for the slowest device.
    pub waiting_ms: f64,
    /// Clips per second on all devices together.
    pub clips_per_s: f64,
    /// Ratio to the rate that as many independent devices would have.
    pub efficiency: f64,
}

/// Returns the seconds that the exchange adds to a step of `step` seconds, with `bytes` of
/// gradients on each of `devices`.
pub fn exchange(link: &Link, devices: usize, bytes: f64, step: f64) -> f64 {
    if devices < 2 {
        return 0.0;
    }
    let n = devices as f64;
    // To sum a group, each device first copies its gradients to its host.
    let sum = |bytes: f64| {
        let down = bytes / HOST_LINK;
        if link.one_process {
            return down + (n - 1.0) * bytes / HOST_SUM;
        }
        // Each rank receives one slice from every rank, adds them, and sends the sum to every rank.
        let wire = 2.0 * (n - 1.0) / n * bytes / link.bytes_per_s;
        down + wire + (n - 1.0) / n * bytes / HOST_SUM + GROUP_ROUNDS * link.latency_s
    };
    // One group after the other, each as soon as it is available.
    let done = GROUPS
        .iter()
        .fold(0.0, |done: f64, (share, ready)| done.max(ready * step) + sum(share * bytes));
    // The sum is copied to each device. In one process, the first device's new weights are copied
    // to the host and to the other devices.
    let up = bytes / HOST_LINK;
    let rest = match link.one_process {
        true => up + 2.0 * bytes / link.bytes_per_s,
        false => up + ROUNDS * link.latency_s,
    };
    done - step + rest
}

/// Simulates steps of `clips` clips on each device, whose times are drawn from `steps_ms`; `bytes`
/// is the size of the gradients.
pub fn simulate(steps_ms: &[f64], clips: usize, bytes: u64, devices: &[usize]) -> Vec<Scaled> {
    let alone = steps_ms.iter().sum::<f64>() / steps_ms.len().max(1) as f64;
    let mut scaled = Vec::new();
    for link in &LINKS {
        // Maximum number of devices in one machine.
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
