//! Renders the frames of one view: background, digits, discs. Lengths are in frame widths unless
//! stated otherwise, so that a clip looks the same at every size.

use std::f32::consts::{PI, TAU};

use rand::{Rng, RngExt};

use super::{SynthOptions, deal};

/// Speed of the central disc: a quarter of the width in 16 frames.
const SPEED: f32 = 0.25 / 16.0;
/// Period of a digit's oscillation, frames.
const PERIOD: f32 = 12.0;
/// Colours of the discs: the central one first, then those along the upper edge.
const DISCS: [[f32; 3]; 4] =
    [[250.0, 250.0, 235.0], [255.0, 150.0, 40.0], [120.0, 230.0, 255.0], [255.0, 120.0, 200.0]];
/// Colours of the digits, lowest first.
const DIGITS: [[f32; 3]; 4] =
    [[255.0, 40.0, 40.0], [50.0, 110.0, 255.0], [60.0, 220.0, 60.0], [240.0, 220.0, 40.0]];

/// A moving disc or square.
struct Mover {
    colour: [f32; 3],
    /// Position at the middle of the window (disc) or on average (square).
    centre: [f32; 2],
    /// Radius of a disc, half the side of a square.
    radius: f32,
    /// Direction of motion, a unit vector.
    direction: [f32; 2],
    motion: Motion,
}

enum Motion {
    /// A disc's motion on a straight path of this length, at this speed per frame.
    Straight { length: f32, speed: f32 },
    /// A square's oscillation with this amplitude, shifted by this share of a period.
    Swing { reach: f32, phase: f32 },
}

/// The content of a clip.
pub(super) struct ClipPlan<'a> {
    pub options: &'a SynthOptions,
    /// Number of classes of each task.
    pub counts: &'a [usize],
    /// The action's class in each task.
    pub classes: &'a [usize],
    /// Index of the view.
    pub view: usize,
    /// Number of the random stream.
    pub stream: u64,
}

/// One view of one action.
pub(super) struct Scene {
    width: usize,
    height: usize,
    middle: f32,
    /// Maximum amplitude of the noise, in levels.
    noise: f32,
    /// Background `[H, W, 3]` without objects and noise.
    background: Vec<f32>,
    movers: Vec<Mover>,
}

impl Scene {
    /// Creates the scene; `rng` determines everything that does not depend on a class.
    pub(super) fn new(plan: &ClipPlan, rng: &mut impl Rng) -> Self {
        let (width, height) = (plan.options.width, plan.options.height);
        let frames = plan.options.frames;
        let middle = if frames > 75 { 75 } else { frames / 2 };
        let background = background(width, height, rng);
        let tall = height as f32 / width as f32;
        let jitter = [rng.random_range(-0.03..0.03), rng.random_range(-0.03..0.03)];
        let jittered = |x: f32, y: f32| [x + jitter[0], y * tall + jitter[1]];
        let mut movers = Vec::new();

        let shown = deal::shown(deal::digits(plan.counts[0]), plan.view, plan.options.views);
        for (slot, &digit) in shown.iter().enumerate() {
            let upright = plan.classes[0] >> digit & 1 == 1;
            movers.push(Mover {
                colour: DIGITS[digit % DIGITS.len()],
                centre: jittered(edge_position(slot, shown.len()), 0.68),
                radius: 0.11,
                direction: if upright { [0.0, 1.0] } else { [1.0, 0.0] },
                motion: Motion::Swing { reach: 0.19, phase: rng.random_range(0.0..1.0) },
            });
        }
        let whole = plan.counts.iter().zip(plan.classes).skip(1).enumerate();
        for (index, (&count, &class)) in whole {
            let angle = TAU * class as f32 / count as f32;
            let (centre, radius, length, speed) = match index {
                0 => (jittered(0.5, 0.5), 0.085, 0.75, SPEED),
                _ => {
                    let x = edge_position(index - 1, plan.counts.len() - 2);
                    (jittered(x, 0.2), 0.055, 0.375, SPEED / 2.0)
                }
            };
            movers.push(Mover {
                colour: DISCS[index % DISCS.len()],
                centre,
                radius,
                direction: [angle.cos(), angle.sin()],
                motion: Motion::Straight { length, speed },
            });
        }
        let noise = f32::from(plan.options.noise);
        Self { width, height, middle: middle as f32, noise, background, movers }
    }

