//! The loss: every task's with its weight, and the auxiliary heads'.

use std::ops::Range;

use burn::tensor::{Int, Tensor, TensorData, TensorReadError};
use serde::{Deserialize, Serialize};

use crate::augment::rarity;
use crate::config::{Config, LossFunction};
use crate::data::balance::class_weights;
use crate::data::mix::Mix;
use crate::data::{Batch, Dataset};
use crate::device::read_back;
use crate::losses::{CrossEntropy, Focal, Targets, TaskLoss};
use crate::model::Prediction;
use crate::schema::Schema;

/// A task as the objective sees it.
#[derive(Debug)]
pub struct TaskObjective {
    /// The task's (or property's) name.
    pub name: String,
    /// Number of classes.
    pub classes: usize,
    /// Its loss.
    pub loss: Box<dyn TaskLoss>,
    /// Weight of that loss in the sum.
    pub weight: f64,
}

/// The loss that training minimises: Σ weight·loss over the tasks, plus `auxiliary_weight`
/// times the mean loss of the auxiliary heads that have a known value in the batch. A head's own
/// `weight` is that auxiliary weight.
#[derive(Debug)]
pub struct Objective {
    /// The tasks, in the schema's order.
    pub tasks: Vec<TaskObjective>,
    /// One per auxiliary head. `classes` leaves out "unknown".
    pub auxiliary: Vec<TaskObjective>,
    /// Per auxiliary head: the property's index in [`Batch::properties`].
    properties: Vec<usize>,
    /// Per annotation input of the network: the property's index in [`Batch::properties`].
    inputs: Vec<usize>,
}

impl Objective {
    /// Cross-entropy with weight 1 on each of the schema's tasks, nothing else.
    pub fn plain(schema: &Schema) -> Self {
        let task = |task: &crate::schema::Task| TaskObjective {
            name: task.name.clone(),
            classes: task.classes.len(),
            loss: Box::new(CrossEntropy::default()),
            weight: 1.0,
        };
        Self {
            tasks: schema.tasks.iter().map(task).collect(),
            auxiliary: Vec::new(),
            properties: Vec::new(),
            inputs: Vec::new(),
        }
    }

    /// The objective of a configuration, with class counts from the training split.
    ///
    /// The imbalanced task has `loss-function`; the others have cross-entropy. Where the schema
    /// calls no task imbalanced, all have it, without class weights.
    pub fn new(config: &Config, schema: &Schema, train: &Dataset) -> Self {
        let mut objective = Self::plain(schema);
        let imbalanced = schema.imbalanced_task();
        for (index, task) in objective.tasks.iter_mut().enumerate() {
            task.weight = config.loss.task_weight(index);
            let counts = train.class_counts(index, task.classes);
            let chosen = imbalanced.is_none_or(|imbalanced| imbalanced == index);
            let weights = (imbalanced == Some(index))
                .then(|| task_weights(config, &counts).into_iter().map(|w| w as f32).collect());
            task.loss = if chosen {
                loss(config, &counts, weights)
            } else {
                Box::new(smooth(config, None))
            };
        }
        for (index, property) in schema.properties.iter().enumerate() {
            if config.network.annotation_inputs && property.input {
                objective.inputs.push(index);
            }
            if config.loss.auxiliary_task_weight > 0.0 && property.auxiliary {
                objective.properties.push(index);
                objective.auxiliary.push(TaskObjective {
                    name: property.name.clone(),
                    classes: property.values.len(),
                    loss: Box::new(CrossEntropy::default()),
                    weight: config.loss.auxiliary_task_weight,
                });
            }
        }
        objective
    }

    /// With another loss for one task.
    #[must_use]
    pub fn with_loss(mut self, task: usize, loss: impl TaskLoss + 'static) -> Self {
        if let Some(task) = self.tasks.get_mut(task) {
            task.loss = Box::new(loss);
        }
        self
    }

    /// The values of the network's annotation inputs for a batch, `[input][action]`.
    pub fn annotated(&self, batch: &Batch) -> Vec<Vec<usize>> {
        self.annotated_of(batch, 0..batch.actions.len())
    }

