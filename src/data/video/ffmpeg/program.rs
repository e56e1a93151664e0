//! Checks whether the ffmpeg program on the PATH works, and which spelling of options it accepts.

use std::io::{self, Write};
use std::process::Stdio;
use std::sync::OnceLock;

use super::listing::Listing;
use super::run::{Run, command};

/// Options that output each frame exactly once, with the file's own time stamps: since versions
/// 6.1, 5.1 and 4.0. The newest versions no longer accept the older spellings.
const SPELLINGS: [[&str; 4]; 3] = [
    ["-fps_mode", "passthrough", "-enc_time_base", "demux"],
    ["-fps_mode", "passthrough", "-enc_time_base", "-1"],
    ["-vsync", "passthrough", "-enc_time_base", "-1"],
];

/// The spelling that the program on the PATH accepts.
static SPELLING: OnceLock<[&str; 4]> = OnceLock::new();

/// The reason why there is no usable program.
pub(super) enum Unusable {
    /// There is no program on the PATH.
    Missing,
    /// The program does not work, for this reason.
    Broken(String),
}

/// Returns the options that output each frame exactly once with its time stamp. They are determined
/// once per process by decoding a picture: the version number is not reliable, because builds from
/// a repository have none.
pub(super) fn each_frame() -> Result<[&'static str; 4], Unusable> {
    if let Some(&spelling) = SPELLING.get() {
        return Ok(spelling);
    }
    let mut refused = None;
    for spelling in SPELLINGS {
        match accepts(&spelling) {
            Ok(Ok(())) => return Ok(*SPELLING.get_or_init(|| spelling)),
            Ok(Err(reason)) => refused = reason,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(Unusable::Missing),
            Err(error) => return Err(Unusable::Broken(format!("it cannot be started ({error})"))),
        }
    }
    let reason = refused.unwrap_or_else(|| "it decodes nothing".into());
    Err(Unusable::Broken(format!("it is older than 4.0, or incomplete ({reason})")))
}

/// Decodes a raw picture of 2x2 pixels with these options; the inner error is ffmpeg's message.
fn accepts(spelling: &[&str]) -> io::Result<Result<(), Option<String>>> {
    let mut command = command();
    command.args(["-max_error_rate", "1", "-f", "rawvideo", "-pix_fmt", "rgb24"]);
    command.args(["-video_size", "2x2", "-i", "pipe:0", "-map", "0:V:0"]).args(spelling);
    let mut run = Run::start(command.args(["-f", "framecrc", "-"]).stdin(Stdio::piped()))?;
    if let Some(mut input) = run.input() {
        // Writing fails if ffmpeg has already ended; its exit status is checked below.
        let _ = input.write_all(&[128; 12]);
    }
    let listing = run.output().map(Listing::read).unwrap_or_default();
    let ended = run.end()?;
    if ended.status.success() && listing.stamps.len() == 1 {
        return Ok(Ok(()));
    }
    Ok(Err(ended.log.first().map(str::to_owned)))
}
