//! Decodes clips that are not decoded in process, with an `ffmpeg` program from the PATH.
//!
//! The program runs three times per clip: once to decode and list every frame, which is the only
//! way to find their number and times and whether they are intact; once to list the first packet as
//! stored; and once to deliver raw RGB up to the last requested frame. The results of the first two
//! runs are remembered. Facts are taken from machine-readable formats, never from the wording of
//! the log. Nothing is ever downloaded, and `ffprobe` is not needed.
//!
//! Frames are upright, have the first frame's size if the size changes, and are converted to RGB
//! with the matrix and range that the stream states.

mod container;
mod listing;
mod memory;
mod program;
mod rate;
mod run;

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use super::super::clip::{ClipError, ClipInfo, Frame};
use super::requested::Requested;
use super::{Sink, cancel, damaged, frame_buffer, lowest_terms, unreadable};
use container::is_recording;
use listing::Listing;
use memory::Entry;
use program::{Unusable, each_frame};
use run::{Ended, Run, command};

/// Options that list packets on standard output.
const LIST: [&str; 3] = ["-f", "framecrc", "-"];

/// Options for the first packet as stored, even if decoding cannot start there.
const FIRST_STORED: [&str; 7] = ["-map", "0:V:0", "-c", "copy", "-copyinkf", "-frames:v", "1"];

/// Options that convert the chroma of interlaced frames per field. By default, frames are converted
/// as if they were progressive.
const BY_FIELD: [&str; 2] = ["-vf", "scale=interl=-1"];

/// Maximum width and height of a frame.
const MAX_SIDE: usize = 1 << 16;

/// Maximum number of pixels of a frame, twice that of 8K: a small file could require gigabytes of
/// memory.
const MAX_PIXELS: &str = "67108864";

/// Decodes the whole clip and returns its properties. `refused` is returned as the error if there
/// is no ffmpeg, and also if both our own reader and ffmpeg find the clip damaged.
///
/// # Errors
/// [`ClipError::Damaged`] if ffmpeg fails or reports an error. In a recording without an index, in
/// a `spliced` track and in a stream that begins between key frames, errors are to be expected:
/// then the first one becomes the clip's complaint. [`ClipError::Ffmpeg`] if the program does not
/// work or cannot open the file.
pub(super) fn probe(path: &Path, refused: ClipError, spliced: bool) -> Result<ClipInfo, ClipError> {
    let entry = Entry::of(path);
    if let Some(info) = entry.as_ref().and_then(Entry::recall) {
        return Ok(info);
    }
    let each_frame = match each_frame() {
        Ok(options) => options,
        Err(Unusable::Missing) => return Err(refused),
        Err(Unusable::Broken(reason)) => return Err(unusable(path, reason)),
    };
    log::debug!("{}: decoded by ffmpeg", path.display());
    let info = examine(path, &each_frame, spliced).map_err(|error| match (&error, &refused) {
        // A broken index hides tracks, among other things: the error of the reader that parsed it
        // is more precise.
        (ClipError::Damaged { .. } | ClipError::NoVideo(_), ClipError::Damaged { .. }) => refused,
        _ => error,
    })?;
    // The listing of a cancelled run could be mistaken for a complete one.
    cancel::check(path)?;
    if let Some(complaint) = &info.complaint {
        log::debug!("{}: {complaint}", path.display());
    }
    if let Some(entry) = entry {
        entry.store(info.clone());
    }
    Ok(info)
}

/// Passes the requested frames of a probed clip to `sink`.
pub(super) fn read(
    path: &Path,
    info: &ClipInfo,
    frames: &[usize],
    sink: &mut dyn Sink,
) -> Result<(), ClipError> {
    let requested = Requested::new(frames);
    let Some((_, last)) = requested.ends() else {
        return Ok(());
    };
    let each_frame = each_frame().map_err(|why| match why {
        Unusable::Missing => unusable(path, "it is no longer on the PATH"),
        Unusable::Broken(reason) => unusable(path, reason),
    })?;
    let mut frame = frame_buffer(path, 1, info.width * info.height * 3)?;
    let count = (last + 1).to_string();
    let mut options = each_frame.to_vec();
    options.extend(["-map", "0:V:0", "-frames:v", &count]);
    options.extend(BY_FIELD);
    options.extend(["-pix_fmt", "rgb24", "-f", "rawvideo", "-"]);
    let mut run = start(path, &[], &options)?;
    let mut pixels = run.output();
    let mut delivered = 0;
    while delivered <= last && pixels.as_mut().is_some_and(|p| p.read_exact(&mut frame).is_ok()) {
        let positions = requested.positions(delivered);
        if !positions.is_empty() {
            sink.take(Frame { data: &frame, height: info.height, width: info.width, positions })?;
        }
        delivered += 1;
    }
    // More data than requested would mean that frames have another size.
    let ended_there = pixels.is_some_and(|mut p| matches!(p.read(&mut [0]), Ok(0)));
    let ended = run.end().map_err(|error| unreadable(path, &error))?;
    if delivered > last && ended_there && ended.status.success() {
        return Ok(());
    }
    memory::forget(path);
    killed(path, &ended)?;
    let count = format!("it delivered {delivered} of {} frames", info.frames);
    let reason = ended.log.first().filter(|_| !ended.status.success()).unwrap_or(&count);
    Err(damaged(path, says(path, reason)))
}

