//! Parses ffmpeg's `framecrc` format: a header, and a line for each packet of a stream. The format
//! is made for programs and has not changed since version 4.0.
//!
//! ```text
//! #tb 0: 1/25
//! #codec_id 0: h264
//! #dimensions 0: 398x224
//! #sar 0: 1/1
//! 0,         -2,          0,        1,     2124, 0x2dd5af14, F=0x0
//! ```
//! The fields are stream, decoding and display time, duration, bytes, checksum, and flags unless
//! the packet is a key frame.

use std::io::{BufRead, BufReader, Read};

/// Maximum number of packets: two days of video.
const MAX_PACKETS: usize = 1 << 22;

/// Maximum length of a line, bytes; typical lines have sixty.
const MAX_LINE: u64 = 4096;

/// The listing of one stream.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Listing {
    /// Length of a tick in seconds; 0 if it is not stated.
    pub tick: f64,
    /// The codec's name.
    pub codec: String,
    /// Width and height in pixels.
    pub size: (usize, usize),
    /// Width and height of a pixel; zero if unknown.
    pub pixel_aspect: [u32; 2],
    /// The first packet.
    pub first: Option<Packet>,
    /// Display time of each packet in ticks, in the order of the stream.
    pub stamps: Vec<Option<i64>>,
    /// Whether reading was aborted because the listing does not end.
    pub endless: bool,
}

/// A packet, or a frame in the listing of a decoded stream.
#[derive(Debug, PartialEq)]
pub(super) struct Packet {
    /// Duration in ticks; 0 if unknown.
    pub duration: i64,
    /// The checksum as printed.
    pub checksum: String,
    /// Whether decoding can start here.
    pub key: bool,
}

impl Listing {
    /// Reads a listing to its end. Unknown lines are ignored.
    pub(super) fn read(output: impl Read) -> Self {
        let mut listing = Self::default();
        let mut output = BufReader::new(output);
        let mut line = Vec::new();
        loop {
            line.clear();
            match output.by_ref().take(MAX_LINE).read_until(b'\n', &mut line) {
                Ok(0) | Err(_) => return listing,
                Ok(_) => {}
            }
            let Ok(line) = std::str::from_utf8(&line) else { continue };
            match line.strip_prefix('#') {
                Some(header) => {
                    listing.header(header.trim());
                }
                None if listing.stamps.len() == MAX_PACKETS => {
                    listing.endless = true;
                    return listing;
                }
                None => {
                    listing.packet(line.trim());
                }
            }
        }
    }

    fn header(&mut self, header: &str) -> Option<()> {
        let (name, value) = header.split_once(" 0: ")?;
        match name {
            "tb" => {
                let [ticks, per] = pair(value, '/')?;
                self.tick = f64::from(ticks) / f64::from(per);
            }
            "codec_id" => value.clone_into(&mut self.codec),
            "dimensions" => {
                let [width, height] = pair(value, 'x')?;
                self.size = (usize::try_from(width).ok()?, usize::try_from(height).ok()?);
            }
            "sar" => self.pixel_aspect = pair(value, '/')?,
            _ => {}
        }
        Some(())
    }

    fn packet(&mut self, line: &str) -> Option<()> {
        let mut fields = line.split(',').map(str::trim);
        if fields.next()? != "0" {
            return None;
        }
        // "NOPTS" means that there is no time stamp.
        let stamp = fields.nth(1)?.parse().ok();
        let duration = fields.next()?.parse().unwrap_or(0);
        let checksum = fields.nth(1)?;
        if self.first.is_none() {
            let flags = fields.find_map(|field| field.strip_prefix("F=0x"));
            let key = match flags {
                None => true,
                Some(flags) => u32::from_str_radix(flags, 16).ok()? & 1 != 0,
            };
            self.first = Some(Packet { duration, checksum: checksum.into(), key });
        }
        self.stamps.push(stamp);
        Some(())
    }
}

/// Parses two numbers with a separator between them.
fn pair(text: &str, separator: char) -> Option<[u32; 2]> {
    let (first, second) = text.split_once(separator)?;
    Some([first.parse().ok()?, second.parse().ok()?])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_and_packets_are_read() {
        let text = "#extradata 0:       35, 0x8bfc0983\n#software: Lavf59.27.100\n\
             #tb 0: 1/90000\n#media_type 0: video\n#codec_id 0: h264\n#dimensions 0: 48x32\n\
             #sar 0: 4/3\n\
             0,      -3600,          0,     3600,       34, 0xaa130c96, F=0x0, S=1,        1\n\
             1,          0,          0,     3600,       34, 0xaa130c97\n\
             0,          0,      NOPTS,     3600,       34, 0xaa130c98\n\
             0,       3600,       7200,        0,       34, 0xaa130c99\nnonsense\n0,1\n";
        let first = Packet { duration: 3600, checksum: "0xaa130c96".into(), key: false };
        let expected = Listing {
            tick: 1.0 / 90000.0,
            codec: "h264".into(),
            size: (48, 32),
            pixel_aspect: [4, 3],
            first: Some(first),
            stamps: vec![Some(0), None, Some(7200)],
            endless: false,
        };
        assert_eq!(Listing::read(text.as_bytes()), expected);
        let key = |line: &str| Listing::read(line.as_bytes()).first.unwrap().key;
        assert!(key("0, 0, 0, 1, 34, 0xaa130c96") && key("0, 0, 0, 1, 34, 0xaa130c96, F=0x5"));
    }
}
