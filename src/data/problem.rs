//! What can be wrong with a data set short of making it unreadable.

use std::fmt;

use serde::Serialize;

use super::clip::ClipError;

/// How grave a problem is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Level {
    /// Something annotated cannot be used.
    Error,
    /// Usable, but worth a look.
    Warning,
}

/// The kinds of problems, as `--json` and the tables name them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProblemKind {
    /// `annotations.json` as a whole cannot be read.
    Unreadable,
    /// A field or an entry of the annotations has the wrong type.
    WrongType,
    /// A value that fits no class.
    UnknownValue,
    /// A Url that leads out of the split folder or is no path.
    RefusedPath,
    /// An id that occurs twice; the first one counts.
    DuplicateAction,
    /// A clip listed twice in one action; it counts once.
    DuplicateClip,
    /// Annotations or a Url name another split.
    OtherSplit,
    /// The number of actions differs from the one the file states.
    CountMismatch,
    /// A property's value that the schema does not list; it counts as unknown.
    UnlistedValue,
    /// No file or folder for a clip.
    ClipMissing,
    /// A clip without content.
    ClipEmpty,
    /// A clip that the system does not let us read.
    ClipUnreadable,
    /// A clip without a video track.
    ClipNoVideo,
    /// A codec or container that cannot be decoded.
    ClipUnsupported,
    /// A truncated or corrupt clip.
    ClipDamaged,
    /// The window goes past the clip's end; the last frame is repeated.
    ClipShort,
    /// Size or frame rate differ from most clips of the split.
    ClipOdd,
}

impl ProblemKind {
    /// The level that problems of this kind have by themselves.
    pub fn level(self) -> Level {
        match self {
            Self::DuplicateClip
            | Self::OtherSplit
            | Self::CountMismatch
            | Self::UnlistedValue
            | Self::ClipShort
            | Self::ClipOdd => Level::Warning,
            _ => Level::Error,
        }
    }

    /// A few words for tables.
    pub fn title(self) -> &'static str {
        match self {
            Self::Unreadable => "unreadable annotations",
            Self::WrongType => "wrong type",
            Self::UnknownValue => "unknown value",
            Self::RefusedPath => "refused path",
            Self::DuplicateAction => "duplicate action",
            Self::DuplicateClip => "duplicate clip",
            Self::OtherSplit => "other split named",
            Self::CountMismatch => "count mismatch",
            Self::UnlistedValue => "unlisted value",
            Self::ClipMissing => "missing clip",
            Self::ClipEmpty => "empty clip",
            Self::ClipUnreadable => "unreadable clip",
            Self::ClipNoVideo => "no video",
            Self::ClipUnsupported => "unsupported clip",
            Self::ClipDamaged => "damaged clip",
            Self::ClipShort => "short clip",
            Self::ClipOdd => "odd clip",
        }
    }
}

impl From<&ClipError> for ProblemKind {
    fn from(error: &ClipError) -> Self {
        match error {
            ClipError::Missing(_) => Self::ClipMissing,
            ClipError::Empty(_) => Self::ClipEmpty,
            ClipError::Io { .. } => Self::ClipUnreadable,
            ClipError::NoVideo(_) => Self::ClipNoVideo,
            ClipError::Unsupported { .. } => Self::ClipUnsupported,
            ClipError::Damaged { .. } => Self::ClipDamaged,
        }
    }
}

/// One problem: what, and where.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// The kind.
    pub kind: ProblemKind,
    /// How grave it is.
    pub level: Level,
    /// Id of the action, where it concerns one.
    pub action: Option<String>,
    /// The Url as annotated or the file, where it concerns one.
    pub file: Option<String>,
    /// What was found.
    pub message: String,
}

impl Problem {
    /// A problem of an action.
    pub fn of_action(kind: ProblemKind, action: &str, message: impl Into<String>) -> Self {
        let action = Some(action.to_owned());
        Self { kind, level: kind.level(), action, file: None, message: message.into() }
    }

    /// A problem of one clip of an action.
    pub fn of_clip(
        kind: ProblemKind,
        action: &str,
        file: impl Into<String>,
        message: impl Into<String>,
    ) -> Self {
        Self { file: Some(file.into()), ..Self::of_action(kind, action, message) }
    }

    /// A problem of a whole file.
    pub fn of_file(kind: ProblemKind, file: impl Into<String>, message: impl Into<String>) -> Self {
        let file = Some(file.into());
        Self { kind, level: kind.level(), action: None, file, message: message.into() }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(action) = &self.action {
            write!(f, "action {action}: ")?;
        }
        // Errors of clips name their file themselves.
        match &self.file {
            Some(file) if !self.message.contains(file.as_str()) => write!(f, "{file}: ")?,
            _ => {}
        }
        f.write_str(&self.message)
    }
}
