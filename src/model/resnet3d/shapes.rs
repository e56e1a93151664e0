//! The shapes of a backbone's convolutions for clips of a given size.

use super::{Backbone, Part, Unit};
use crate::conv::ConvShape;

/// The convolutions of the stem or of a residual block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartShapes {
    /// Index in [`super::STAGES`] of the stage that the part belongs to.
    pub stage: usize,
    /// Shapes of the convolutions, in order.
    pub convolutions: Vec<ConvShape>,
    /// Whether the last convolution is the shortcut's, parallel to the others.
    pub has_shortcut: bool,
    /// Sizes `[N, C, T, H, W]` before max pooling, after its step over H and W, and after that over T;
    /// `None` if no max pooling follows.
    pub pooling: Option<[[usize; 5]; 3]>,
}

impl PartShapes {
    /// Returns the shapes of a part; `None` if the input is too small for a convolution.
    fn of(part: &Part<'_>, input: [usize; 5]) -> Option<Self> {
        let pass = |shapes: &mut Vec<ConvShape>, (conv, _): Unit<'_>, at| {
            let shape = conv.shape(at)?;
            shapes.push(shape);
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

    /// Returns the size `[N, C, T, H, W]` of the output, which the shortcut's output has too.
    fn output(&self) -> Option<[usize; 5]> {
        let last = self.convolutions.last()?;
        Some(self.pooling.map_or_else(|| last.y(), |[.., pooled]| pooled))
    }
}

impl Backbone {
    /// Returns the convolutions in order for clips `[N, 3, T, H, W]`; `None` if the clips are too small.
    pub fn convolutions(&self, clips: [usize; 5]) -> Option<Vec<ConvShape>> {
        let parts = self.convolutions_by_part(clips)?;
        Some(parts.into_iter().flat_map(|part| part.convolutions).collect())
    }

    /// Like [`Backbone::convolutions`], grouped by part: the stem, then each residual block.
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
