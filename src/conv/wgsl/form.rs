//! How forward and input gradient read their source and write their result.

use super::gather::{Phase, Product};
use crate::device::Vendor;
use crate::kernels::{DeviceLimits, MatrixUnits};

/// A form of `conv_gather.wgsl`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Form {
    pub load: Load,
    /// One tap, which every column sees.
    pub one_tap: bool,
    /// Results are written four at a time. The columns of a vec4 are then consecutive, however they
    /// are loaded.
    pub wide_store: bool,
    /// What multiplies: matrix units, or each invocation by itself in f32.
    pub units: Option<MatrixUnits>,
    /// Steps whose values the tiles hold: two, or one, which takes half the memory and another barrier.
    pub buffers: u32,
}

/// How values are loaded from the source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Load {
    /// By a table of channels and taps, for sources of few channels.
    Table,
    /// One by one.
    Single,
    /// Four at a time, for windows along t alone.
    Planes,
    /// Four at a time and their neighbours, for windows of three taps along w.
    Rows,
}

impl Load {
    /// Taps of a step.
    pub(crate) fn taps(self) -> u32 {
        match self {
            Self::Rows => 3,
            _ => 1,
        }
    }

    /// Whether it loads four values at a time.
    pub(crate) fn is_wide(self) -> bool {
        matches!(self, Self::Planes | Self::Rows)
    }
}

impl Form {
    /// Terms of the sums in a step.
    pub(crate) fn terms(self) -> u32 {
        self.channels() * self.load.taps()
    }

    /// Channels of a step; its terms are whole matrices where matrix units multiply.
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
        // Input gradients of strided windows, which lie apart.
        Self { one_tap: true, wide_store: false, ..Self::plain(Load::Planes) },
        Self { wide_store: false, ..Self::plain(Load::Planes) },
        Self { wide_store: false, ..Self::plain(Load::Rows) },
    ];

    /// Whether forward passes may take it, and input gradients of windows without strides.
    pub(super) fn is_forward(self) -> bool {
        self.wide_store == self.load.is_wide()
    }

    /// The same with results that are written four at a time.
    pub(super) fn written_wide(self) -> Self {
        Self { wide_store: true, ..self }
    }

    /// The same multiplied by matrix units, or not.
    pub(super) fn multiplied_by(self, units: Option<MatrixUnits>) -> Self {
        Self { units, ..self }
    }

    /// The same with as many buffers as a device should have. Three taps of a step take 40 KB of f16 twice,
    /// of which an NVIDIA card holds four in a multiprocessor, others one; once, AMD's compiler estimates
    /// half the time.
    pub(super) fn buffered_for(self, limits: &DeviceLimits) -> Self {
        let much = self.units.is_some() && self.load == Load::Rows;
        let buffers = if much && limits.vendor != Vendor::Nvidia { 1 } else { 2 };
        Self { buffers, ..self }
    }

    /// The usual form of these loads.
    pub(super) const fn plain(load: Load) -> Self {
        let wide_store = matches!(load, Load::Planes | Load::Rows);
        Self { load, one_tap: false, wide_store, units: None, buffers: 2 }
    }

    /// The widest loads and stores that the product's planes allow. Its taps ascend in the source;
    /// `table` is for few channels.
    pub(super) fn of(product: &Product, table: bool) -> Self {
        if table {
            return Self::plain(Load::Table);
        }
        let [_, height, width] = product.source;
        let strides = product.stride;
        // Phases without taps load nothing.
        let seen = || product.phases.iter().filter(|phase| phase.tap_count() > 0);
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
        let planes = strides[1..] == [1; 2] && height * width % 4 == 0 && seen().all(in_planes);
        let rows = strides[2] == 1 && width % 4 == 0 && seen().all(in_rows);
        let load = match (planes, rows) {
            (true, _) => Load::Planes,
            (_, true) => Load::Rows,
            _ => Load::Single,
        };
        let [_, to_height, to_width] = product.target;
        let whole = |phase: &Phase| phase.lattice[1..] == product.target[1..];
        let wide_store =
            load.is_wide() && to_height * to_width % 4 == 0 && product.phases.iter().all(whole);
        let one_tap = seen().all(|phase| phase.tap_count() == 1 && all_inside(phase));
        Self { load, one_tap, wide_store, units: None, buffers: 2 }
    }
}
