//! External programs that polyview uses.

use std::io::ErrorKind;
use std::process::Command;
use std::time::Duration;

use serde::Serialize;

use super::{Machine, process};

/// The `ffmpeg` on the PATH.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Ffmpeg {
    /// Version as ffmpeg prints it.
    pub version: Option<String>,
    /// Why it does not work, if it is installed but broken.
    pub refused: Option<String>,
}

/// The first version with all options that polyview uses (`-enc_time_base`).
const OLDEST: (u32, u32) = (4, 0);

/// Time limit of `ffmpeg -version`; a network drive may be slow.
const TIMEOUT: Duration = Duration::from_secs(10);

impl Ffmpeg {
    pub(super) fn inspect() -> Self {
        let none = |reason: String| Self { version: None, refused: Some(reason) };
        match process::run(Command::new("ffmpeg").arg("-version"), TIMEOUT) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                Self { version: None, refused: None }
            }
            Err(error) => none(error.to_string()),
            Ok(None) => none(format!("no answer within {} s", TIMEOUT.as_secs())),
            Ok(Some(ended)) if !ended.status.success() => none(ended.failure()),
            Ok(Some(ended)) => {
                let line = ended.stdout.lines().next().unwrap_or_default();
                match line.strip_prefix("ffmpeg version ").and_then(|rest| rest.split(' ').next()) {
                    Some(version) => Self { version: Some(version.to_owned()), refused: None },
                    None => none("`ffmpeg -version` prints no version".to_owned()),
                }
            }
        }
    }

    pub(super) fn problem(&self, machine: &Machine) -> Option<String> {
        if let Some(reason) = &self.refused {
            return Some(format!("ffmpeg is installed but does not work: {reason}"));
        }
        let Some(version) = &self.version else {
            // Fedora's repositories have a build without some codecs.
            let how = machine.install(["ffmpeg", "ffmpeg-free", "ffmpeg", "ffmpeg", "ffmpeg"]);
            return Some(format!(
                "ffmpeg is not installed: only H.264 in mp4 or mov and folders of images can be read{how}"
            ));
        };
        // Snapshot builds ("N-118…", "git-…") have no version and are assumed to be recent.
        (number(version)? < OLDEST).then(|| {
            let (major, minor) = OLDEST;
            format!(
                "ffmpeg {version} is too old: clips other than H.264 in mp4 need {major}.{minor} \
                 or newer"
            )
        })
    }
}

/// Returns the major and minor version of a release.
fn number(version: &str) -> Option<(u32, u32)> {
    // Some builds are named like git tags ("n7.1").
    let digits = version.strip_prefix('n').unwrap_or(version);
    let mut parts = digits.split(|c: char| !c.is_ascii_digit());
    let major = parts.next()?.parse().ok()?;
    Some((major, parts.next().and_then(|minor| minor.parse().ok()).unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_as_ffmpeg_and_distributions_write_them() {
        assert_eq!(number("5.1.6-0+deb12u1"), Some((5, 1)));
        assert_eq!(number("4.2.7-0ubuntu0.1"), Some((4, 2)));
        assert_eq!(number("n7.1"), Some((7, 1)));
        assert_eq!(number("8"), Some((8, 0)));
        assert_eq!(number("N-118273-g251de1791e"), None);
        assert_eq!(number("git-2020-01-01"), None);
    }
}