    /// The same for some of its actions.
    pub fn annotated_of(&self, batch: &Batch, actions: Range<usize>) -> Vec<Vec<usize>> {
        let of = |&property: &usize| batch.properties[property][actions.clone()].to_vec();
        self.inputs.iter().map(of).collect()
    }

    /// The losses of a prediction.
    pub fn cost(&self, prediction: &Prediction, batch: &Batch) -> Cost {
        self.cost_of(prediction, batch, 0..batch.actions.len())
    }

    /// The divisors of the batch's mean losses, of each task and each auxiliary head: with them the means of
    /// several batches become that of all their actions. 0 where no class is known.
    pub(super) fn divisors(&self, batch: &Batch) -> [Vec<f64>; 2] {
        let mix = batch.mix.as_ref();
        let tasks = self.tasks.iter().zip(&batch.labels);
        let heads = self.auxiliary.iter().zip(&self.properties);
        [
            tasks.map(|(task, labels)| task.divisor(labels, mix)).collect(),
            heads
                .map(|(head, &property)| head.divisor(&known_values(batch, property), mix))
                .collect(),
        ]
    }

    /// The sum that is minimised, from the losses of tasks and auxiliary heads; `None` of a head without a
    /// known value.
    pub(super) fn total(&self, tasks: &[f64], auxiliary: &[Option<f64>]) -> f64 {
        let sum: f64 = self.tasks.iter().zip(tasks).map(|(task, loss)| task.weight * loss).sum();
        let known = auxiliary.iter().flatten().count().max(1) as f64;
        let heads = self.auxiliary.iter().zip(auxiliary);
        sum + heads.filter_map(|(head, loss)| Some(head.weight / known * (*loss)?)).sum::<f64>()
    }

    /// The contribution of some of a batch's actions to its losses; the contributions of all parts
    /// add up to the batch's losses. `prediction` is for these actions alone.
    pub fn cost_of(&self, prediction: &Prediction, batch: &Batch, actions: Range<usize>) -> Cost {
        let mix = batch.mix.as_ref();
        let tasks: Vec<Option<KnownTargets>> = self
            .tasks
            .iter()
            .zip(prediction.logits.iter().zip(&batch.labels))
            .map(|(task, (logits, labels))| task.cost(logits, labels, mix, actions.clone()))
            .collect();
        let device = prediction.view_weights.device();
        let tasks: Vec<Tensor<1>> = tasks
            .into_iter()
            .map(|known| known.map_or_else(|| Tensor::zeros([1], &device), |known| known.loss))
            .collect();
        let mut parts: Vec<Tensor<1>> =
            tasks.iter().zip(&self.tasks).map(|(l, t)| l.clone().mul_scalar(t.weight)).collect();
        // Counted over the whole batch: the heads that have a known value.
        let has_known =
            |property: &&usize| batch.properties[**property].iter().any(|&index| index > 0);
        let heads_with_known = self.properties.iter().filter(has_known).count().max(1) as f64;
        let heads = self.auxiliary.iter().zip(&prediction.auxiliary).zip(&self.properties);
        let auxiliary: Vec<Option<KnownTargets>> = heads
            .map(|((head, logits), &property)| {
                head.cost(logits, &known_values(batch, property), mix, actions.clone())
            })
            .collect();
        for (known, head) in auxiliary.iter().zip(&self.auxiliary) {
            if let Some(known) = known {
                parts.push(known.loss.clone().mul_scalar(head.weight / heads_with_known));
            }
        }
        Cost { total: Tensor::cat(parts, 0).sum(), tasks, auxiliary }
    }
}

/// The values of a property as classes; its index 0 means unknown.
fn known_values(batch: &Batch, property: usize) -> Vec<Option<usize>> {
    batch.properties[property].iter().map(|index| index.checked_sub(1)).collect()
}

impl TaskObjective {
    /// The divisor of the mean loss over actions with these labels; 0 if none is known.
    fn divisor(&self, labels: &[Option<usize>], mix: Option<&Mix>) -> f64 {
        self.loss.divisor(&self.known(labels, mix, 0..labels.len()).1)
    }

