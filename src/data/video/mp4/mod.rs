//! Demuxes mp4: reads the offsets and display times of the samples of the first video track, and
//! the decoder configuration. All numbers come from the file, so all of them are checked.

mod index;
mod order;
mod parameters;
mod presentation;
mod timeline;

use std::fs::File;
use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use mp4parse::unstable::{CheckedInteger, create_sample_table};
use mp4parse::{MediaContext, TrackType};
use shiguredo_mp4::bitstream::h264::{self, H264NalUnit, H264NalUnitType, LengthSize};

use super::super::clip::ClipError;
use super::colour::{Colour, ColourTags};
use super::orientation::Orientation;
use super::resolve::has_clip_extension;
use super::{Stop, damaged, lowest_terms, unreadable, unsupported};
use order::PictureOrder;
use parameters::AvcConfiguration;
pub(super) use parameters::{check_references, sequence};
use presentation::Presentation;
use timeline::{Time, Timeline};

/// Maximum size of a sample, bytes; typical samples have a few kilobytes.
const MAX_SAMPLE: u64 = 16 << 20;

/// Maximum number of samples of a clip: two days of video, or a few hundred megabytes of tables.
const MAX_SAMPLES: u64 = 1 << 22;

/// One coded picture.
pub(super) struct Sample {
    start: u64,
    /// Size in bytes; 0 for a dropped frame.
    pub size: u64,
    /// Whether the container marks it as a sync sample, from which decoding can start.
    pub sync: bool,
}

/// The content of a sample.
pub(super) struct AccessUnit {
    /// The NAL units, with start codes.
    pub bytes: Vec<u8>,
    /// Whether decoding can start here.
    pub start: bool,
    /// Whether no other picture refers to this one, so that skipping it does not affect the
    /// decoder's state.
    pub dispensable: bool,
}

/// The H.264 track of an mp4 file.
pub(super) struct Track {
    path: PathBuf,
    file: File,
    length_size: LengthSize,
    /// The samples in decoding order.
    pub samples: Vec<Sample>,
    /// Indices into `samples` in display order; the edit list may leave out some and repeat others.
    pub shown: Vec<usize>,
    /// Parameter sets with start codes, to be decoded before the first sample.
    pub header: Vec<u8>,
    /// Width of a stored frame after cropping, pixels.
    pub width: usize,
    /// Height of a stored frame after cropping, pixels.
    pub height: usize,
    /// Frames per second, on average.
    pub fps: f64,
    /// Largest deviation of a frame's time from its time at a constant `fps`, seconds.
    pub drift: f64,
    /// Transformation that makes stored frames upright.
    pub orientation: Orientation,
    /// Width and height of a stored pixel in lowest terms.
    pub pixel_aspect: [u32; 2],
    /// Colour conversion according to the container and the first parameter set.
    pub colour: Colour,
    /// The container's own statements about colours.
    pub tags: ColourTags,
}

