//! Programs that polyview starts.

use std::io::ErrorKind;
use std::process::{Command, Stdio};

use serde::Serialize;

use super::Machine;

/// The `ffmpeg` on the PATH.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Ffmpeg {
    /// Its version, in its own words.
    pub version: Option<String>,
    /// Why it cannot be started, where it is there and yet cannot.
    pub refused: Option<String>,
}

/// The first version that knows every option polyview gives it (`-fps_mode`).
const OLDEST: (u32, u32) = (5, 1);

impl Ffmpeg {
    pub(super) fn look() -> Self {
        let run = Command::new("ffmpeg").arg("-version").stdin(Stdio::null()).output();
        let (version, refused) = match run {
            Ok(output) if output.status.success() => {
                let text = String::from_utf8_lossy(&output.stdout).into_owned();
                let first = text.lines().next().unwrap_or_default();
                let words = first.strip_prefix("ffmpeg version ").unwrap_or(first);
                (Some(words.split(" Copyright").next().unwrap_or(words).to_owned()), None)
            }
            Ok(output) => (None, Some(output.status.to_string())),
            Err(error) if error.kind() == ErrorKind::NotFound => (None, None),
            Err(error) => (None, Some(error.to_string())),
        };
        Self { version, refused }
    }

    pub(super) fn problem(&self, machine: &Machine) -> Option<String> {
        if let Some(reason) = &self.refused {
            return Some(format!("ffmpeg is installed and cannot be started: {reason}"));
        }
        let Some(version) = &self.version else {
            let install = machine.install(["ffmpeg"; 5]);
            let how = install.map(|command| format!(": {command}")).unwrap_or_default();
            return Some(format!(
                "ffmpeg is not installed: only H.264 in mp4 and image folders can be read{how}"
            ));
        };
        // Builds from a snapshot ("N-118…", "git-…") are newer than any that is too old.
        let number = number(version)?;
        (number < OLDEST).then(|| {
            let (major, minor) = OLDEST;
            format!(
                "ffmpeg {version} is too old: clips other than H.264 in mp4 need {major}.{minor} \
                 or newer"
            )
        })
    }
}

/// Major and minor number of a release.
fn number(version: &str) -> Option<(u32, u32)> {
    // A snapshot's name may start with n ("n7.1"), as tags do.
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
