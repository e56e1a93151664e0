//! Conversion from YUV 4:2:0 to RGB with the arithmetic of ffmpeg's scaler (libswscale on x86), so
//! that a frame has the same bytes whether polyview or ffmpeg decodes it.
//!
//! With V' = 8·V − 1024 and so on, R = Y·a + V'·b, and likewise for G and B, where each product is
//! reduced to 16 bits and rounded down. That makes frames about one level darker than exact
//! arithmetic does. Each pixel takes the nearest chroma sample.

/// One frame in YUV 4:2:0: `height` rows of `width` luma samples, and half as many chroma samples
/// in each direction, rounded up.
#[derive(Debug, Clone, Copy)]
pub struct Yuv420<'a> {
    /// Luma plane.
    pub y: &'a [u8],
    /// Blue-difference chroma plane.
    pub u: &'a [u8],
    /// Red-difference chroma plane.
    pub v: &'a [u8],
    /// Width in pixels.
    pub width: usize,
    /// Height in pixels.
    pub height: usize,
}

/// The factors of a conversion, with 13 fractional bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct YuvToRgb {
    /// Eight times the luma value of black.
    black: i16,
    luma: i16,
    v_to_red: i16,
    u_to_green: i16,
    v_to_green: i16,
    u_to_blue: i16,
}

impl YuvToRgb {
    /// Computes the factors for a matrix whose luma weights are `kr` for red and `kb` for blue
    /// (ITU-T H.273, 8.3). Full-range samples go from 0 to 255; otherwise luma goes from 16 to 235
    /// and chroma to 240.
    pub fn new(kr: f64, kb: f64, full_range: bool) -> Self {
        let kg = 1.0 - kr - kb;
        // ffmpeg stores the factors with 16 fractional bits, for chroma of limited range.
        let stored = |factor: f64| (factor * 255.0 / 224.0 * 65536.0).round() as i64;
        let scaled = |factor: i64| if full_range { (factor * 224 + 127) / 255 } else { factor };
        let chroma = |factor: f64, sign: i64| short(scaled(sign * stored(factor)) << 13);
        let luma = if full_range { 1 << 16 } else { (255 << 16) / 219 };
        Self {
            black: if full_range { 0 } else { 8 * 16 },
            luma: short(luma << 13),
            v_to_red: chroma(2.0 * (1.0 - kr), 1),
            u_to_green: chroma(2.0 * kb * (1.0 - kb) / kg, -1),
            v_to_green: chroma(2.0 * kr * (1.0 - kr) / kg, -1),
            u_to_blue: chroma(2.0 * (1.0 - kb), 1),
        }
    }

    /// Converts a frame to `rgb`, `[H, W, 3]`.
    ///
    /// # Panics
    /// If the length of a plane or of `rgb` does not match the frame's size.
    pub fn convert(&self, frame: &Yuv420<'_>, rgb: &mut [u8]) {
        let Yuv420 { y, u, v, width, height } = *frame;
        let half = width.div_ceil(2);
        assert_eq!(y.len(), width * height, "the size of the luma plane");
        assert_eq!(
            [u.len(), v.len()],
            [half * height.div_ceil(2); 2],
            "the size of a chroma plane"
        );
        assert_eq!(rgb.len(), 3 * width * height, "the size of the output");
        if y.is_empty() {
            return;
        }
        // Contribution of chroma to red, green and blue of a row's pixels.
        let mut added = vec![[0i16; 3]; half];
        for (row, (y, rgb)) in
            y.chunks_exact(width).zip(rgb.chunks_exact_mut(3 * width)).enumerate()
        {
            if row % 2 == 0 {
                let chroma = row / 2 * half..(row / 2 + 1) * half;
                for (added, (u, v)) in
                    added.iter_mut().zip(u[chroma.clone()].iter().zip(&v[chroma]))
                {
                    let [u, v] = [u, v].map(|&value| 8 * i16::from(value) - 1024);
                    *added = [
                        high(v, self.v_to_red),
                        high(u, self.u_to_green) + high(v, self.v_to_green),
                        high(u, self.u_to_blue),
                    ];
                }
            }
            for ((y, rgb), added) in y.chunks(2).zip(rgb.chunks_mut(6)).zip(&added) {
                for (y, rgb) in y.iter().zip(rgb.chunks_exact_mut(3)) {
                    let y = high(8 * i16::from(*y) - self.black, self.luma);
                    for (value, added) in rgb.iter_mut().zip(added) {
                        *value = (y + added).clamp(0, 255) as u8;
                    }
                }
            }
        }
    }
}

/// Returns the upper 16 bits of a product.
fn high(a: i16, b: i16) -> i16 {
    ((i32::from(a) * i32::from(b)) >> 16) as i16
}

/// Rounds a number with 16 fractional bits to an integer.
fn short(number: i64) -> i16 {
    ((number + (1 << 15)) >> 16) as i16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn factors_match_the_standards() {
        let bt601 = YuvToRgb::new(0.299, 0.114, false);
        // 1.164, 1.596, 0.392, 0.813 and 2.017 with 13 fractional bits.
        let expected = YuvToRgb {
            black: 128,
            luma: 9539,
            v_to_red: 13075,
            u_to_green: -3209,
            v_to_green: -6660,
            u_to_blue: 16525,
        };
        assert_eq!(bt601, expected);
        let full = YuvToRgb::new(0.299, 0.114, true);
        assert_eq!((full.black, full.luma, full.v_to_red), (0, 8192, 11485));
    }

    #[test]
    fn colours_are_close_to_exact_arithmetic() {
        for (kr, kb) in [(0.299, 0.114), (0.2126, 0.0722), (0.2627, 0.0593), (0.212, 0.087)] {
            for full in [false, true] {
                let conversion = YuvToRgb::new(kr, kb, full);
                // The size is odd, so the last chroma sample covers only one pixel.
                let (width, height) = (5, 3);
                for seed in 0..2000usize {
                    let value = |i: usize| ((seed * 7919 + i * 104_729) % 256) as u8;
                    let y: Vec<u8> = (0..15).map(value).collect();
                    let [u, v] = [20, 40].map(|at| (at..at + 6).map(value).collect::<Vec<u8>>());
                    let mut rgb = vec![0; 45];
                    conversion.convert(&Yuv420 { y: &y, u: &u, v: &v, width, height }, &mut rgb);
                    for (pixel, rgb) in rgb.chunks(3).enumerate() {
                        let at = pixel / width / 2 * 3 + pixel % width / 2;
                        let exact = exact([y[pixel], u[at], v[at]], kr, kb, full);
                        for (found, exact) in rgb.iter().zip(exact) {
                            let difference = f64::from(*found) - exact;
                            assert!((-3.2..1.0).contains(&difference), "{found} for {exact}");
                        }
                    }
                }
            }
        }
    }

    /// Reference conversion by ITU-T H.273, 8.3, clamped to the range of a byte.
    fn exact([y, u, v]: [u8; 3], kr: f64, kb: f64, full: bool) -> [f64; 3] {
        let [y, u, v] = [y, u, v].map(f64::from);
        let (y, [u, v]) = if full {
            (y, [u, v].map(|c| c - 128.0))
        } else {
            ((y - 16.0) * 255.0 / 219.0, [u, v].map(|c| (c - 128.0) * 255.0 / 224.0))
        };
        let red = y + 2.0 * (1.0 - kr) * v;
        let blue = y + 2.0 * (1.0 - kb) * u;
        let green = (y - kr * red - kb * blue) / (1.0 - kr - kb);
        [red, green, blue].map(|level| level.clamp(0.0, 255.0))
    }
}
