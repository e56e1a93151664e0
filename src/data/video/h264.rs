//! Decoding H.264 to frames in display order.

use std::path::{Path, PathBuf};

use rusty_h264_common::nal::{emulation_unprevent, split_annex_b};
use rusty_h264_common::{NalUnitType, YuvFrame};
use rusty_h264_decoder::{DecodeError, Decoder, Sps};
use yuv::{YuvPlanarImage, YuvRange, YuvStandardMatrix, yuv420_to_rgb};

use super::super::clip::{ClipError, ClipInfo, Frame};
use super::mp4::Track;
use super::requested::Requested;
use super::{Sink, Stop, damaged, frame_buffer, unsupported};

/// An H.264 clip in mp4 that is open for reading.
pub(super) struct Movie {
    path: PathBuf,
    track: Track,
    info: ClipInfo,
}

impl Movie {
    /// Reads the index; decodes nothing.
    pub(super) fn open(path: &Path) -> Result<Self, Stop> {
        let track = Track::open(path)?;
        // Before any frame: the decoder refuses unsupported streams here.
        let mut decoder = Decoder::new();
        references(path, &track.header)?;
        decoder.decode(&track.header).map_err(|error| stop(path, "parameter sets", error))?;
        let info = ClipInfo {
            frames: track.shown.len(),
            width: track.width,
            height: track.height,
            fps: track.fps,
            codec: "h264".into(),
            ..ClipInfo::default()
        };
        Ok(Self { path: path.to_path_buf(), track, info })
    }

    /// The clip's properties.
    pub(super) fn info(&self) -> &ClipInfo {
        &self.info
    }

    /// Passes the requested frames to `sink`: indices in display order, below `info().frames`.
    pub(super) fn read(&mut self, frames: &[usize], sink: &mut dyn Sink) -> Result<(), Stop> {
        let samples: Vec<usize> = frames.iter().map(|&t| self.track.shown[t]).collect();
        let requested = Requested::new(&samples);
        let Some((first, last)) = requested.ends() else {
            return Ok(());
        };
        let (width, height) = (self.info.width, self.info.height);
        let mut rgb = frame_buffer(&self.path, 1, width * height * 3)?;
        let path = self.path.clone();
        let needed = |sample| !requested.positions(sample).is_empty();
        self.decode(first, last, needed, |sample, picture| {
            let positions = requested.positions(sample);
            if positions.is_empty() {
                return Ok(());
            }
            let convert =
                |frame: &mut [u8]| to_rgb(picture, frame).map_err(|reason| damaged(&path, reason));
            if let Some(slot) = sink.slot(height, width, positions) {
                convert(slot)?;
                sink.filled(positions);
                return Ok(());
            }
            convert(&mut rgb)?;
            sink.take(Frame { data: &rgb, height, width, positions })
        })
    }

    /// Decodes every sample and passes each shown frame's display index and luma `[H, W]` to `visit`.
    pub(super) fn visit_luma(&mut self, mut visit: impl FnMut(usize, &[u8])) -> Result<(), Stop> {
        let mut display = vec![None; self.track.samples.len()];
        for (t, &sample) in self.track.shown.iter().enumerate() {
            display[sample] = Some(t);
        }
        let all = |_| true;
        self.decode(0, display.len() - 1, all, |sample, picture| {
            if let Some(t) = display[sample] {
                visit(t, &picture.y);
            }
            Ok(())
        })
    }

    /// Decodes from a random access point at or before sample `first` up to sample `last`, and passes
    /// each picture with its sample to `sink`. Pictures that are not `needed` are skipped unless
    /// others refer to them, in many clips every second one.
    fn decode(
        &mut self,
        first: usize,
        last: usize,
        needed: impl Fn(usize) -> bool,
        mut sink: impl FnMut(usize, &YuvFrame) -> Result<(), ClipError>,
    ) -> Result<(), Stop> {
        let path = &self.path;
        let mut decoder = Decoder::new();
        decoder.decode(&self.track.header).map_err(|error| stop(path, "parameter sets", error))?;
        for sample in self.start(first)?..=last {
            let unit = self.track.read(sample)?;
            if unit.dispensable && !needed(sample) {
                continue;
            }
            references(&self.path, &unit.bytes)?;
            let what = format!("sample {sample}");
            let picture =
                decoder.decode(&unit.bytes).map_err(|error| stop(&self.path, &what, error))?;
            let Some(picture) = picture else {
                return Err(damaged(&self.path, format!("{what} contains no picture")).into());
            };
            self.check_size(&picture)?;
            sink(sample, &picture)?;
        }
        Ok(())
    }

