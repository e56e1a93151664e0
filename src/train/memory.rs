//! Decides how much of a batch is in the device's memory at once.

use burn::module::Module;

use super::devices::Devices;
use super::error::TrainError;
use super::state::MemoryState;
use crate::config::{Auto, Config};
use crate::device::{DeviceInfo, MemoryWatch};
use crate::kernels::plan::MOST_BYTES;
use crate::model::{MemoryEstimate, MultiViewNet, StageSet, parameter_count};
use crate::units::{ByteSize, plural};

/// Memory plan of a step: how much of a batch is in memory at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StepMemory {
    /// Largest number of clips per forward pass of the backbone.
    pub micro_batch: usize,
    /// Whether the backward pass recomputes the backbone's activations instead of storing them.
    pub gradient_checkpointing: bool,
}

impl Default for StepMemory {
    /// The whole batch in one pass, nothing recomputed.
    fn default() -> Self {
        Self { micro_batch: usize::MAX, gradient_checkpointing: false }
    }
}

impl StepMemory {
    /// Halves the number of clips per pass of a batch of `clips` clips that did not fit. Returns `false`
    /// if it was already a single clip.
    pub(super) fn halve(&mut self, clips: usize) -> bool {
        let now = self.micro_batch.min(clips);
        self.micro_batch = (now / 2).max(1);
        now > 1
    }

    /// Shrinks the micro-batch after a batch of `clips` clips did not fit.
    pub(super) fn shrink(
        &mut self,
        clips: usize,
        watch: &mut MemoryWatch,
    ) -> Result<(), TrainError> {
        let before = self.micro_batch.min(clips);
        watch.recover();
        if !self.halve(clips) {
            return Err(TrainError::OutOfMemory);
        }
        log::warn!(
            "the device is out of memory with {before} clips per pass: this and later steps use a \
             micro-batch of {}",
            self.micro_batch
        );
        Ok(())
    }
}

/// The memory of a run's devices, from which micro-batches are planned.
#[derive(Debug, Clone)]
pub(super) struct MemoryBudget {
    given: Auto,
    checkpointing: bool,
    force: bool,
    /// Largest buffer binding, bytes.
    binding: Option<u64>,
    /// Largest number of floating-point operations of a launch.
    launch: Option<u64>,
    total: Option<u64>,
    /// Whether the free memory is only assumed.
    assumed: bool,
    device: String,
    /// The part that is saved with a checkpoint.
    pub state: MemoryState,
}

impl MemoryBudget {
    /// Creates the budget for steps in `lanes` lanes on all of these devices: the least that any of them
    /// can hold.
    pub(super) fn new(config: &Config, all: &Devices, lanes: usize) -> Self {
        let devices: Vec<(&str, &DeviceInfo)> = all.all().collect();
        // The lanes of a device run one after another, unless they exchange statistics.
        let at_once = match config.compute.sync_batch_norm {
            true => lanes.div_ceil(all.count()) as u64,
            false => 1,
        };
        // Devices that are the same hardware share its memory.
        let sharing = |at: &str, device: &DeviceInfo| {
            let same = |(host, other): &&(&str, &DeviceInfo)| *host == at && other.id == device.id;
            devices.iter().filter(same).count() as u64 * at_once
        };
        let least = |of: &dyn Fn(&DeviceInfo, u64) -> Option<u64>| {
            devices.iter().filter_map(|(at, device)| of(device, sharing(at, device))).min()
        };
        let free_bytes = least(&|device, sharing| Some(device.planned_bytes()? / sharing));
        Self {
            given: config.compute.micro_batch,
            checkpointing: config.compute.gradient_checkpointing,
            force: config.compute.force_batch_size,
            binding: least(&|device, _| device.max_binding_bytes),
            launch: least(&|device, _| device.launch_operations()),
            assumed: free_bytes != least(&|device, sharing| Some(device.free_bytes? / sharing)),
            total: least(&|device, sharing| Some(device.memory_bytes? / sharing)),
            device: all.lines().join(", "),
            state: MemoryState { free_bytes, most_clips: None },
        }
    }

