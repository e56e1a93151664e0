//! Training steps at given learning rates, independent of the run's schedule.

use super::Run;
use crate::model::StageSet;
use crate::report::PassKind;
use crate::train::error::TrainError;
use crate::train::memory::memory_needs;
use crate::train::metrics::PassProgress;
use crate::train::run_schedule::Rates;

impl Run<'_> {
    /// Returns the phase of the first epoch and the stages that train in it.
    pub(in crate::train) fn first_phase(&self) -> (usize, StageSet) {
        let plan = self.schedule.epoch(0, &[]);
        (plan.phase.number, plan.trainable)
    }

    /// Trains the stages of the first epoch, all at `rate(step)`, over as many epochs of data as needed:
    /// until `keep_going` returns `false` for the loss of a step (taken before its update) or the user
    /// stops the run. `steps` is the largest possible number of steps.
    pub(in crate::train) fn at_rates(
        &mut self,
        steps: usize,
        rate: &dyn Fn(usize) -> f64,
        keep_going: &mut dyn FnMut(f64) -> bool,
    ) -> Result<(), TrainError> {
        let (_, trainable) = self.first_phase();
        self.trainer.set_trainable(trainable);
        let needs = memory_needs(self.config, self.trainer.net(), trainable)?;
        self.trainer.memory = self.budget.step(&needs);
        self.announce(0, PassKind::Train, steps);
        let mut progress = PassProgress::new(&self.trainer.objective);
        for epoch in 0.. {
            let loader = self.data.train_loader(epoch, 0, self.trainer.share());
            self.trainer.epoch = epoch;
            let before = self.trainer.steps;
            let mut pass = self.trainer.resume_epoch(loader, progress);
            loop {
                let done = self.trainer.steps;
                let rates = |step| Rates::new(rate(step), rate(step));
                let more = self.trainer.train_step(&mut pass, &rates)?;
                let loss = pass.last_loss().filter(|_| self.trainer.steps > done);
                if loss.is_some_and(|loss| !keep_going(loss)) || self.trainer.stopped() {
                    return Ok(());
                }
                if !more {
                    break;
                }
            }
            if self.trainer.steps == before {
                // No batch of this epoch was readable; the next epoch would not be different.
                return Ok(());
            }
            progress = pass.progress();
        }
        Ok(())
    }
}
