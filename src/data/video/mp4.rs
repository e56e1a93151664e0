//! Demuxing mp4: offsets and display times of the samples of the first video track, and the decoder's
//! configuration. Every number comes from the file, so every one is checked.

use std::fs::File;
use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use mp4parse::unstable::{CheckedInteger, create_sample_table};
use mp4parse::{CodecType, MediaContext, SampleEntry, TrackType, VideoCodecSpecific};
use shiguredo_mp4::Decode;
use shiguredo_mp4::bitstream::h264::{self, H264NalUnit, H264NalUnitType, LengthSize};
use shiguredo_mp4::boxes::AvccBox;

use super::super::clip::ClipError;
use super::{Stop, damaged, index, unreadable, unsupported};

/// Maximum size of a sample, bytes; typical ones have some kilobytes.
const MAX_SAMPLE: u64 = 16 << 20;

/// Maximum number of samples of a clip: two days of video, or some hundred megabytes of tables.
const MAX_SAMPLES: u64 = 1 << 22;

/// One coded picture.
pub(super) struct Sample {
    start: u64,
    size: u64,
    /// Whether the container marks it as a sync sample, from which decoding can start.
    pub sync: bool,
}

/// The content of a sample.
pub(super) struct AccessUnit {
    /// Its NAL units with start codes.
    pub bytes: Vec<u8>,
    /// Whether decoding can start here.
    pub start: bool,
    /// Whether no other picture refers to this one: the decoder is in the same state without it.
    pub dispensable: bool,
}

/// The H.264 track of an mp4 file.
pub(super) struct Track {
    path: PathBuf,
    file: File,
    length_size: LengthSize,
    /// In decoding order.
    pub samples: Vec<Sample>,
    /// Indices into `samples` in display order, without what the edit list cuts.
    pub shown: Vec<usize>,
    /// Parameter sets with start codes, to be decoded before the first sample.
    pub header: Vec<u8>,
    /// Pixels after cropping.
    pub width: usize,
    /// Pixels after cropping.
    pub height: usize,
    /// Frames per second, on average.
    pub fps: f64,
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
        let index = index::read(path, &mut file, length)?;
        let context = mp4parse::read_mp4(&mut &index[..]).map_err(|error| {
            // The parser is strict; ffmpeg may still make sense of the file.
            Stop::Fallback(damaged(path, format!("no usable index ({error:?}), truncated?")))
        })?;
        let track = video_track(path, &context)?;
        let codec = configuration(path, &index, track)?;

        let (samples, times) = sample_table(path, track, length)?;
        if samples.is_empty() {
            // Fragmented files have their index elsewhere, which the parser does not read.
            return Err(Stop::Fallback(unsupported(path, "fragmented mp4")));
        }
        let range = edit(&context, track);
        let mut shown: Vec<usize> =
            (0..samples.len()).filter(|&i| times[i].0 >= range.0 && times[i].0 < range.1).collect();
        shown.sort_by_key(|&i| times[i].0);
        if shown.is_empty() {
            return Err(damaged(path, "its edit list shows no frame").into());
        }
        let rate = track.timescale.map_or(0, |scale| scale.0) as f64;
        let fps = frame_rate(rate, &shown, &times);
        let AvcConfiguration { length_size, header, width, height } = codec;
        let path = path.to_path_buf();
        Ok(Self { path, file, length_size, samples, shown, header, width, height, fps })
    }

    /// The sample at `index`.
    pub(super) fn read(&mut self, index: usize) -> Result<AccessUnit, ClipError> {
        let Self { path, file, .. } = self;
        let bad = |what: &str| damaged(path, format!("sample {index} {what}"));
        let sample = self.samples.get(index).ok_or_else(|| bad("is not in the index"))?;
        // At most `MAX_SAMPLE` and the file's length; growing while reading would take seven reads.
        let mut bytes = vec![0; sample.size as usize];
        file.seek(SeekFrom::Start(sample.start)).map_err(|e| unreadable(path, &e))?;
        file.read_exact(&mut bytes).map_err(|error| match error.kind() {
            ErrorKind::UnexpectedEof => bad("ends outside the file"),
            _ => unreadable(path, &error),
        })?;
        let nals = h264::parse_length_prefixed_nal_units(&bytes, self.length_size)
            .map_err(|_| bad("is not a list of H.264 units"))?;
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
}