/// Returns the properties of a clip that ffmpeg decodes.
fn examine(path: &Path, each_frame: &[&str], spliced: bool) -> Result<ClipInfo, ClipError> {
    let options = [each_frame, &["-map", "0:V:0"], &LIST].concat();
    let (frames, ended) = list(path, &[], &options)?;
    let (width, height) = frames.size;
    if !ended.status.success() || frames.stamps.is_empty() {
        return Err(failure(path, &ended));
    }
    let usable = 1..=MAX_SIDE;
    if !usable.contains(&width) || !usable.contains(&height) || frames.endless {
        let count = frames.stamps.len();
        return Err(damaged(path, format!("{count} frames of {width}x{height} are too many")));
    }
    let (stored, _) = list(path, &[], &[&FIRST_STORED[..], &LIST].concat())?;
    let recording = is_recording(path);
    let key = stored.first.as_ref().is_none_or(|packet| packet.key);
    let complaint = complaint(path, &ended, recording || spliced || !key)?;
    let length = stored.first.as_ref().map_or(0.0, |packet| packet.duration as f64 * stored.tick);
    let fps = rate::frame_rate(&frames.stamps, frames.tick, recording)
        .or_else(|| rate::usable(1.0 / length).filter(|_| frames.stamps.len() == 1));
    // The time stamps of a recording may restart.
    let times = frames.stamps.iter().enumerate().filter(|_| !recording);
    let times = times.filter_map(|(frame, stamp)| Some((frame, (*stamp)? as f64 * frames.tick)));
    Ok(ClipInfo {
        frames: frames.stamps.len(),
        width,
        height,
        fps: fps.unwrap_or(ClipInfo::default().fps),
        drift: fps.map_or(0.0, |fps| ClipInfo::drift(fps, times)),
        rotation: rotation(path, &frames, &stored, each_frame)?,
        mirrored: false,
        pixel_aspect: lowest_terms(frames.pixel_aspect),
        codec: stored.codec,
        complaint,
    })
}

/// Evaluates the errors in the decoding log: if `tolerated`, the first one is returned, otherwise
/// the clip is damaged.
fn complaint(path: &Path, ended: &Ended, tolerated: bool) -> Result<Option<String>, ClipError> {
    let log = &ended.log;
    let Some(first) = log.first().filter(|_| log.count > 0) else {
        return Ok(None);
    };
    if tolerated {
        let rest = if log.count > 1 { format!(" ({} errors)", log.count) } else { String::new() };
        return Ok(Some(says(path, first) + &rest));
    }
    // Without any output, ffmpeg opens the file and then refuses to run; errors that it reports
    // until then may concern tracks that are not used.
    let opening = start(path, &[], &[])?.end().map_err(|error| unreadable(path, &error))?;
    match log.first_beyond(&opening.log) {
        Some(fault) => Err(damaged(path, says(path, fault))),
        None => Ok(None),
    }
}

/// Determines why no frame was decoded or ffmpeg failed.
fn failure(path: &Path, ended: &Ended) -> ClipError {
    if let Err(error) = killed(path, ended) {
        return error;
    }
    if ended.log.first().is_some_and(|said| said.contains("not on whitelist")) {
        let reason = "not a supported format: playlists, for example, refer to other files";
        return damaged(path, reason);
    }
    let find = || {
        if let Err(error) = File::open(path) {
            return Err(unreadable(path, &error));
        }
        // As raw data, every file that can be opened can be listed.
        let bytes = ["-map", "0", "-c", "copy", "-frames:d", "1"];
        let (content, opened) = list(path, &["-f", "data"], &[&bytes[..], &LIST].concat())?;
        if content.stamps.is_empty() {
            let said = opened.log.first().unwrap_or("no reason given");
            let reason = format!(
                "it cannot open the file, although other programs can ({}); a snap or flatpak can \
                 only access some folders",
                without_path(path, said)
            );
            return Err(unusable(path, reason));
        }
        if no_video(path)? {
            return Err(ClipError::NoVideo(path.to_path_buf()));
        }
        Ok(())
    };
    match find() {
        Err(error) => error,
        Ok(()) => {
            damaged(path, says(path, ended.log.first().unwrap_or("no frame could be decoded")))
        }
    }
}

