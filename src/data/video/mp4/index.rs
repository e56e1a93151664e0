//! Extracts and validates the needed part of an mp4 file's index: the boxes of its video tracks.
//!
//! The mp4 parser allocates memory for as many entries as a table claims to have, and for boxes as
//! long as they claim to be, before it reads them. It therefore gets a copy in which every box lies
//! within its parent and every table within its box, and which only contains what concerns the
//! video.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use super::super::super::clip::ClipError;
use super::super::{Stop, damaged, unreadable};

/// Maximum size of an index, bytes; the index of a day of video has a few megabytes.
const MAX_INDEX: u64 = 64 << 20;

/// Number of bytes of a sample description before the boxes that it contains.
pub(super) const ENTRY_HEAD: usize = 86;

/// Returns the `moov` boxes of a file, reduced to what is needed.
pub(super) fn read(path: &Path, file: &mut File, length: u64) -> Result<Vec<u8>, Stop> {
    let mut index = Vec::new();
    for body in movies(path, file, length)? {
        let start = open(&mut index, *b"moov");
        // Like the parser, this is strict; ffmpeg may still be able to read the file.
        copy(b"moov", &body, &mut index)
            .map_err(|what| Stop::Fallback(damaged(path, format!("no usable index ({what})"))))?;
        close(&mut index, start);
    }
    Ok(index)
}

/// Returns the contents of the `moov` boxes. Refuses a file that ends inside one: the parser would
/// accept the truncated box as complete.
fn movies(path: &Path, file: &mut File, length: u64) -> Result<Vec<Vec<u8>>, ClipError> {
    let mut bodies = Vec::new();
    let (mut at, mut total) = (0u64, 0u64);
    let mut head = [0; 16];
    // Every step advances by at least eight bytes, so this terminates.
    while at.saturating_add(8) <= length {
        let long = at.saturating_add(16) <= length;
        let part = if long { &mut head[..] } else { &mut head[..8] };
        file.seek(SeekFrom::Start(at)).map_err(|e| unreadable(path, &e))?;
        file.read_exact(part).map_err(|e| unreadable(path, &e))?;
        let [a, b, c, d, name @ .., _, _, _, _, _, _, _, _] = head;
        let (size, skip) = match u32::from_be_bytes([a, b, c, d]) {
            0 => (length - at, 8),
            1 if long => (head[8..].iter().fold(0, |size, &byte| size << 8 | u64::from(byte)), 16),
            size => (u64::from(size), 8),
        };
        let end = at.saturating_add(size.max(8));
        if &name == b"moov" {
            if end > length {
                return Err(damaged(path, "it is truncated inside its index"));
            }
            let size = size.saturating_sub(skip);
            total += size;
            if total > MAX_INDEX {
                return Err(damaged(path, "its index is too long"));
            }
            let mut body = Vec::new();
            file.seek(SeekFrom::Start(at + skip)).map_err(|e| unreadable(path, &e))?;
            file.take(size).read_to_end(&mut body).map_err(|e| unreadable(path, &e))?;
            bodies.push(body);
        }
        at = end;
    }
    Ok(bodies)
}

/// Appends the needed boxes of a container to `out`.
fn copy(parent: &[u8; 4], body: &[u8], out: &mut Vec<u8>) -> Result<(), String> {
    for part in Boxes(body) {
        let (name, content) = part?;
        let container = match (parent, &name) {
            (b"moov", b"trak") if is_video(content)? => true,
            (b"trak", b"edts" | b"mdia") | (b"mdia", b"minf") | (b"minf", b"stbl") => true,
            (b"moov", b"mvhd") | (b"trak", b"tkhd") | (b"mdia", b"mdhd" | b"hdlr") => false,
            (b"edts", b"elst") => {
                let entry = if content.first() == Some(&1) { 20 } else { 12 };
                table(name, content, 4, entry)?;
                false
            }
            (b"stbl", b"stts" | b"ctts" | b"co64") => {
                table(name, content, 4, 8)?;
                false
            }
            (b"stbl", b"stss" | b"stco") => {
                table(name, content, 4, 4)?;
                false
            }
            (b"stbl", b"stsc") => {
                table(name, content, 4, 12)?;
                false
            }
            (b"stbl", b"stsz") => {
                // If all samples have the same size, there are no entries.
                if number(content, 4) == Some(0) {
                    table(name, content, 8, 4)?;
                }
                false
            }
            (b"stbl", b"stsd") => {
                descriptions(content)?;
                false
            }
            _ => continue,
        };
        let start = open(out, name);
        if container {
            copy(&name, content, out)?;
        } else {
            out.extend_from_slice(content);
        }
        close(out, start);
    }
    Ok(())
}

