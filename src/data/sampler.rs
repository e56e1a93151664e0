//! Plans the order and the batches in which an epoch visits the actions.

use super::balance::{Sampling, balanced, draws};
use super::dataset::Dataset;
use super::loader;

/// A task whose classes are balanced.
#[derive(Debug, Clone)]
struct Balanced {
    /// Number of classes.
    classes: usize,
    /// Class of each sample; `None` where it is unknown.
    labels: Vec<Option<usize>>,
}

/// Plans the epochs of a run. Each plan depends on `(seed, epoch)` only, not on earlier epochs.
#[derive(Debug, Clone)]
pub struct Sampler {
    /// How classes are balanced.
    pub sampling: Sampling,
    /// The balanced tasks; the epochs cycle through them.
    tasks: Vec<Balanced>,
    samples: usize,
    batch_size: usize,
    seed: u64,
}

impl Sampler {
    /// Creates a sampler of batches of `batch_size` actions that balances the classes of the given
    /// tasks (index and class count), one task per epoch in turn.
    pub fn new(
        dataset: &Dataset,
        sampling: Sampling,
        tasks: &[(usize, usize)],
        batch_size: usize,
        seed: u64,
    ) -> Self {
        let labels = |task: usize| dataset.samples.iter().map(|s| s.labels[task]).collect();
        Self {
            sampling: if tasks.is_empty() { Sampling::Plain } else { sampling },
            tasks: tasks
                .iter()
                .map(|&(task, classes)| Balanced { classes, labels: labels(task) })
                .collect(),
            samples: dataset.samples.len(),
            batch_size: batch_size.max(1),
            seed,
        }
    }

    /// Returns the balanced task of an epoch, counted from 0, and the oversampling factor.
    fn balance(&self, epoch: usize) -> Option<(&Balanced, f64)> {
        let factor = self.sampling.factor(epoch)?;
        let task = self.tasks.get(epoch % self.tasks.len().max(1))?;
        Some((task, factor))
    }

    /// Returns the batches of an epoch, counted from 0, as indices into [`Dataset::samples`].
    pub fn plan(&self, epoch: usize) -> Vec<Vec<usize>> {
        match self.balance(epoch) {
            None => loader::shuffled(self.samples, self.batch_size, self.seed, epoch),
            Some((Balanced { classes, labels }, factor)) => {
                let order = balanced(labels, *classes, factor, self.seed, epoch);
                order.chunks(self.batch_size).map(<[usize]>::to_vec).collect()
            }
        }
    }

    /// Returns the number of batches of an epoch without planning it.
    pub fn batches(&self, epoch: usize) -> usize {
        let actions = match self.balance(epoch) {
            None => self.samples,
            Some((Balanced { classes, labels }, factor)) => {
                let mut counts = vec![0; *classes];
                labels.iter().flatten().for_each(|&label| counts[label] += 1);
                let unknown = labels.iter().filter(|label| label.is_none()).count();
                unknown + draws(&counts, factor).iter().sum::<usize>()
            }
        };
        actions.div_ceil(self.batch_size)
    }
}
