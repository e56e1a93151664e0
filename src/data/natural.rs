//! Natural order of file names: `action_2` before `action_10`.

use std::cmp::Reverse;
use std::path::PathBuf;

/// Sorts paths by their last component; numbers in it are compared by value.
pub(crate) fn natural_order(paths: &mut [PathBuf]) {
    paths.sort_by_cached_key(|path| {
        natural_key(&path.file_name().unwrap_or(path.as_os_str()).to_string_lossy())
    });
}

/// Returns a name's sort key in natural order: alternating text and numbers. A number is compared
/// by its length without leading zeros and then by its digits, so that numbers of any length
/// compare correctly.
pub(crate) fn natural_key(name: &str) -> Vec<(String, usize, String, Reverse<usize>)> {
    let mut rest = name;
    let mut key = Vec::new();
    while !rest.is_empty() {
        let digits = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        let (text, tail) = rest.split_at(digits);
        let end = tail.find(|c: char| !c.is_ascii_digit()).unwrap_or(tail.len());
        let (number, after) = tail.split_at(end);
        let value = number.trim_start_matches('0');
        // Among equal numbers, the one with more leading zeros comes first: these may be decimals,
        // such as 0.001 and 0.01.
        let zeros = Reverse(number.len() - value.len());
        key.push((text.to_string(), value.len(), value.to_string(), zeros));
        rest = after;
    }
    key
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn numbers_in_names_are_compared_by_value() {
        let names =
            ["b", "a10", "a2", "a02", "clip_20.mp4", "clip_3.mp4", "a", "r=0.01_2", "r=0.001_3"];
        let mut paths = names.map(|name| Path::new("folder_9").join(name)).to_vec();
        natural_order(&mut paths);
        let sorted =
            ["a", "a02", "a2", "a10", "b", "clip_3.mp4", "clip_20.mp4", "r=0.001_3", "r=0.01_2"];
        assert_eq!(paths, sorted.map(|name| Path::new("folder_9").join(name)));
    }
}