/// Returns whether a track's handler is the one for video.
fn is_video(track: &[u8]) -> Result<bool, String> {
    let Some(media) = child(track, b"mdia")? else { return Ok(false) };
    let handler = child(media, b"hdlr")?;
    Ok(handler.and_then(|handler| handler.get(8..12)) == Some(b"vide"))
}

/// Returns the content of the first box with that name.
pub(super) fn child<'a>(body: &'a [u8], name: &[u8; 4]) -> Result<Option<&'a [u8]>, String> {
    for part in Boxes(body) {
        let (found, content) = part?;
        if found == *name {
            return Ok(Some(content));
        }
    }
    Ok(None)
}

/// Returns the first box with that name, including its header.
pub(super) fn whole<'a>(body: &'a [u8], name: &[u8; 4]) -> Result<Option<&'a [u8]>, String> {
    let mut boxes = Boxes(body);
    loop {
        let rest = boxes.0;
        match boxes.next().transpose()? {
            Some((found, _)) if found == *name => {
                return Ok(Some(&rest[..rest.len() - boxes.0.len()]));
            }
            Some(_) => {}
            None => return Ok(None),
        }
    }
}

/// Returns the big-endian number at an offset.
pub(super) fn number(content: &[u8], at: usize) -> Option<u32> {
    let bytes = content.get(at..)?.first_chunk()?;
    Some(u32::from_be_bytes(*bytes))
}

/// Checks that a table's entries, whose number is stored at offset `count`, lie within its box.
fn table(name: [u8; 4], content: &[u8], count: usize, entry: u64) -> Result<(), String> {
    let available = content.len().saturating_sub(count + 4) as u64;
    match number(content, count) {
        Some(count) if u64::from(count) * entry <= available => Ok(()),
        _ => Err(format!("{} names more entries than it holds", name.escape_ascii())),
    }
}

/// Checks the sample descriptions and the boxes in each of them.
fn descriptions(content: &[u8]) -> Result<(), String> {
    table(*b"stsd", content, 4, ENTRY_HEAD as u64)?;
    for entry in Boxes(content.get(8..).unwrap_or_default()) {
        let (_, content) = entry?;
        for part in Boxes(content.get(ENTRY_HEAD - 8..).unwrap_or_default()) {
            part?;
        }
    }
    Ok(())
}

/// Iterates over sibling boxes. Yields the name and content of each, or what is wrong.
pub(super) struct Boxes<'a>(pub &'a [u8]);

impl<'a> Iterator for Boxes<'a> {
    type Item = Result<([u8; 4], &'a [u8]), String>;

    fn next(&mut self) -> Option<Self::Item> {
        // A shorter remainder consists of the zeros with which QuickTime terminates some lists.
        let body = self.0;
        let (&size, rest) = body.split_first_chunk()?;
        let &name = rest.first_chunk()?;
        let (size, head) = match u32::from_be_bytes(size) {
            1 => (body.get(8..16).map_or(0, long), 16),
            size => (usize::try_from(size).unwrap_or(usize::MAX), 8),
        };
        let Some(content) = body.get(head..size) else {
            // Ends the iteration.
            self.0 = &[];
            return Some(Err(format!("{} lies outside of its box", name.escape_ascii())));
        };
        self.0 = &body[size..];
        Some(Ok((name, content)))
    }
}

/// Decodes a 64-bit size.
fn long(bytes: &[u8]) -> usize {
    let size = bytes.iter().fold(0u64, |size, &byte| size << 8 | u64::from(byte));
    usize::try_from(size).unwrap_or(usize::MAX)
}

/// Begins a box; returns its offset for [`close`].
fn open(out: &mut Vec<u8>, name: [u8; 4]) -> usize {
    let start = out.len();
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&name);
    start
}

/// Writes the size of the box that begins at `start` and ends here.
fn close(out: &mut [u8], start: usize) {
    let size = u32::try_from(out.len() - start).expect("no box is longer than MAX_INDEX");
    out[start..start + 4].copy_from_slice(&size.to_be_bytes());
}
