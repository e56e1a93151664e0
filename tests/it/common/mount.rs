//! File systems that are full or read-only.
#![cfg(target_os = "linux")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::skip::skip;

/// A file system mounted for one test; unmounted when dropped.
pub struct Mount(PathBuf);

impl Mount {
    /// Mounts a tmpfs; returns `None` after reporting a skip if mounting is not permitted.
    pub fn new(at: &Path, options: &str) -> Option<Self> {
        fs::create_dir_all(at).unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", options, "polyview-test"]).arg(at);
        Self::run(mount, at)
    }

    /// Mounts a folder onto itself, read-only.
    pub fn read_only(at: &Path) -> Option<Self> {
        let mut bind = Command::new("mount");
        bind.arg("--bind").arg(at).arg(at);
        let bound = Self::run(bind, at)?;
        let mut remount = Command::new("mount");
        remount.args(["-o", "remount,ro,bind"]).arg(at);
        // The two commands make one mount, which must be unmounted only once.
        std::mem::forget(Self::run(remount, at)?);
        Some(bound)
    }

    fn run(mut mount: Command, at: &Path) -> Option<Self> {
        match mount.output() {
            Ok(output) if output.status.success() => Some(Self(at.to_path_buf())),
            Ok(output) => {
                let reason = String::from_utf8_lossy(&output.stderr).trim().to_owned();
                skip(format_args!("no file system can be mounted here: {reason}"));
                None
            }
            Err(error) => {
                skip(format_args!("no mount program: {error}"));
                None
            }
        }
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}
