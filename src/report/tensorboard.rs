//! Event files for TensorBoard: TFRecord-framed records, each an `Event` message.
//!
//! The messages are TensorFlow's `event.proto` and `summary.proto`, of which only the fields for
//! scalars and images are written.

use std::fs::{File, OpenOptions};
use std::io::{BufWriter, Cursor, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use image::{ImageFormat, RgbImage};

use super::EpochRecord;
use super::matrix_picture::matrix_picture;
use super::scalars::scalars;
use crate::metrics::MOST_IN_MATRIX;
use crate::schema::Schema;

/// Why events cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum EventError {
    /// A file or folder cannot be written.
    #[error("{}: TensorBoard events cannot be written: {reason}", .path.display())]
    Io {
        /// The event file or its folder.
        path: PathBuf,
        /// The operating system's message.
        reason: String,
    },
    /// An image cannot be encoded.
    #[error("the image {tag:?} cannot be encoded: {reason}")]
    Picture {
        /// Tag of the image.
        tag: String,
        /// The encoder's message.
        reason: String,
    },
}

/// The scalars and images of one step, each with a tag. TensorBoard groups tags by the part before the
/// first `/`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Summary {
    /// An encoded `Summary` message.
    message: Message,
}

impl Summary {
    /// Creates an empty summary.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a scalar, stored as f32.
    pub fn scalar(&mut self, tag: &str, value: f64) {
        let mut entry = Message::default();
        entry.bytes(1, tag.as_bytes());
        entry.float(2, value as f32);
        self.message.bytes(1, &entry.0);
    }

    /// Adds an image, stored as PNG.
    ///
    /// # Errors
    /// [`EventError::Picture`].
    pub fn picture(&mut self, tag: &str, picture: &RgbImage) -> Result<(), EventError> {
        let mut file = Cursor::new(Vec::new());
        picture
            .write_to(&mut file, ImageFormat::Png)
            .map_err(|e| EventError::Picture { tag: tag.to_owned(), reason: e.to_string() })?;
        let mut image = Message::default();
        image.varint(1, picture.height().into());
        image.varint(2, picture.width().into());
        // Colour space: RGB.
        image.varint(3, 3);
        image.bytes(4, file.get_ref());
        let mut entry = Message::default();
        entry.bytes(1, tag.as_bytes());
        entry.bytes(4, &image.0);
        self.message.bytes(1, &entry.0);
        Ok(())
    }
}

/// Summarises an epoch: all its [`scalars`] that have a value, and the confusion matrices of the validation as images
/// `confusion/<task>`, unless there are too many classes for an image.
///
/// # Errors
/// [`EventError::Picture`].
pub fn epoch_summary(record: &EpochRecord, schema: &Schema) -> Result<Summary, EventError> {
    let mut summary = Summary::new();
    for (tag, value) in scalars(record) {
        if let Some(value) = value {
            summary.scalar(&tag, value);
        }
    }
    for (task, figures) in schema.tasks.iter().zip(&record.valid.tasks) {
        if task.classes.len() > MOST_IN_MATRIX {
            continue;
        }
        let picture = matrix_picture(&task.title, &task.class_names(), &figures.confusion);
        summary.picture(&format!("confusion/{}", task.name), &picture)?;
    }
    Ok(summary)
}

/// Writes events to a new file. To TensorBoard, all files of a folder are one run.
#[derive(Debug)]
pub struct EventWriter {
    path: PathBuf,
    file: BufWriter<File>,
}

impl EventWriter {
    /// Creates an event file in the folder, which is created if necessary. `resumed_at` is the first
    /// step of a resumed run: TensorBoard discards what earlier files contain from that step on.
    ///
    /// # Errors
    /// [`EventError::Io`].
    pub fn create(folder: &Path, resumed_at: Option<usize>) -> Result<Self, EventError> {
        let failed = |path: &Path, e: std::io::Error| EventError::Io {
            path: path.to_owned(),
            reason: e.to_string(),
        };
        std::fs::create_dir_all(folder).map_err(|e| failed(folder, e))?;
        let (seconds, process) = (wall_time() as u64, std::process::id());
        // Names sort by time; the number at the end distinguishes runs of the same second.
        let mut number = 0;
        let (path, file) = loop {
            let name = format!("events.out.tfevents.{seconds:010}.polyview.{process}.{number}");
            let path = folder.join(name);
            match OpenOptions::new().write(true).create_new(true).open(&path) {
                Ok(file) => break (path, file),
                Err(e) if e.kind() == ErrorKind::AlreadyExists => number += 1,
                Err(e) => return Err(failed(&path, e)),
            }
        };
        let mut writer = Self { path, file: BufWriter::new(file) };
        writer.event(0, |event| event.bytes(3, b"brain.Event:2"))?;
        if let Some(step) = resumed_at {
            let mut start = Message::default();
            start.varint(1, 1);
            writer.event(step, |event| event.bytes(7, &start.0))?;
        }
        writer.flush()?;
        Ok(writer)
    }

