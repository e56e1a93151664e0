//! Finds a clip on disk by its name in an annotation.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::super::clip::ClipError;
use super::{is_hidden, unreadable};

/// Extensions of clips, in lower case. If a clip has several files, the one whose extension comes
/// first is used.
pub(crate) const CLIP_EXTENSIONS: [&str; 16] = [
    "mp4", "m4v", "mov", "mkv", "avi", "webm", "mpg", "mpeg", "ts", "mts", "m2ts", "wmv", "flv",
    "3gp", "ogv", "asf",
];

/// Returns whether a file has the extension of a clip, in upper or lower case.
pub(crate) fn has_clip_extension(path: &Path) -> bool {
    path.extension().and_then(rank).is_some()
}

/// Returns the position of an extension in [`CLIP_EXTENSIONS`].
fn rank(extension: &OsStr) -> Option<usize> {
    CLIP_EXTENSIONS.iter().position(|known| extension.eq_ignore_ascii_case(known))
}

/// Finds the file or folder that `path` refers to: the file itself; otherwise the name with a
/// clip's extension appended (`.mp4`, `.m4v`, `.mov`, `.mkv` and so on), or with its own one, in
/// upper, lower or mixed case; otherwise a folder of that name, which contains images.
///
/// # Errors
/// [`ClipError::Missing`], [`ClipError::Io`] if there is no permission to enter the folder.
pub fn resolve_clip(path: &Path) -> Result<PathBuf, ClipError> {
    if path.is_file() {
        return Ok(path.to_path_buf());
    }
    // The usual name is tried first: a folder may be large, and on a network drive.
    let usual = appended(path, CLIP_EXTENSIONS[0]);
    if usual.is_file() {
        return Ok(usual);
    }
    if let Some(found) = listed(path) {
        return Ok(found);
    }
    match fs::metadata(path) {
        Ok(about) if about.is_dir() => Ok(path.to_path_buf()),
        // Without permission to enter the folder, it is unknown whether the clip exists.
        Err(error) if error.kind() == ErrorKind::PermissionDenied => Err(unreadable(path, &error)),
        _ => Err(ClipError::Missing(path.to_path_buf())),
    }
}

/// Appends an extension instead of replacing one: a clip's name may contain a dot.
fn appended(path: &Path, extension: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(".");
    name.push(extension);
    PathBuf::from(name)
}

/// Returns the first of the files in the folder to which the name may refer, in the order of the
/// extensions, lower case before other spellings.
fn listed(path: &Path) -> Option<PathBuf> {
    let name = path.file_name().filter(|name| !is_hidden(name))?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let found =
        fs::read_dir(folder.unwrap_or(Path::new("."))).ok()?.flatten().filter_map(|entry| {
            let found = PathBuf::from(entry.file_name());
            let extension = found.extension()?;
            let own = path.extension().is_some_and(|own| own.eq_ignore_ascii_case(extension));
            let stem = found.file_stem()?;
            let fits = stem == name || (own && path.file_stem() == Some(stem));
            let rank = rank(extension).filter(|_| fits)?;
            let lower = !extension.as_encoded_bytes().iter().any(u8::is_ascii_uppercase);
            Some((rank, !lower, path.with_file_name(&found)))
        });
    let mut found: Vec<_> = found.collect();
    found.sort();
    found.into_iter().map(|(.., path)| path).find(|path| path.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_found_in_any_case_and_the_same_one_each_time() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let found = |name: &str| {
            let found = resolve_clip(&at(name)).ok()?;
            Some(found.file_name().unwrap().to_str().unwrap().to_owned())
        };
        assert_eq!(found("clip_0"), None);
        fs::write(at("._clip_0.mp4"), b"").unwrap();
        fs::write(at("clip_0.txt"), b"").unwrap();
        fs::create_dir(at("clip_0.mpg")).unwrap();
        assert_eq!(found("clip_0"), None);
        fs::create_dir(at("clip_0")).unwrap();
        assert_eq!(found("clip_0").as_deref(), Some("clip_0"));
        // Each file takes precedence over the previous ones.
        for name in ["clip_0.M2ts", "clip_0.WMV", "clip_0.mov", "clip_0.M4V", "clip_0.Mp4"] {
            fs::write(at(name), b"").unwrap();
            if name != "clip_0.WMV" {
                assert_eq!(found("clip_0").as_deref(), Some(name));
            }
        }
        // The annotation's own extension may be in another case, but is not replaced.
        if at("CLIP_0.MP4").exists() {
            // The file system is case-insensitive and finds the file itself.
            return;
        }
        assert_eq!(found("clip_0.mp4").as_deref(), Some("clip_0.Mp4"));
        assert_eq!(found("clip_0.MOV").as_deref(), Some("clip_0.mov"));
        assert_eq!(found("clip_0.mkv"), None);
        fs::write(at("clip_0.mp4"), b"").unwrap();
        assert_eq!(found("clip_0").as_deref(), Some("clip_0.mp4"));
    }
}
