//! Drawing of a clip's record, the only random part of the augmentation.

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::config::AugmentConfig;
use super::{ClipRecord, Crop, Cutout, FrameRecord};
use crate::keyed::{self, Turn};

/// Cap on all probabilities, so that even the strongest settings occasionally leave a stage out.
const MAX_PROBABILITY: f64 = 0.95;

/// View number for draws that all views of an action share.
const ALL_VIEWS: u64 = u64::MAX;
/// Offset added to a view's number for the stream that chooses its stages.
const CHOICE: u64 = 1 << 32;

/// Random numbers for one (seed, turn, action, view). Integers and reals are derived from uniform
/// f64 by the formulas below, so that plans do not depend on any library's sampling method.
struct Draw(ChaCha8Rng);

impl Draw {
    fn new(seed: u64, turn: Turn, action: &str, view: u64) -> Self {
        Self(keyed::generator(seed, turn.time(), keyed::number_of(action), view))
    }

    /// Draws uniformly from [0, 1).
    fn unit(&mut self) -> f64 {
        self.0.random()
    }

    /// Draws uniformly from [low, high).
    fn range(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.unit()
    }

    fn chance(&mut self, probability: f64) -> bool {
        self.unit() < probability.min(MAX_PROBABILITY)
    }

    /// Draws an integer below `count`, or 0 if `count` is 0.
    fn below(&mut self, count: usize) -> usize {
        ((self.unit() * count as f64) as usize).min(count.saturating_sub(1))
    }
}

/// The stages that `rand-augment` chooses from. The flip is excluded, since an action's views share
/// it.
#[derive(Clone, Copy)]
enum Stage {
    Shift,
    Reversal,
    Warp,
    FrameDropout,
    Crop,
    Rotation,
    Cutout,
    Brightness,
    Contrast,
    Noise,
    FrameMixing,
}

/// Number of stages that `rand-augment` chooses from.
pub(super) const STAGES: usize = Stage::FrameMixing as usize + 1;

/// The stages that a clip gets: the chosen ones, or if `None`, each with its own probability.
struct Hits(Option<[bool; STAGES]>);

impl Hits {
    /// Chooses `count` different stages, if a count is given.
    fn draw(draw: &mut Draw, count: Option<usize>) -> Self {
        Self(count.map(|count| {
            let mut stages: [usize; STAGES] = std::array::from_fn(|stage| stage);
            let mut chosen = [false; STAGES];
            for index in 0..count.min(STAGES) {
                stages.swap(index, index + draw.below(STAGES - index));
                chosen[stages[index]] = true;
            }
            chosen
        }))
    }

    fn hit(&self, stage: Stage, draw: &mut Draw, probability: f64) -> bool {
        // Drawn in both cases: see `plan_clip`.
        let by_chance = draw.chance(probability);
        self.0.map_or(by_chance, |chosen| chosen[stage as usize])
    }
}

/// Returns how rare a class is, from 0 (as many samples as the largest class) to 1 (no samples).
pub fn rarity(count: usize, largest: usize) -> f32 {
    1.0 - (count as f32 / largest.max(1) as f32).min(1.0)
}

/// Draws the record of one clip of `[T, H, W]` (source pixels) from the distributions in the table
/// of [`AugmentConfig`]. `turn` is an epoch, counted from 1, or one of several readings of the
/// action in an epoch. The same arguments give the same record on every machine. `rarity` is that
/// of the action's class, 0 to 1, and is only used with `severity_aware_augmentation`.
///
/// Every number is drawn whether or not it is used, so that changing one option does not change the
/// draws of the others.
pub fn plan_clip(
    config: &AugmentConfig,
    seed: u64,
    turn: impl Into<Turn>,
    action: &str,
    view: usize,
    [t, h, w]: [usize; 3],
    rarity: f32,
) -> ClipRecord {
    let turn = turn.into();
    let mut level = config.augmentation_strength.level();
    if config.severity_aware_augmentation && rarity > 0.0 {
        level *= 1.0 + 0.5 * f64::from(rarity.min(1.0));
    }
    let mut record = ClipRecord::identity(t);
    if level == 0.0 || t == 0 {
        return record;
    }
    record.flip = Draw::new(seed, turn, action, ALL_VIEWS).chance(config.flip_prob);

    let hits =
        Hits::draw(&mut Draw::new(seed, turn, action, CHOICE + view as u64), config.rand_augment);
    let mut draw = Draw::new(seed, turn, action, view as u64);
    record.noise_key = draw.0.random();
    let time = TimeMap::draw(&mut draw, &hits, config, level, t);
    for (frame, record) in record.frames.iter_mut().enumerate() {
        record.source = time.source(frame);
    }
    record.crop = draw_crop(&mut draw, &hits, config.spatial_crop_strength, level, [h, w]);
    let rotates = hits.hit(Stage::Rotation, &mut draw, 0.5 * level);
    let degrees = draw.range(-8.0 * level, 8.0 * level);
    if rotates {
        record.rotation = degrees as f32;
    }
    record.cutout = draw_cutout(&mut draw, &hits, level);
    let colour = (config.color_aug_strength * level).min(0.9);
    for (stage, factor) in
        [(Stage::Brightness, &mut record.brightness), (Stage::Contrast, &mut record.contrast)]
    {
        let hit = hits.hit(stage, &mut draw, 0.8 * level);
        let value = draw.range(1.0 - colour, 1.0 + colour);
        if hit {
            *factor = value as f32;
        }
    }
    let noisy = hits.hit(Stage::Noise, &mut draw, 0.5 * level);
    let std = draw.range(0.0, config.noise_strength * level);
    if noisy {
        record.noise_std = std as f32;
    }
    mix_frames(&mut draw, &hits, level, &mut record.frames);
    // Frame dropout comes last, since it draws one number per frame.
    let drops = hits.0.is_none_or(|chosen| chosen[Stage::FrameDropout as usize]);
    let probability = if drops { config.dropout_prob * level } else { 0.0 };
    drop_frames(&mut draw, probability, &mut record.frames);
    record
}

