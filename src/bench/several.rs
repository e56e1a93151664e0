//! Training steps on several devices, as in a training run.

use std::sync::Arc;
use std::time::Instant;

use burn::tensor::Device;
use serde::Serialize;

use super::steps::WARM_UP;
use super::{BenchConfig, BenchError};
use crate::data::Batch;
use crate::model::{ModelConfig, parameter_count};
use crate::schema::Schema;
use crate::timing::{median, milliseconds};
use crate::train::{Lanes, Objective, Optimizer, Rates, Rule, Trainer};

/// Median times of training steps on the first `devices` devices.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct MultiDeviceTimes {
    /// Number of devices.
    pub devices: usize,
    /// A training step, upload and update included.
    pub step_ms: f64,
    /// Time of each step, in order.
    pub steps_ms: Vec<f64>,
    /// Time of the exchange during which no device of this process computed.
    pub exchange_ms: f64,
    /// Clips per second on all devices together.
    pub clips_per_s: f64,
    /// Ratio to the rate that as many independent devices would have.
    pub efficiency: f64,
}

/// Returns the numbers of devices to time: powers of two, and all.
pub(crate) fn device_counts(all: usize) -> Vec<usize> {
    let powers = std::iter::successors(Some(1), |count| Some(2 * count));
    powers.take_while(|count| *count < all).chain([all]).collect()
}

impl BenchConfig {
    /// Times training steps on the first 1, 2, 4, … of these devices and on all; each has a lane of
    /// [`BenchConfig::clips`] clips. With `sync_norm`, batch norm uses the statistics of all lanes.
    /// `done` is called after each step, including those of the warm-up.
    pub fn on_several(
        &self,
        devices: &[Device],
        sync_norm: bool,
        mut done: impl FnMut(),
    ) -> Result<Vec<MultiDeviceTimes>, BenchError> {
        let net = self.sketch();
        let needs = self.memory_needs(&net, parameter_count(&net))?;
        self.check_memory(&needs, devices)?;
        self.convolutions(&net)?;
        let mut all: Vec<MultiDeviceTimes> = Vec::new();
        for count in device_counts(devices.len()) {
            let [steps_ms, exchanges] = self.on_first(&devices[..count], sync_norm, &mut done)?;
            let (step_ms, exchange_ms) = (median(steps_ms.clone()), median(exchanges));
            let clips_per_s = (count * self.clips) as f64 * 1e3 / step_ms;
            let alone = all.first().map_or(clips_per_s, |first| first.clips_per_s);
            let efficiency = clips_per_s / (count as f64 * alone);
            let devices = count;
            all.push(MultiDeviceTimes {
                devices,
                step_ms,
                steps_ms,
                exchange_ms,
                clips_per_s,
                efficiency,
            });
        }
        Ok(all)
    }

    /// Returns the milliseconds of each step on all of these devices, and of the exchange in it.
    fn on_first(
        &self,
        devices: &[Device],
        sync_norm: bool,
        done: &mut impl FnMut(),
    ) -> Result<[Vec<f64>; 2], BenchError> {
        let schema = Schema::mvfoul().expect("the schema is built in");
        let model = ModelConfig::new(self.backbone, &schema);
        let net = model.init(1, &devices[0].clone().autodiff()).with_half(self.half);
        let rule = Rule::AdamW { beta1: 0.9, weight_decay: 1e-2 };
        let (optimizer, objective) = (Optimizer::new(rule, 0.0), Objective::plain(&schema));
        let mut trainer = Trainer::new(net, optimizer, objective, &devices[0]);
        if let (count @ 2.., others) = (devices.len(), &devices[1..]) {
            let lanes = Lanes::new(count, &model, self.half, others)?;
            trainer = trainer.in_lanes(lanes.with_sync_batch_norm(sync_norm));
        }
        let batch = Arc::new(self.batch(&schema, devices.len()));
        let (mut steps, mut exchanges) = (Vec::new(), Vec::new());
        for _ in 0..self.steps + WARM_UP {
            let start = Instant::now();
            let exchange = trainer.step_on(&batch, Rates::new(1e-4, 1e-4))?;
            steps.push(milliseconds(start));
            exchanges.push(exchange.as_secs_f64() * 1e3);
            done();
        }
        Ok([steps, exchanges].map(|all| all[WARM_UP..].to_vec()))
    }

    /// Returns a batch of actions of one clip each, with as many in each of `lanes` lanes as a step
    /// has on one device.
    fn batch(&self, schema: &Schema, lanes: usize) -> Batch {
        let actions = lanes * self.clips;
        let bytes = actions * 3 * self.size.iter().product::<usize>();
        let classes = schema.tasks.iter().map(|task| task.classes.len());
        Batch {
            actions: (0..actions).map(|action| action.to_string()).collect(),
            earlier: vec![0; actions],
            view_counts: vec![1; actions],
            views: vec![0; actions],
            labels: classes
                .map(|all| (0..actions).map(|action| Some(action % all)).collect())
                .collect(),
            properties: schema.properties.iter().map(|_| vec![0; actions]).collect(),
            frames: (0..=250).cycle().take(bytes).collect(),
            frames_from: 0,
            size: self.size,
            mix: None,
            lanes: (0..lanes).map(|lane| lane * self.clips..(lane + 1) * self.clips).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_counted_by_powers_of_two() {
        assert_eq!(device_counts(1), [1]);
        assert_eq!(device_counts(2), [1, 2]);
        assert_eq!(device_counts(6), [1, 2, 4, 6]);
        assert_eq!(device_counts(8), [1, 2, 4, 8]);
    }
}
