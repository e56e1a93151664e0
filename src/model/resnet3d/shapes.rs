//! The convolutions that clips of a given size meet on their way through a backbone.

use super::{Backbone, Part, Unit};
use crate::conv::ConvShape;

/// The convolutions of the stem or of a residual block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartShapes {
    /// The stage it belongs to, in [`super::STAGES`].
    pub stage: usize,
    /// In order.
    pub convolutions: Vec<ConvShape>,
    /// Whether the last one is in the shortcut, beside the others.
    pub has_shortcut: bool,
    /// Where max pooling follows: the sizes `[N, C, T, H, W]` before it, after its step over H and W, and
    /// after that over T.
    pub pooling: Option<[[usize; 5]; 3]>,
}

impl PartShapes {
    /// `None` where a convolution does not fit.
    fn of(part: &Part<'_>, input: [usize; 5]) -> Option<Self> {
        let pass = |found: &mut Vec<ConvShape>, (conv, _): Unit<'_>, at| {
            let shape = conv.shape(at)?;
            found.push(shape);
            Some(shape.y())
        };
        let (mut convolutions, mut at) = (Vec::new(), input);
        for unit in part.units() {
            at = pass(&mut convolutions, unit, at)?;
        }
        let shortcut = part.shortcut();
        if let Some(unit) = shortcut {
            pass(&mut convolutions, unit, input)?;
        }
        let pooling = part.pooling(at).map(|[plane, time]| [at, plane, time]);
        Some(Self { stage: part.stage, convolutions, has_shortcut: shortcut.is_some(), pooling })
    }

    /// The size `[N, C, T, H, W]` of what comes out, the same with and without the shortcut.
    fn output(&self) -> Option<[usize; 5]> {
        let last = self.convolutions.last()?;
        Some(self.pooling.map_or_else(|| last.y(), |[.., pooled]| pooled))
    }
}

impl Backbone {
    /// The convolutions in order for clips `[N, 3, T, H, W]`; `None` if those are too small.
    pub fn convolutions(&self, clips: [usize; 5]) -> Option<Vec<ConvShape>> {
        let parts = self.convolutions_by_part(clips)?;
        Some(parts.into_iter().flat_map(|part| part.convolutions).collect())
    }

    /// The same, part by part: the stem, then each residual block.
    pub fn convolutions_by_part(&self, clips: [usize; 5]) -> Option<Vec<PartShapes>> {
        let mut at = clips;
        let part = |part: Part<'_>| {
            let shapes = PartShapes::of(&part, at)?;
            at = shapes.output()?;
            Some(shapes)
        };
        self.parts(0).into_iter().map(part).collect()
    }
}
