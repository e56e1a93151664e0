//! Quoting of paths in commands that the user may copy.

use std::path::Path;

/// Returns a path as a shell takes it, in quotes if it needs them.
pub(super) fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    // A backslash separates folders only on Windows.
    let plain =
        |c: char| c.is_alphanumeric() || "_-./:=,+@%".contains(c) || (c == '\\' && cfg!(windows));
    match !text.is_empty() && text.chars().all(plain) {
        true => text,
        false if cfg!(windows) => format!("\"{text}\""),
        false => format!("'{}'", text.replace('\'', r"'\''")),
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn paths_are_quoted_where_a_shell_needs_it() {
        for (path, shown) in [
            ("runs/lr=1e-3_seed=0", "runs/lr=1e-3_seed=0"),
            ("données", "données"),
            ("a b", "'a b'"),
            ("$HOME", "'$HOME'"),
            ("it's", r"'it'\''s'"),
            ("", "''"),
            (r"x\y", r"'x\y'"),
        ] {
            assert_eq!(quoted(Path::new(path)), shown);
        }
    }
}
