//! Natural order of file names: `action_2` before `action_10`.

use std::path::PathBuf;

/// Sorts paths by their last component, numbers in it by value.
pub(crate) fn natural_order(paths: &mut [PathBuf]) {
    paths.sort_by_cached_key(|path| {
        natural_key(&path.file_name().unwrap_or(path.as_os_str()).to_string_lossy())
    });
}

/// A name's position in natural order: runs of text and numbers, a number by its length without leading zeros and then by its digits, so
/// that numbers of any length compare correctly.
pub(crate) fn natural_key(name: &str) -> Vec<(String, usize, String)> {
    let mut rest = name;
    let mut key = Vec::new();
    while !rest.is_empty() {
        let digits = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        let (text, tail) = rest.split_at(digits);
        let end = tail.find(|c: char| !c.is_ascii_digit()).unwrap_or(tail.len());
        let (number, after) = tail.split_at(end);
        let number = number.trim_start_matches('0');
        key.push((text.to_string(), number.len(), number.to_string()));
        rest = after;
    }
    // Names that differ only in leading zeros still need a fixed order.
    key.push((name.to_owned(), 0, String::new()));
    key
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn numbers_in_names_are_compared_by_value() {
        let names = ["b", "a10", "a2", "a02", "clip_20.mp4", "clip_3.mp4", "a"];
        let mut paths = names.map(|name| Path::new("folder_9").join(name)).to_vec();
        natural_order(&mut paths);
        let sorted = ["a", "a02", "a2", "a10", "b", "clip_3.mp4", "clip_20.mp4"];
        assert_eq!(paths, sorted.map(|name| Path::new("folder_9").join(name)));
    }
}
