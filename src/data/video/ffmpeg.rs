//! Decoding with an `ffmpeg` program from the PATH, for what is not decoded in process.
//!
//! It runs twice per clip: once to decode and discard, which is the only way to find the number of
//! frames and whether they are intact; once to deliver raw RGB up to the last requested frame. Nothing
//! is ever downloaded, and `ffprobe` is not needed.

use std::ffi::OsString;
use std::io::{ErrorKind, Read};
use std::path::Path;
use std::process::ChildStderr;
use std::thread;

use ffmpeg_sidecar::child::FfmpegChild;
use ffmpeg_sidecar::command::FfmpegCommand;
use ffmpeg_sidecar::event::{FfmpegEvent, LogLevel, Stream};
use ffmpeg_sidecar::log_parser::FfmpegLogParser;

use super::super::clip::{ClipError, ClipInfo, Frame};
use super::requested::Requested;
use super::{Sink, damaged, frame_buffer, unreadable};

/// What the log of one run reports.
#[derive(Default)]
struct Report {
    opened: bool,
    input: Option<Stream>,
    output: Option<Stream>,
    frames: usize,
    /// The first error in the log.
    complaint: Option<String>,
    /// Whether decoding has begun; errors before that may concern tracks that are not used.
    decoding: bool,
    /// An error while decoding: ffmpeg conceals such damage and continues.
    fault: bool,
}

/// Decodes the whole clip and returns its properties. `refused` is the error if there is no ffmpeg.
pub(super) fn probe(path: &Path, refused: ClipError) -> Result<ClipInfo, ClipError> {
    let mut run = match Run::start(path, &["-f", "null"]) {
        Ok(run) => run,
        Err(error) if error.kind() == ErrorKind::NotFound => return Err(refused),
        Err(error) => return Err(unreadable(path, &error)),
    };
    log::debug!("{}: decoded by ffmpeg", path.display());
    let report = run.0.take_stderr().map(read_log).unwrap_or_default();
    let ended = run.0.wait().map_err(|e| unreadable(path, &e))?;
    if report.opened && report.input.is_none() {
        // A broken index hides tracks: then the error of our own reader is the better one.
        return Err(match refused {
            ClipError::Damaged { .. } => refused,
            _ => ClipError::NoVideo(path.to_path_buf()),
        });
    }
    if !ended.success() || report.fault {
        return Err(failed(path, report.complaint));
    }
    let streams = report.input.as_ref().zip(report.output.as_ref());
    let data = streams.and_then(|(input, output)| Some((input, output.video_data()?)));
    let (input, video) = data.ok_or_else(|| failed(path, report.complaint))?;
    if report.frames == 0 || video.width == 0 || video.height == 0 {
        return Err(damaged(path, "ffmpeg found no frame in it"));
    }
    let fps = f64::from(video.fps);
    Ok(ClipInfo {
        frames: report.frames,
        width: video.width as usize,
        height: video.height as usize,
        fps: if fps.is_finite() && fps > 0.0 { fps } else { 25.0 },
        codec: input.format.clone(),
        ..ClipInfo::default()
    })
}

/// Passes the requested frames of a clip that was probed to `sink`.
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
    let mut frame = frame_buffer(path, 1, info.width * info.height * 3)?;
    let count = (last + 1).to_string();
    let output = ["-frames:v", &count, "-pix_fmt", "rgb24", "-f", "rawvideo"];
    let mut run = Run::start(path, &output).map_err(|e| unreadable(path, &e))?;
    // The log needs a separate reader, or ffmpeg would block on a full pipe.
    let log = run.0.take_stderr().map(|stderr| thread::spawn(|| read_log(stderr)));
    let mut pixels = run.0.take_stdout();
    let mut complete = pixels.is_some();
    for t in 0..=last {
        complete = complete && pixels.as_mut().is_some_and(|p| p.read_exact(&mut frame).is_ok());
        let positions = requested.positions(t);
        if complete && !positions.is_empty() {
            sink.take(Frame { data: &frame, height: info.height, width: info.width, positions })?;
        }
    }
    // More data than requested would mean frames of another size.
    complete = complete && pixels.is_some_and(|mut p| matches!(p.read(&mut [0]), Ok(0)));
    let ended = run.0.wait().map_err(|e| unreadable(path, &e))?;
    // Without a log it is unknown whether ffmpeg concealed any damage.
    let unknown = || Report { fault: true, ..Report::default() };
    let report = log.and_then(|log| log.join().ok()).unwrap_or_else(unknown);
    if !ended.success() || report.fault || !complete {
        return Err(failed(path, report.complaint));
    }
    Ok(())
}

/// A running ffmpeg, killed when dropped, so that an error on our side leaves no process behind.
struct Run(FfmpegChild);

impl Run {
    fn start(path: &Path, output: &[&str]) -> std::io::Result<Self> {
        // By name, so that it is found on the PATH. With the protocol prefix, a name with a colon or a
        // leading dash is still a file.
        let mut command = FfmpegCommand::new_with_path("ffmpeg");
        let mut url = OsString::from("file:");
        url.push(path);
        command.args(["-nostdin", "-nostats", "-xerror", "-noautorotate"]).input(url);
        // Video except for cover pictures, each frame once, whatever its time stamp.
        command.args(["-map", "0:V:0", "-fps_mode", "passthrough"]).args(output).pipe_stdout();
        // In a process group of its own: Ctrl-C is sent to the terminal's whole group, and the current
        // clip would count as damaged. (On Windows it has no console that could receive it.)
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(command.as_inner_mut(), 0);
        command.spawn().map(Self)
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        // Both fail for a process that has ended, which is what is wanted.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Reads the log to its end.
fn read_log(stderr: ChildStderr) -> Report {
    let mut report = Report::default();
    let mut parser = FfmpegLogParser::new(stderr);
    loop {
        match parser.parse_next_event() {
            Ok(FfmpegEvent::LogEOF) => return report,
            Ok(FfmpegEvent::ParsedInput(_)) => report.opened = true,
            Ok(FfmpegEvent::ParsedInputStream(s)) if s.is_video() && !is_cover(&s) => {
                report.input.get_or_insert(s);
            }
            Ok(FfmpegEvent::ParsedOutputStream(s)) if s.is_video() => {
                report.output.get_or_insert(s);
            }
            Ok(FfmpegEvent::ParsedStreamMapping(_)) => report.decoding = true,
            Ok(FfmpegEvent::Progress(progress)) => report.frames = progress.frame as usize,
            Ok(FfmpegEvent::Log(LogLevel::Error | LogLevel::Fatal, line)) => {
                report.fault |= report.decoding;
                // The first error is the cause, the rest are its consequences.
                report.complaint.get_or_insert(line);
            }
            Err(error) if error.is::<std::io::Error>() => return report,
            // Lines that the parser does not know do not matter here.
            Ok(_) | Err(_) => {}
        }
    }
}

fn is_cover(stream: &Stream) -> bool {
    stream.raw_log_message.contains("(attached pic)")
}

fn failed(path: &Path, complaint: Option<String>) -> ClipError {
    let complaint = complaint.unwrap_or_else(|| "it could not be decoded to its end".into());
    // Without the name of the component in brackets.
    let message = complaint.rsplit_once(']').map_or(complaint.as_str(), |(_, message)| message);
    damaged(path, format!("ffmpeg says: {}", message.trim()))
}
