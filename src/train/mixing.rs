//! Mixup (Zhang et al. 2018) and cutmix (Yun et al. 2019) over the actions of a batch.

use std::ops::Range;

use burn::tensor::{Device, Int, Tensor, TensorData};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Beta, Distribution};

use super::error::TrainError;
use crate::config::MixingConfig;
use crate::data::Batch;
use crate::data::mix::{Cut, Mix};

/// Draws how batches are mixed. The draw depends only on seed and step, so it is the same on every
/// device and in a repeated run.
#[derive(Debug, Clone, PartialEq)]
pub struct Mixing {
    /// Options of mixup and cutmix.
    pub config: MixingConfig,
    /// Seed of the run.
    pub seed: u64,
}

impl Mixing {
    /// Draws how a batch is mixed in a step of the run. Each action is paired with the one before it in
    /// its lane, the first one with the last; batches are already shuffled.
    pub fn draw(&self, batch: &Batch, step: usize) -> Option<Mix> {
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
        // Use streams that neither sampling nor frame sizes use.
        rng.set_stream((2 << 32) + step as u64);
        let first: bool = rng.random();
        let (alpha, cuts) = match (self.config.mixup, self.config.cutmix) {
            (None, None) => return None,
            (Some(alpha), Some(_)) if first => (alpha, false),
            (_, Some(alpha)) => (alpha, true),
            (Some(alpha), None) => (alpha, false),
        };
        let beta = Beta::new(alpha, alpha).expect("the option is a number above 0");
        let share: f64 = beta.sample(&mut rng);
        let mut partners: Vec<usize> = (0..batch.actions.len()).collect();
        for lane in batch.lanes.iter().filter(|lane| !lane.is_empty()) {
            partners[lane.clone()].rotate_right(1);
        }
        let [_, height, width] = batch.size;
        let cut = cuts.then(|| cut(&mut rng, share, [height, width]));
        let share = match &cut {
            // The actual share: the rectangle is clipped at the frame's border.
            Some(cut) => {
                1.0 - (cut.rows.len() * cut.columns.len()) as f64 / (height * width) as f64
            }
            None => share,
        };
        Some(Mix { partners, share: share as f32, cut })
    }
}

/// Draws a rectangle with sides √(1 − λ) times the frame's, centred at a random pixel and clipped to the
/// frame.
fn cut(rng: &mut ChaCha8Rng, share: f64, size: [usize; 2]) -> Cut {
    let sides = size.map(|side| (side as f64 * (1.0 - share).sqrt()) as usize);
    let mut range = |side: usize, cut: usize| {
        let centre = rng.random_range(0..side);
        centre.saturating_sub(cut / 2)..(centre + cut / 2).min(side)
    };
    let rows = range(size[0], sides[0]);
    Cut { rows, columns: range(size[1], sides[1]) }
}

/// Mixes augmented clips `[n, 3, T, H, W]`, which are a range of the batch's, as drawn for the batch.
/// `read` returns other clips of the batch, also augmented.
pub(super) fn mix_clips(
    batch: &Batch,
    range: Range<usize>,
    clips: Tensor<5>,
    read: &dyn Fn(Range<usize>) -> Result<Tensor<5>, TrainError>,
) -> Result<Tensor<5>, TrainError> {
    let Some(mix) = &batch.mix else {
        return Ok(clips);
    };
    let partners = mix.partner_clips(batch, range.clone());
    let others = if partners.iter().all(|clip| range.contains(clip)) {
        let rows = partners.iter().map(|clip| clip - range.start);
        clips.clone().select(0, index_tensor(rows, &clips.device()))
    } else {
        Tensor::cat(runs(&partners).into_iter().map(read).collect::<Result<_, _>>()?, 0)
    };
    let [.., height, width] = clips.dims();
    Ok(match &mix.cut {
        None => {
            let share = f64::from(mix.share);
            clips.mul_scalar(share).add(others.mul_scalar(1.0 - share))
        }
        Some(cut) => {
            let [_, h, w] = batch.size;
            let Cut { rows, columns } = cut.scaled([h, w], [height, width]);
            if rows.is_empty() || columns.is_empty() {
                return Ok(clips);
            }
            let [n, c, t, ..] = clips.dims();
            let part = [0..n, 0..c, 0..t, rows, columns];
            clips.slice_assign(part.clone(), others.slice(part))
        }
    })
}

