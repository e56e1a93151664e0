//! A batch of which lanes have a share each, in threads, against plain f64 over the whole.

use std::ops::Range;
use std::sync::{Arc, Condvar, Mutex};

use burn::tensor::ExecutionError;
use polyview::norm::{Across, Exchange, Shares, across_lanes};

use super::*;

/// Lanes that all take part in every exchange.
#[derive(Debug)]
struct Meeting {
    found: Mutex<Vec<Vec<Option<Vec<f64>>>>>,
    changed: Condvar,
    lanes: usize,
}

/// One lane of it.
#[derive(Debug)]
struct Seat {
    meeting: Arc<Meeting>,
    lane: usize,
    exchanges: Mutex<usize>,
}

impl Exchange for Seat {
    fn all(&self, own: Vec<f64>) -> Shares {
        let round = {
            let mut done = self.exchanges.lock().unwrap();
            *done += 1;
            *done - 1
        };
        let mut found = self.meeting.found.lock().unwrap();
        if found.len() == round {
            found.push(vec![None; self.meeting.lanes]);
        }
        found[round][self.lane] = Some(own);
        self.meeting.changed.notify_all();
        while found[round].iter().any(Option::is_none) {
            found = self.meeting.changed.wait(found).unwrap();
        }
        let values = found[round].iter().flatten().cloned().collect();
        Shares { values: Arc::new(values), own: self.lane }
    }

    fn failed(&self, error: ExecutionError) {
        panic!("{error}");
    }
}

impl Case {
    /// The images of a lane.
    fn share(&self, images: Range<usize>) -> Self {
        let [_, c, t, h, w] = self.shape;
        let image = c * t * h * w;
        let of = |values: &[f32]| values[images.start * image..images.end * image].to_vec();
        Self {
            shape: [images.len(), c, t, h, w],
            x: of(&self.x),
            gamma: self.gamma.clone(),
            beta: self.beta.clone(),
            residual: self.residual.as_deref().map(of),
            dy: of(&self.dy),
            running: None,
            ..*self
        }
    }

    /// By lanes with so many images each. y, dx and the residual's gradient of one follow those of the
    /// one before; their gradients of γ and β are added.
    fn ours_in_lanes(
        &self,
        device: &Device,
        half: bool,
        stock: bool,
        lanes: &[usize],
    ) -> Results<f32> {
        let (found, changed) = (Mutex::default(), Condvar::new());
        let meeting = Arc::new(Meeting { found, changed, lanes: lanes.len() });
        let mut first = 0;
        let shares = lanes.iter().map(|images| {
            first += images;
            self.share(first - images..first)
        });
        let threads: Vec<_> = shares
            .enumerate()
            .map(|(lane, share)| {
                let (device, meeting) = (device.clone(), Arc::clone(&meeting));
                let work = move || {
                    let seat = Seat { meeting, lane, exchanges: Mutex::default() };
                    let seat: Arc<dyn Exchange> = Arc::new(seat);
                    let of_lane = |x, affine, after| {
                        let all = across_lanes(x, None, affine, after, &seat);
                        let Across { normalised, values, leads } = all;
                        assert_eq!(leads, lane == 0);
                        (normalised, values)
                    };
                    share.by(&device, half, &of_lane)
                };
                let work = move || if stock { with_stock(work) } else { work() };
                std::thread::spawn(work)
            })
            .collect();
        let lanes: Vec<_> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
        let [n, _, t, h, w] = self.shape;
        let mut all: Results<f32> = Default::default();
        for (results, values) in &lanes {
            assert_eq!(*values, n * t * h * w);
            for (index, (all, own)) in all.iter_mut().zip(results).enumerate() {
                match NAMES[index] {
                    "mean" | "variance" => {
                        assert!(all.is_empty() || all == own, "the lanes' statistics");
                        *all = own.clone();
                    }
                    "dγ" | "dβ" if !all.is_empty() => {
                        all.iter_mut().zip(own).for_each(|(all, own)| *all += own);
                    }
                    _ => all.extend(own),
                }
            }
        }
        all
    }
}

fn agrees_in_lanes(device: &Device, half: bool, stock: bool) {
    let mut rng = ChaCha8Rng::seed_from_u64(5);
    for round in 0..60 {
        // (Every fifth has given statistics.)
        let case = Case::random(&mut rng, round + round / 4);
        let [n, ..] = case.shape;
        if case.running.is_some() || n < 2 {
            continue;
        }
        let lanes = &[vec![1, n - 1], vec![n - 1, 1], vec![1; n]][round % 3];
        let case = if half { case.in_half() } else { case };
        let got = case.ours_in_lanes(&device.clone().autodiff(), half, stock, lanes);
        case.check(&got, round + round / 4, half);
    }
}

#[test]
fn norm_across_lanes_agrees_with_f64_on_cpu() {
    agrees_in_lanes(&Device::flex(), false, false);
}

#[test]
fn norm_across_lanes_agrees_with_f64_by_other_backends() {
    agrees_in_lanes(&Device::flex(), false, true);
}

#[test]
fn norm_across_lanes_agrees_with_f64_on_wgpu() {
    let Some(device) = adapter::device() else { return };
    agrees_in_lanes(&device, false, false);
    agrees_in_lanes(&device, true, false);
}
