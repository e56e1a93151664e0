//! Detects recordings of broadcasts by their first bytes.

use std::fs::File;
use std::io::Read;
use std::path::Path;

/// Number of bytes that are examined.
const HEAD: u64 = 64 << 10;

/// Packet sizes of MPEG transport streams: plain, with a time code (m2ts), with parity.
const PACKETS: [usize; 3] = [188, 192, 204];

/// Number of consecutive packets that must begin like transport packets.
const IN_A_ROW: usize = 5;

/// Returns whether a file is an MPEG transport, program or elementary stream. These have no index
/// and are designed to be tuned in to, cut and joined anywhere; undecodable frames at such
/// positions are not damage.
pub(super) fn is_recording(path: &Path) -> bool {
    let mut head = Vec::new();
    // Errors are ignored here: ffmpeg reports them.
    let read = File::open(path).and_then(|file| file.take(HEAD).read_to_end(&mut head));
    read.is_ok() && recording(&head)
}

fn recording(head: &[u8]) -> bool {
    let packets = |size: usize, start: usize| {
        let mut starts = (0..IN_A_ROW).map(|n| start + n * size);
        starts.all(|at| head.get(at) == Some(&0x47))
    };
    if PACKETS.iter().any(|&size| (0..size).any(|start| packets(size, start))) {
        return true;
    }
    // Start codes of packs and of elementary streams; after a cut, a stream soon has another pack.
    let indexed = head.starts_with(&[0x1A, 0x45, 0xDF, 0xA3])
        || head.starts_with(b"RIFF")
        || head.get(4..8).is_some_and(|name| name.iter().all(u8::is_ascii_lowercase));
    head.starts_with(&[0, 0, 1])
        || head.starts_with(&[0, 0, 0, 1])
        || !indexed && head.windows(4).any(|code| code == [0, 0, 1, 0xBA])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_without_an_index_are_recognised_after_any_cut() {
        for size in PACKETS {
            let stream: Vec<u8> = (0..size * 8).map(|i| [0x47, 9][(i % size).min(1)]).collect();
            assert!(recording(&stream) && recording(&stream[size - 5..]));
        }
        assert!(recording(&[0, 0, 1, 0xBA, 0x44]) && recording(&[0, 0, 0, 1, 0x67]));
        assert!(recording(&[&[7; 900][..], &[0, 0, 1, 0xBA]].concat()));
        for start in [&b"\0\0\0\x18ftypisom"[..], b"RIFF....AVI ", b"\x1A\x45\xDF\xA3"] {
            assert!(!recording(&[start, &[0, 0, 1, 0xBA]].concat()));
        }
        assert!(!recording(&[]) && !recording(&[0x47; 600]) && !recording(b"plain text"));
    }
}