    /// The sample at or before `sample` from which decoding can start. Some writers mark pictures as
    /// sync samples that are none (open groups of pictures), so the bitstream decides.
    fn start(&mut self, sample: usize) -> Result<usize, ClipError> {
        for start in (1..=sample).rev() {
            if self.track.samples[start].sync && self.track.read(start)?.start {
                return Ok(start);
            }
        }
        Ok(0)
    }

    fn check_size(&self, picture: &YuvFrame) -> Result<(), ClipError> {
        let (w, h) = (self.info.width, self.info.height);
        let chroma = w.div_ceil(2) * h.div_ceil(2);
        let planes =
            [(picture.y.len(), w * h), (picture.u.len(), chroma), (picture.v.len(), chroma)];
        if (picture.width, picture.height) == (w, h) && planes.iter().all(|(has, must)| has == must)
        {
            return Ok(());
        }
        let (width, height) = (picture.width, picture.height);
        Err(damaged(&self.path, format!("its size changes from {w}x{h} to {width}x{height}")))
    }
}

/// Refuses parameter sets that require more reference pictures than the standard allows at its highest
/// level: the decoder would allocate all of them. They may occur in any sample.
fn references(path: &Path, unit: &[u8]) -> Result<(), ClipError> {
    const MOST: u64 = 16;
    const MOST_MACROBLOCKS: u64 = 696_320;
    for nal in split_annex_b(unit) {
        let Some((&head, rest)) = nal.split_first() else { continue };
        if NalUnitType::from_id(head) != NalUnitType::Sps {
            continue;
        }
        // The decoder reports what cannot be parsed.
        let Ok(sps) = Sps::parse(&emulation_unprevent(rest)) else { continue };
        let references = u64::from(sps.max_num_ref_frames);
        let picture = (sps.pic_width_in_mbs * sps.pic_height_in_mbs) as u64;
        if references > MOST || references * picture > MOST_MACROBLOCKS {
            return Err(damaged(path, format!("it asks for {references} reference pictures")));
        }
    }
    Ok(())
}

/// Converts a picture to `[H, W, 3]` RGB: BT.601, limited range, nearest chroma.
fn to_rgb(picture: &YuvFrame, rgb: &mut [u8]) -> Result<(), String> {
    let (width, height) = (picture.width as u32, picture.height as u32);
    let planes = YuvPlanarImage {
        y_plane: &picture.y,
        y_stride: width,
        u_plane: &picture.u,
        u_stride: width.div_ceil(2),
        v_plane: &picture.v,
        v_stride: width.div_ceil(2),
        width,
        height,
    };
    yuv420_to_rgb(&planes, rgb, width * 3, YuvRange::Limited, YuvStandardMatrix::Bt601)
        .map_err(|error| error.to_string())
}

/// What a decoder's error means for the clip. The decoder also reports many forms of corruption as
/// "unsupported"; these are the features that a valid stream may use.
fn stop(path: &Path, what: &str, error: DecodeError) -> Stop {
    let feature = match error {
        DecodeError::Unsupported(feature) => match feature {
            _ if feature.starts_with("interlace") => Some("interlaced H.264"),
            "non-4:2:0 chroma" => Some("H.264 that is not 4:2:0"),
            "bit depth > 8" => Some("H.264 of more than 8 bits"),
            "frame too large" => Some("H.264 of this size"),
            "SP/SI slices" | "slice groups (FMO)" | "explicit B weighted prediction" => {
                Some("H.264 with rare features")
            }
            _ if feature.starts_with("transform-bypass") => Some("lossless H.264"),
            _ => None,
        },
        _ => None,
    };
    match feature {
        Some(feature) => Stop::Fallback(unsupported(path, feature)),
        None => Stop::Final(damaged(path, format!("{what}: {error}"))),
    }
}
