//! The training loss: the weighted losses of all tasks and auxiliary heads.

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

/// The loss of a task or an auxiliary head.
#[derive(Debug)]
pub struct TaskObjective {
    /// Name of the task or property.
    pub name: String,
    /// Number of classes.
    pub classes: usize,
    /// Loss function.
    pub loss: Box<dyn TaskLoss>,
    /// Weight of the loss in the total.
    pub weight: f64,
}

/// The loss that training minimises: Σ weight·loss over the tasks, plus `auxiliary_weight`
/// times the mean loss of the auxiliary heads that have a known value in the batch. A head's own
/// `weight` is that auxiliary weight.
#[derive(Debug)]
pub struct Objective {
    /// The tasks, in the schema's order.
    pub tasks: Vec<TaskObjective>,
    /// The auxiliary heads. Their `classes` do not include "unknown".
    pub auxiliary: Vec<TaskObjective>,
    /// Index in [`Batch::properties`] of each auxiliary head's property.
    properties: Vec<usize>,
    /// Index in [`Batch::properties`] of the property behind each annotation input of the network.
    inputs: Vec<usize>,
}

impl Objective {
    /// Creates an objective with cross-entropy of weight 1 for each of the schema's tasks, and nothing
    /// else.
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

    /// Creates the objective of a configuration, with class counts from the training split.
    ///
    /// The imbalanced task uses `loss-function`; the others use cross-entropy. If the schema marks no
    /// task as imbalanced, all tasks use `loss-function`, without class weights.
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
                Box::new(cross_entropy(config, None))
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

    /// Replaces the loss of one task, which must exist.
    #[must_use]
    pub fn with_loss(mut self, task: usize, loss: impl TaskLoss + 'static) -> Self {
        self.tasks[task].loss = Box::new(loss);
        self
    }

    /// Returns the values of the network's annotation inputs for a batch, `[input][action]`.
    pub fn annotated(&self, batch: &Batch) -> Vec<Vec<usize>> {
        self.annotated_in(batch, 0..batch.actions.len())
    }

    /// Like [`Objective::annotated`], for some actions of the batch.
    pub fn annotated_in(&self, batch: &Batch, actions: Range<usize>) -> Vec<Vec<usize>> {
        let of = |&property: &usize| batch.properties[property][actions.clone()].to_vec();
        self.inputs.iter().map(of).collect()
    }

    /// Computes the losses of a prediction.
    pub fn cost(&self, prediction: &Prediction, batch: &Batch) -> Cost {
        self.cost_of(prediction, batch, 0..batch.actions.len())
    }

    /// Returns the divisors of the batch's mean losses, for tasks and for auxiliary heads: weighted by
    /// them, the means of several batches combine to the mean over all their actions. A divisor is 0 if
    /// no class is known.
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

    /// Returns the total that is minimised, given the losses of tasks and auxiliary heads; `None` for a
    /// head without a known value.
    pub(super) fn total(&self, tasks: &[f64], auxiliary: &[Option<f64>]) -> f64 {
        let sum: f64 = self.tasks.iter().zip(tasks).map(|(task, loss)| task.weight * loss).sum();
        let known = auxiliary.iter().flatten().count().max(1) as f64;
        let heads = self.auxiliary.iter().zip(auxiliary);
        sum + heads.filter_map(|(head, loss)| Some(head.weight / known * (*loss)?)).sum::<f64>()
    }

    /// Computes the contribution of some of a batch's actions to its losses; the contributions of all
    /// parts add up to the batch's losses. `prediction` covers only these actions.
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
        // The number of heads with a known value is counted over the whole batch.
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

/// Returns the values of a property as classes; index 0 in the batch means unknown.
fn known_values(batch: &Batch, property: usize) -> Vec<Option<usize>> {
    batch.properties[property].iter().map(|index| index.checked_sub(1)).collect()
}

impl TaskObjective {
    /// Returns the divisor of the mean loss over actions with these labels; 0 if none is known.
    fn divisor(&self, labels: &[Option<usize>], mix: Option<&Mix>) -> f64 {
        self.loss.divisor(&self.known(labels, mix, 0..labels.len()).1)
    }

    /// Computes the contribution of some of a batch's actions to the batch's loss, from their logits and
    /// the labels of the whole batch; `None` if none of their labels is known.
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

    /// Returns the actions in a range that have a known class, numbered within the range, and their
    /// targets. For a mixed pair one known class is enough, provided that its share is above 0: the mean
    /// over zero weight is undefined.
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

/// A batch's losses, or a part's contribution to them, on the device.
#[derive(Debug)]
pub struct Cost {
    /// Weighted total, `[1]`.
    pub total: Tensor<1>,
    /// Unweighted mean loss `[1]` of each task over the actions whose label is known; 0 if none is.
    pub tasks: Vec<Tensor<1>>,
    /// Loss and logits of each auxiliary head; `None` if no action has a known value.
    pub auxiliary: Vec<Option<KnownTargets>>,
}

/// A batch's losses as numbers on the host.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Losses {
    /// Weighted total.
    pub total: f64,
    /// Loss of each task.
    pub tasks: Vec<f64>,
    /// Loss of each auxiliary head; 0 if no action has a known value.
    pub auxiliary: Vec<f64>,
}

impl Losses {
    /// Adds the losses of another part of the batch.
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
    /// Reads all losses in one read-back.
    ///
    /// # Errors
    /// A device that fails.
    pub fn read(&self) -> Result<Losses, TensorReadError> {
        Self::read_sum(std::slice::from_ref(self))
    }

    /// Reads the losses of all parts of a batch in one read-back and adds them up.
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

/// Loss and logits of the actions of a batch whose label or property is known.
#[derive(Debug)]
pub struct KnownTargets {
    /// Contribution of these actions to the batch's mean loss, `[1]`.
    pub loss: Tensor<1>,
    /// Logits of these actions.
    pub logits: Tensor<2>,
    /// Classes of these actions; `None` if only the class of the mixing partner is known.
    pub labels: Vec<Option<usize>>,
}

/// A batch's losses and predictions, as needed for metrics.
#[derive(Debug)]
pub(super) struct BatchResult {
    pub losses: Losses,
    /// Logits `[B, classes]` of each task.
    pub logits: Vec<Tensor<2>>,
    /// Logits of each auxiliary head for the actions whose value is known.
    pub auxiliary: Vec<Option<KnownLogits>>,
}

/// Logits of some actions, and their classes.
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

/// Returns the class weights of the imbalanced task; all 1 if the loss uses none.
pub(super) fn task_weights(config: &Config, counts: &[usize]) -> Vec<f64> {
    if !config.loss.loss_function.uses_class_weights() {
        return vec![1.0; counts.len()];
    }
    class_weights(config.balance.class_weighting_strategy, counts, config.balance.max_weight_ratio)
}

fn cross_entropy(config: &Config, class_weights: Option<Vec<f32>>) -> CrossEntropy {
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
        LossFunction::Plain => Box::new(cross_entropy(config, None)),
        LossFunction::Weighted => Box::new(cross_entropy(config, weights)),
        LossFunction::Focal => focal(vec![gamma as f32; counts.len()]),
        LossFunction::AdaptiveFocal => {
            // γ for the largest class, up to 2γ for the rarest.
            let largest = counts.iter().copied().max().unwrap_or(0);
            let adapt = |&count: &usize| (gamma * (1.0 + f64::from(rarity(count, largest)))) as f32;
            focal(counts.iter().map(adapt).collect())
        }
    }
}
