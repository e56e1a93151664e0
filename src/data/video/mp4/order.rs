//! Determines the display order of H.264 pictures whose container states no composition times, by
//! their picture order count (ITU-T H.264, 8.2.1).

use h264_reader::Context;
use h264_reader::nal::pps::PicParameterSet;
use h264_reader::nal::slice::{
    DecRefPicMarking, MemoryManagementControlOperation, PicOrderCountLsb, SliceHeader,
};
use h264_reader::nal::sps::{PicOrderCntType, SeqParameterSet};
use h264_reader::nal::{Nal, RefNal, UnitType};

/// Returns whether the display order of this sequence's pictures may differ from the coding order.
pub(super) fn may_differ(sps: &SeqParameterSet) -> bool {
    const BASELINE: u8 = 66;
    let vui = sps.vui_parameters.as_ref();
    let restrictions = vui.and_then(|vui| vui.bitstream_restrictions.as_ref());
    !(u8::from(sps.profile_idc) == BASELINE
        || matches!(sps.pic_order_cnt, PicOrderCntType::TypeTwo)
        || restrictions.is_some_and(|limits| limits.max_num_reorder_frames == 0))
}

/// Determines the display positions of a stream's pictures.
pub(super) struct PictureOrder {
    context: Context,
    /// Number of sequences (from one IDR picture to the next) so far.
    sequence: u64,
    /// Picture order count of the previous reference picture: most significant part and least
    /// significant bits.
    previous: (i64, i64),
    /// `frame_num` of the previous reference picture.
    frame_num: u16,
}

/// The position of a picture in display order.
pub(super) type Position = (u64, i64);

impl PictureOrder {
    /// Creates the state from the container's parameter sets, which have no start codes.
    pub(super) fn new<'a>(sets: impl Iterator<Item = &'a [u8]>) -> Result<Self, &'static str> {
        let mut order =
            Self { context: Context::new(), sequence: 0, previous: (0, 0), frame_num: 0 };
        for set in sets {
            order.unit(set)?;
        }
        Ok(order)
    }

    /// Processes the next unit in decoding order and returns the position of its picture if it is a
    /// slice. Only the first slice of each picture must be passed.
    ///
    /// # Errors
    /// Something is broken or not supported, or a picture to which others refer is missing: the
    /// numbers of reference pictures have no gaps (7.4.3), unless the stream declares that gaps are
    /// allowed.
    pub(super) fn unit(&mut self, unit: &[u8]) -> Result<Option<Position>, &'static str> {
        const BROKEN: &str = "its H.264 parameter sets are broken";
        if unit.is_empty() {
            return Ok(None);
        }
        let nal = RefNal::new(unit, &[], true);
        let header = nal.header().map_err(|_| "a unit of unknown type")?;
        let mut bits = nal.rbsp_bits();
        match header.nal_unit_type() {
            UnitType::SeqParameterSet => {
                let set = SeqParameterSet::from_bits(bits).map_err(|_| BROKEN)?;
                self.context.put_seq_param_set(set);
                Ok(None)
            }
            UnitType::PicParameterSet => {
                let set = PicParameterSet::from_bits(&self.context, bits).map_err(|_| BROKEN)?;
                self.context.put_pic_param_set(set);
                Ok(None)
            }
            UnitType::SliceLayerWithoutPartitioningIdr
            | UnitType::SliceLayerWithoutPartitioningNonIdr => {
                let (slice, sps, _) =
                    SliceHeader::from_bits(&self.context, &mut bits, header, None)
                        .map_err(|_| "a slice header is broken")?;
                let next = (u32::from(self.frame_num) + 1) % (1 << sps.log2_max_frame_num());
                let expected = [u32::from(self.frame_num), next];
                let follows = slice.idr_pic_id.is_some()
                    || sps.gaps_in_frame_num_value_allowed_flag
                    || expected.contains(&u32::from(slice.frame_num));
                if !follows {
                    return Err("H.264 with a missing picture");
                }
                let position = position(self.sequence, self.previous, &slice, sps)?;
                self.sequence = position.sequence;
                if header.nal_ref_idc() != 0 {
                    self.previous = (position.high, position.low);
                    self.frame_num = slice.frame_num;
                }
                Ok(Some((position.sequence, position.high + position.low)))
            }
            _ => Ok(None),
        }
    }
}

struct Count {
    sequence: u64,
    high: i64,
    low: i64,
}

/// Returns the picture order count, computed from that of the previous reference picture (8.2.1.1).
fn position(
    sequence: u64,
    previous: (i64, i64),
    slice: &SliceHeader,
    sps: &SeqParameterSet,
) -> Result<Count, &'static str> {
    let bits = match sps.pic_order_cnt {
        PicOrderCntType::TypeZero { log2_max_pic_order_cnt_lsb_minus4: bits } => bits,
        PicOrderCntType::TypeOne { .. } => {
            return Err("H.264 with picture order of type 1, without composition times");
        }
        // Pictures are shown in the order in which they are coded.
        PicOrderCntType::TypeTwo => return Ok(Count { sequence: sequence + 1, high: 0, low: 0 }),
    };
    if resets(slice) {
        return Err("H.264 that resets its picture order, without composition times");
    }
    let low = match slice.pic_order_cnt_lsb {
        Some(
            PicOrderCountLsb::Frame(low)
            | PicOrderCountLsb::FieldsAbsolute { pic_order_cnt_lsb: low, .. },
        ) => i64::from(low),
        _ => return Err("interlaced H.264 without composition times"),
    };
    if slice.idr_pic_id.is_some() {
        return Ok(Count { sequence: sequence + 1, high: 0, low });
    }
    let most = 1 << (bits + 4);
    let (high, before) = previous;
    let high = if low < before && before - low >= most / 2 {
        high + most
    } else if low > before && low - before > most / 2 {
        high - most
    } else {
        high
    };
    Ok(Count { sequence, high, low })
}

/// Returns whether the picture order is reset after this picture (memory management operation 5).
fn resets(slice: &SliceHeader) -> bool {
    matches!(&slice.dec_ref_pic_marking, Some(DecRefPicMarking::Adaptive(operations))
    if operations.iter().any(|operation| {
        matches!(operation, MemoryManagementControlOperation::AllRefPicturesUnused)
    }))
}
