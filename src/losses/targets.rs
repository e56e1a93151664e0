//! Targets of the network's predictions.

use burn::tensor::{Device, Tensor, TensorData};

/// The targets of B actions in one task: for each action a share of every class, `[B, C]`. Usually
/// an action has a share of 1 of its class; mixed actions have shares of the classes of both.
#[derive(Debug, Clone, PartialEq)]
pub struct Targets {
    classes: usize,
    shares: Vec<f32>,
}

impl Targets {
    /// Creates targets with one class per action.
    ///
    /// # Panics
    /// If a label is not below `classes`.
    pub fn new(labels: &[usize], classes: usize) -> Self {
        let mut targets = Self::none(labels.len(), classes);
        for (row, &label) in labels.iter().enumerate() {
            targets.add(row, label, 1.0);
        }
        targets
    }

    /// Creates targets of `actions` actions in which all shares are 0.
    pub fn none(actions: usize, classes: usize) -> Self {
        Self { classes, shares: vec![0.0; actions * classes] }
    }

    /// Adds to an action's share of a class.
    ///
    /// # Panics
    /// If there is no such action or class.
    pub fn add(&mut self, action: usize, class: usize, share: f32) {
        assert!(class < self.classes, "class {class} of {}", self.classes);
        self.shares[action * self.classes + class] += share;
    }

    /// Number of classes C.
    pub fn classes(&self) -> usize {
        self.classes
    }

    /// Number of actions B.
    pub fn len(&self) -> usize {
        self.shares.len() / self.classes.max(1)
    }

    /// Whether there are no actions.
    pub fn is_empty(&self) -> bool {
        self.shares.is_empty()
    }

    /// Returns each action's shares of all classes.
    pub fn rows(&self) -> impl Iterator<Item = &[f32]> {
        self.shares.chunks(self.classes.max(1))
    }

    /// Returns for each action the sum of its shares, each multiplied by the factor of its class.
    ///
    /// # Panics
    /// If the number of factors differs from the number of classes, because a loss was made for
    /// another number of classes.
    pub fn weighted(&self, factors: &[f32]) -> Vec<f32> {
        let (given, classes) = (factors.len(), self.classes);
        assert!(
            given == classes,
            "the loss has factors for {given} classes, but the task has {classes}"
        );
        let sum = |row: &[f32]| row.iter().zip(factors).map(|(share, factor)| share * factor).sum();
        self.rows().map(sum).collect()
    }

    /// Returns the sum of all shares: B unless the class of a part of an action is unknown.
    pub fn total(&self) -> f64 {
        self.shares.iter().map(|share| f64::from(*share)).sum()
    }

    /// Returns the shares as a tensor `[B, C]`.
    pub fn tensor(&self, device: &Device) -> Tensor<2> {
        let shape = [self.len(), self.classes];
        Tensor::from_data(TensorData::new(self.shares.clone(), shape), device)
    }
}

#[cfg(test)]
mod tests {
    use super::Targets;

    #[test]
    fn weighted_requires_one_factor_per_class() {
        let targets = Targets::new(&[2, 0], 3);
        assert_eq!(targets.weighted(&[0.5, 1.0, 4.0]), [4.0, 0.5]);
        for wrong in [&[1.0; 2][..], &[1.0; 4]] {
            let panic = std::panic::catch_unwind(|| targets.weighted(wrong)).unwrap_err();
            let message = panic.downcast_ref::<String>().unwrap();
            assert!(message.ends_with("classes, but the task has 3"), "{message}");
        }
    }
}
