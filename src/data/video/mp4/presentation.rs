//! The container's statements about how to present a video track: edit list, orientation, pixel
//! aspect ratio and colours.

use shiguredo_mp4::Decode;
use shiguredo_mp4::boxes::{ElstBox, MvhdBox, TkhdBox};

use super::super::colour::ColourTags;
use super::super::orientation::{Matrix, Orientation};
use super::index::{Boxes, ENTRY_HEAD, child, number, whole};

/// A part of a track that is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Edit {
    /// Composition time of the part's start, in the track's ticks.
    pub start: i64,
    /// Composition time of the part's end, exclusive.
    pub end: i64,
}

/// How a track is shown.
#[derive(Debug)]
pub(super) struct Presentation {
    /// The parts that are shown, one after the other; without an edit list, the whole track.
    pub edits: Vec<Edit>,
    /// Orientation of stored frames; `None` if the angle is not a multiple of 90°.
    pub orientation: Option<Orientation>,
    /// Width and height of a stored pixel, if stated.
    pub pixel_aspect: Option<[u32; 2]>,
    pub colour: ColourTags,
    /// Whether there are samples of size 0, which stand for dropped frames.
    pub empty_samples: bool,
}

impl Presentation {
    /// Reads the presentation of the first video track from an index that
    /// [`index::read`](super::index::read) returned; `ticks` is the track's number of ticks per
    /// second.
    pub(super) fn read(index: &[u8], ticks: u64) -> Result<Self, String> {
        let (movie, track) = first_track(index)?.ok_or("no video track")?;
        let header = decoded::<MvhdBox>(movie, b"mvhd")?.ok_or("no mvhd box")?;
        let track_header = decoded::<TkhdBox>(track, b"tkhd")?.ok_or("no tkhd box")?;
        let edits = match child(track, b"edts")? {
            Some(edits) => decoded::<ElstBox>(edits, b"elst")?,
            None => None,
        };
        let matrix = Matrix::new(track_header.matrix).then(Matrix::new(header.matrix));
        let size = [track_header.width.integer, track_header.height.integer];
        let description = description(track)?.unwrap_or_default();
        Ok(Self {
            edits: shown(edits, ticks, u64::from(header.timescale.get())),
            orientation: Orientation::new(matrix),
            pixel_aspect: stated_aspect(description)?.or_else(|| implied_aspect(description, size)),
            colour: colour(description)?,
            empty_samples: empty_samples(track)?,
        })
    }
}

/// The contents of a movie box and of a track box in it.
type MovieAndTrack<'a> = (&'a [u8], &'a [u8]);

/// Returns the boxes of the first video track and its movie.
fn first_track(index: &[u8]) -> Result<Option<MovieAndTrack<'_>>, String> {
    for movie in Boxes(index) {
        let (_, movie) = movie?;
        if let Some(track) = child(movie, b"trak")? {
            return Ok(Some((movie, track)));
        }
    }
    Ok(None)
}

fn decoded<T: Decode>(body: &[u8], name: &[u8; 4]) -> Result<Option<T>, String> {
    let Some(bytes) = whole(body, name)? else { return Ok(None) };
    let (decoded, _) = T::decode(bytes)
        .map_err(|_| format!("its {} box cannot be decoded", name.escape_ascii()))?;
    Ok(Some(decoded))
}

/// Interprets an edit list (ISO/IEC 14496-12, 8.6.6) like ffmpeg: leading empty edits only delay
/// the start; an empty edit between others plays the track's first frames instead of nothing; rates
/// are ignored, so that every frame of a part is shown once.
fn shown(edits: Option<ElstBox>, ticks: u64, movie_ticks: u64) -> Vec<Edit> {
    const WHOLE: Edit = Edit { start: i64::MIN, end: i64::MAX };
    let edits = edits.map(|list| list.entries).unwrap_or_default();
    let rest = edits.iter().skip_while(|edit| edit.media_time == -1);
    let mut shown: Vec<Edit> = rest
        .map(|edit| {
            let length = u128::from(edit.edit_duration) * u128::from(ticks);
            let length = (length + u128::from(movie_ticks / 2)) / u128::from(movie_ticks);
            let length = i64::try_from(length).unwrap_or(i64::MAX);
            Edit { start: edit.media_time, end: edit.media_time.saturating_add(length) }
        })
        .collect();
    match &mut shown[..] {
        [] => return vec![WHOLE],
        // The length is not known yet because the file was meant to be continued.
        [edit] if edit.start == edit.end => edit.end = i64::MAX,
        _ => {}
    }
    shown
}

/// Returns a box of the sample table.
fn sample_table<'a>(track: &'a [u8], name: &[u8; 4]) -> Result<Option<&'a [u8]>, String> {
    let mut body = track;
    for name in [b"mdia", b"minf", b"stbl", name] {
        let Some(content) = child(body, name)? else { return Ok(None) };
        body = content;
    }
    Ok(Some(body))
}

/// Returns the first sample description, without its box header.
fn description(track: &[u8]) -> Result<Option<&[u8]>, String> {
    let Some(descriptions) = sample_table(track, b"stsd")? else { return Ok(None) };
    let first = Boxes(descriptions.get(8..).unwrap_or_default()).next().transpose()?;
    Ok(first.map(|(_, content)| content))
}

fn empty_samples(track: &[u8]) -> Result<bool, String> {
    let Some(sizes) = sample_table(track, b"stsz")? else { return Ok(false) };
    // The box contains flags, a common size, the number of samples, and their sizes.
    let each = number(sizes, 4) == Some(0);
    let mut sizes = sizes.get(12..).unwrap_or_default().chunks_exact(4);
    Ok(each && sizes.any(|size| size == [0; 4]))
}

/// Returns a box within a sample description.
fn extension<'a>(description: &'a [u8], name: &[u8; 4]) -> Result<Option<&'a [u8]>, String> {
    child(description.get(ENTRY_HEAD - 8..).unwrap_or_default(), name)
}

fn stated_aspect(description: &[u8]) -> Result<Option<[u32; 2]>, String> {
    let aspect = extension(description, b"pasp")?;
    Ok(aspect.and_then(|aspect| Some([number(aspect, 0)?, number(aspect, 4)?])))
}

/// Returns the pixel aspect ratio at which a stored frame fills the size in the track header, which
/// is how QuickTime states it.
fn implied_aspect(description: &[u8], shown: [i16; 2]) -> Option<[u32; 2]> {
    let stored = number(description, 24)?;
    let (width, height) = (stored >> 16, stored & 0xFFFF);
    let [across, down] = shown.map(|side| u32::from(side.cast_unsigned()));
    let stated = [width, height, across, down].iter().all(|side| *side > 0);
    (stated && [width, height] != [across, down]).then_some([height * across, width * down])
}

/// Reads a `colr` box of type "nclx", or of QuickTime's type "nclc", which has no range.
fn colour(description: &[u8]) -> Result<ColourTags, String> {
    let Some(colour) = extension(description, b"colr")? else { return Ok(ColourTags::default()) };
    let matrix = colour.get(8..10).map(|bytes| u16::from_be_bytes([bytes[0], bytes[1]]));
    Ok(match colour.get(..4) {
        Some(b"nclx") => {
            ColourTags { matrix, full_range: colour.get(10).map(|flags| flags & 0x80 != 0) }
        }
        Some(b"nclc") => ColourTags { matrix, full_range: None },
        _ => ColourTags::default(),
    })
}