    /// The share of some of a batch's actions in the batch's loss, from their logits and the labels of
    /// all; `None` if no label of theirs is known.
    fn cost(
        &self,
        logits: &Tensor<2>,
        labels: &[Option<usize>],
        mix: Option<&Mix>,
        actions: Range<usize>,
    ) -> Option<KnownTargets> {
        let (rows, targets) = self.known(labels, mix, actions.clone());
        if rows.is_empty() {
            return None;
        }
        let share = self.loss.divisor(&targets) / self.divisor(labels, mix);
        let own = rows.iter().map(|&row| labels[actions.start + row]).collect();
        let logits = if rows.len() == actions.len() {
            logits.clone()
        } else {
            let count = rows.len();
            let row = |row| i32::try_from(row).expect("a batch has few actions");
            let rows: Vec<i32> = rows.into_iter().map(row).collect();
            let index =
                Tensor::<1, Int>::from_data(TensorData::new(rows, [count]), &logits.device());
            logits.clone().select(0, index)
        };
        let loss = self.loss.loss(logits.clone(), &targets);
        let loss = if share == 1.0 { loss } else { loss.mul_scalar(share) };
        Some(KnownTargets { loss, logits, labels: own })
    }

    /// Those of some actions, numbered among them, of which a class is known, and their targets. Of mixed
    /// actions only one may be, if it has a share: a sum of nothing has no mean.
    fn known(
        &self,
        labels: &[Option<usize>],
        mix: Option<&Mix>,
        actions: Range<usize>,
    ) -> (Vec<usize>, Targets) {
        let partner = |action: usize| mix.map_or(action, |mix| mix.partners[action]);
        let share = mix.map_or(1.0, |mix| mix.share);
        let shares = |action: usize| {
            // An action that is its own partner is not mixed.
            let own = if partner(action) == action { 1.0 } else { share };
            let both = [(labels[action], own), (labels[partner(action)], 1.0 - own)];
            both.into_iter()
                .filter_map(|(class, share)| Some((class?, share)).filter(|_| share > 0.0))
        };
        let known: Vec<usize> =
            actions.clone().filter(|&action| shares(action).next().is_some()).collect();
        let mut targets = Targets::none(known.len(), self.classes);
        for (row, &action) in known.iter().enumerate() {
            shares(action).for_each(|(class, share)| targets.add(row, class, share));
        }
        (known.into_iter().map(|action| action - actions.start).collect(), targets)
    }
}

/// A batch's losses, or a part's share in them, on the device.
#[derive(Debug)]
pub struct Cost {
    /// The weighted sum, `[1]`.
    pub total: Tensor<1>,
    /// Each task's mean loss `[1]` over the actions whose label is known, without its weight; 0 where
    /// none is.
    pub tasks: Vec<Tensor<1>>,
    /// Per auxiliary head; `None` where no action has a known value.
    pub auxiliary: Vec<Option<KnownTargets>>,
}

/// A batch's losses as numbers.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Losses {
    /// The weighted sum.
    pub total: f64,
    /// Each task's.
    pub tasks: Vec<f64>,
    /// Each auxiliary head's; 0 where no action has a known value.
    pub auxiliary: Vec<f64>,
}

impl Losses {
    /// Adds those of another part of the batch.
    pub(super) fn add(&mut self, part: &Self) {
        self.total += part.total;
        for (sums, parts) in
            [(&mut self.tasks, &part.tasks), (&mut self.auxiliary, &part.auxiliary)]
        {
            sums.resize(sums.len().max(parts.len()), 0.0);
            sums.iter_mut().zip(parts).for_each(|(sum, part)| *sum += part);
        }
    }
}

impl Cost {
    /// All losses as numbers, with one read-back.
    ///
    /// # Errors
    /// A device that fails.
    pub fn read(&self) -> Result<Losses, TensorReadError> {
        Self::read_sum(std::slice::from_ref(self))
    }

