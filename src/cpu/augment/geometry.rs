//! Where an output pixel comes from: crop, resize, rotation and flip as one inverse map.

use super::record::{ClipRecord, Crop};

/// Fractional bits of a position.
pub const BITS: u32 = 16;
/// One source pixel.
const ONE: f64 = (1_u32 << BITS) as f64;
/// Frames have no longer sides than this: a position, and the sum of two, must fit 32 bits.
pub(super) const MAX_SIDE: usize = 8192;

/// The inverse map of one clip, from an output pixel (x, y) straight to a position in the source
/// frame, so that there is one bilinear look-up and no image in between.
///
/// With (u, v) the position in the uncropped output frame (H'×W') before flip and rotation, and
/// c = ((W'−1)/2, (H'−1)/2) its centre:
///
/// ```text
/// (u, v)   = R·F·((x, y) − c) + c        R: rotation, F: flip
/// (sx, sy) = scale·(u, v) + offset       scale = crop/output, offset = corner + scale/2 − 1/2
/// ```
///
/// that is PyTorch's `align_corners=False`, pixel centres at halves. The whole is affine, hence the
/// sum of a part that depends on x and one that depends on y. These are tabulated in f64 and kept
/// in fixed point, [`BITS`] fractional bits: a position is then one integer addition, accurate to
/// 2⁻¹⁶ pixels at every size and the same on every device, whether it fuses multiply-adds or not.
///
/// Borders: (sx, sy) is clamped to the crop's outermost pixel centres, as `F.interpolate` repeats
/// edge pixels; what rotation brings in from outside of the frame counts as black, as
/// `F.grid_sample(padding_mode="zeros")` has it. The latter is a factor, the *coverage* of (u, v):
/// clamp(min(u + 1, W' − u), 0, 1), likewise for v, which is the share of the bilinear weights that
/// lies inside. Either alone is therefore exactly the known operation; together they differ from
/// resizing first and rotating the result only by the second interpolation that is saved.
#[derive(Debug, Clone, PartialEq)]
pub struct Geometry {
    /// Per output column its part of (sx, sy).
    pub columns: Vec<[i32; 2]>,
    /// Per output row its part of (sx, sy).
    pub rows: Vec<[i32; 2]>,
    /// First pixel centre of the crop, (x, y).
    pub low: [i32; 2],
    /// Last pixel centre of the crop, (x, y).
    pub high: [i32; 2],
    /// Positions of u = 0 and v = 0.
    pub start: [i32; 2],
    /// Positions of u = W' and v = H'.
    pub end: [i32; 2],
    /// Output pixels per unit of a position.
    pub inverse: [f32; 2],
    /// Whether there is a rotation, hence a coverage.
    pub rotated: bool,
    /// Whether every output pixel falls on a source pixel, so that nothing is interpolated.
    pub on_grid: bool,
}

/// Saturated, so that absurd proportions (a rotated frame one pixel wide) stay in range too.
fn fixed(place: f64) -> i32 {
    let most = f64::from(i32::MAX / 2);
    (place * ONE).round().clamp(-most, most) as i32
}

impl Geometry {
    /// The map for a source of `[h, w]` and an output of `[out_h, out_w]` pixels.
    pub fn new(record: &ClipRecord, [h, w]: [usize; 2], [out_h, out_w]: [usize; 2]) -> Self {
        let whole = Crop { top: 0.0, left: 0.0, height: h as f32, width: w as f32 };
        let Crop { top, left, height, width } = record.crop.unwrap_or(whole);
        let (corner, lengths) = ([left, top].map(f64::from), [width, height].map(f64::from));
        let sides = [out_w as f64, out_h as f64];
        let scale = [lengths[0] / sides[0], lengths[1] / sides[1]];
        let offset = [0, 1].map(|axis| corner[axis] + 0.5 * scale[axis] - 0.5);
        let centre = sides.map(|side| (side - 1.0) / 2.0);

        let rotated = record.rotation != 0.0;
        let (sin, cos) = match rotated {
            true => f64::from(record.rotation).to_radians().sin_cos(),
            false => (0.0, 1.0),
        };
        let mirror = if record.flip { -1.0 } else { 1.0 };
        let by_x = [scale[0] * mirror * cos, scale[1] * mirror * sin];
        let by_y = [-scale[0] * sin, scale[1] * cos];
        let constant = [0, 1].map(|axis| scale[axis] * centre[axis] + offset[axis]);
        // The constant is split so that without rotation each table is a whole position by itself.
        let column = |x: usize| {
            let from_centre = x as f64 - centre[0];
            [fixed(by_x[0] * from_centre + constant[0]), fixed(by_x[1] * from_centre)]
        };
        let row = |y: usize| {
            let from_centre = y as f64 - centre[1];
            [fixed(by_y[0] * from_centre), fixed(by_y[1] * from_centre + constant[1])]
        };
        Self {
            columns: (0..out_w).map(column).collect(),
            rows: (0..out_h).map(row).collect(),
            low: corner.map(fixed),
            high: [0, 1].map(|axis| fixed(corner[axis] + lengths[axis] - 1.0)),
            start: offset.map(fixed),
            end: [0, 1].map(|axis| fixed(offset[axis] + scale[axis] * sides[axis])),
            inverse: scale.map(|scale| (1.0 / (scale * ONE)) as f32),
            rotated,
            on_grid: !rotated && scale == [1.0; 2] && corner.iter().all(|c| c.fract() == 0.0),
        }
    }

    /// (sx, sy) of an output pixel, not yet clamped.
    #[inline]
    pub fn place(&self, x: usize, y: usize) -> [i32; 2] {
        let ([cx, cy], [rx, ry]) = (self.columns[x], self.rows[y]);
        [cx + rx, cy + ry]
    }

    /// The two neighbours of a position along one axis (0 = x, 1 = y) of a frame with `side`
    /// pixels, and the weight of the second.
    #[inline]
    pub fn neighbours(&self, axis: usize, place: i32, side: usize) -> (usize, usize, f32) {
        // The record was checked, so the crop lies in the frame; rounding must not leave it either.
        let place = place.max(self.low[axis]).min(self.high[axis]).max(0);
        let first = ((place >> BITS) as usize).min(side - 1);
        let weight = (place & ((1 << BITS) - 1)) as f32 * (1.0 / ONE as f32);
        (first, (first + 1).min(side - 1), weight)
    }

    /// Share of the bilinear weights at a position that lie inside of the frame, along one axis.
    /// From integer distances to the edges, which are small, hence exact, where it matters.
    #[inline]
    pub fn coverage(&self, axis: usize, place: i32) -> f32 {
        let from_start = place.wrapping_sub(self.start[axis]) as f32 * self.inverse[axis] + 1.0;
        let to_end = self.end[axis].wrapping_sub(place) as f32 * self.inverse[axis];
        from_start.min(to_end).clamp(0.0, 1.0)
    }
}