/// Whether these are slices that nothing refers to (nal_ref_idc 0), without parameter sets, which later
/// pictures would miss. Anything unusual counts as needed.
fn dispensable(nals: &[H264NalUnit<'_>]) -> bool {
    let slice = |nal: &H264NalUnit| nal.nal_unit_type == H264NalUnitType::NonIdrSlice;
    let free = |nal: &H264NalUnit| match nal.nal_unit_type {
        H264NalUnitType::NonIdrSlice => nal.data.first().is_some_and(|head| head & 0x60 == 0),
        H264NalUnitType::Sei | H264NalUnitType::Aud => true,
        _ => false,
    };
    nals.iter().any(slice) && nals.iter().all(free)
}

/// Checks the first bytes: other containers are left to ffmpeg, and a file with a video extension that
/// begins like none of them is damaged.
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
        _ => {
            let extension = path.extension().map(|extension| extension.to_ascii_lowercase());
            let known = ["mp4", "mov", "mkv", "avi", "webm"];
            if extension.is_some_and(|extension| known.iter().any(|known| extension == *known)) {
                return Err(damaged(path, "it does not begin like a video file").into());
            }
            "this container"
        }
    };
    Err(Stop::Fallback(unsupported(path, container)))
}

fn video_track<'a>(
    path: &Path,
    context: &'a MediaContext,
) -> Result<&'a mp4parse::Track, ClipError> {
    let track = context.tracks.iter().find(|track| track.track_type == TrackType::Video);
    track.ok_or_else(|| ClipError::NoVideo(path.to_path_buf()))
}

struct AvcConfiguration {
    length_size: LengthSize,
    header: Vec<u8>,
    width: usize,
    height: usize,
}

/// The decoder's configuration; an error names a codec other than H.264.
fn configuration(
    path: &Path,
    index: &[u8],
    track: &mp4parse::Track,
) -> Result<AvcConfiguration, Stop> {
    let other = |what: &str| Stop::Fallback(unsupported(path, what));
    let entries = track.stsd.as_ref().map_or(&[][..], |stsd| &stsd.descriptions);
    let [SampleEntry::Video(entry)] = entries else {
        return Err(match entries.len() {
            0 | 1 => other(codec_name(index)),
            _ => other("a track of several sample descriptions"),
        });
    };
    let avcc = match (&entry.codec_type, &entry.codec_specific) {
        (CodecType::H264, VideoCodecSpecific::AVCConfig(avcc)) => avcc,
        (CodecType::EncryptedVideo, _) => return Err(other("encrypted video")),
        (codec, _) => return Err(other(&format!("{codec:?}").to_lowercase())),
    };
    // The box decoder needs the header that the parser removed.
    let size = u32::try_from(avcc.len()).ok().and_then(|len| len.checked_add(8));
    let size = size.ok_or_else(|| damaged(path, "its avcC box is too long"))?;
    let boxed = [&size.to_be_bytes()[..], b"avcC", avcc].concat();
    let (avcc, _) = AvccBox::decode(&boxed)
        .map_err(|_| damaged(path, "its H.264 configuration (avcC) is broken"))?;
    let length_size = match avcc.length_size_minus_one.get() {
        0 => LengthSize::OneByte,
        1 => LengthSize::TwoBytes,
        3 => LengthSize::FourBytes,
        _ => return Err(damaged(path, "its avcC box specifies 3-byte lengths").into()),
    };
    let Some(first) = avcc.sps_list.first() else {
        return Err(other("H.264 without parameter sets in the index"));
    };
    let sps = h264::parse_sps(first)
        .map_err(|_| damaged(path, "its H.264 sequence parameters are broken"))?;
    if sps.chroma_format_idc != 1 {
        return Err(other("H.264 that is not 4:2:0"));
    }
    if sps.bit_depth_luma_minus8 != 0 || sps.bit_depth_chroma_minus8 != 0 {
        return Err(other("H.264 of more than 8 bits"));
    }
    let mut header = Vec::new();
    for nal in avcc.sps_list.iter().chain(&avcc.pps_list) {
        push_nal(&mut header, nal);
    }
    let (width, height) = (usize::from(sps.width), usize::from(sps.height));
    Ok(AvcConfiguration { length_size, header, width, height })
}

