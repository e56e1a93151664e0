//! What a step needs of a device's memory, and how many clips pass at once for it to fit.

use super::state::MemoryState;
use super::{StepMemory, TrainError};
use crate::config::{Auto, Config};
use crate::device::DeviceInfo;
use crate::model::{Backbone, PartShapes, StageSet};

/// Share of the free memory that a step may plan with. Allocators keep pages of odd sizes, and the
/// estimate leaves small things out.
const USABLE: f64 = 0.85;
/// Bytes of an f32.
const F32: u64 = 4;
/// A parameter, its gradient and two moments of Adam.
const PER_PARAMETER: u64 = 4 * F32;

/// Bytes that a step needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Needs {
    /// Whatever the micro-batch is: parameters, their gradients, the optimizer's moments.
    pub fixed: u64,
    /// For each clip of the micro-batch.
    pub clip: u64,
    /// The largest single tensor of one clip.
    pub widest: u64,
}

impl Needs {
    /// What training `trainable` takes for clips of `size` = `[T, H, W]`; `None` where those are too
    /// small for the network. An estimate: every convolution's output and its normalisation's are kept
    /// for the way back, and five of the widest tensors are on the way (measured, on the CPU).
    pub fn training(
        backbone: &Backbone,
        parameters: usize,
        size: [usize; 3],
        trainable: StageSet,
        checkpointing: bool,
    ) -> Option<Self> {
        let [t, h, w] = size;
        let parts = backbone.convolutions_by_part([1, 3, t, h, w])?;
        let lowest = (0..).take(crate::model::STAGES.len()).find(|&s| trainable.contains(s));
        let trained = |part: &&PartShapes| lowest.is_some_and(|lowest| part.stage >= lowest);
        let outputs = |part: &PartShapes| -> usize {
            part.convolutions.iter().map(|shape| shape.output_len()).sum()
        };
        let input = |part: &PartShapes| part.convolutions.first().map_or(0, |s| s.input_len());
        let kept: usize = if checkpointing {
            let largest = parts.iter().filter(trained).map(|part| 2 * outputs(part)).max();
            parts.iter().filter(trained).map(input).sum::<usize>() + largest.unwrap_or(0)
        } else {
            parts.iter().filter(trained).map(|part| 2 * outputs(part)).sum()
        };
        let clip = 3 * t * h * w;
        let all = parts.iter().flat_map(|part| &part.convolutions);
        let widest = all.map(|shape| shape.output_len()).max().unwrap_or(0).max(clip);
        Some(Self {
            fixed: parameters as u64 * PER_PARAMETER,
            clip: (kept + 5 * widest + clip) as u64 * F32,
            widest: widest as u64 * F32,
        })
    }

    /// The clips that fit into `room` bytes, of which no binding may pass `binding` bytes.
    pub fn clips(&self, room: Option<u64>, binding: Option<u64>) -> u64 {
        let by_room = room.map_or(u64::MAX, |room| {
            ((room as f64 * USABLE) as u64).saturating_sub(self.fixed) / self.clip.max(1)
        });
        let by_binding = binding.map_or(u64::MAX, |most| most / self.widest.max(1));
        by_room.min(by_binding)
    }
}

/// The memory that a run may use, and what it has learned of it.
#[derive(Debug, Clone)]
pub(super) struct Room {
    given: Auto,
    checkpointing: bool,
    force: bool,
    /// Bytes that one tensor may have.
    binding: Option<u64>,
    total: Option<u64>,
    device: String,
    /// What is saved with a checkpoint.
    pub state: MemoryState,
}

impl Room {
    pub fn new(config: &Config, device: &DeviceInfo) -> Self {
        Self {
            given: config.compute.micro_batch,
            checkpointing: config.compute.gradient_checkpointing,
            force: config.compute.force_batch_size,
            binding: device.max_binding_bytes,
            total: device.memory_bytes,
            device: device.name.clone(),
            state: MemoryState { free_bytes: device.free_bytes, most_clips: None },
        }
    }

    /// Plans as the run did from whose checkpoint this one goes on, so that it comes to the same
    /// micro-batches; unless this is another, smaller device.
    pub fn resume(&mut self, saved: MemoryState) {
        if saved.free_bytes <= self.total {
            self.state = saved;
        }
    }

    /// Remembers that the device was out of memory with more than this.
    pub fn learn(&mut self, planned: &StepMemory, now: &StepMemory) {
        if now.micro_batch < planned.micro_batch {
            self.state.most_clips = Some(now.micro_batch);
        }
    }

    /// How a step with these needs is cut.
    pub fn step(&self, needs: &Needs) -> StepMemory {
        let fits = match self.given {
            _ if self.force => u64::MAX,
            Auto::Number(clips) => needs.clips(None, self.binding).min(clips as u64),
            Auto::Auto => needs.clips(self.state.free_bytes, self.binding),
        };
        let fits = usize::try_from(fits).unwrap_or(usize::MAX);
        let fits = fits.min(self.state.most_clips.unwrap_or(usize::MAX));
        StepMemory { micro_batch: fits.max(1), gradient_checkpointing: self.checkpointing }
    }

    /// Refuses clips of which the device cannot hold a single one.
    pub fn check(&self, needs: &Needs, size: [usize; 3]) -> Result<(), TrainError> {
        let most = self.binding.unwrap_or(u64::MAX);
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
            && needs.clips(Some(free), None) == 0
        {
            let way_out = if self.checkpointing { "" } else { "--gradient-checkpointing, " };
            log::warn!(
                "a step is estimated to need {} MB for a single clip, {} MB are free on {}: it is \
                 tried; if it fails, take {way_out}a smaller --img-height and --img-width or \
                 --frames-per-clip",
                megabytes(needs.fixed + needs.clip),
                free >> 20,
                self.device
            );
        }
        Ok(())
    }

    /// One line for the start of a run whose largest batch has `clips` clips.
    pub fn words(&self, needs: &Needs, clips: usize) -> String {
        let step = self.step(needs);
        let at_once = step.micro_batch.min(clips);
        let free = self
            .state
            .free_bytes
            .map_or("memory unknown".to_owned(), |free| format!("{} free", amount(free)));
        let pieces = if at_once < clips {
            format!(
                "{at_once} of up to {clips} clips at once (each micro-batch normalised by itself)"
            )
        } else {
            format!("all {clips} clips of a step at once")
        };
        let again = if self.checkpointing { ", activations computed again" } else { "" };
        format!(
            "about {} a clip and {} besides, {free}: {pieces}{again}",
            amount(needs.clip),
            amount(needs.fixed)
        )
    }
}

/// Bytes in words.
fn amount(bytes: u64) -> String {
    match bytes as f64 / 1e9 {
        large if large >= 0.95 => format!("{large:.1} GB"),
        small => format!("{:.0} MB", small * 1e3),
    }
}
