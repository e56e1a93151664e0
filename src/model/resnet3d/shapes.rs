//! The convolutions that clips of a given size meet on their way through a backbone.

use super::{Backbone, BasicBlock, Part, PartKind, ResidualConv, Stem};
use crate::conv::ConvShape;
use crate::model::Conv3d;

/// Goes the way of the clips, sizes only.
struct Walk {
    at: [usize; 5],
    found: Vec<ConvShape>,
}

impl Walk {
    /// `None` where a convolution does not fit.
    fn pass(&mut self, conv: &Conv3d) -> Option<()> {
        let shape = conv.shape(self.at)?;
        self.at = shape.y();
        self.found.push(shape);
        Some(())
    }

    fn stem(&mut self, stem: &Stem) -> Option<()> {
        match stem {
            Stem::Plain((conv, ..)) => self.pass(conv),
            Stem::Factored((spatial, _, _, temporal, ..)) => {
                self.pass(spatial)?;
                self.pass(temporal)
            }
        }
    }

    fn residual(&mut self, conv: &ResidualConv) -> Option<()> {
        match conv {
            ResidualConv::Plain(conv) => self.pass(conv),
            ResidualConv::Factored((spatial, _, _, temporal)) => {
                self.pass(spatial)?;
                self.pass(temporal)
            }
        }
    }

    fn block(&mut self, block: &BasicBlock) -> Option<()> {
        let start = self.at;
        self.residual(&block.conv1.0)?;
        self.residual(&block.conv2.0)?;
        if let Some((conv, _)) = &block.downsample {
            self.at = start;
            self.pass(conv)?;
        }
        Some(())
    }
}

/// The convolutions of the stem or of a residual block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartShapes {
    /// The stage it belongs to, in [`super::STAGES`].
    pub stage: usize,
    /// In order.
    pub convolutions: Vec<ConvShape>,
}

impl Backbone {
    /// The convolutions in order for clips `[N, 3, T, H, W]`; `None` if those are too small.
    pub fn convolutions(&self, clips: [usize; 5]) -> Option<Vec<ConvShape>> {
        let parts = self.convolutions_by_part(clips)?;
        Some(parts.into_iter().flat_map(|part| part.convolutions).collect())
    }

    /// The same, part by part: the stem, then each residual block.
    pub fn convolutions_by_part(&self, clips: [usize; 5]) -> Option<Vec<PartShapes>> {
        let mut walk = Walk { at: clips, found: Vec::new() };
        let part = |part: Part| {
            match part.kind {
                PartKind::Stem { stem, .. } => walk.stem(stem)?,
                PartKind::Block(block) => walk.block(block)?,
            }
            let convolutions = std::mem::take(&mut walk.found);
            Some(PartShapes { stage: part.stage, convolutions })
        };
        self.parts(0).into_iter().map(part).collect()
    }
}
