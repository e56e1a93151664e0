//! How the forward pass and the input gradient read their source and write their result.

use super::product::{Phase, Product};
use crate::device::Vendor;
use crate::kernels::{DeviceLimits, MatrixUnits};

/// A specialisation of `conv_gather.wgsl`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Form {
    pub load: Load,
    /// Whether there is only one tap, which is inside the source for every column.
    pub one_tap: bool,
    /// Whether results are written four at a time. If so, the columns of a vec4 are consecutive,
    /// however they are loaded.
    pub wide_store: bool,
    /// Matrix units that multiply; `None` if each invocation multiplies in f32.
    pub units: Option<MatrixUnits>,
    /// Number of steps whose values the tiles hold: two, or one, which halves the workgroup memory
    /// but needs a second barrier per step.
    pub buffers: u32,
}

/// How values are loaded from the source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Load {
    /// Through a table of channels and taps, for sources with few channels.
    Table,
    /// One at a time.
    Single,
    /// Four at a time, for windows along t only.
    Planes,
    /// Four at a time with their neighbours, for windows of three taps along w.
    Rows,
}

impl Load {
    /// Returns the number of taps per step.
    pub(crate) fn taps(self) -> u32 {
        match self {
            Self::Rows => 3,
            _ => 1,
        }
    }

    /// Checks whether four values are loaded at a time.
    pub(crate) fn is_wide(self) -> bool {
        matches!(self, Self::Planes | Self::Rows)
    }
}

impl Form {
    /// Returns the number of terms of the sums per step.
    pub(crate) fn terms(self) -> u32 {
        self.channels() * self.load.taps()
    }

    /// Returns the number of channels per step. With matrix units, the terms of a step are whole
    /// matrices.
    pub(crate) fn channels(self) -> u32 {
        match (self.load, self.units) {
            (Load::Rows, None) => 4,
            (_, None) => 8,
            (Load::Rows, Some(units)) => units.size,
            (_, Some(_)) => 16,
        }
    }

    /// Every form that a product may take.
    pub(super) const ALL: [Self; 9] = [
        Self::plain(Load::Table),
        Self::plain(Load::Single),
        Self::plain(Load::Planes),
        Self::plain(Load::Rows),
        Self { one_tap: true, ..Self::plain(Load::Single) },
        Self { one_tap: true, ..Self::plain(Load::Planes) },
        // Input gradients of strided windows, whose columns are not adjacent.
        Self { one_tap: true, wide_store: false, ..Self::plain(Load::Planes) },
        Self { wide_store: false, ..Self::plain(Load::Planes) },
        Self { wide_store: false, ..Self::plain(Load::Rows) },
    ];

    /// Checks whether forward passes, and input gradients of windows without strides, may use the
    /// form.
    pub(super) fn is_forward(self) -> bool {
        self.wide_store == self.load.is_wide()
    }

    /// Returns the form with results that are written four at a time.
    pub(super) fn written_wide(self) -> Self {
        Self { wide_store: true, ..self }
    }

    /// Returns the form with the given matrix units, if any.
    pub(super) fn multiplied_by(self, units: Option<MatrixUnits>) -> Self {
        Self { units, ..self }
    }

    /// Returns the form with the number of buffers that suits the device. With three taps per step,
    /// two buffers take 40 KB of f16, of which four fit into a multiprocessor of an NVIDIA GPU but
    /// only one on other GPUs; with a single buffer, AMD's compiler estimates half the time.
    pub(super) fn buffered_for(self, limits: &DeviceLimits) -> Self {
        let much = self.units.is_some() && self.load == Load::Rows;
        let buffers = if much && limits.vendor != Vendor::Nvidia { 1 } else { 2 };
        Self { buffers, ..self }
    }

    /// Returns the default form for these loads.
    pub(super) const fn plain(load: Load) -> Self {
        let wide_store = matches!(load, Load::Planes | Load::Rows);
        Self { load, one_tap: false, wide_store, units: None, buffers: 2 }
    }

    /// Returns the form with the widest loads and stores that the product's planes allow. The taps
    /// of the product must ascend in the source; `table` is for few channels.
    pub(super) fn of(product: &Product, table: bool) -> Self {
        if table {
            return Self::plain(Load::Table);
        }
        let [_, height, width] = product.source;
        let strides = product.stride;
        // Phases without taps load nothing.
        let with_taps = || product.phases.iter().filter(|phase| phase.tap_count() > 0);
        let in_planes = |phase: &Phase| {
            phase.taps[1..] == [1; 2]
                && phase.origin[1..] == [0; 2]
                && phase.lattice[1..] == product.source[1..]
        };
        let in_rows = |phase: &Phase| {
            phase.taps[2] == 3 && phase.origin[2] == -1 && phase.lattice[2] == width
        };
        let all_inside = |phase: &Phase| {
            (0..3).all(|axis| {
                let last = (phase.lattice[axis] - 1) * strides[axis];
                usize::try_from(phase.origin[axis])
                    .is_ok_and(|origin| origin + last < product.source[axis])
            })
        };
        let planes =
            strides[1..] == [1; 2] && height * width % 4 == 0 && with_taps().all(in_planes);
        let rows = strides[2] == 1 && width % 4 == 0 && with_taps().all(in_rows);
        let load = match (planes, rows) {
            (true, _) => Load::Planes,
            (_, true) => Load::Rows,
            _ => Load::Single,
        };
        let [_, to_height, to_width] = product.target;
        let whole = |phase: &Phase| phase.lattice[1..] == product.target[1..];
        let wide_store =
            load.is_wide() && to_height * to_width % 4 == 0 && product.phases.iter().all(whole);
        let one_tap = with_taps().all(|phase| phase.tap_count() == 1 && all_inside(phase));
        Self { load, one_tap, wide_store, units: None, buffers: 2 }
    }
}
