//! When the running statistics of batch normalisation move. A forward pass moves them at once,
//! unless it is repeated (to save memory) or may yet be given up (out of memory).

use std::cell::RefCell;
use std::rc::Rc;

use burn::module::RunningState;
use burn::tensor::Tensor;

use crate::norm::{self, Blend};

const MOMENTUM: f64 = 0.1;

/// A layer's statistics of one batch, on their way into its running ones.
#[derive(Debug)]
pub(super) struct Update {
    /// Running mean and variance, `[C]` each. Clones of them are one and the same.
    pub running: [RunningState<Tensor<1>>; 2],
    /// The batch's mean and biased variance, `[C]` each.
    pub batch: [Tensor<1>; 2],
    /// What makes that variance unbiased.
    pub unbiased: f64,
}

impl Update {
    fn apply(self) {
        let blend = Blend { momentum: MOMENTUM, unbiased: self.unbiased };
        let old = self.running.each_ref().map(RunningState::value_sync);
        let next = norm::blend(old, self.batch, blend);
        for (running, next) in self.running.iter().zip(next) {
            running.update(next);
            // Burn keeps the newest value per thread apart until it is asked for; a checkpoint
            // written now must already hold it.
            running.value_sync();
        }
    }
}

type Held = Rc<RefCell<Vec<Update>>>;

/// What a scope does with the statistics of the forward passes in it.
enum Scope {
    /// They are kept for later.
    Hold(Held),
    /// They are dropped.
    Ignore,
}

thread_local! {
    static SCOPES: RefCell<Vec<Scope>> = const { RefCell::new(Vec::new()) };
}

/// Hands an update to the innermost scope; without one it is applied.
pub(super) fn tell(update: Update) {
    let now = SCOPES.with_borrow(|scopes| match scopes.last() {
        Some(Scope::Hold(held)) => {
            held.borrow_mut().push(update);
            None
        }
        Some(Scope::Ignore) => None,
        None => Some(update),
    });
    if let Some(update) = now {
        update.apply();
    }
}

/// Running statistics that have not moved yet.
#[derive(Debug)]
#[must_use = "the statistics move when they are applied"]
pub struct HeldStatistics(Held);

impl HeldStatistics {
    /// Moves them, in the order in which the batches came.
    pub fn apply(self) {
        self.0.take().into_iter().for_each(Update::apply);
    }
}

/// Runs `work`, all of it in this thread, and holds back what it does to running statistics.
pub fn hold<R>(work: impl FnOnce() -> R) -> (R, HeldStatistics) {
    let held = Held::default();
    let result = within(Scope::Hold(Rc::clone(&held)), work);
    (result, HeldStatistics(held))
}

/// Runs `work` that had its effect on running statistics when it was done first.
pub fn ignore<R>(work: impl FnOnce() -> R) -> R {
    within(Scope::Ignore, work)
}

fn within<R>(scope: Scope, work: impl FnOnce() -> R) -> R {
    /// Takes the scope away however `work` ends.
    struct Leave;
    impl Drop for Leave {
        fn drop(&mut self) {
            SCOPES.with_borrow_mut(Vec::pop);
        }
    }
    SCOPES.with_borrow_mut(|scopes| scopes.push(scope));
    let _leave = Leave;
    work()
}
