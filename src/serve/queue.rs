//! The queue of requests that wait for the device, which is used by one at a time. A request whose client
//! has gone leaves the queue.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Instant;

use serde::Serialize;
use tokio::sync::oneshot;

/// Length of the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(super) struct Length {
    /// Number of waiting requests.
    pub waiting: usize,
    /// Whether a request is being processed.
    pub running: bool,
}

/// A queue of requests `T` with their answers `A`.
#[derive(Debug)]
pub(super) struct Queue<T, A> {
    state: Mutex<State<T, A>>,
    changed: Condvar,
}

#[derive(Debug)]
struct State<T, A> {
    waiting: VecDeque<Job<T, A>>,
    running: bool,
    closed: bool,
    next: u64,
}

/// A request, as passed to the thread that processes it.
#[derive(Debug)]
pub(super) struct Job<T, A> {
    number: u64,
    pub request: T,
    pub since: Instant,
    pub reply: oneshot::Sender<A>,
}

/// A request's place in the queue; dropping it removes the request.
#[derive(Debug)]
pub(super) struct Ticket<T, A> {
    queue: Arc<Queue<T, A>>,
    number: u64,
    answer: oneshot::Receiver<A>,
}

impl<T, A> Queue<T, A> {
    pub(super) fn new() -> Self {
        let waiting = VecDeque::new();
        let state = State { waiting, running: false, closed: false, next: 0 };
        Self { state: Mutex::new(state), changed: Condvar::new() }
    }

    /// Appends a request. A closed queue drops it.
    pub(super) fn join(self: &Arc<Self>, request: T) -> Ticket<T, A> {
        let (reply, answer) = oneshot::channel();
        let mut state = self.lock();
        let number = state.next;
        state.next += 1;
        if !state.closed {
            state.waiting.push_back(Job { number, request, since: Instant::now(), reply });
        }
        drop(state);
        self.changed.notify_one();
        Ticket { queue: Arc::clone(self), number, answer }
    }

    /// Waits for the next request and returns it; the previous one counts as done. `None` once the queue is
    /// closed.
    pub(super) fn next(&self) -> Option<Job<T, A>> {
        let mut state = self.lock();
        state.running = false;
        loop {
            if state.closed {
                return None;
            }
            if let Some(job) = state.waiting.pop_front() {
                state.running = true;
                return Some(job);
            }
            state = self.changed.wait(state).unwrap_or_else(|poisoned| poisoned.into_inner());
        }
    }

    pub(super) fn length(&self) -> Length {
        let state = self.lock();
        Length { waiting: state.waiting.len(), running: state.running }
    }

    /// Drops the waiting requests and accepts no more.
    pub(super) fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        let waiting = std::mem::take(&mut state.waiting);
        drop(state);
        self.changed.notify_all();
        drop(waiting);
    }

    fn lock(&self) -> MutexGuard<'_, State<T, A>> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl<T, A> Ticket<T, A> {
    /// Waits for the answer; `None` if the queue is closed first or its thread has ended.
    pub(super) async fn answer(mut self) -> Option<A> {
        (&mut self.answer).await.ok()
    }
}

impl<T, A> Drop for Ticket<T, A> {
    fn drop(&mut self) {
        let mut state = self.queue.lock();
        let place = state.waiting.iter().position(|job| job.number == self.number);
        let job = place.and_then(|place| state.waiting.remove(place));
        drop(state);
        // Dropping the job removes its files, which must not happen under the lock.
        drop(job);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_come_in_order_and_abandoned_ones_do_not_come() {
        let queue = Arc::new(Queue::<u32, u32>::new());
        let length = |waiting, running| Length { waiting, running };
        let [first, second, third] = [1, 2, 3].map(|request| queue.join(request));
        assert_eq!(queue.length(), length(3, false));
        drop(second);
        let job = queue.next().unwrap();
        assert_eq!((job.request, queue.length()), (1, length(1, true)));
        job.reply.send(10).unwrap();
        assert_eq!(pollster::block_on(first.answer()), Some(10));
        // Abandoned while it is processed.
        let job = queue.next().unwrap();
        assert_eq!((job.request, queue.length()), (3, length(0, true)));
        drop(third);
        assert!(job.reply.send(30).is_err());
        let fourth = queue.join(4);
        queue.close();
        assert_eq!(pollster::block_on(fourth.answer()), None);
        assert!(queue.next().is_none());
        assert_eq!(queue.length(), length(0, false));
        assert_eq!(pollster::block_on(queue.join(5).answer()), None);
    }
}