/// Appends a unit with its start code.
fn push_nal(unit: &mut Vec<u8>, nal: &[u8]) {
    unit.extend_from_slice(&[0, 0, 0, 1]);
    unit.extend_from_slice(nal);
}

/// The name of a codec that the parser does not know, for the message only: from the four-character
/// code of the sample description.
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

type Times = Vec<(i64, i64)>;

/// The samples and the display time of each: start and end in the track's ticks.
fn sample_table(
    path: &Path,
    track: &mp4parse::Track,
    length: u64,
) -> Result<(Vec<Sample>, Times), ClipError> {
    // The table is built before its sizes are checked, so its length is bounded by the file's first.
    let holds = track.stsz.as_ref().map_or(0, |stsz| match stsz.sample_size {
        0 => stsz.sample_sizes.len() as u64,
        size => length / u64::from(size),
    });
    if named_samples(track) > holds.min(MAX_SAMPLES) {
        return Err(damaged(path, "its index names more samples than the file holds"));
    }
    let table = create_sample_table(track, CheckedInteger(0))
        .ok_or_else(|| damaged(path, "its sample index is broken"))?;
    let mut samples = Vec::with_capacity(table.len());
    let mut times = Vec::with_capacity(table.len());
    let mut left = length;
    for (index, row) in table.iter().enumerate() {
        let (start, end) = (row.start_offset.0, row.end_offset.0);
        let size = end.checked_sub(start).filter(|&size| size <= MAX_SAMPLE && end <= length);
        let size =
            size.ok_or_else(|| damaged(path, format!("sample {index} lies outside the file")))?;
        // Samples that share their bytes would let a small file cause any amount of work.
        left = left
            .checked_sub(size)
            .ok_or_else(|| damaged(path, "its samples are larger than the file"))?;
        samples.push(Sample { start, size, sync: row.sync });
        times.push((row.start_composition.0, row.end_composition.0));
    }
    Ok((samples, times))
}

/// The number of samples in the chunk table: runs of chunks, each up to the next run's first chunk,
/// the last one up to the end.
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

/// The part of the track that is shown, in its ticks: start and exclusive end.
fn edit(context: &MediaContext, track: &mp4parse::Track) -> (i64, i64) {
    let Some(start) = track.media_time else {
        return (i64::MIN, i64::MAX);
    };
    let start = i64::try_from(start.0).unwrap_or(i64::MAX);
    // The edit's length is in the movie's ticks, the samples are in the track's.
    let length = match (track.edited_duration, track.timescale, context.timescale) {
        (Some(length), Some(ours), Some(movie)) if length.0 > 0 && movie.0 > 0 => {
            (u128::from(length.0) * u128::from(ours.0)).div_ceil(u128::from(movie.0))
        }
        _ => u128::MAX,
    };
    (start, start.saturating_add(i64::try_from(length).unwrap_or(i64::MAX)))
}

/// Frames per second between the first and the last shown frame; 25 if the file has no usable times.
fn frame_rate(ticks: f64, shown: &[usize], times: &[(i64, i64)]) -> f64 {
    let (Some(&first), Some(&last)) = (shown.first(), shown.last()) else {
        return 25.0;
    };
    let span = |from: i64, to: i64| to as f64 - from as f64;
    let (frames, span) = match shown.len() {
        1 => (1.0, span(times[first].0, times[first].1)),
        n => (n as f64 - 1.0, span(times[first].0, times[last].0)),
    };
    let fps = frames * ticks / span;
    if fps.is_finite() && fps > 0.0 { fps } else { 25.0 }
}
