//! Errors and warnings about single entries and clips of a data set.

use std::fmt;

use serde::Serialize;

use super::clip::ClipError;

/// Severity of a problem.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Level {
    /// Something annotated cannot be used.
    Error,
    /// Usable, but worth a look.
    Warning,
}

/// The kinds of problems; their serialised names are those of the JSON report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProblemKind {
    /// `annotations.json` as a whole cannot be read.
    Unreadable,
    /// A field or an entry of the annotations has the wrong type.
    WrongType,
    /// A value that matches no class.
    UnknownValue,
    /// A Url that leads out of the split folder or is not a path.
    RefusedPath,
    /// An id that occurs twice; the first entry is used.
    DuplicateAction,
    /// A clip listed twice in one action; it is used once.
    DuplicateClip,
    /// The annotation file or a Url names another split.
    OtherSplit,
    /// The number of actions differs from the one stated in the file.
    CountMismatch,
    /// A property's value that the schema does not list; it counts as unknown.
    UnlistedValue,
    /// No file or folder for a clip.
    ClipMissing,
    /// A clip without content.
    ClipEmpty,
    /// A clip that the operating system cannot read.
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
    /// The default level of problems of this kind.
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

    /// A short description for tables.
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
            ClipError::Unsupported { .. } | ClipError::Ffmpeg { .. } => Self::ClipUnsupported,
            ClipError::Damaged { .. } => Self::ClipDamaged,
        }
    }
}

/// A problem: what it is and where.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// The kind.
    pub kind: ProblemKind,
    /// Its severity.
    pub level: Level,
    /// Id of the action that it concerns, if any.
    pub action: Option<String>,
    /// The Url as annotated or the file that it concerns, if any.
    pub file: Option<String>,
    /// What was found.
    pub message: String,
}

impl Problem {
    /// A problem of an action.
    pub(crate) fn of_action(kind: ProblemKind, action: &str, message: impl Into<String>) -> Self {
        let action = Some(action.to_owned());
        Self { kind, level: kind.level(), action, file: None, message: message.into() }
    }

    /// A problem of one clip of an action.
    pub(crate) fn of_clip(
        kind: ProblemKind,
        action: &str,
        file: impl Into<String>,
        message: impl Into<String>,
    ) -> Self {
        Self { file: Some(file.into()), ..Self::of_action(kind, action, message) }
    }

    /// A problem of a whole file.
    pub(crate) fn of_file(
        kind: ProblemKind,
        file: impl Into<String>,
        message: impl Into<String>,
    ) -> Self {
        let file = Some(file.into());
        Self { kind, level: kind.level(), action: None, file, message: message.into() }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(action) = &self.action {
            write!(f, "action {action}: ")?;
        }
        // Errors of clips already name their file.
        match &self.file {
            Some(file) if !self.message.contains(file.as_str()) => write!(f, "{file}: ")?,
            _ => {}
        }
        f.write_str(&self.message)
    }
}
