//! Errors and warnings about individual entries and clips of a data set.

use std::fmt::{self, Write as _};

use serde::Serialize;

use super::clip::ClipError;

/// Severity of a problem.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Level {
    /// Something annotated cannot be used.
    Error,
    /// The data can be used, but should be checked.
    Warning,
}

/// The kinds of problems, in the order in which a report lists them: the most severe ones come
/// first. The JSON report uses their serialised names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProblemKind {
    /// `annotations.json` as a whole cannot be read.
    Unreadable,
    /// A split without any usable action.
    NoUsableAction,
    /// Classes without an action in a split that was made.
    AbsentClass,
    /// A field or an entry of the annotations has the wrong type.
    WrongType,
    /// A value that matches no class.
    UnknownValue,
    /// An id that occurs twice; the first entry is used.
    DuplicateAction,
    /// A field that occurs twice in one entry.
    DuplicateField,
    /// A Url that points outside the split folder or is not a path.
    RefusedPath,
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
    /// Two actions with the same clip but different labels.
    ContradictingLabels,
    /// Two splits with the same clip.
    ClipInTwoSplits,
    /// Two actions of a split with the same clip.
    ClipInTwoActions,
    /// A clip listed twice in one action, by the same path (it is used once) or as two equal files.
    DuplicateClip,
    /// Images that are not used because the action has videos.
    UnusedImages,
    /// Folders whose clips belong to no action.
    UnusedClips,
    /// An inferred class that looks like a missing value.
    MissingValue,
    /// Inferred classes whose names differ only in case or white space.
    SimilarClasses,
    /// A field of actions that the schema does not name.
    UnknownField,
    /// A field that determines labels but that no action of the split has.
    MissingField,
    /// An action whose views differ in length.
    ViewLengths,
    /// Clips of one split that are rotated by different angles to be upright.
    MixedRotation,
    /// Some clips of a split are taller than wide, others wider than tall.
    MixedOrientation,
    /// Clips of one split differ in the shape of their pixels.
    MixedPixelAspect,
    /// A clip that was decoded although the decoder reported errors.
    ClipConcealed,
    /// A clip whose frames are not evenly spaced in time although the window is in seconds.
    UnevenTimes,
    /// The window extends past the clip's end; the last frame is repeated.
    ClipShort,
    /// The clip's size or frame rate differs from most clips of the split.
    ClipOdd,
    /// A property's value that the schema does not list; it counts as unknown.
    UnlistedValue,
    /// The annotation file or a Url names another split.
    OtherSplit,
    /// The number of actions differs from the one stated in the file.
    CountMismatch,
    /// NaN or infinity in the annotations.
    NotFinite,
    /// Annotations that are not plain UTF-8.
    Encoding,
}

impl ProblemKind {
    /// Returns the default level of problems of this kind.
    pub fn level(self) -> Level {
        match self {
            Self::Unreadable
            | Self::NoUsableAction
            | Self::WrongType
            | Self::UnknownValue
            | Self::DuplicateAction
            | Self::DuplicateField
            | Self::RefusedPath
            | Self::ClipMissing
            | Self::ClipEmpty
            | Self::ClipUnreadable
            | Self::ClipNoVideo
            | Self::ClipUnsupported
            | Self::ClipDamaged => Level::Error,
            _ => Level::Warning,
        }
    }

