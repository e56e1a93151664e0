//! Drawing a clip's record: the only place where the augmentation is random.

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::config::AugmentConfig;
use super::{ClipRecord, Crop, Cutout, FrameRecord};
use crate::keyed;

/// Cap of all probabilities, so that even the strongest settings show the original now and then.
const MAX_PROBABILITY: f64 = 0.95;

/// A view number for what all views of an action share.
const ALL_VIEWS: u64 = u64::MAX;

/// Random numbers of one (seed, epoch, action, view). Whole numbers and reals are made from
/// uniform f64 by the formulas below, so that no library's sampling method is part of a plan.
struct Draw(ChaCha8Rng);

impl Draw {
    fn new(seed: u64, epoch: usize, action: &str, view: u64) -> Self {
        Self(keyed::generator(seed, epoch as u64, keyed::number_of(action), view))
    }

    /// Uniform in [0, 1).
    fn unit(&mut self) -> f64 {
        self.0.random()
    }

    /// Uniform in [low, high).
    fn range(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.unit()
    }

    fn chance(&mut self, probability: f64) -> bool {
        self.unit() < probability.min(MAX_PROBABILITY)
    }

    /// A whole number below `count`; 0 when there is none.
    fn below(&mut self, count: usize) -> usize {
        ((self.unit() * count as f64) as usize).min(count.saturating_sub(1))
    }
}

/// How rare a class is, 0 (as many samples as the largest) to 1 (none).
pub fn rarity(count: usize, largest: usize) -> f32 {
    1.0 - (count as f32 / largest.max(1) as f32).min(1.0)
}

/// Draws the record of one clip of `[T, H, W]` (source pixels); the table at [`AugmentConfig`] says
/// from what. The same arguments give the same record on every machine. `rarity` is that of the
/// action's class, 0 to 1, and counts only with `severity_aware_augmentation`.
///
/// Every number is drawn whether it is used or not, so that changing one option does not change
/// the draws of the others.
pub fn plan_clip(
    config: &AugmentConfig,
    seed: u64,
    epoch: usize,
    action: &str,
    view: usize,
    [t, h, w]: [usize; 3],
    rarity: f32,
) -> ClipRecord {
    let mut level = config.augmentation_strength.level();
    if config.severity_aware_augmentation && rarity > 0.0 {
        level *= 1.0 + 0.5 * f64::from(rarity.min(1.0));
    }
    let mut record = ClipRecord::identity(t);
    if level == 0.0 || t == 0 {
        return record;
    }
    record.flip = Draw::new(seed, epoch, action, ALL_VIEWS).chance(0.5);

    let mut draw = Draw::new(seed, epoch, action, view as u64);
    record.noise_key = draw.0.random();
    let time = TimeMap::draw(&mut draw, config.temporal_jitter_strength, level, t);
    for (frame, record) in record.frames.iter_mut().enumerate() {
        record.source = time.source(frame);
    }
    record.crop = draw_crop(&mut draw, config.spatial_crop_strength, level, [h, w]);
    let (rotates, degrees) = (draw.chance(0.5 * level), draw.range(-8.0 * level, 8.0 * level));
    if rotates {
        record.rotation = degrees as f32;
    }
    record.cutout = draw_cutout(&mut draw, level);
    let colour = (config.color_aug_strength * level).min(0.9);
    for factor in [&mut record.brightness, &mut record.contrast] {
        let (hit, value) = (draw.chance(0.8 * level), draw.range(1.0 - colour, 1.0 + colour));
        if hit {
            *factor = value as f32;
        }
    }
    let (noisy, std) = (draw.chance(0.5 * level), draw.range(0.0, config.noise_strength * level));
    if noisy {
        record.noise_std = std as f32;
    }
    mix_frames(&mut draw, level, &mut record.frames);
    // Last, since it takes as many numbers as there are frames.
    drop_frames(&mut draw, config.dropout_prob * level, &mut record.frames);
    record
}

/// Jitter, reversal and warp as one map.
struct TimeMap {
    frames: usize,
    shift: f64,
    reverse: bool,
    speed: f64,
}

impl TimeMap {
    fn draw(draw: &mut Draw, jitter: usize, level: f64, frames: usize) -> Self {
        let most = (jitter as f64 * level).round() as usize;
        let (shifted, steps) = (draw.chance(0.8 * level), draw.below(2 * most + 1));
        let reverse = draw.chance(0.1 * level);
        let (warped, speed) =
            (draw.chance(0.3 * level), draw.range(1.0 - 0.25 * level, 1.0 + 0.25 * level));
        Self {
            frames,
            shift: if shifted { steps as f64 - most as f64 } else { 0.0 },
            reverse,
            speed: if warped { speed } else { 1.0 },
        }
    }

    /// Source of output frame `t`. Read backwards, as inverse maps are: the warp asks for a frame
    /// of the reversed clip, that for one of the shifted clip. Halves round up, the ends repeat.
    fn source(&self, t: usize) -> usize {
        let last = (self.frames - 1) as f64;
        let middle = last / 2.0;
        let mut place = (middle + (t as f64 - middle) * self.speed + 0.5).floor().clamp(0.0, last);
        if self.reverse {
            place = last - place;
        }
        (place + self.shift).clamp(0.0, last) as usize
    }
}

/// A crop of the frame's own proportions.
fn draw_crop(draw: &mut Draw, strength: f64, level: f64, [h, w]: [usize; 2]) -> Option<Crop> {
    let smallest = (1.0 - (1.0 - strength) * level).max(0.1);
    let (hit, scale) = (draw.chance(0.8 * level), draw.range(smallest, 1.0));
    let (down, across) = (draw.unit(), draw.unit());
    let (height, width) = ((h as f64 * scale).max(1.0) as f32, (w as f64 * scale).max(1.0) as f32);
    // In f32, where the record lives: the room left is never overshot by rounding.
    let place = |share: f64, side: usize, length: f32| {
        let room = (side as f32 - length).max(0.0);
        (share as f32 * room).min(room)
    };
    let crop = Crop { top: place(down, h, height), left: place(across, w, width), height, width };
    let whole = height >= h as f32 && width >= w as f32;
    (hit && !whole).then_some(crop)
}

fn draw_cutout(draw: &mut Draw, level: f64) -> Option<Cutout> {
    let hit = draw.chance(0.3 * level);
    let mut side = || draw.range(0.1, 0.1 + 0.2 * level);
    let (height, width) = (side(), side());
    let (top, left) = (draw.range(0.0, 1.0 - height), draw.range(0.0, 1.0 - width));
    let [top, left, height, width] = [top, left, height, width].map(|share| share as f32);
    hit.then_some(Cutout { top, left, height, width, fill: 0.5 })
}

fn mix_frames(draw: &mut Draw, level: f64, frames: &mut [FrameRecord]) {
    let (hit, share) = (draw.chance(0.2 * level), draw.range(0.1, 0.1 + 0.2 * level));
    let forward = draw.unit() < 0.5;
    if !hit {
        return;
    }
    let last = frames.len() - 1;
    for (t, frame) in frames.iter_mut().enumerate() {
        let partner = if forward { (t + 1).min(last) } else { t.saturating_sub(1) };
        if partner != t {
            (frame.partner, frame.mix) = (partner, share as f32);
        }
    }
}

fn drop_frames(draw: &mut Draw, probability: f64, frames: &mut [FrameRecord]) {
    let kept = draw.below(frames.len());
    for frame in frames.iter_mut() {
        frame.dropped = draw.chance(probability);
    }
    if frames.iter().all(|frame| frame.dropped) {
        frames[kept].dropped = false;
    }
}
