//! The configuration of an H.264 track: its parameter sets as stored in the container.

use std::path::Path;

use h264_reader::nal::sps::{ChromaFormat, SeqParameterSet};
use h264_reader::nal::{Nal, RefNal};
use mp4parse::{CodecType, SampleEntry, VideoCodecSpecific};
use rusty_h264_common::nal::emulation_unprevent;
use rusty_h264_decoder::Sps;
use shiguredo_mp4::Decode;
use shiguredo_mp4::bitstream::h264::{self, LengthSize};
use shiguredo_mp4::boxes::AvccBox;

use super::super::{Stop, damaged, unsupported};

/// The configuration that is needed to read and decode the samples.
pub(super) struct AvcConfiguration {
    pub length_size: LengthSize,
    /// Sequence and picture parameter sets, without start codes.
    pub sets: Vec<Vec<u8>>,
    /// The first sequence parameter set.
    pub sps: SeqParameterSet,
    /// Width after cropping, pixels.
    pub width: usize,
    /// Height after cropping, pixels.
    pub height: usize,
}

impl AvcConfiguration {
    /// Reads a track's configuration; an error names a codec other than H.264.
    pub(super) fn read(path: &Path, index: &[u8], track: &mp4parse::Track) -> Result<Self, Stop> {
        let other = |what: &str| Stop::Fallback(unsupported(path, what));
        let broken = |what: &str| Stop::Fallback(damaged(path, what));
        let entries = track.stsd.as_ref().map_or(&[][..], |stsd| &stsd.descriptions);
        let [SampleEntry::Video(entry)] = entries else {
            return Err(match entries.len() {
                0 | 1 => other(codec_name(index)),
                _ => other("a track with several sample descriptions"),
            });
        };
        let avcc = match (&entry.codec_type, &entry.codec_specific) {
            (CodecType::H264, VideoCodecSpecific::AVCConfig(avcc)) => avcc,
            (CodecType::EncryptedVideo, _) => return Err(other("encrypted video")),
            (codec, _) => return Err(other(&format!("{codec:?}").to_lowercase())),
        };
        // The box decoder needs the header that the parser removed.
        let size = u32::try_from(avcc.len()).ok().and_then(|len| len.checked_add(8));
        let size = size.ok_or_else(|| broken("its avcC box is too long"))?;
        let boxed = [&size.to_be_bytes()[..], b"avcC", avcc].concat();
        let (avcc, _) = AvccBox::decode(&boxed)
            .map_err(|_| broken("its H.264 configuration (avcC) is broken"))?;
        let length_size = match avcc.length_size_minus_one.get() {
            0 => LengthSize::OneByte,
            1 => LengthSize::TwoBytes,
            3 => LengthSize::FourBytes,
            _ => return Err(broken("its avcC box specifies 3-byte lengths")),
        };
        let Some(first) = avcc.sps_list.first() else {
            return Err(other("H.264 without parameter sets in the index"));
        };
        check_references(path, first)?;
        let sps = sequence(first).ok_or_else(|| {
            // ffmpeg may be able to play a stream that the strict parser refuses.
            match h264::parse_sps(first) {
                Ok(_) => other("H.264 with unusual parameter sets"),
                Err(_) => broken("its H.264 parameter sets are broken"),
            }
        })?;
        let chroma = &sps.chroma_info;
        if chroma.chroma_format != ChromaFormat::YUV420 {
            return Err(other("H.264 that is not 4:2:0"));
        }
        if chroma.bit_depth_luma_minus8 != 0 || chroma.bit_depth_chroma_minus8 != 0 {
            return Err(other("H.264 with more than 8 bits"));
        }
        let (width, height) = sps
            .pixel_dimensions()
            .map_err(|_| broken("its H.264 parameter sets state no valid size"))?;
        let sets = avcc.sps_list.into_iter().chain(avcc.pps_list).collect();
        Ok(Self { length_size, sets, sps, width: width as usize, height: height as usize })
    }
}

/// Refuses a sequence parameter set (a unit without start code) that requires more reference pictures
/// than the standard allows at its highest level: the decoder would allocate all of them.
pub(in super::super) fn check_references(path: &Path, unit: &[u8]) -> Result<(), Stop> {
    const MOST: u64 = 16;
    const MOST_MACROBLOCKS: u64 = 696_320;
    // If the set cannot be parsed, the decoder reports the error.
    let Ok(sps) = Sps::parse(&emulation_unprevent(unit.get(1..).unwrap_or_default())) else {
        return Ok(());
    };
    let references = u64::from(sps.max_num_ref_frames);
    let picture = (sps.pic_width_in_mbs * sps.pic_height_in_mbs) as u64;
    if references > MOST || references * picture > MOST_MACROBLOCKS {
        return Err(damaged(path, format!("it asks for {references} reference pictures")).into());
    }
    Ok(())
}

/// Parses a sequence parameter set; `None` if it is broken.
pub(in super::super) fn sequence(unit: &[u8]) -> Option<SeqParameterSet> {
    let bits = (!unit.is_empty()).then(|| RefNal::new(unit, &[], true).rbsp_bits())?;
    SeqParameterSet::from_bits(bits).ok()
}

/// Returns the name of a codec that the parser does not know, from the four-character code of the
/// sample description. It is only used in messages.
fn codec_name(index: &[u8]) -> &'static str {
    let names = index.windows(20).filter(|window| window.starts_with(b"stsd"));
    let mut known = names.filter_map(|window| match &window[16..20] {
        b"hvc1" | b"hev1" | b"dvh1" | b"dvhe" => Some("hevc"),
        b"vvc1" | b"vvi1" => Some("vvc"),
        b"jpeg" | b"mjpa" | b"mjpb" => Some("mjpeg"),
        b"apch" | b"apcn" | b"apcs" | b"apco" | b"ap4h" | b"ap4x" => Some("prores"),
        _ => None,
    });
    known.next().unwrap_or("this codec")
}