impl Track {
    /// Reads the index of a file.
    pub(super) fn open(path: &Path) -> Result<Self, Stop> {
        let mut file = File::open(path).map_err(|e| unreadable(path, &e))?;
        let length = file.metadata().map_err(|e| unreadable(path, &e))?.len();
        if length == 0 {
            return Err(ClipError::Empty(path.to_path_buf()).into());
        }
        sniff(path, &mut file)?;
        let broken = |what: &str| Stop::Fallback(damaged(path, what));
        let index = index::read(path, &mut file, length)?;
        let context = mp4parse::read_mp4(&mut &index[..]).map_err(|error| {
            // The parser is strict; ffmpeg may still be able to read the file.
            log::debug!("{}: {error:?}", path.display());
            broken("no usable index: is the file complete?")
        })?;
        let track = video_track(path, &context)?;
        let codec = AvcConfiguration::read(path, &index, track)?;
        let ticks = track.timescale.map_or(0, |scale| scale.0);
        let presentation = Presentation::read(&index, ticks)
            .map_err(|what| broken(&format!("no usable index ({what})")))?;
        let orientation = presentation.orientation.ok_or_else(|| {
            Stop::Fallback(unsupported(path, "rotation by an angle that is not a multiple of 90°"))
        })?;

        let timed = track.ctts.is_some();
        let (samples, mut times) = sample_table(path, track, length)?;
        if samples.is_empty() {
            // Fragmented files store their index elsewhere, where the parser does not read it.
            return Err(Stop::Fallback(unsupported(path, "fragmented mp4")));
        }
        let AvcConfiguration { length_size, sets, sps, width, height } = codec;
        let vui = sps.vui_parameters.as_ref().and_then(|vui| vui.aspect_ratio_info.as_ref());
        let coded_aspect = vui.and_then(|aspect| aspect.get()).map(|(x, y)| [x.into(), y.into()]);
        let mut track = Self {
            path: path.to_path_buf(),
            file,
            length_size,
            samples,
            shown: Vec::new(),
            header: Vec::new(),
            width,
            height,
            fps: 25.0,
            drift: 0.0,
            orientation,
            pixel_aspect: lowest_terms(
                presentation.pixel_aspect.or(coded_aspect).unwrap_or([1, 1]),
            ),
            colour: Colour::new(&sps, presentation.colour),
            tags: presentation.colour,
        };
        for set in &sets {
            push_nal(&mut track.header, set);
        }
        let reordered = !timed && order::may_differ(&sps);
        if reordered || presentation.empty_samples {
            track.count_pictures(&mut times, &sets, reordered)?;
        }
        let timeline = Timeline::new(times, &presentation.edits, ticks as f64, MAX_SAMPLES);
        Timeline { shown: track.shown, fps: track.fps, drift: track.drift } =
            timeline.map_err(broken)?;
        track.starts_with_key_frame()?;
        Ok(track)
    }

    /// Reads the display order of pictures from the stream if `reordered`: without composition
    /// times, the container only states when a sample is decoded. Also detects whether an empty
    /// sample stands for a picture that others need.
    fn count_pictures(
        &mut self,
        times: &mut [Time],
        sets: &[Vec<u8>],
        reordered: bool,
    ) -> Result<(), Stop> {
        let path = self.path.clone();
        let other = |what| Stop::Fallback(unsupported(&path, what));
        let sets = sets.iter().map(Vec::as_slice);
        let mut pictures = PictureOrder::new(sets).map_err(other)?;
        for time in times {
            let bytes = self.bytes(time.sample)?;
            let mut position = None;
            for nal in self.units(time.sample, &bytes)? {
                position = pictures.unit(nal.data).map_err(other)?;
                if position.is_some() {
                    break;
                }
            }
            let position = position.ok_or_else(|| other("H.264 samples without a picture"))?;
            if reordered {
                time.order = position;
            }
        }
        Ok(())
    }

    /// Leaves clips that do not start with a key frame to ffmpeg. A recording that was cut between
    /// key frames begins with frames that cannot be decoded, and ffmpeg decides which of them it
    /// shows nevertheless.
    fn starts_with_key_frame(&mut self) -> Result<(), Stop> {
        let first = self.samples.iter().position(|sample| sample.size > 0);
        let first = first.ok_or_else(|| damaged(&self.path, "all of its samples are empty"))?;
        if self.read(first)?.start {
            return Ok(());
        }
        Err(Stop::Fallback(unsupported(&self.path, "H.264 that does not start with a key frame")))
    }

    /// Reads the sample at `index`.
    pub(super) fn read(&mut self, index: usize) -> Result<AccessUnit, Stop> {
        let bytes = self.bytes(index)?;
        let nals = self.units(index, &bytes)?;
        let mut unit = AccessUnit {
            bytes: Vec::with_capacity(bytes.len() + 4 * nals.len()),
            start: nals.iter().any(|nal| nal.nal_unit_type == H264NalUnitType::IdrSlice),
            dispensable: dispensable(&nals),
        };
        for nal in &nals {
            push_nal(&mut unit.bytes, nal.data);
        }
        Ok(unit)
    }

