//! Formatting quantities for people.

use std::fmt;

/// A number of bytes with a decimal unit: `4.3 MB`, `60.0 GB`.
pub(crate) struct ByteSize(pub u64);

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 as f64 {
            bytes if bytes >= 1e9 => write!(f, "{:.1} GB", bytes / 1e9),
            bytes if bytes >= 1e6 => write!(f, "{:.1} MB", bytes / 1e6),
            bytes if bytes >= 1e3 => write!(f, "{:.1} kB", bytes / 1e3),
            bytes => write!(f, "{bytes} bytes"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::ByteSize;

    #[test]
    fn sizes_have_the_largest_unit_below_them() {
        let shown = [0, 999, 1_000, 4_345_678, 60_000_000_000].map(|b| ByteSize(b).to_string());
        assert_eq!(shown, ["0 bytes", "999 bytes", "1.0 kB", "4.3 MB", "60.0 GB"]);
    }
}
