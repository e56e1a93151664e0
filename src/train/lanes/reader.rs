//! Reads a lane's gradients in a thread beside the one that queues its backward pass.

use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;

use burn::optim::GradientsParams;
use burn::tensor::{ExecutionError, StreamId};

use super::gathering::Gathering;
use super::gradients::Reading;
use crate::model::MultiViewNet;
use crate::train::step::TakesGradients;

/// The reader of a lane in a step.
pub(super) struct GradientReader<'a> {
    net: &'a MultiViewNet,
    to: Arc<Gathering>,
    /// Queued, not yet being read.
    queued: RefCell<Vec<GradientsParams>>,
    /// Groups that are being read.
    done: Cell<usize>,
    readings: Sender<(usize, Reading)>,
    thread: JoinHandle<Result<(), ExecutionError>>,
}

impl<'a> GradientReader<'a> {
    /// For a lane with this copy of the network.
    pub(super) fn start(net: &'a MultiViewNet, lane: usize, to: &Arc<Gathering>) -> Self {
        let (readings, inbox) = channel::<(usize, Reading)>();
        let gathering = Arc::clone(to);
        // For the device both are one thread: what is read is what has been queued.
        let stream = StreamId::current();
        let work = move || {
            let guard = FailUnlessDone(&gathering, Cell::new(false));
            for (group, reading) in inbox {
                gathering.deliver(lane, group, reading.finish()?);
            }
            guard.1.set(true);
            Ok(())
        };
        let thread = std::thread::spawn(move || stream.executes(work));
        let (queued, done) = (RefCell::default(), Cell::new(0));
        Self { net, to: Arc::clone(to), queued, done, readings, thread }
    }

    /// Reads what is left, while the caller goes on. Its end is waited for by what is returned.
    pub(super) fn finish(
        self,
        rest: GradientsParams,
    ) -> impl FnOnce() -> Result<(), ExecutionError> {
        self.add(0, rest);
        let Self { thread, .. } = self;
        || thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

impl TakesGradients for GradientReader<'_> {
    fn add(&self, stage: usize, gradients: GradientsParams) {
        let mut queued = self.queued.borrow_mut();
        queued.push(gradients);
        let layout = &self.to.layout;
        let complete = layout.complete_from(stage);
        for group in self.done.replace(complete)..complete {
            let reading = Reading::start(&mut queued, self.net, &layout.groups[group]);
            // If the thread has ended, it says why.
            let _ = self.readings.send((group, reading));
        }
    }
}

/// Fails the gathering where the reader ends early.
struct FailUnlessDone<'a>(&'a Gathering, Cell<bool>);

impl Drop for FailUnlessDone<'_> {
    fn drop(&mut self) {
        if !self.1.get() {
            self.0.fail();
        }
    }
}
