//! The devices of a run: those of this process, and descriptions of the other ranks' devices.

use burn::tensor::Device;
use serde::{Deserialize, Serialize};

use super::error::TrainError;
use crate::cluster::Cluster;
use crate::config::Config;
use crate::conv::forget_choices;
use crate::device::{self, Compute, DeviceInfo};
use crate::units::{counted, plural};

/// All devices that a run computes on.
pub(super) struct Devices {
    /// Devices of this process, the trainer's first.
    pub own: Vec<Compute>,
    /// Devices of each rank.
    pub ranks: Vec<RankDevices>,
}

/// The devices of a rank.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct RankDevices {
    /// Host name of the rank; empty in a run of one process.
    pub host: String,
    pub devices: Vec<DeviceInfo>,
    /// Vector instructions that the CPU kernels use.
    vectors: String,
    version: String,
}

impl Devices {
    /// Opens the configured devices. If several ranks share a machine, `auto`, `gpu` and `all`
    /// divide its GPUs among them.
    pub(super) fn open(config: &Config, cluster: Option<&Cluster>) -> Result<Self, TrainError> {
        let own = match cluster.map(Cluster::place) {
            Some((index, count)) if count > 1 => {
                device::open_share(&config.compute.device, index, count)?
            }
            _ => device::open_all(&config.compute.device)?,
        };
        own.iter().filter_map(|device| device.note.as_ref()).for_each(|note| log::warn!("{note}"));
        // An earlier run of this process may have been tuned, which changes the last bits.
        own.iter().for_each(|device| forget_choices(&device.device));
        let here = RankDevices {
            host: cluster.map_or_else(String::new, |c| c.hosts()[c.rank()].clone()),
            devices: own.iter().map(|device| device.info.clone()).collect(),
            vectors: polyview_cpu::vectors().to_string(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        };
        let ranks = match cluster {
            Some(cluster) => cluster.all_gather(&here)?,
            None => vec![here],
        };
        Ok(Self { own, ranks })
    }

    /// Returns the devices of this process other than the trainer's.
    pub(super) fn others(&self) -> Vec<Device> {
        self.own[1..].iter().map(|own| own.device.clone()).collect()
    }

    /// Returns one device of this process per name; devices of the same name are assumed to be alike.
    pub(super) fn distinct(&self) -> impl Iterator<Item = &Compute> {
        let first = |index: usize, device: &Compute| {
            self.own[..index].iter().all(|other| other.info.name != device.info.name)
        };
        self.own.iter().enumerate().filter(move |(i, own)| first(*i, own)).map(|(_, own)| own)
    }

    /// Returns the number of devices of all ranks.
    pub(super) fn count(&self) -> usize {
        self.counts().iter().sum()
    }

    /// Returns the number of devices of each rank.
    pub(super) fn counts(&self) -> Vec<usize> {
        self.ranks.iter().map(|rank| rank.devices.len()).collect()
    }

    /// Returns the devices of all ranks, each with its host name.
    pub(super) fn all(&self) -> impl Iterator<Item = (&str, &DeviceInfo)> {
        self.ranks
            .iter()
            .flat_map(|rank| rank.devices.iter().map(|device| (rank.host.as_str(), device)))
    }

    /// Returns whether the first devices of all ranks, which perform the updates, have the same hardware
    /// and software.
    pub(super) fn alike(&self) -> bool {
        let kind = |rank: &RankDevices| {
            let first = &rank.devices[0];
            // A CPU's name includes its number of threads, which does not affect the results.
            let name = if first.api == "cpu" { rank.vectors.clone() } else { first.name.clone() };
            (name, first.api.clone(), first.driver.clone(), rank.version.clone())
        };
        self.ranks.iter().all(|rank| kind(rank) == kind(&self.ranks[0]))
    }

    /// Returns one line for each device, identical devices of a machine being merged.
    pub(super) fn lines(&self) -> Vec<String> {
        counted(self.all().map(|(host, info)| {
            let place = if host.is_empty() { String::new() } else { format!(" on {host}") };
            format!("{} ({}){place}", info.name, info.id)
        }))
    }

    /// Describes how the devices share a run's lanes; `None` if there is only one lane.
    pub(super) fn describe_lanes(&self, lanes: usize, sync_norm: bool) -> Option<String> {
        if lanes == 1 {
            return None;
        }
        let mut text = format!("{lanes} per batch, on {}", plural(self.count(), "device"));
        if self.ranks.len() > 1 {
            text.push_str(&format!(" of {}", plural(self.ranks.len(), "rank")));
        }
        if sync_norm {
            text.push_str("; batch norm synchronised across them");
        }
        if !self.alike() {
            text.push_str("; ranks compute differently, so rank 0's weights are sent to all");
        }
        Some(text)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use burn::tensor::DType;

    use super::*;
    use crate::conv::wgsl::variants;
    use crate::conv::{ConvPass, ConvShape, checked_limits, choose, has_choices};
    use crate::kernels::storage::Storage;

    #[test]
    fn a_run_does_not_use_what_an_earlier_one_was_tuned_to() {
        let name = "wgpu:cpu";
        if device::unshared().is_none() {
            return;
        }
        // Other tests use the same device, but no convolution like this.
        let shape = ConvShape {
            batch: 1,
            in_channels: 11,
            out_channels: 13,
            input: [2, 5, 17],
            kernel: [3, 1, 3],
            stride: [1; 3],
            padding: [1, 0, 1],
        };
        let device = device::open(name).unwrap().device;
        let limits = checked_limits(&device, DType::F32).unwrap();
        let variant = variants(ConvPass::Forward, Storage::F32, &limits)[0];
        assert!(choose(&device, ConvPass::Forward, &shape, DType::F32, variant));
        let mut config = Config::default();
        config.compute.device = name.to_owned();
        Devices::open(&config, None).unwrap();
        assert!(!has_choices(&device));
    }
}
