//! Decodes H.264 to frames in display order.

use std::path::{Path, PathBuf};

use h264_reader::nal::sps::SeqParameterSet;
use rusty_h264_common::nal::split_annex_b;
use rusty_h264_common::{NalUnitType, YuvFrame};
use rusty_h264_decoder::{DecodeError, Decoder};

use super::super::clip::{ClipError, ClipInfo, Frame};
use super::colour::Colour;
use super::mp4::{self, Track};
use super::requested::Requested;
use super::{Sink, Stop, cancel, damaged, frame_buffer, unsupported};

/// An H.264 clip in mp4 that is open for reading.
pub(super) struct Movie {
    path: PathBuf,
    track: Track,
    info: ClipInfo,
}

impl Movie {
    /// Reads the index without decoding any frame.
    pub(super) fn open(path: &Path) -> Result<Self, Stop> {
        let track = Track::open(path)?;
        // The decoder refuses unsupported streams here, before any frame is decoded.
        let mut decoder = Decoder::new();
        sequences(path, &track.header)?;
        decoder.decode(&track.header).map_err(|error| stop(path, "parameter sets", error))?;
        let [width, height] = track.orientation.turned([track.width, track.height]);
        let info = ClipInfo {
            frames: track.shown.len(),
            width,
            height,
            fps: track.fps,
            drift: track.drift,
            codec: "h264".into(),
            rotation: track.orientation.degrees(),
            mirrored: track.orientation.is_mirrored(),
            pixel_aspect: track.orientation.turned(track.pixel_aspect),
            ..ClipInfo::default()
        };
        Ok(Self { path: path.to_path_buf(), track, info })
    }

    /// Returns the clip's properties.
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
        let (stored, orientation) = ([self.track.width, self.track.height], self.track.orientation);
        let mut rgb = frame_buffer(&self.path, 1, width * height * 3)?;
        let rotated = if orientation.is_upright() { 0 } else { 1 };
        let mut stored_rgb = frame_buffer(&self.path, rotated, width * height * 3)?;
        let needed = |sample| !requested.positions(sample).is_empty();
        self.decode(first, last, needed, |sample, picture, colour| {
            let positions = requested.positions(sample);
            if positions.is_empty() {
                return Ok(());
            }
            let mut convert = |frame: &mut [u8]| {
                if orientation.is_upright() {
                    colour.to_rgb(picture, frame);
                } else {
                    colour.to_rgb(picture, &mut stored_rgb);
                    orientation.apply(&stored_rgb, stored, frame);
                }
            };
            if let Some(slot) = sink.slot(height, width, positions) {
                convert(slot);
                sink.filled(positions);
                return Ok(());
            }
            convert(&mut rgb);
            sink.take(Frame { data: &rgb, height, width, positions })
        })
    }

    /// Decodes every sample and passes each shown frame's display index and luma `[H, W]`, as stored,
    /// to `visit`.
    pub(super) fn visit_luma(&mut self, mut visit: impl FnMut(usize, &[u8])) -> Result<(), Stop> {
        let shown = Requested::new(&self.track.shown);
        let last = self.track.samples.len() - 1;
        self.decode(
            0,
            last,
            |_| true,
            |sample, picture, _| {
                for &t in shown.positions(sample) {
                    visit(t, &picture.y);
                }
                Ok(())
            },
        )
    }

    /// Decodes from a random access point at or before sample `first` up to sample `last`, and
    /// passes each picture with its sample index and colour conversion to `sink`. Pictures that are
    /// not `needed` are skipped unless others refer to them; in many clips, every second one can be
    /// skipped.
    fn decode(
        &mut self,
        first: usize,
        last: usize,
        needed: impl Fn(usize) -> bool,
        mut sink: impl FnMut(usize, &YuvFrame, Colour) -> Result<(), ClipError>,
    ) -> Result<(), Stop> {
        let path = &self.path;
        let mut decoder = Decoder::new();
        decoder.decode(&self.track.header).map_err(|error| stop(path, "parameter sets", error))?;
        let mut colour = self.track.colour;
        for sample in self.start(first)?..=last {
            if self.track.samples[sample].size == 0 {
                continue;
            }
            cancel::check(&self.path)?;
            let unit = self.track.read(sample)?;
            if unit.dispensable && !needed(sample) {
                continue;
            }
            if let Some(sps) = sequences(&self.path, &unit.bytes)? {
                colour = Colour::new(&sps, self.track.tags);
            }
            let what = format!("sample {sample}");
            let picture =
                decoder.decode(&unit.bytes).map_err(|error| stop(&self.path, &what, error))?;
            let Some(picture) = picture else {
                let reason = format!("{what} contains no picture");
                return Err(Stop::Fallback(damaged(&self.path, reason)));
            };
            self.check_size(&picture)?;
            sink(sample, &picture, colour)?;
        }
        Ok(())
    }

    /// Returns the last sample at or before `sample` from which decoding can start. Some writers
    /// wrongly mark pictures as sync samples (open groups of pictures), so the bitstream decides.
    fn start(&mut self, sample: usize) -> Result<usize, Stop> {
        for start in (1..=sample).rev() {
            if self.track.samples[start].sync && self.track.read(start)?.start {
                return Ok(start);
            }
        }
        Ok(0)
    }

    fn check_size(&self, picture: &YuvFrame) -> Result<(), Stop> {
        let (w, h) = (self.track.width, self.track.height);
        let chroma = w.div_ceil(2) * h.div_ceil(2);
        let planes =
            [(picture.y.len(), w * h), (picture.u.len(), chroma), (picture.v.len(), chroma)];
        if (picture.width, picture.height) == (w, h) && planes.iter().all(|(has, must)| has == must)
        {
            return Ok(());
        }
        let (width, height) = (picture.width, picture.height);
        let reason = format!("its size changes from {w}x{h} to {width}x{height}");
        Err(Stop::Fallback(damaged(&self.path, reason)))
    }
}

/// Checks the sequence parameter sets in an access unit and returns the last one; they may occur in
/// any sample. They are found by start codes, like in the decoder, and not among the container's
/// units, because such a unit may hide one.
fn sequences(path: &Path, unit: &[u8]) -> Result<Option<SeqParameterSet>, Stop> {
    let mut last = None;
    for nal in split_annex_b(unit) {
        if nal.first().is_some_and(|head| NalUnitType::from_id(*head) == NalUnitType::Sps) {
            mp4::check_references(path, nal)?;
            last = mp4::sequence(nal).or(last);
        }
    }
    Ok(last)
}

/// Interprets a decoder's error. The decoder also reports many forms of corruption as
/// "unsupported"; only the features listed here can occur in a valid stream.
fn stop(path: &Path, what: &str, error: DecodeError) -> Stop {
    let feature = match error {
        DecodeError::Unsupported(feature) => match feature {
            _ if feature.starts_with("interlace") => Some("interlaced H.264"),
            "non-4:2:0 chroma" => Some("H.264 that is not 4:2:0"),
            "bit depth > 8" => Some("H.264 with more than 8 bits"),
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
        None => Stop::Fallback(damaged(path, format!("{what}: {error}"))),
    }
}
