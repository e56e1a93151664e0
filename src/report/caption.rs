//! Text of a page with names whose writing direction is isolated: a name may be written from right to left,
//! which must not reverse the text beside it.

use std::borrow::Cow;

use crate::text::turns;

/// A line of words and names.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Caption(Vec<Part>);

/// A piece of a [`Caption`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Part {
    pub text: String,
    /// Whether the text is a name from the data.
    pub is_name: bool,
}

impl Caption {
    /// Appends words of this program.
    #[must_use]
    pub fn words(mut self, text: impl Into<String>) -> Self {
        self.0.push(Part { text: text.into(), is_name: false });
        self
    }

    /// Appends a name.
    #[must_use]
    pub fn name(mut self, text: impl Into<String>) -> Self {
        self.0.push(Part { text: text.into(), is_name: true });
        self
    }

    pub(crate) fn parts(&self) -> &[Part] {
        &self.0
    }
}

/// Isolates the direction of a name in plain text, such as a tooltip, that cannot contain HTML elements.
pub(crate) fn isolated(name: &str) -> Cow<'_, str> {
    if name.is_ascii() {
        return name.into();
    }
    format!("\u{2068}{}\u{2069}", unturned(name)).into()
}

/// Removes the characters that set the direction of text.
pub(crate) fn unturned(line: &str) -> String {
    line.chars().filter(|&c| !turns(c)).collect()
}

#[cfg(test)]
mod tests {
    use super::isolated;

    #[test]
    fn the_direction_of_a_name_is_isolated() {
        assert_eq!(isolated("No card"), "No card");
        assert_eq!(isolated("\u{5d0}"), "\u{2068}\u{5d0}\u{2069}");
        // Characters that would end the isolation or reverse the text that follows.
        assert_eq!(isolated("a\u{2069}\u{202e}b"), "\u{2068}ab\u{2069}");
    }
}