    /// Renders frame `t` into `rgb`, `[H, W, 3]`.
    pub(super) fn paint(&self, t: usize, rng: &mut impl Rng, rgb: &mut [u8]) {
        let mut canvas = self.background.clone();
        let t = t as f32 - self.middle;
        for mover in &self.movers {
            match mover.motion {
                Motion::Straight { length, speed } => {
                    // Two discs half a path apart, one fading in while the other fades out.
                    for half in [0.0, 0.5] {
                        let part = (t * speed / length + half + 0.5).rem_euclid(1.0) - 0.5;
                        let alpha = (PI * part).cos().powi(2);
                        self.draw(&mut canvas, mover, part * length, alpha, disc);
                    }
                }
                Motion::Swing { reach, phase } => {
                    let shift = reach * (TAU * (t / PERIOD + phase)).sin();
                    self.draw(&mut canvas, mover, shift, 1.0, square);
                }
            }
        }
        for (pixel, value) in rgb.iter_mut().zip(&canvas) {
            // Adding 0.5 rounds, because `as` truncates.
            *pixel = (value + rng.random_range(-self.noise..self.noise) + 0.5) as u8;
        }
    }

    /// Blends a shape into the canvas, with an antialiased edge of one pixel.
    fn draw(
        &self,
        canvas: &mut [f32],
        mover: &Mover,
        shift: f32,
        alpha: f32,
        distance: fn(f32, f32) -> f32,
    ) {
        let scale = self.width as f32;
        let centre = [0, 1].map(|i| (mover.centre[i] + shift * mover.direction[i]) * scale);
        let radius = mover.radius * scale;
        let range = |at: f32, end: usize| {
            let from = (at - radius - 1.0).clamp(0.0, end as f32) as usize;
            from..((at + radius + 2.0).clamp(0.0, end as f32) as usize)
        };
        for y in range(centre[1], self.height) {
            for x in range(centre[0], self.width) {
                let from_centre = distance(x as f32 + 0.5 - centre[0], y as f32 + 0.5 - centre[1]);
                let coverage = (radius - from_centre + 0.5).clamp(0.0, 1.0) * alpha;
                let pixel = &mut canvas[(y * self.width + x) * 3..][..3];
                for (value, colour) in pixel.iter_mut().zip(mover.colour) {
                    *value += (colour - *value) * coverage;
                }
            }
        }
    }
}

fn disc(x: f32, y: f32) -> f32 {
    x.hypot(y)
}

fn square(x: f32, y: f32) -> f32 {
    x.abs().max(y.abs())
}

/// Returns the horizontal position of one of `count` objects that are placed side by side.
fn edge_position(index: usize, count: usize) -> f32 {
    0.3 + 0.4 * index as f32 / count.saturating_sub(1).max(1) as f32
}

/// Returns dim waves of random direction and length over a dim random colour, `[H, W, 3]`.
fn background(width: usize, height: usize, rng: &mut impl Rng) -> Vec<f32> {
    let base: [f32; 3] = std::array::from_fn(|_| rng.random_range(45.0..75.0));
    let waves: [[f32; 4]; 5] = std::array::from_fn(|_| {
        let (angle, per_width) = (rng.random_range(0.0..TAU), rng.random_range(2.0..7.0));
        let frequency: f32 = TAU * per_width / width as f32;
        let strength = rng.random_range(1.5..4.0);
        [angle.cos() * frequency, angle.sin() * frequency, rng.random_range(0.0..TAU), strength]
    });
    let mut pixels = Vec::with_capacity(width * height * 3);
    for y in 0..height {
        for x in 0..width {
            let wave = |[u, v, phase, strength]: &[f32; 4]| {
                strength * (u * x as f32 + v * y as f32 + phase).sin()
            };
            let texture: f32 = waves.iter().map(wave).sum();
            pixels.extend(base.map(|value| value + texture));
        }
    }
    pixels
}
