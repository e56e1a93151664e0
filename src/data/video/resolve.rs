//! Finding a clip on disk by its name in an annotation.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::super::clip::ClipError;
use super::{is_hidden, unreadable};

/// Extensions of clips, in lower case: the earlier one is taken where a clip has several files.
pub(crate) const CLIP_EXTENSIONS: [&str; 16] = [
    "mp4", "m4v", "mov", "mkv", "avi", "webm", "mpg", "mpeg", "ts", "mts", "m2ts", "wmv", "flv",
    "3gp", "ogv", "asf",
];

/// Whether a file's name ends like a clip's, in any case.
pub(crate) fn has_clip_extension(path: &Path) -> bool {
    path.extension().and_then(rank).is_some()
}

/// Position of an extension in the list.
fn rank(extension: &OsStr) -> Option<usize> {
    CLIP_EXTENSIONS.iter().position(|known| extension.eq_ignore_ascii_case(known))
}

/// Finds the file or folder that `path` means: the file itself; else the name with a clip's extension
/// appended (`.mp4`, `.m4v`, `.mov`, `.mkv` and so on), or with its own one, in upper or lower case or
/// a mix; else a folder of that name, which contains images.
///
/// # Errors
/// [`ClipError::Missing`], [`ClipError::Io`] if the folder may not be entered.
pub fn resolve_clip(path: &Path) -> Result<PathBuf, ClipError> {
    if path.is_file() {
        return Ok(path.to_path_buf());
    }
    // The usual name is tried first: a folder may be large, and far away.
    let usual = appended(path, CLIP_EXTENSIONS[0]);
    if usual.is_file() {
        return Ok(usual);
    }
    if let Some(found) = listed(path) {
        return Ok(found);
    }
    match fs::metadata(path) {
        Ok(about) if about.is_dir() => Ok(path.to_path_buf()),
        // A folder that may not be entered hides what it holds.
        Err(error) if error.kind() == ErrorKind::PermissionDenied => Err(unreadable(path, &error)),
        _ => Err(ClipError::Missing(path.to_path_buf())),
    }
}

/// Appended, not replaced: a clip's name may contain a dot.
fn appended(path: &Path, extension: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(".");
    name.push(extension);
    PathBuf::from(name)
}

/// The first of the files in the folder that the name may mean: by the order of the extensions, lower
/// case before others.
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
        // Each one beats those before it.
        for name in ["clip_0.M2ts", "clip_0.WMV", "clip_0.mov", "clip_0.M4V", "clip_0.Mp4"] {
            fs::write(at(name), b"").unwrap();
            if name != "clip_0.WMV" {
                assert_eq!(found("clip_0").as_deref(), Some(name));
            }
        }
        // The annotation's own extension may be in another case, but is not replaced.
        if at("CLIP_0.MP4").exists() {
            // A file system that does not tell cases apart answers by itself.
            return;
        }
        assert_eq!(found("clip_0.mp4").as_deref(), Some("clip_0.Mp4"));
        assert_eq!(found("clip_0.MOV").as_deref(), Some("clip_0.mov"));
        assert_eq!(found("clip_0.mkv"), None);
        fs::write(at("clip_0.mp4"), b"").unwrap();
        assert_eq!(found("clip_0").as_deref(), Some("clip_0.mp4"));
    }
}