    /// Returns the path of the event file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes and flushes a step's summary, so that a running TensorBoard sees it.
    ///
    /// # Errors
    /// [`EventError::Io`].
    pub fn write(&mut self, step: usize, summary: &Summary) -> Result<(), EventError> {
        self.event(step, |event| event.bytes(5, &summary.message.0))?;
        self.flush()
    }

    fn event(&mut self, step: usize, fill: impl FnOnce(&mut Message)) -> Result<(), EventError> {
        let mut event = Message::default();
        event.double(1, wall_time());
        event.varint(2, step as u64);
        fill(&mut event);
        self.file.write_all(&framed(&event.0)).map_err(|e| self.failed(e))
    }

    fn flush(&mut self) -> Result<(), EventError> {
        self.file.flush().map_err(|e| self.failed(e))
    }

    fn failed(&self, e: std::io::Error) -> EventError {
        EventError::Io { path: self.path.clone(), reason: e.to_string() }
    }
}

/// Returns the time in seconds since 1970.
fn wall_time() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |time| time.as_secs_f64())
}

/// Frames bytes as a TFRecord: length and its checksum, the bytes and their checksum.
fn framed(bytes: &[u8]) -> Vec<u8> {
    let length = (bytes.len() as u64).to_le_bytes();
    let mut record = Vec::with_capacity(bytes.len() + 16);
    record.extend(length);
    record.extend(masked_checksum(&length).to_le_bytes());
    record.extend(bytes);
    record.extend(masked_checksum(bytes).to_le_bytes());
    record
}

/// Computes TFRecord's masked CRC-32C: rotated right by 15 bits, plus a constant, so that a checksum over
/// data that contain checksums remains effective.
fn masked_checksum(bytes: &[u8]) -> u32 {
    crc32c::crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8)
}

/// A protobuf message under construction.
#[derive(Debug, Clone, PartialEq, Default)]
struct Message(Vec<u8>);

impl Message {
    /// Appends a field's key: its number and its wire type.
    fn key(&mut self, field: u32, wire: u32) {
        self.number(u64::from(field << 3 | wire));
    }

    /// Appends a varint: seven bits per byte, lowest first; the top bit of a byte is set if more follow.
    fn number(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    fn varint(&mut self, field: u32, value: u64) {
        self.key(field, 0);
        self.number(value);
    }

    fn double(&mut self, field: u32, value: f64) {
        self.key(field, 1);
        self.0.extend(value.to_le_bytes());
    }

    fn float(&mut self, field: u32, value: f32) {
        self.key(field, 5);
        self.0.extend(value.to_le_bytes());
    }

    /// Appends a field of bytes, a string or a message.
    fn bytes(&mut self, field: u32, value: &[u8]) {
        self.key(field, 2);
        self.number(value.len() as u64);
        self.0.extend(value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn protobuf_numbers() {
        // From the encoding guide: 150 in field 1, "testing" in field 2.
        let mut message = Message::default();
        message.varint(1, 150);
        message.bytes(2, b"testing");
        assert_eq!(message.0, b"\x08\x96\x01\x12\x07testing");
        let mut large = Message::default();
        large.varint(15, u64::MAX);
        assert_eq!(large.0, [&[0x78][..], &[0xff; 9], &[1]].concat());
    }

    #[test]
    fn tfrecord_frames() {
        let record = framed(b"123456789");
        assert_eq!(record[..8], 9u64.to_le_bytes());
        assert_eq!(record[12..21], *b"123456789");
        // Both values are from TensorBoard's own writer.
        assert_eq!(record[21..], 0xc78a_b0e5_u32.to_le_bytes());
        assert_eq!(framed(&[0; 24])[8..12], 0x224b_7fa3_u32.to_le_bytes());
    }
}