    /// Takes over the memory state of the checkpointed run, so that the micro-batches are the same. Its
    /// free memory is ignored if it was unknown or exceeds this device's total memory.
    pub(super) fn resume(&mut self, saved: MemoryState) {
        let known = saved.free_bytes.zip(self.total);
        if known.is_some_and(|(free, total)| free <= total) {
            self.state.free_bytes = saved.free_bytes;
        }
        self.state.most_clips = saved.most_clips;
    }

    /// Remembers the smaller micro-batch if the device turned out to hold fewer clips than `planned`.
    pub(super) fn learn(&mut self, planned: &StepMemory, now: &StepMemory) {
        if now.micro_batch < planned.micro_batch {
            self.state.most_clips = Some(now.micro_batch);
        }
    }

    /// Plans a step with these needs.
    pub(super) fn step(&self, needs: &MemoryEstimate) -> StepMemory {
        let fits = match self.given {
            _ if self.force => u64::MAX,
            Auto::Number(clips) => needs.clips(None, self.binding).min(clips as u64),
            Auto::Auto => self.by_memory(needs).min(needs.clips_per_launch(self.launch)),
        };
        let fits = usize::try_from(fits).unwrap_or(usize::MAX);
        let fits = fits.min(self.state.most_clips.unwrap_or(usize::MAX));
        StepMemory { micro_batch: fits.max(1), gradient_checkpointing: self.checkpointing }
    }

    /// Returns the number of clips that fit into memory.
    fn by_memory(&self, needs: &MemoryEstimate) -> u64 {
        needs.clips(self.state.free_bytes, self.binding)
    }

    /// Returns an error if the device's buffers cannot hold a single clip of `size` = `[T, H, W]`.
    /// Warns if one is not expected to fit into the free memory.
    pub(super) fn check(&self, needs: &MemoryEstimate, size: [usize; 3]) -> Result<(), TrainError> {
        let most = self.binding.map_or(u64::MAX, |most| most.min(MOST_BYTES as u64));
        let megabytes = |bytes: u64| bytes.div_ceil(1 << 20);
        if needs.widest > most && !self.force {
            return Err(TrainError::TooLarge {
                size: size.map(|side| side.to_string()).join("×"),
                need: megabytes(needs.widest),
                limit: most >> 20,
                device: self.device.clone(),
            });
        }
        if let Some(free) = self.state.free_bytes
            && self.given == Auto::Auto
            && !self.assumed
            && needs.clips(Some(free), None) == 0
        {
            log::warn!(
                "a step is estimated to need {} MB for a single clip, but {} MB are free on {}: trying \
                 anyway",
                megabytes(needs.fixed + needs.clip),
                free >> 20,
                self.device
            );
        }
        Ok(())
    }

    /// Describes the plan, for a run in which the largest `what` has `clips` clips.
    pub(super) fn describe(&self, needs: &MemoryEstimate, clips: usize, what: &str) -> String {
        let step = self.step(needs);
        let micro_batch = step.micro_batch.min(clips);
        let free = match self.state.free_bytes {
            None => "memory unknown".to_owned(),
            Some(free) if self.assumed => format!("memory unknown, {} assumed", ByteSize(free)),
            Some(free) => format!("{} free", ByteSize(free)),
        };
        let short = self.given == Auto::Auto
            && !self.force
            && needs.clips_per_launch(self.launch) == micro_batch as u64
            && self.by_memory(needs) > micro_batch as u64;
        let passes = if micro_batch < clips {
            format!(
                "{micro_batch} of up to {clips} clips per pass{} (batch norm over each micro-batch)",
                if short { ", which keeps launches short" } else { "" }
            )
        } else {
            let all = if clips == 1 { "the" } else { "all" };
            format!("{all} {} of {what} in one pass", plural(clips, "clip"))
        };
        let recomputed = if self.checkpointing { ", activations recomputed" } else { "" };
        format!(
            "about {} per clip plus {}, {free}: {passes}{recomputed}",
            ByteSize(needs.clip),
            ByteSize(needs.fixed)
        )
    }
}