    /// Returns a short description for tables.
    pub fn title(self) -> &'static str {
        match self {
            Self::Unreadable => "unreadable annotations",
            Self::NoUsableAction => "no usable action",
            Self::AbsentClass => "class without an action",
            Self::WrongType => "wrong type",
            Self::UnknownValue => "unknown value",
            Self::DuplicateAction => "duplicate action",
            Self::DuplicateField => "duplicate field",
            Self::RefusedPath => "refused path",
            Self::ClipMissing => "missing clip",
            Self::ClipEmpty => "empty clip",
            Self::ClipUnreadable => "unreadable clip",
            Self::ClipNoVideo => "no video",
            Self::ClipUnsupported => "unsupported clip",
            Self::ClipDamaged => "damaged clip",
            Self::ContradictingLabels => "contradicting labels",
            Self::ClipInTwoSplits => "same clip in two splits",
            Self::ClipInTwoActions => "same clip in two actions",
            Self::DuplicateClip => "duplicate clip",
            Self::UnusedImages => "images beside videos",
            Self::UnusedClips => "clips of no action",
            Self::MissingValue => "class that looks like a missing value",
            Self::SimilarClasses => "similar classes",
            Self::UnknownField => "unknown field",
            Self::MissingField => "field missing everywhere",
            Self::ViewLengths => "views of different length",
            Self::MixedRotation => "mixed rotation",
            Self::MixedOrientation => "mixed orientation",
            Self::MixedPixelAspect => "mixed pixel shapes",
            Self::ClipConcealed => "decoded despite errors",
            Self::UnevenTimes => "frames at uneven times",
            Self::ClipShort => "short clip",
            Self::ClipOdd => "odd clip",
            Self::UnlistedValue => "unlisted value",
            Self::OtherSplit => "other split named",
            Self::CountMismatch => "count mismatch",
            Self::NotFinite => "NaN or infinity",
            Self::Encoding => "not plain UTF-8",
        }
    }

    /// Returns why the problem matters and what to do about it, if the messages do not say so.
    pub fn advice(self) -> Option<&'static str> {
        match self {
            Self::ContradictingLabels => {
                Some("a network cannot learn from both; correct one of them")
            }
            Self::ClipInTwoSplits => {
                Some("scores on training clips are too optimistic; remove the clips from one split")
            }
            Self::AbsentClass => Some(
                "no score covers them; name the splits in the annotations, or validate each action \
                 once with --fold",
            ),
            Self::ClipInTwoActions => Some("it counts twice; remove one of them"),
            Self::UnusedImages => Some(
                "remove them, or move them to a folder of their own in the class's folder if they are \
                 another action",
            ),
            Self::DuplicateField => Some("which one applies is undefined; remove one of them"),
            Self::ViewLengths => Some(
                "the window is counted from each clip's start; check that all show the same moment",
            ),
            Self::MixedRotation => Some("check that all of them are upright (--sheet shows them)"),
            Self::MixedOrientation => Some("only the middle of a tall clip is used"),
            Self::UnevenTimes => Some(
                "a window in seconds assumes the mean rate: convert the clips to a constant rate (ffmpeg \
                 -i IN -r 25 OUT), or give the window in frames",
            ),
            Self::MixedPixelAspect => Some("frames are not stretched, so their shapes differ"),
            _ => None,
        }
    }
}

impl From<&ClipError> for ProblemKind {
    fn from(error: &ClipError) -> Self {
        match error {
            ClipError::Missing(_) => Self::ClipMissing,
            ClipError::Empty(_) => Self::ClipEmpty,
            ClipError::Io { .. } | ClipError::GivenUp { .. } => Self::ClipUnreadable,
            ClipError::NoVideo(_) => Self::ClipNoVideo,
            ClipError::Unsupported { .. } | ClipError::Ffmpeg { .. } => Self::ClipUnsupported,
            ClipError::Damaged { .. } => Self::ClipDamaged,
        }
    }
}

/// A problem and its location.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// Kind of the problem.
    pub kind: ProblemKind,
    /// Severity of the problem.
    pub level: Level,
    /// Id of the affected action, if any.
    pub action: Option<String>,
    /// The affected Url, as annotated, or file, if any.
    pub file: Option<String>,
    /// Description of what was found.
    pub message: String,
}

impl Problem {
    /// Creates a problem of an action.
    pub(crate) fn of_action(kind: ProblemKind, action: &str, message: impl Into<String>) -> Self {
        let action = Some(action.to_owned());
        Self { kind, level: kind.level(), action, file: None, message: message.into() }
    }

    /// Creates a problem of one clip of an action.
    pub(crate) fn of_clip(
        kind: ProblemKind,
        action: &str,
        file: impl Into<String>,
        message: impl Into<String>,
    ) -> Self {
        Self { file: Some(file.into()), ..Self::of_action(kind, action, message) }
    }

    /// Creates a problem of a whole split.
    pub(crate) fn of_split(kind: ProblemKind, message: impl Into<String>) -> Self {
        Self { kind, level: kind.level(), action: None, file: None, message: message.into() }
    }

    /// Creates a problem of a whole file.
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
        // Clip errors already name their file.
        match &self.file {
            Some(file) if !self.message.contains(file.as_str()) => {
                escaped(f, file)?;
                f.write_str(": ")?;
            }
            _ => {}
        }
        escaped(f, &self.message)
    }
}

/// Writes text with escaped control characters: names come from files and must not control the
/// terminal.
fn escaped(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    text.chars().try_for_each(|c| match c.is_control() {
        true => write!(f, "{}", c.escape_default()),
        false => f.write_char(c),
    })
}