    /// The losses of a batch from those of its parts, with one read-back.
    ///
    /// # Errors
    /// A device that fails.
    pub fn read_sum(parts: &[Self]) -> Result<Losses, TensorReadError> {
        let mut all = Vec::new();
        for cost in parts {
            all.push(cost.total.clone());
            all.extend(cost.tasks.iter().cloned());
            all.extend(cost.auxiliary.iter().flatten().map(|known| known.loss.clone()));
        }
        let mut values = read_back(all)?.into_iter().map(f64::from);
        let mut sum = Losses::default();
        for cost in parts {
            sum.total += values.next().expect("each cost has a total");
            sum.tasks.resize(cost.tasks.len(), 0.0);
            for (sum, value) in sum.tasks.iter_mut().zip(values.by_ref().take(cost.tasks.len())) {
                *sum += value;
            }
            sum.auxiliary.resize(cost.auxiliary.len(), 0.0);
            for (sum, known) in sum.auxiliary.iter_mut().zip(&cost.auxiliary) {
                if known.is_some() {
                    *sum += values.next().expect("each known head has a loss");
                }
            }
        }
        Ok(sum)
    }
}

/// The actions of a batch whose label or property is known.
#[derive(Debug)]
pub struct KnownTargets {
    /// Mean loss over them, `[1]`.
    pub loss: Tensor<1>,
    /// Their logits.
    pub logits: Tensor<2>,
    /// Their own classes; unknown where only the partner's is known.
    pub labels: Vec<Option<usize>>,
}

/// A batch's losses and predictions, as metrics need them.
#[derive(Debug)]
pub(super) struct BatchResult {
    pub losses: Losses,
    /// `[B, classes]` per task.
    pub logits: Vec<Tensor<2>>,
    /// Per auxiliary head: the actions whose value is known.
    pub auxiliary: Vec<Option<KnownLogits>>,
}

/// Logits of some actions, with their classes.
#[derive(Debug)]
pub(super) struct KnownLogits {
    pub logits: Tensor<2>,
    pub labels: Vec<Option<usize>>,
}

impl BatchResult {
    pub(super) fn new(
        losses: Losses,
        logits: Vec<Tensor<2>>,
        auxiliary: Vec<Option<KnownTargets>>,
    ) -> Self {
        let known =
            |known: KnownTargets| KnownLogits { logits: known.logits, labels: known.labels };
        let auxiliary = auxiliary.into_iter().map(|head| head.map(known)).collect();
        Self { losses, logits, auxiliary }
    }
}

/// The class weights of the imbalanced task; all 1 with the plain loss.
pub(super) fn task_weights(config: &Config, counts: &[usize]) -> Vec<f64> {
    if config.loss.loss_function == LossFunction::Plain {
        return vec![1.0; counts.len()];
    }
    class_weights(config.balance.class_weighting_strategy, counts, config.balance.max_weight_ratio)
}

fn smooth(config: &Config, class_weights: Option<Vec<f32>>) -> CrossEntropy {
    CrossEntropy { class_weights, label_smoothing: config.loss.label_smoothing }
}

fn loss(config: &Config, counts: &[usize], weights: Option<Vec<f32>>) -> Box<dyn TaskLoss> {
    let gamma = config.loss.focal_gamma;
    let focal = |gamma: Vec<f32>| {
        Box::new(Focal {
            gamma,
            class_weights: weights.clone(),
            label_smoothing: config.loss.label_smoothing,
        })
    };
    match config.loss.loss_function {
        LossFunction::Plain => Box::new(smooth(config, None)),
        LossFunction::Weighted => Box::new(smooth(config, weights)),
        LossFunction::Focal => focal(vec![gamma as f32; counts.len()]),
        LossFunction::AdaptiveFocal => {
            // From γ for the largest class to 2γ for the rarest ones.
            let largest = counts.iter().copied().max().unwrap_or(0);
            let adapt = |&count: &usize| (gamma * (1.0 + f64::from(rarity(count, largest)))) as f32;
            focal(counts.iter().map(adapt).collect())
        }
    }
}