    /// Reads the content of a sample.
    fn bytes(&mut self, index: usize) -> Result<Vec<u8>, Stop> {
        let Self { path, file, .. } = self;
        let bad = |what: &str| Stop::Fallback(damaged(path, format!("sample {index} {what}")));
        let sample = self.samples.get(index).ok_or_else(|| bad("is not in the index"))?;
        // The size is at most `MAX_SAMPLE` and the file's length. A buffer that grows while reading
        // would take seven reads.
        let mut bytes = vec![0; sample.size as usize];
        file.seek(SeekFrom::Start(sample.start)).map_err(|e| unreadable(path, &e))?;
        file.read_exact(&mut bytes).map_err(|error| match error.kind() {
            ErrorKind::UnexpectedEof => bad("ends outside the file"),
            _ => unreadable(path, &error).into(),
        })?;
        Ok(bytes)
    }

    /// Splits a sample's content into its units.
    fn units<'a>(&self, index: usize, bytes: &'a [u8]) -> Result<Vec<H264NalUnit<'a>>, Stop> {
        h264::parse_length_prefixed_nal_units(bytes, self.length_size).map_err(|_| {
            let reason = format!("sample {index} is not a list of H.264 units");
            Stop::Fallback(damaged(&self.path, reason))
        })
    }
}

/// Returns whether these are slices to which nothing refers (nal_ref_idc 0), without parameter
/// sets, which later pictures need. Anything unusual counts as needed.
fn dispensable(nals: &[H264NalUnit<'_>]) -> bool {
    let slice = |nal: &H264NalUnit| nal.nal_unit_type == H264NalUnitType::NonIdrSlice;
    let free = |nal: &H264NalUnit| match nal.nal_unit_type {
        H264NalUnitType::NonIdrSlice => nal.data.first().is_some_and(|head| head & 0x60 == 0),
        H264NalUnitType::Sei | H264NalUnitType::Aud => true,
        _ => false,
    };
    nals.iter().any(slice) && nals.iter().all(free)
}

/// Checks the first bytes: other containers are left to ffmpeg. Without ffmpeg, a file with a video
/// extension but an unknown beginning counts as damaged.
fn sniff(path: &Path, file: &mut File) -> Result<(), Stop> {
    let mut head = Vec::new();
    file.by_ref().take(12).read_to_end(&mut head).map_err(|e| unreadable(path, &e))?;
    file.rewind().map_err(|e| unreadable(path, &e))?;
    const BOXES: [&[u8]; 9] =
        [b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"pnot", b"uuid", b"styp"];
    if head.get(4..8).is_some_and(|name| BOXES.contains(&name)) {
        return Ok(());
    }
    let container = match (head.get(..4), head.get(8..12)) {
        (Some([0x1A, 0x45, 0xDF, 0xA3]), _) => "a Matroska or WebM file",
        (Some(b"RIFF"), Some(b"AVI ")) => "an AVI file",
        _ if head.first() == Some(&0x47) => "an MPEG transport stream",
        (Some([0, 0, 1, 0xBA]), _) => "an MPEG program stream",
        _ => {
            return Err(Stop::Fallback(if has_clip_extension(path) {
                damaged(path, "it does not begin like a video file")
            } else {
                unsupported(path, "this container")
            }));
        }
    };
    Err(Stop::Fallback(unsupported(path, container)))
}

/// An mp4 file's statements about its first video track, regardless of the codec.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Statement {
    /// Degrees clockwise by which frames are rotated.
    pub rotation: u32,
    /// Whether frames are mirrored top to bottom before the rotation.
    pub mirrored: bool,
    /// Whether samples are not simply decoded one after the other: several edits, or empty samples.
    pub spliced: bool,
}

