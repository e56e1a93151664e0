//! The map from output pixels to source positions: crop, resize, rotation and flip as one inverse
//! map.

use super::record::{ClipRecord, Crop};

/// Number of fractional bits of a position.
pub const BITS: u32 = 16;
/// One source pixel.
const ONE: f64 = (1_u32 << BITS) as f64;
/// Longest side of a frame: a position, and the sum of two, must fit in 32 bits.
pub(super) const MAX_SIDE: usize = 8192;

/// The inverse map of one clip from an output pixel (x, y) directly to a position in the source
/// frame, so that one bilinear look-up suffices and no intermediate image is needed.
///
/// With (u, v) the position in the uncropped output frame (H'×W') before flip and rotation, and
/// c = ((W'−1)/2, (H'−1)/2) its centre:
///
/// ```text
/// (u, v)   = R·F·((x, y) − c) + c        R: rotation, F: flip
/// (sx, sy) = scale·(u, v) + offset       scale = crop/output, offset = corner + scale/2 − 1/2
/// ```
///
/// This is PyTorch's `align_corners=False`, with pixel centres at halves. The whole map is affine,
/// hence the sum of a part that depends on x and one that depends on y. Both are computed in f64
/// and tabulated in fixed point with [`BITS`] fractional bits: a position then costs one integer
/// addition, is accurate to 2⁻¹⁶ pixels at every size and is the same on every device, whether or
/// not it fuses multiply-adds.
///
/// Borders: (sx, sy) is clamped to the crop's outermost pixel centres, as `F.interpolate` repeats
/// edge pixels; pixels that the rotation brings in from outside the frame are black, as with
/// `F.grid_sample(padding_mode="zeros")`. The latter is implemented as a factor, the *coverage* of
/// (u, v): clamp(min(u + 1, W' − u), 0, 1), likewise for v, which is the share of the bilinear
/// weights that lies inside. Resizing alone and rotation alone are therefore exactly PyTorch's
/// operations; combined, they differ from resizing first and rotating the result only in that they
/// interpolate once instead of twice.
#[derive(Debug, Clone, PartialEq)]
pub struct Geometry {
    /// Part of (sx, sy) that depends on x, per output column.
    pub columns: Vec<[i32; 2]>,
    /// Part of (sx, sy) that depends on y, per output row.
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

/// Converts a position to fixed point, saturating so that even extreme aspect ratios (a rotated
/// frame one pixel wide) stay in range.
fn fixed(position: f64) -> i32 {
    let most = f64::from(i32::MAX / 2);
    (position * ONE).round().clamp(-most, most) as i32
}

impl Geometry {
    /// Computes the map for a source of `[h, w]` and an output of `[out_h, out_w]` pixels.
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
        // The constant is split so that, without rotation, each table alone holds whole positions.
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

    /// Returns (sx, sy) of an output pixel, not yet clamped.
    #[inline]
    pub fn place(&self, x: usize, y: usize) -> [i32; 2] {
        let ([cx, cy], [rx, ry]) = (self.columns[x], self.rows[y]);
        [cx + rx, cy + ry]
    }

    /// Returns the two neighbours of a position along one axis (0 = x, 1 = y) of a frame with
    /// `side` pixels, and the weight of the second.
    #[inline]
    pub fn neighbours(&self, axis: usize, position: i32, side: usize) -> (usize, usize, f32) {
        // The record was checked, so the crop lies in the frame; rounding must not leave it either.
        let position = position.max(self.low[axis]).min(self.high[axis]).max(0);
        let first = ((position >> BITS) as usize).min(side - 1);
        let weight = (position & ((1 << BITS) - 1)) as f32 * (1.0 / ONE as f32);
        (first, (first + 1).min(side - 1), weight)
    }

    /// Returns the share of the bilinear weights at a position that lies inside the frame, along
    /// one axis. It is computed from integer distances to the edges, which are small, hence exact,
    /// where the share is neither 0 nor 1.
    #[inline]
    pub fn coverage(&self, axis: usize, position: i32) -> f32 {
        let from_start = position.wrapping_sub(self.start[axis]) as f32 * self.inverse[axis] + 1.0;
        let to_end = self.end[axis].wrapping_sub(position) as f32 * self.inverse[axis];
        from_start.min(to_end).clamp(0.0, 1.0)
    }
}
