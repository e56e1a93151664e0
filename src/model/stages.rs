//! Sets of the backbone's stages.

use super::STAGES;

/// Returns the stage that a parameter of the network belongs to, given its path or its name in files;
/// `None` for parameters outside the backbone.
pub fn stage_of(path: &str) -> Option<usize> {
    let name = path.strip_prefix("backbone.")?.split('.').next()?;
    // In the files of Hara et al.'s networks, the stem's layers have no common prefix.
    let name = if matches!(name, "conv1" | "bn1") { STAGES[0] } else { name };
    STAGES.iter().position(|stage| *stage == name)
}

/// The stages of a backbone that train.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StageSet([bool; STAGES.len()]);

impl StageSet {
    /// Heads only.
    pub const NONE: Self = Self([false; STAGES.len()]);
    /// Everything.
    pub const ALL: Self = Self([true; STAGES.len()]);

    /// Returns the `count` stages nearest to the heads.
    pub fn last(count: usize) -> Self {
        let mut set = Self::NONE;
        set.0.iter_mut().rev().take(count).for_each(|stage| *stage = true);
        set
    }

    /// Whether a stage, numbered as in [`STAGES`], trains.
    ///
    /// # Panics
    /// If there is no such stage.
    pub fn contains(&self, stage: usize) -> bool {
        self.0[stage]
    }

    /// Adds a stage.
    ///
    /// # Panics
    /// If there is no such stage.
    #[must_use]
    pub fn with(mut self, stage: usize) -> Self {
        self.0[stage] = true;
        self
    }

    /// Returns the frozen stage nearest to the heads.
    pub fn next_frozen(&self) -> Option<usize> {
        self.0.iter().rposition(|trains| !trains)
    }

    /// Returns the trainable stages' names, input side first.
    pub fn names(&self) -> Vec<&'static str> {
        STAGES.iter().zip(self.0).filter(|(_, trains)| *trains).map(|(name, _)| *name).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[should_panic(expected = "index out of bounds")]
    fn a_stage_that_does_not_exist_is_not_left_out_silently() {
        let _ = StageSet::NONE.with(STAGES.len());
    }
}
