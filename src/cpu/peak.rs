//! Chains of multiply-adds that stay in registers, to measure the processor's peak throughput.

use std::hint::black_box;

use pulp::{Simd, WithSimd};

use crate::simd::dispatch;

/// Runs `rounds` rounds of c ← c·factor + term on all threads of the current pool and returns the
/// number of operations, two per multiply-add.
pub fn on_all_threads(rounds: usize, factor_and_term: [f32; 2]) -> f64 {
    let done = rayon::broadcast(|_| {
        let (sum, operations) = dispatch(Chains { rounds, factor_and_term });
        black_box(sum);
        operations
    });
    done.into_iter().sum()
}

/// Iterations per round, enough to make the overhead around the loop negligible.
const ITERATIONS: usize = 1 << 12;

/// Independent chains in the registers of one thread.
struct Chains {
    rounds: usize,
    factor_and_term: [f32; 2],
}

impl WithSimd for Chains {
    /// The sum over all chains, and the number of operations.
    type Output = (f32, f64);

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> (f32, f64) {
        // Two to four units with a latency of four or five cycles have to be kept busy; two
        // registers hold factor and term.
        if S::REGISTER_COUNT >= 32 { self.run::<S, 24>(simd) } else { self.run::<S, 12>(simd) }
    }
}

impl Chains {
    #[inline(always)]
    fn run<S: Simd, const CHAINS: usize>(self, simd: S) -> (f32, f64) {
        let [factor, term] = self.factor_and_term.map(|value| simd.splat_f32s(black_box(value)));
        let mut sums = [simd.splat_f32s(0.0); CHAINS];
        for (chain, sum) in sums.iter_mut().enumerate() {
            *sum = simd.splat_f32s(black_box(chain as f32));
        }
        let iterations = self.rounds * ITERATIONS;
        for _ in 0..iterations {
            for sum in &mut sums {
                *sum = simd.mul_add_e_f32s(*sum, factor, term);
            }
        }
        let mut all = simd.splat_f32s(0.0);
        for sum in sums {
            all = simd.add_f32s(all, sum);
        }
        (simd.reduce_sum_f32s(all), (2 * iterations * CHAINS * S::F32_LANES) as f64)
    }
}
