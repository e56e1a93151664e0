//! Learning rates as pure functions of the epoch.

/// Cosine annealing (Loshchilov & Hutter 2017, eq. 5, without restarts; torch's
/// CosineAnnealingLR in closed form): the rate in force during `epoch`, counted from 0, falls from
/// `lr` to `eta_min` over `t_max` epochs.
pub fn cosine(lr: f64, eta_min: f64, t_max: usize, epoch: usize) -> f64 {
    let progress = epoch as f64 / t_max.max(1) as f64;
    eta_min + (lr - eta_min) * (1.0 + (std::f64::consts::PI * progress).cos()) / 2.0
}
