//! Encodes frames to H.264 in an mp4 file in memory.

use std::num::NonZeroU32;

use rusty_h264_common::YuvPlanes;
use rusty_h264_encoder::{Encoder, EncoderConfig, Preset};
use shiguredo_mp4::TrackKind;
use shiguredo_mp4::bitstream::h264::{
    H264NalUnitType, H264SampleEntryConfig, LengthSize, build_avc1_box_from_annexb,
    parse_annexb_nal_units,
};
use shiguredo_mp4::boxes::SampleEntry;
use shiguredo_mp4::mux::{Mp4FileMuxer, Sample};

use super::FPS;

/// Number of frames between key frames: one second.
const KEY_EVERY: u32 = FPS;
/// Quantisation parameter at which colours change by only a few 8-bit levels.
const QP: u8 = 20;
/// Ticks per second of the track.
const TIMESCALE: NonZeroU32 = NonZeroU32::MIN.saturating_add(12_800 - 1);

/// Encodes an mp4 file frame by frame.
pub(super) struct Mp4Encoder {
    width: usize,
    height: usize,
    encoder: Encoder,
    muxer: Mp4FileMuxer,
    bytes: Vec<u8>,
    /// The decoder configuration, created from the first access unit for the first sample.
    entry: Option<SampleEntry>,
    samples: usize,
}

impl Mp4Encoder {
    /// Starts a file with frames of `width` by `height` pixels, both even.
    pub(super) fn new(width: usize, height: usize) -> Result<Self, String> {
        // The baseline profile emits one access unit per frame and reads no setting from the
        // environment.
        let mut config = EncoderConfig::baseline(width, height);
        config.preset = Preset::Balanced;
        config.framerate = FPS as f32;
        config.gop_size = KEY_EVERY;
        config.min_keyint = KEY_EVERY;
        config.qp = QP;
        // The default level is limited to 1620 macroblocks; level 5.1 covers all allowed sizes.
        if width.div_ceil(16) * height.div_ceil(16) > 1620 {
            config.level_idc = 51;
        }
        let encoder = Encoder::new(config).map_err(|e| e.to_string())?;
        let muxer = Mp4FileMuxer::new().map_err(|e| e.to_string())?;
        let bytes = muxer.initial_boxes_bytes().to_vec();
        Ok(Self { width, height, encoder, muxer, bytes, entry: None, samples: 0 })
    }

    /// Adds a frame: luma `[H, W]` and the two chroma planes `[H/2, W/2]`.
    pub(super) fn push(&mut self, [y, u, v]: [&[u8]; 3]) -> Result<(), String> {
        let planes = YuvPlanes::tight(self.width, self.height, y, u, v);
        let planes = planes.ok_or("planes of the wrong size")?;
        let unit = self.encoder.encode_planes(&planes).map_err(|e| e.to_string())?;
        if self.samples == 0 {
            let config = H264SampleEntryConfig { length_size: LengthSize::FourBytes };
            let avc1 = build_avc1_box_from_annexb(&unit, &config).map_err(|e| e.to_string())?;
            self.entry = Some(SampleEntry::Avc1(avc1));
        }
        let offset = self.bytes.len();
        let mut keyframe = false;
        for nal in parse_annexb_nal_units(&unit).map_err(|e| e.to_string())? {
            keyframe |= nal.nal_unit_type == H264NalUnitType::IdrSlice;
            // Parameter sets are already in the sample entry.
            if !matches!(nal.nal_unit_type, H264NalUnitType::Sps | H264NalUnitType::Pps) {
                let length = u32::try_from(nal.data.len()).map_err(|e| e.to_string())?;
                self.bytes.extend_from_slice(&length.to_be_bytes());
                self.bytes.extend_from_slice(nal.data);
            }
        }
        self.samples += 1;
        let sample = Sample {
            track_kind: TrackKind::Video,
            sample_entry: self.entry.take(),
            keyframe,
            timescale: TIMESCALE,
            duration: TIMESCALE.get() / FPS,
            composition_time_offset: None,
            data_offset: offset as u64,
            data_size: self.bytes.len() - offset,
        };
        self.muxer.append_sample(&sample).map_err(|e| e.to_string())
    }

    /// Finishes the file and returns its bytes.
    pub(super) fn finish(mut self) -> Result<Vec<u8>, String> {
        if !self.encoder.flush().is_empty() {
            return Err("the encoder delayed frames".into());
        }
        let boxes = self.muxer.finalize().map_err(|e| e.to_string())?;
        for (offset, part) in boxes.offset_and_bytes_pairs() {
            let offset = usize::try_from(offset).map_err(|e| e.to_string())?;
            let end = offset + part.len();
            if self.bytes.len() < end {
                self.bytes.resize(end, 0);
            }
            self.bytes[offset..end].copy_from_slice(part);
        }
        Ok(self.bytes)
    }
}