/// Estimates the device memory needed by a step that trains these stages.
pub(super) fn memory_needs(
    config: &Config,
    net: &MultiViewNet,
    trainable: StageSet,
) -> Result<MemoryEstimate, TrainError> {
    let (size, checkpointing) = (config.clips.size(), config.compute.gradient_checkpointing);
    let all = net.num_params();
    // With all stages the network may still have frozen ones, whose gradients are measured too.
    let parameters = if trainable == StageSet::ALL { all } else { parameter_count(net) };
    let needs = MemoryEstimate::training(&net.backbone, parameters, size, trainable, checkpointing)
        .ok_or(TrainError::TooSmall { size: size.map(|side| side.to_string()).join("×") })?;
    // Frozen weights also take memory; the average is another copy of all weights, in f32.
    let frozen = 4 * all.saturating_sub(parameters) as u64;
    let average = config.optimizer.ema.map_or(0, |_| 4 * all as u64);
    Ok(MemoryEstimate { fixed: needs.fixed + frozen + average, ..needs })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const NEEDS: MemoryEstimate =
        MemoryEstimate { fixed: 0, clip: 100 << 20, widest: 1 << 20, operations: 20_000_000_000 };

    fn budget(free_bytes: Option<u64>, total: Option<u64>) -> MemoryBudget {
        MemoryBudget {
            given: Auto::Auto,
            checkpointing: false,
            force: false,
            binding: Some(1 << 30),
            launch: None,
            total,
            assumed: false,
            device: "a device".to_owned(),
            state: MemoryState { free_bytes, most_clips: None },
        }
    }

    #[test]
    fn a_resumed_run_keeps_the_saved_memory_if_the_device_has_it() {
        let resumed = |free_bytes, most_clips| {
            let mut budget = budget(Some(6 << 30), Some(8 << 30));
            budget.resume(MemoryState { free_bytes, most_clips });
            budget.state
        };
        let state = |free_bytes, most_clips| MemoryState { free_bytes, most_clips };
        assert_eq!(resumed(Some(7 << 30), None), state(Some(7 << 30), None));
        // The memory of a larger device does not carry over, nor does an unknown one.
        assert_eq!(resumed(Some(9 << 30), None), state(Some(6 << 30), None));
        assert_eq!(resumed(None, None), state(Some(6 << 30), None));
        // Micro-batches that did not fit on the other device are not tried on this one.
        assert_eq!(resumed(None, Some(3)), state(Some(6 << 30), Some(3)));
        let mut here = budget(None, None);
        here.resume(state(Some(1 << 30), Some(3)));
        assert_eq!(here.state, state(None, Some(3)));
    }

    #[test]
    fn a_device_of_unknown_speed_takes_fewer_clips_per_pass() {
        let mut budget = budget(Some(8 << 30), Some(8 << 30));
        assert!(budget.step(&NEEDS).micro_batch > 60);
        budget.launch = Some(200_000_000_000);
        assert_eq!(budget.step(&NEEDS).micro_batch, 10);
        let line = budget.describe(&NEEDS, 16, "a step");
        assert!(
            line.contains(" 10 of up to 16 clips per pass, which keeps launches short"),
            "{line}"
        );
        // Memory is the limit, a step is small, or the user sets the micro-batch.
        budget.state.free_bytes = Some(800 << 20);
        let line = budget.describe(&NEEDS, 16, "a step");
        assert!(line.contains(" 6 of up to 16 clips per pass (batch"), "{line}");
        let line = budget.describe(&NEEDS, 4, "a step");
        assert!(line.contains(" all 4 clips of a step in one pass"), "{line}");
        budget.given = Auto::Number(12);
        assert_eq!(budget.step(&NEEDS).micro_batch, 12);
        // A single clip is tried even if it takes longer than a launch should.
        let long = MemoryEstimate { operations: u64::MAX, ..NEEDS };
        budget.given = Auto::Auto;
        assert_eq!(budget.step(&long).micro_batch, 1);
    }

    #[test]
    fn an_assumed_amount_of_memory_is_described_as_such() {
        let mut budget = budget(Some(4_000_000_000), None);
        budget.assumed = true;
        let line = budget.describe(&NEEDS, 4, "a step");
        assert!(line.contains("memory unknown, 4.0 GB assumed: all 4 clips"), "{line}");
    }
}
