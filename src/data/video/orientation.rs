//! How stored frames are rotated and mirrored to be upright, according to the transformation
//! matrices of the movie and track headers (ISO/IEC 14496-12).

/// The upper left 2×2 part of a transformation matrix: (x, y) becomes (a·x + c·y, b·x + d·y), with y
/// pointing down.
#[derive(Debug, Clone, Copy)]
pub(super) struct Matrix {
    pub a: i64,
    pub b: i64,
    pub c: i64,
    pub d: i64,
}

impl Matrix {
    /// Creates a matrix from the nine numbers of a header, in 16.16 fixed point.
    pub(super) fn new(numbers: [i32; 9]) -> Self {
        let [a, b, _, c, d, ..] = numbers.map(i64::from);
        Self { a, b, c, d }
    }

    /// Returns this transformation followed by `next`.
    pub(super) fn then(self, next: Self) -> Self {
        let dot = |x: i64, y: i64, p: i64, q: i64| ((x * p) >> 16) + ((y * q) >> 16);
        Self {
            a: dot(self.a, self.b, next.a, next.c),
            b: dot(self.a, self.b, next.b, next.d),
            c: dot(self.c, self.d, next.a, next.c),
            d: dot(self.c, self.d, next.b, next.d),
        }
    }
}

/// One of the eight ways to rotate and mirror a frame: rows and columns are swapped if
/// `transposed`, and then reversed if mirrored.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Orientation {
    transposed: bool,
    mirrored_x: bool,
    mirrored_y: bool,
}

impl Orientation {
    /// Returns the orientation that a matrix demands; `None` if its angle is not a multiple of 90°
    /// (within one degree).
    pub(super) fn new(matrix: Matrix) -> Option<Self> {
        /// 1 / tan(1°).
        const COTANGENT: i64 = 57;
        let Matrix { a, b, c, d } = matrix;
        let (min_diagonal, min_off_diagonal) = (a.abs().min(d.abs()), b.abs().min(c.abs()));
        let (max_diagonal, max_off_diagonal) = (a.abs().max(d.abs()), b.abs().max(c.abs()));
        if max_off_diagonal * COTANGENT <= min_diagonal {
            // This includes the zero matrix, which some writers use for an unset one.
            Some(Self { transposed: false, mirrored_x: a < 0, mirrored_y: d < 0 })
        } else if max_diagonal * COTANGENT <= min_off_diagonal {
            Some(Self { transposed: true, mirrored_x: c < 0, mirrored_y: b < 0 })
        } else {
            None
        }
    }

    /// Returns whether frames are used as stored.
    pub(super) fn is_upright(self) -> bool {
        self == Self::default()
    }

    /// Returns the rotation in degrees clockwise, determined by where the left edge goes; mirrored
    /// frames are mirrored top to bottom before the rotation.
    pub(super) fn degrees(self) -> u32 {
        match (self.transposed, self.mirrored_x, self.mirrored_y) {
            (false, false, _) => 0,
            (true, _, false) => 90,
            (false, true, _) => 180,
            (true, _, true) => 270,
        }
    }

    /// Returns whether frames are mirrored.
    pub(super) fn is_mirrored(self) -> bool {
        self.transposed ^ self.mirrored_x ^ self.mirrored_y
    }

    /// Returns `[width, height]` (or any such pair) after the rotation.
    pub(super) fn turned<T>(self, [x, y]: [T; 2]) -> [T; 2] {
        if self.transposed { [y, x] } else { [x, y] }
    }

    /// Writes a stored frame of `width` × `height` pixels, `[H, W, 3]`, to `out` in upright
    /// orientation.
    pub(super) fn apply(self, stored: &[u8], [width, height]: [usize; 2], out: &mut [u8]) {
        let [across, down] = self.turned([width, height]);
        for (y, row) in out.chunks_exact_mut(3 * across).enumerate() {
            let y = if self.mirrored_y { down - 1 - y } else { y };
            for (x, pixel) in row.chunks_exact_mut(3).enumerate() {
                let x = if self.mirrored_x { across - 1 - x } else { x };
                let [x, y] = self.turned([x, y]);
                pixel.copy_from_slice(&stored[3 * (y * width + x)..][..3]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: i32 = 1 << 16;

    /// Applies a matrix to the frame `1 2 3 / 4 5 6`.
    fn turned(numbers: [i32; 4]) -> Option<([u32; 2], Vec<u8>)> {
        let [a, b, c, d] = numbers;
        let identity = Matrix::new([ONE, 0, 0, 0, ONE, 0, 0, 0, 1 << 30]);
        let matrix = Matrix::new([a, b, 0, c, d, 0, 0, 0, 1 << 30]).then(identity);
        let orientation = Orientation::new(matrix)?;
        let stored: Vec<u8> = (1..=6).flat_map(|n| [n; 3]).collect();
        let mut out = vec![0; stored.len()];
        orientation.apply(&stored, [3, 2], &mut out);
        let turn = [orientation.degrees(), u32::from(orientation.is_mirrored())];
        Some((turn, out.chunks(3).map(|pixel| pixel[0]).collect()))
    }

    #[test]
    fn frames_are_turned_as_the_matrix_demands() {
        let (one, none) = (ONE, 0);
        let cases = [
            ([one, none, none, one], [0, 0], [1, 2, 3, 4, 5, 6]),
            ([none; 4], [0, 0], [1, 2, 3, 4, 5, 6]),
            // 90° clockwise: rows of two.
            ([none, one, -one, none], [90, 0], [4, 1, 5, 2, 6, 3]),
            ([-one, none, none, -one], [180, 0], [6, 5, 4, 3, 2, 1]),
            ([none, -one, one, none], [270, 0], [3, 6, 2, 5, 1, 4]),
            // Mirrored left to right, and top to bottom.
            ([-one, none, none, one], [180, 1], [3, 2, 1, 6, 5, 4]),
            ([one, none, none, -one], [0, 1], [4, 5, 6, 1, 2, 3]),
            ([none, one, one, none], [90, 1], [1, 4, 2, 5, 3, 6]),
            ([none, -one, -one, none], [270, 1], [6, 3, 5, 2, 4, 1]),
        ];
        for (numbers, turn, expected) in cases {
            assert_eq!(turned(numbers), Some((turn, expected.to_vec())), "{numbers:?}");
        }
        // 30°.
        assert_eq!(turned([56756, 32768, -32768, 56756]), None);
        // Half a degree is ignored.
        assert_eq!(turned([65534, 572, -572, 65534]), Some(([0, 0], vec![1, 2, 3, 4, 5, 6])));
    }
}