/// Reads the [`Statement`] of a file; the default if it is not an mp4 file or its index is broken.
pub(super) fn statement(path: &Path) -> Statement {
    let read = || -> Result<Statement, Stop> {
        let mut file = File::open(path).map_err(|e| unreadable(path, &e))?;
        let length = file.metadata().map_err(|e| unreadable(path, &e))?.len();
        sniff(path, &mut file)?;
        let index = index::read(path, &mut file, length)?;
        // Times do not matter here.
        let presentation = Presentation::read(&index, 1).map_err(|what| damaged(path, what))?;
        let orientation = presentation.orientation.unwrap_or_default();
        Ok(Statement {
            rotation: orientation.degrees(),
            mirrored: orientation.is_mirrored(),
            spliced: presentation.edits.len() > 1 || presentation.empty_samples,
        })
    };
    read().unwrap_or_default()
}

fn video_track<'a>(
    path: &Path,
    context: &'a MediaContext,
) -> Result<&'a mp4parse::Track, ClipError> {
    let track = context.tracks.iter().find(|track| track.track_type == TrackType::Video);
    track.ok_or_else(|| ClipError::NoVideo(path.to_path_buf()))
}

/// Appends a unit with its start code.
fn push_nal(unit: &mut Vec<u8>, nal: &[u8]) {
    unit.extend_from_slice(&[0, 0, 0, 1]);
    unit.extend_from_slice(nal);
}

/// Returns the samples, and the display times of those that are not empty.
fn sample_table(
    path: &Path,
    track: &mp4parse::Track,
    length: u64,
) -> Result<(Vec<Sample>, Vec<Time>), Stop> {
    let damaged = |reason: String| Stop::Fallback(damaged(path, reason));
    // The table is built before its sizes are checked, so its length is checked against the file's
    // first.
    let holds = track.stsz.as_ref().map_or(0, |stsz| match stsz.sample_size {
        0 => stsz.sample_sizes.len() as u64,
        size => length / u64::from(size),
    });
    if named_samples(track) > holds.min(MAX_SAMPLES) {
        return Err(damaged("its index names more samples than the file holds".into()));
    }
    let table = create_sample_table(track, CheckedInteger(0))
        .ok_or_else(|| damaged("its sample index is broken".into()))?;
    let mut samples = Vec::with_capacity(table.len());
    let mut times = Vec::with_capacity(table.len());
    let mut left = length;
    for (index, row) in table.iter().enumerate() {
        let (start, end) = (row.start_offset.0, row.end_offset.0);
        let size = end.checked_sub(start).filter(|&size| size <= MAX_SAMPLE && end <= length);
        let size = size.ok_or_else(|| damaged(format!("sample {index} lies outside the file")))?;
        // Samples that share their bytes would let a small file cause any amount of work.
        left = left
            .checked_sub(size)
            .ok_or_else(|| damaged("its samples are larger than the file".into()))?;
        samples.push(Sample { start, size, sync: row.sync });
        // An empty sample stands for a dropped frame.
        if size > 0 {
            let (start, end) = (row.start_composition.0, row.end_composition.0);
            let decoded = row.start_decode.0;
            let order = (0, start);
            times.push(Time { start, end, decoded, order, sample: index });
        }
    }
    Ok((samples, times))
}

/// Returns the number of samples according to the chunk table, which consists of runs of chunks:
/// each run extends to the next run's first chunk, the last one to the end.
fn named_samples(track: &mp4parse::Track) -> u64 {
    let (Some(stsc), Some(stco)) = (&track.stsc, &track.stco) else {
        return 0;
    };
    let mut left = stco.offsets.len() as u64;
    let mut total = 0u64;
    for (i, run) in stsc.samples.iter().enumerate() {
        let chunks = stsc.samples.get(i + 1).map_or(left, |next| {
            u64::from(next.first_chunk).saturating_sub(u64::from(run.first_chunk))
        });
        left = left.saturating_sub(chunks);
        total = total.saturating_add(chunks.saturating_mul(u64::from(run.samples_per_chunk)));
    }
    total
}
