//! Reads back a lane's gradients in a separate thread while its backward pass is being queued.

use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;

use burn::optim::GradientsParams;
use burn::tensor::{ExecutionError, StreamId};

use super::gathering::Gathering;
use super::gradients::PendingRead;
use crate::model::MultiViewNet;
use crate::train::step::GradientSink;

/// Reads back the gradients of a lane in a step.
pub(super) struct GradientReader<'a> {
    net: &'a MultiViewNet,
    gathering: Arc<Gathering>,
    /// Gradients that have been queued, but whose read-back has not been started.
    queued: RefCell<Vec<GradientsParams>>,
    /// Number of groups whose read-back has been started.
    started: Cell<usize>,
    pending: Sender<(usize, PendingRead)>,
    thread: JoinHandle<Result<(), ExecutionError>>,
}

impl<'a> GradientReader<'a> {
    /// Starts the reader of a lane that computes with `net`; it delivers to `to`.
    pub(super) fn start(net: &'a MultiViewNet, lane: usize, to: &Arc<Gathering>) -> Self {
        let (pending, inbox) = channel::<(usize, PendingRead)>();
        let gathering = Arc::clone(to);
        // Both threads use the same device stream, so that reads come after what has been queued.
        let stream = StreamId::current();
        let work = move || {
            let guard = FailUnlessDone(&gathering, Cell::new(false));
            for (group, read) in inbox {
                gathering.deliver(lane, group, read.finish()?);
            }
            guard.1.set(true);
            Ok(())
        };
        let thread = std::thread::spawn(move || stream.executes(work));
        let (queued, started) = (RefCell::default(), Cell::new(0));
        Self { net, gathering: Arc::clone(to), queued, started, pending, thread }
    }

    /// Starts reading the remaining gradients and returns a function that waits for all of them.
    pub(super) fn finish(
        self,
        rest: GradientsParams,
    ) -> impl FnOnce() -> Result<(), ExecutionError> {
        self.add(0, rest);
        let Self { thread, .. } = self;
        || thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

impl GradientSink for GradientReader<'_> {
    fn add(&self, stage: usize, gradients: GradientsParams) {
        let mut queued = self.queued.borrow_mut();
        queued.push(gradients);
        let layout = &self.gathering.layout;
        let complete = layout.complete_from(stage);
        for group in self.started.replace(complete)..complete {
            let read = PendingRead::start(&mut queued, self.net, &layout.groups[group]);
            // If the thread has ended, joining it returns the error.
            let _ = self.pending.send((group, read));
        }
    }
}

/// Fails the gathering if the reader ends early.
struct FailUnlessDone<'a>(&'a Gathering, Cell<bool>);

impl Drop for FailUnlessDone<'_> {
    fn drop(&mut self) {
        if !self.1.get() {
            self.0.fail();
        }
    }
}
