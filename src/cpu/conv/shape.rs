//! The sizes of a 3D convolution.

use serde::{Deserialize, Serialize};

/// A 3D convolution without bias, groups or dilation: `x [N, C, T, H, W]`, `w [K, C, kt, kh, kw]`,
/// `y [N, K, T', H', W']`, all contiguous f32 in PyTorch's layout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ConvShape {
    /// N, the number of clips.
    pub batch: usize,
    /// C, the number of channels of `x`.
    pub in_channels: usize,
    /// K, the number of channels of `y`.
    pub out_channels: usize,
    /// T, H, W of `x`.
    pub input: [usize; 3],
    /// Kernel size kt, kh, kw.
    pub kernel: [usize; 3],
    /// Stride along T, H, W.
    pub stride: [usize; 3],
    /// Number of zeros before and after x along T, H, W.
    pub padding: [usize; 3],
}

impl ConvShape {
    /// Returns the convolution of `x [N, C, T, H, W]` with `w [K, C, kt, kh, kw]`; `None` if a size
    /// is zero, the channels differ, or the kernel does not fit into the padded input.
    pub fn new(
        x: [usize; 5],
        w: [usize; 5],
        stride: [usize; 3],
        padding: [usize; 3],
    ) -> Option<Self> {
        let [batch, in_channels, t, h, wide] = x;
        let [out_channels, channels, kt, kh, kw] = w;
        let shape = Self {
            batch,
            in_channels,
            out_channels,
            input: [t, h, wide],
            kernel: [kt, kh, kw],
            stride,
            padding,
        };
        (channels == in_channels && shape.is_sound()).then_some(shape)
    }

    /// Returns whether no size is zero and the kernel fits into the padded input.
    pub fn is_sound(&self) -> bool {
        let sizes = [self.batch, self.in_channels, self.out_channels];
        let mut all = sizes.iter().chain(&self.input).chain(&self.kernel).chain(&self.stride);
        all.all(|&size| size > 0) && self.output().iter().all(|&size| size > 0)
    }

    /// Output size T', H', W', each ⌊(T + 2p − k) / s⌋ + 1; 0 where the kernel does not fit.
    pub fn output(&self) -> [usize; 3] {
        std::array::from_fn(|axis| {
            let room = self.input[axis] + 2 * self.padding[axis] + 1;
            room.saturating_sub(self.kernel[axis]).div_ceil(self.stride[axis].max(1))
        })
    }

    /// Number of taps of the kernel, kt·kh·kw.
    pub fn taps(&self) -> usize {
        self.kernel.iter().product()
    }

    /// Shape of `x`.
    pub fn x(&self) -> [usize; 5] {
        let [t, h, w] = self.input;
        [self.batch, self.in_channels, t, h, w]
    }

    /// Shape of `w`.
    pub fn w(&self) -> [usize; 5] {
        let [t, h, w] = self.kernel;
        [self.out_channels, self.in_channels, t, h, w]
    }

    /// Shape of `y`.
    pub fn y(&self) -> [usize; 5] {
        let [t, h, w] = self.output();
        [self.batch, self.out_channels, t, h, w]
    }

    /// Number of elements of `x`.
    pub fn input_len(&self) -> usize {
        self.x().iter().product()
    }

    /// Number of elements of `w`.
    pub fn weight_len(&self) -> usize {
        self.w().iter().product()
    }

    /// Number of elements of `y`.
    pub fn output_len(&self) -> usize {
        self.y().iter().product()
    }

    /// Number of multiply-adds of each of the three passes, including those with the padding's
    /// zeros, as PyTorch's profilers count them.
    pub fn multiply_adds(&self) -> usize {
        self.output_len() * self.in_channels * self.taps()
    }

    /// Number of those multiply-adds whose tap falls inside the input, that is, the necessary ones.
    pub fn useful_multiply_adds(&self) -> usize {
        let output = self.output();
        let pairs = |axis: usize| -> usize {
            let inside = |position: usize| {
                let taps = (0..self.kernel[axis]).map(|tap| position * self.stride[axis] + tap);
                let input = self.padding[axis]..self.padding[axis] + self.input[axis];
                taps.filter(|at| input.contains(at)).count()
            };
            (0..output[axis]).map(inside).sum()
        };
        self.batch * self.out_channels * self.in_channels * pairs(0) * pairs(1) * pairs(2)
    }
}