fn index_tensor(rows: impl Iterator<Item = usize>, device: &Device) -> Tensor<1, Int> {
    let rows: Vec<i32> =
        rows.map(|row| i32::try_from(row).expect("a batch has few clips")).collect();
    let count = rows.len();
    Tensor::from_data(TensorData::new(rows, [count]), device)
}

/// Groups consecutive clips into ranges.
fn runs(clips: &[usize]) -> Vec<Range<usize>> {
    let mut runs: Vec<Range<usize>> = Vec::new();
    for &clip in clips {
        match runs.last_mut() {
            Some(run) if run.end == clip => run.end += 1,
            _ => runs.push(clip..clip + 1),
        }
    }
    runs
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::single_range_in_vec_init)]
mod tests {
    use super::*;
    use crate::model::plain_clips_of;

    /// A batch of actions with 2, 1, 3 and 1 views in two lanes; all pixels of a clip have one value.
    fn batch() -> Batch {
        let size = [1, 4, 6];
        let clip = |clip: u8| vec![clip * 20; 4 * 6 * 3];
        Batch {
            actions: (0..4).map(|action| action.to_string()).collect(),
            earlier: vec![0; 4],
            view_counts: vec![2, 1, 3, 1],
            views: vec![0, 1, 0, 0, 1, 2, 0],
            frames: (0..7).flat_map(clip).collect(),
            size,
            lanes: vec![0..2, 2..4],
            ..Batch::default()
        }
    }

    #[test]
    fn partners_are_in_the_same_lane_and_views_wrap_around() {
        let config = MixingConfig { mixup: Some(0.4), cutmix: Some(1.0) };
        let mixing = Mixing { config, seed: 5 };
        let mix = mixing.draw(&batch(), 3).unwrap();
        assert_eq!(mix.partners, [1, 0, 3, 2]);
        assert_eq!(mix.partner_clips(&batch(), 0..7), [2, 2, 0, 6, 6, 6, 3]);
        assert_eq!(mix.partner_clips(&batch(), 2..5), [0, 6, 6]);
        assert_eq!(mixing.draw(&batch(), 3), Some(mix));
        let drawn: Vec<Mix> = (0..200).map(|step| mixing.draw(&batch(), step).unwrap()).collect();
        let cuts = drawn.iter().filter(|mix| mix.cut.is_some()).count();
        assert!((60..140).contains(&cuts), "{cuts} of 200");
        for mix in drawn {
            assert!((0.0..=1.0).contains(&mix.share));
            if let Some(cut) = mix.cut {
                assert!(cut.rows.end <= 4 && cut.columns.end <= 6);
                let area = (cut.rows.len() * cut.columns.len()) as f32 / 24.0;
                assert!((mix.share - (1.0 - area)).abs() < 1e-6);
            }
        }
    }

    #[test]
    fn mixing_in_pieces_gives_the_same_clips_as_in_one_pass() {
        let device = Device::flex();
        let values = |clips: Tensor<5>| clips.try_into_vec_as::<f32>().unwrap();
        for cut in [None, Some(Cut { rows: 1..3, columns: 2..6 })] {
            let share = 0.75;
            let mix = Mix { partners: vec![1, 0, 3, 2], share, cut };
            let batch = Batch { mix: Some(mix.clone()), ..batch() };
            let read = |range| Ok(plain_clips_of(&batch, range, &device)?);
            let of = |range: Range<usize>| {
                mix_clips(&batch, range.clone(), read(range).unwrap(), &read).unwrap()
            };
            let whole = values(of(0..7));
            let pieces: Vec<f32> =
                [0..1, 1..4, 4..7].into_iter().flat_map(|range| values(of(range))).collect();
            assert_eq!(whole, pieces);
            let plain = values(read(0..7).unwrap());
            let partners = mix.partner_clips(&batch, 0..7);
            for (index, value) in whole.iter().enumerate() {
                let (clip, pixel) = (index / 72, index % 72);
                let (row, column) = (pixel % 24 / 6, pixel % 6);
                let (own, other) = (plain[index], plain[partners[clip] * 72 + pixel]);
                let expected = match &mix.cut {
                    None => share * own + (1.0 - share) * other,
                    Some(cut) if cut.rows.contains(&row) && cut.columns.contains(&column) => other,
                    Some(_) => own,
                };
                assert!((value - expected).abs() < 1e-6, "{index}: {value} {expected}");
            }
        }
    }
}