/// Returns whether the file can be opened but has no video.
fn no_video(path: &Path) -> Result<bool, ClipError> {
    let (stored, _) = list(path, &[], &[&FIRST_STORED[..], &LIST].concat())?;
    if !stored.codec.is_empty() {
        return Ok(false);
    }
    // A file's tags can be written without any stream, but not with video of unknown size.
    let tags = ["-map", "0:V:0?", "-c", "copy", "-f", "ffmetadata", "-"];
    let mut run = start(path, &[], &tags)?;
    let mut head = [0; 11];
    let written = run.output().is_some_and(|mut output| {
        output.read_exact(&mut head).and_then(|()| io::copy(&mut output, &mut io::sink())).is_ok()
    });
    let ended = run.end().map_err(|error| unreadable(path, &error))?;
    Ok(written && head == *b";FFMETADATA" && ended.status.success())
}

/// Returns by how many degrees clockwise ffmpeg rotated the frames. A rotation by 180° does not
/// change their size and is not detected.
fn rotation(
    path: &Path,
    frames: &Listing,
    stored: &Listing,
    each_frame: &[&str],
) -> Result<u32, ClipError> {
    let (width, height) = stored.size;
    if width == height || frames.size != (height, width) {
        return Ok(0);
    }
    let clockwise = ["-map", "0:V:0", "-vf", "transpose=clock", "-frames:v", "1"];
    let options = [each_frame, &clockwise, &LIST].concat();
    let (turned, _) = list(path, &["-noautorotate"], &options)?;
    let checksum = |listing: &Listing| listing.first.as_ref().map(|frame| frame.checksum.clone());
    Ok(if checksum(&turned) == checksum(frames) { 90 } else { 270 })
}

/// ffmpeg's names of the formats that it may read: files that contain their own pictures, and
/// formats often mistaken for such files. A playlist (HLS, DASH, concat) or a session description
/// refers to other files, whoever wrote it, or never ends. `data` is used by [`failure`] to open
/// any file.
const CONTAINERS: &str = "\
    3dostr,4xm,aac,ac3,aiff,amv,apng,asf,asf_o,ass,av1,avi,avs,avs2,avs3,bethsoftvid,bfi,bink,\
    bmp_pipe,cavsvideo,cdxl,cine,data,dhav,dirac,dnxhd,dv,dxa,ea,film_cpk,flac,flic,flv,frm,gdv,\
    gif,gxf,h261,h263,h264,hevc,hnm,idcin,iff,ifv,ingenient,ipmovie,ivf,ivr,jpeg_pipe,jv,kux,\
    live_flv,lmlm4,lvf,lxf,m4v,matroska,mgsts,mjpeg,mjpeg_2000,mlv,mm,moflex,mov,mp3,mpeg,\
    mpegts,mpegvideo,mpjpeg,msnwctcp,mtv,mv,mvi,mxf,nc,nsv,nut,nuv,obu,ogg,paf,pmp,png_pipe,\
    psxstr,pva,r3d,rl2,rm,roq,rpl,smjpeg,smk,srt,swf,thp,tiff_pipe,tmv,txd,ty,vc1,vc1test,vid,\
    vividas,vivo,vmd,vvc,wav,wc3movie,webm,webp_pipe,webvtt,wsvqa,wtv,wv,xa,xmv,yop,\
    yuv4mpegpipe";

/// Runs ffmpeg with a listing as its output.
fn list(path: &Path, input: &[&str], output: &[&str]) -> Result<(Listing, Ended), ClipError> {
    let mut run = start(path, input, output)?;
    let listing = run.output().map(Listing::read).unwrap_or_default();
    let ended = run.end().map_err(|error| unreadable(path, &error))?;
    Ok((listing, ended))
}

/// Starts ffmpeg with options for the input and the output.
fn start(path: &Path, input: &[&str], output: &[&str]) -> Result<Run, ClipError> {
    // With the protocol prefix, a name with a colon or a leading dash is still a file.
    let mut url = OsString::from("file:");
    url.push(path);
    let mut command = command();
    // By default, ffmpeg fails if most of a recording precedes its first key frame.
    command.args(["-max_error_rate", "1"]).args(["-format_whitelist", CONTAINERS]);
    command.args(["-max_pixels", MAX_PIXELS]).args(input).arg("-i").arg(url).args(output);
    Run::start(&mut command).map_err(|error| cannot_start(path, &error))
}

fn cannot_start(path: &Path, error: &io::Error) -> ClipError {
    unusable(path, format!("it cannot be started ({error})"))
}

/// Returns an error if ffmpeg crashed or was killed, which says nothing about the clip.
fn killed(path: &Path, ended: &Ended) -> Result<(), ClipError> {
    match ended.status.code() {
        Some(_) => Ok(()),
        None => Err(unusable(path, format!("it ended early ({})", ended.status))),
    }
}

fn unusable(path: &Path, reason: impl Into<String>) -> ClipError {
    ClipError::Ffmpeg { path: path.to_path_buf(), reason: reason.into() }
}

fn says(path: &Path, message: &str) -> String {
    format!("ffmpeg: {}", without_path(path, message))
}

/// Removes the file's name from the start of a message, because our errors already contain it.
fn without_path<'a>(path: &Path, message: &'a str) -> &'a str {
    message.strip_prefix(&format!("file:{}: ", path.display())).unwrap_or(message)
}