/// Temporal shift, reversal and warp as one map.
struct TimeMap {
    frames: usize,
    shift: f64,
    reverse: bool,
    speed: f64,
}

impl TimeMap {
    fn draw(
        draw: &mut Draw,
        hits: &Hits,
        config: &AugmentConfig,
        level: f64,
        frames: usize,
    ) -> Self {
        let most = (config.temporal_jitter_strength as f64 * level).round() as usize;
        let (shifted, steps) =
            (hits.hit(Stage::Shift, draw, 0.8 * level), draw.below(2 * most + 1));
        let reversed = hits.hit(Stage::Reversal, draw, config.reversal_prob * level);
        let warped = hits.hit(Stage::Warp, draw, 0.3 * level);
        let speed = draw.range(1.0 - 0.25 * level, 1.0 + 0.25 * level);
        Self {
            frames,
            shift: if shifted { steps as f64 - most as f64 } else { 0.0 },
            // With `rand-augment`, the stage ignores its probability, but 0 must still disable it.
            reverse: reversed && config.reversal_prob > 0.0,
            speed: if warped { speed } else { 1.0 },
        }
    }

    /// Returns the source of output frame `t`. As this is an inverse map, the stages apply in
    /// reverse order: the warp reads a frame of the reversed clip, which reads one of the shifted
    /// clip. Halves round up, and the end frames repeat.
    fn source(&self, t: usize) -> usize {
        let last = (self.frames - 1) as f64;
        let middle = last / 2.0;
        let mut source = (middle + (t as f64 - middle) * self.speed + 0.5).floor().clamp(0.0, last);
        if self.reverse {
            source = last - source;
        }
        (source + self.shift).clamp(0.0, last) as usize
    }
}

/// Draws a crop with the frame's aspect ratio.
fn draw_crop(
    draw: &mut Draw,
    hits: &Hits,
    strength: f64,
    level: f64,
    [h, w]: [usize; 2],
) -> Option<Crop> {
    let smallest = (1.0 - (1.0 - strength) * level).max(0.1);
    let (hit, scale) = (hits.hit(Stage::Crop, draw, 0.8 * level), draw.range(smallest, 1.0));
    let (down, across) = (draw.unit(), draw.unit());
    let (height, width) = ((h as f64 * scale).max(1.0) as f32, (w as f64 * scale).max(1.0) as f32);
    // Computed in f32, the record's type, so that rounding cannot move the crop beyond the frame.
    let start = |share: f64, side: usize, length: f32| {
        let room = (side as f32 - length).max(0.0);
        (share as f32 * room).min(room)
    };
    let crop = Crop { top: start(down, h, height), left: start(across, w, width), height, width };
    let whole = height >= h as f32 && width >= w as f32;
    (hit && !whole).then_some(crop)
}

fn draw_cutout(draw: &mut Draw, hits: &Hits, level: f64) -> Option<Cutout> {
    let hit = hits.hit(Stage::Cutout, draw, 0.3 * level);
    let mut side = || draw.range(0.1, 0.1 + 0.2 * level);
    let (height, width) = (side(), side());
    let (top, left) = (draw.range(0.0, 1.0 - height), draw.range(0.0, 1.0 - width));
    let [top, left, height, width] = [top, left, height, width].map(|share| share as f32);
    hit.then_some(Cutout { top, left, height, width, fill: 0.5 })
}

fn mix_frames(draw: &mut Draw, hits: &Hits, level: f64, frames: &mut [FrameRecord]) {
    let hit = hits.hit(Stage::FrameMixing, draw, 0.2 * level);
    let share = draw.range(0.1, 0.1 + 0.2 * level);
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
