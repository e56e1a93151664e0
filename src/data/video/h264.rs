//! Decoding H.264 to frames in display order.

use std::path::{Path, PathBuf};

use rusty_h264_common::nal::{emulation_unprevent, split_annex_b};
use rusty_h264_common::{NalUnitType, YuvFrame};
use rusty_h264_decoder::{DecodeError, Decoder, Sps};
use yuv::{YuvPlanarImage, YuvRange, YuvStandardMatrix, yuv420_to_rgb};

use super::super::clip::{ClipError, ClipInfo, Frame};
use super::mp4::Track;
use super::wanted::Wanted;
use super::{Sink, Stop, damaged, frame_buffer, unsupported};

/// An H.264 clip in mp4 that is open for reading.
pub(super) struct Movie {
    path: PathBuf,
    track: Track,
    info: ClipInfo,
}

impl Movie {
    /// Reads the index; decodes nothing.
    pub fn open(path: &Path) -> Result<Self, Stop> {
        let track = Track::open(path)?;
        // Asked before any frame is: the decoder refuses here what it cannot do at all.
        let mut decoder = Decoder::new();
        references(path, &track.header)?;
        decoder.decode(&track.header).map_err(|error| stop(path, "parameter sets", error))?;
        let info = ClipInfo {
            frames: track.shown.len(),
            width: track.width,
            height: track.height,
            fps: track.fps,
            codec: "h264".into(),
        };
        Ok(Self { path: path.to_path_buf(), track, info })
    }

    /// What the clip says of itself.
    pub fn info(&self) -> &ClipInfo {
        &self.info
    }

    /// Hands over the wanted frames, display-order indices below `info().frames`.
    pub fn read(&mut self, wanted: &[usize], sink: &mut dyn Sink) -> Result<(), Stop> {
        let samples: Vec<usize> = wanted.iter().map(|&t| self.track.shown[t]).collect();
        let wanted = Wanted::new(&samples);
        let Some((first, last)) = wanted.ends() else {
            return Ok(());
        };
        let (width, height) = (self.info.width, self.info.height);
        let mut rgb = frame_buffer(&self.path, 1, width * height * 3)?;
        let path = self.path.clone();
        let needed = |sample| !wanted.places(sample).is_empty();
        self.decode(first, last, needed, |sample, picture| {
            let places = wanted.places(sample);
            if places.is_empty() {
                return Ok(());
            }
            let paint =
                |frame: &mut [u8]| to_rgb(picture, frame).map_err(|reason| damaged(&path, reason));
            if let Some(room) = sink.room(height, width, places) {
                paint(room)?;
                sink.placed(places);
                return Ok(());
            }
            paint(&mut rgb)?;
            sink.take(Frame { data: &rgb, height, width, places })
        })
    }

    /// Decodes every sample and hands each shown frame's display index and luma `[H, W]` over.
    pub fn visit_luma(&mut self, mut visit: impl FnMut(usize, &[u8])) -> Result<(), Stop> {
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

    /// Decodes from a safe start at or before sample `first` up to sample `last` and hands over
    /// each picture with its sample. Pictures that are not `wanted` are left out where no other
    /// picture needs them, in many clips every second one.
    fn decode(
        &mut self,
        first: usize,
        last: usize,
        wanted: impl Fn(usize) -> bool,
        mut sink: impl FnMut(usize, &YuvFrame) -> Result<(), ClipError>,
    ) -> Result<(), Stop> {
        let path = &self.path;
        let mut decoder = Decoder::new();
        decoder.decode(&self.track.header).map_err(|error| stop(path, "parameter sets", error))?;
        for sample in self.start(first)?..=last {
            let unit = self.track.read(sample)?;
            if unit.dispensable && !wanted(sample) {
                continue;
            }
            references(&self.path, &unit.bytes)?;
            let place = format!("sample {sample}");
            let picture =
                decoder.decode(&unit.bytes).map_err(|error| stop(&self.path, &place, error))?;
            let Some(picture) = picture else {
                return Err(damaged(&self.path, format!("{place} holds no picture")).into());
            };
            self.check_size(&picture)?;
            sink(sample, &picture)?;
        }
        Ok(())
    }

    /// The sample at or before `sample` from which decoding can start. Some writers call pictures
    /// sync samples that are not safe (open groups of pictures), so the bitstream has the last say.
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

/// Refuses parameter sets that ask for more reference pictures than the standard has at its highest
/// level: the decoder keeps as many as they ask for. It may meet them in any sample.
fn references(path: &Path, unit: &[u8]) -> Result<(), ClipError> {
    const MOST: u64 = 16;
    const MOST_MACROBLOCKS: u64 = 696_320;
    for nal in split_annex_b(unit) {
        let Some((&head, rest)) = nal.split_first() else { continue };
        if NalUnitType::from_id(head) != NalUnitType::Sps {
            continue;
        }
        // What cannot be parsed is the decoder's to name.
        let Ok(sps) = Sps::parse(&emulation_unprevent(rest)) else { continue };
        let references = u64::from(sps.max_num_ref_frames);
        let picture = (sps.pic_width_in_mbs * sps.pic_height_in_mbs) as u64;
        if references > MOST || references * picture > MOST_MACROBLOCKS {
            return Err(damaged(path, format!("it asks for {references} reference pictures")));
        }
    }
    Ok(())
}

/// One picture as `[H, W, 3]`: BT.601, limited range, nearest chroma.
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

/// What a decoder's error means for the clip. The decoder says "unsupported" of many things that
/// only a corrupt stream holds; these are the features that a sound stream may use.
fn stop(path: &Path, place: &str, error: DecodeError) -> Stop {
    let feature = match error {
        DecodeError::Unsupported(what) => match what {
            _ if what.starts_with("interlace") => Some("interlaced H.264"),
            "non-4:2:0 chroma" => Some("H.264 that is not 4:2:0"),
            "bit depth > 8" => Some("H.264 of more than 8 bits"),
            "frame too large" => Some("H.264 of this size"),
            "SP/SI slices" | "slice groups (FMO)" | "explicit B weighted prediction" => {
                Some("H.264 with rare features")
            }
            _ if what.starts_with("transform-bypass") => Some("lossless H.264"),
            _ => None,
        },
        _ => None,
    };
    match feature {
        Some(feature) => Stop::Fallback(unsupported(path, feature)),
        None => Stop::Final(damaged(path, format!("{place}: {error}"))),
    }
}
