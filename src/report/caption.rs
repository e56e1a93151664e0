//! Text of a page in which names keep their direction to themselves: a name may be written from the right, and
//! must not turn round what stands beside it.

use std::borrow::Cow;

use crate::text::turns;

/// A line of words and names.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Caption(Vec<Part>);

/// A piece of a [`Caption`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Part {
    pub text: String,
    /// Whether it comes from the data.
    pub is_name: bool,
}

impl Caption {
    /// With words of this program at the end.
    #[must_use]
    pub fn words(mut self, text: impl Into<String>) -> Self {
        self.0.push(Part { text: text.into(), is_name: false });
        self
    }

    /// With a name at the end.
    #[must_use]
    pub fn name(mut self, text: impl Into<String>) -> Self {
        self.0.push(Part { text: text.into(), is_name: true });
        self
    }

    pub(crate) fn parts(&self) -> &[Part] {
        &self.0
    }
}

/// A name for a line that cannot have elements, such as a tooltip.
pub(crate) fn isolated(name: &str) -> Cow<'_, str> {
    if name.is_ascii() {
        return name.into();
    }
    format!("\u{2068}{}\u{2069}", unturned(name)).into()
}

/// A line with names in it, without what would turn it round.
pub(crate) fn unturned(line: &str) -> String {
    line.chars().filter(|&c| !turns(c)).collect()
}

#[cfg(test)]
mod tests {
    use super::isolated;

    #[test]
    fn a_name_keeps_its_direction_to_itself() {
        assert_eq!(isolated("No card"), "No card");
        assert_eq!(isolated("\u{5d0}"), "\u{2068}\u{5d0}\u{2069}");
        // What would end the isolation, or turn what follows.
        assert_eq!(isolated("a\u{2069}\u{202e}b"), "\u{2068}ab\u{2069}");
    }
}
