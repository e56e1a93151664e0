//! Finds the files behind the clips of a data set, and which of them have the same content.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use indexmap::IndexMap;
use rayon::prelude::*;
use sha2::{Digest as _, Sha256};

use super::super::natural::natural_order;
use super::super::video::{is_hidden, resolve_clip};
use super::Job;

/// SHA-256 of a clip's content.
pub(super) type Digest = [u8; 32];

/// The distinct files of a data set's clips.
pub(super) struct Sources {
    /// Index into `list` for each clip; `None` if the clip does not exist or is empty.
    of: Vec<Option<usize>>,
    list: Vec<Source>,
}

struct Source {
    files: Vec<PathBuf>,
    /// Index of the first clip that uses this source.
    first: usize,
    /// Whether another source has the same size, so that the contents may be equal.
    shares_size: bool,
}

impl Sources {
    /// Finds the files of all clips. Links to the same file are one source.
    pub(super) fn find(jobs: &[Job]) -> Self {
        let found: Vec<_> = jobs.par_iter().map(|job| located(&job.path)).collect();
        let mut indices = HashMap::new();
        let mut list: Vec<(Source, Vec<u64>)> = Vec::new();
        let mut of = Vec::with_capacity(jobs.len());
        for (first, found) in found.into_iter().enumerate() {
            let index = found.map(|Located { path, files, sizes }| {
                *indices.entry(path).or_insert_with(|| {
                    list.push((Source { files, first, shares_size: false }, sizes));
                    list.len() - 1
                })
            });
            of.push(index);
        }
        let mut sizes: HashMap<&[u64], usize> = HashMap::new();
        for (_, size) in &list {
            *sizes.entry(size).or_insert(0) += 1;
        }
        let shared: Vec<bool> = list.iter().map(|(_, size)| sizes[size.as_slice()] > 1).collect();
        let list = list.into_iter().zip(shared);
        let list =
            list.map(|((source, _), shares_size)| Source { shares_size, ..source }).collect();
        Self { of, list }
    }

    /// Returns the digest of a clip's content if it is needed, i.e. for the first clip of each
    /// source that has the same size as another one. Also returns `None` if the clip cannot be
    /// read; the decoder reports why.
    pub(super) fn digest(&self, clip: usize) -> Option<Digest> {
        let source = &self.list[self.of[clip]?];
        (source.shares_size && source.first == clip).then(|| digest(&source.files).ok()).flatten()
    }

    /// Returns the groups of two or more clips with the same content, each in ascending order.
    pub(super) fn groups(&self, digests: &[Option<Digest>]) -> Vec<Vec<usize>> {
        #[derive(PartialEq, Eq, Hash)]
        enum Content {
            Of(Digest),
            Source(usize),
        }
        let mut groups: IndexMap<Content, Vec<usize>> = IndexMap::new();
        for (clip, source) in self.of.iter().enumerate() {
            let Some(source) = *source else { continue };
            let digest = digests[self.list[source].first];
            let content = digest.map_or(Content::Source(source), Content::Of);
            groups.entry(content).or_default().push(clip);
        }
        groups.into_values().filter(|clips| clips.len() > 1).collect()
    }
}

/// A clip's file, or its folder's files.
struct Located {
    path: PathBuf,
    files: Vec<PathBuf>,
    /// Sizes of the files, bytes.
    sizes: Vec<u64>,
}

fn located(clip: &Path) -> Option<Located> {
    let path = resolve_clip(clip).ok()?.canonicalize().ok()?;
    let files = if path.is_dir() {
        let mut files = Vec::new();
        for entry in fs::read_dir(&path).ok()? {
            let entry = entry.ok()?;
            if !is_hidden(&entry.file_name()) && entry.path().is_file() {
                files.push(entry.path());
            }
        }
        natural_order(&mut files);
        files
    } else {
        vec![path.clone()]
    };
    let sizes = files.iter().map(|file| Some(fs::metadata(file).ok()?.len()));
    let sizes = sizes.collect::<Option<Vec<u64>>>()?;
    // Empty files are all equal and are reported as empty instead.
    (sizes.iter().sum::<u64>() > 0).then_some(Located { path, files, sizes })
}

fn digest(files: &[PathBuf]) -> io::Result<Digest> {
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 16];
    for path in files {
        let mut file = File::open(path)?;
        loop {
            let read = match file.read(&mut buffer) {
                Ok(0) => break,
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            hash.update(&buffer[..read]);
        }
    }
    Ok(hash.finalize().into())
}
