//! What happens in one epoch of a run: the training pass, the validation pass, the record.

use std::sync::Arc;

use super::super::examples::Sightings;
use super::super::keeper::Moment;
use super::super::{
    Course, EpochCourse, Interrupted, PassProgress, StepSettings, TrainError, continue_epoch,
    stage_gradients, validate_and_see,
};
use super::{Run, needs};
use crate::data::loader::{self, Loader};
use crate::model::{MultiViewNet, STAGES, StageSet};
use crate::report::{EpochRecord, Event, Observer, PassKind, PassRecord};

/// What a training pass gives back.
pub(super) struct TrainPass {
    pub net: MultiViewNet,
    pub progress: PassProgress,
    pub record: PassRecord,
    pub interrupted: Interrupted,
}

impl Run<'_> {
    /// The training batches of an epoch, counted from 0.
    fn training_plan(&self, epoch: usize) -> Vec<Vec<usize>> {
        let mut plan = self.sampler.plan(epoch);
        if self.config.run.test_run {
            plan.truncate(self.config.run.test_batches);
        }
        plan
    }

    /// One training pass, or the rest of one.
    pub fn train_pass(
        &mut self,
        net: MultiViewNet,
        epoch: usize,
        begun: PassProgress,
        course: &Course,
        plan: &EpochCourse,
        observer: &mut dyn Observer,
    ) -> Result<TrainPass, TrainError> {
        let config = self.config;
        let settings = StepSettings {
            objective: &self.objective,
            rates: &|step| plan.at(step),
            seed: config.run.seed,
            epoch: epoch + 1,
            first_step: course.steps_before(epoch),
            augmenter: Some(&self.augmenter),
        };
        let mut batches = self.training_plan(epoch);
        announce(epoch, course, PassKind::Train, batches.len(), observer);
        batches.drain(..begun.steps.min(batches.len()));
        let planned = self.room.step(&needs(config, &net, plan.trainable)?);
        let mut memory = planned;
        let loader = Loader::reading_ahead(Arc::clone(&self.train), batches, config.data.ahead());
        let (keeper, history, room) = (&mut self.keeper, &self.history, &mut self.room);
        let (net, progress, record, interrupted) = continue_epoch(
            net,
            &mut self.optimizer,
            &mut memory,
            loader,
            &settings,
            begun,
            &self.tracking,
            self.stop,
            observer,
            &mut |net, optimizer, memory, progress, observer| {
                room.learn(&planned, memory);
                if keeper.is_due() {
                    let now = Moment::new(net, optimizer, room, history);
                    keeper.save(&now, Some(progress()), observer)?;
                }
                Ok(())
            },
        )?;
        Ok(TrainPass { net, progress, record, interrupted })
    }

    /// One validation pass; no figures when it was interrupted.
    pub fn valid_pass(
        &self,
        net: &MultiViewNet,
        epoch: usize,
        course: &Course,
        seen: &mut Sightings,
        observer: &mut dyn Observer,
    ) -> Result<Option<PassRecord>, TrainError> {
        let config = self.config;
        let mut plan = loader::in_order(self.valid.samples.len(), config.optimizer.batch_size);
        if config.run.test_run {
            plan.truncate(config.run.test_batches);
        }
        let loader = Loader::reading_ahead(Arc::clone(&self.valid), plan, config.data.ahead());
        announce(epoch, course, PassKind::Validate, loader.batches(), observer);
        let (record, interrupted) = validate_and_see(
            net,
            loader,
            &self.objective,
            self.room.step(&needs(config, net, StageSet::NONE)?).micro_batch,
            &self.plain,
            self.stop,
            observer,
            &mut |batch, prediction| seen.add(&self.schema, batch, prediction),
        )?;
        Ok((interrupted == Interrupted::No).then_some(record))
    }

    /// The record of a finished epoch.
    pub fn judge(
        &mut self,
        net: &MultiViewNet,
        epoch: usize,
        plan: &EpochCourse,
        train: PassRecord,
        valid: PassRecord,
    ) -> Result<EpochRecord, TrainError> {
        let score = valid.score();
        let best = self.keeper.is_best(score);
        let batches = self.training_plan(epoch);
        let (rates, _) = plan.at(batches.len().saturating_sub(1));
        let mut groups = indexmap::IndexMap::from([("heads".to_owned(), rates.heads)]);
        for (stage, name) in STAGES.iter().enumerate().rev() {
            if plan.trainable.contains(stage) {
                groups.insert((*name).to_owned(), rates.stages[stage]);
            }
        }
        let mut gradients = None;
        if plan.phase.freezing.wants_gradients()
            && let Some(first) = batches.first()
            && let Some(batch) = self.train.read_batch(first, &mut self.train.resizer())?
        {
            let needs = needs(self.config, net, StageSet::ALL)?;
            let (objective, memory) = (&self.objective, self.room.step(&needs));
            gradients = Some(stage_gradients(net, &batch, objective, memory, &self.tracking)?);
        }
        Ok(EpochRecord {
            epoch: epoch + 1,
            phase: plan.phase.number,
            trainable: plan.trainable.names().into_iter().map(str::to_owned).collect(),
            rates: groups,
            gradients,
            train,
            valid,
            score,
            best,
        })
    }
}

fn announce(
    epoch: usize,
    course: &Course,
    phase: PassKind,
    batches: usize,
    observer: &mut dyn Observer,
) {
    observer.observe(&Event::PassStarted {
        epoch: epoch + 1,
        epochs: course.epochs(),
        phase,
        batches,
    });
}
