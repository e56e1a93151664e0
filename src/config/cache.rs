//! Where decoded frames are kept.

use std::path::{Path, PathBuf};

use clap::builder::TypedValueParser;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::options::{path_or_empty, path_text};

/// `auto`, `off` or a folder.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum CacheChoice {
    /// In a folder below the save-dir.
    #[default]
    Auto,
    /// Nowhere: clips are decoded whenever they are needed.
    Off,
    /// In this folder, which runs may share.
    Folder(PathBuf),
}

impl CacheChoice {
    /// Returns the option's parser.
    pub(super) fn parser() -> impl TypedValueParser<Value = Self> {
        path_or_empty().try_map(Self::of)
    }

    fn of(written: PathBuf) -> Result<Self, &'static str> {
        match written.to_str() {
            Some("") => Err("must be a folder, auto or off"),
            Some("auto") => Ok(Self::Auto),
            Some("off") => Ok(Self::Off),
            _ => Ok(Self::Folder(written)),
        }
    }
}

impl Serialize for CacheChoice {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let written = match self {
            Self::Auto => Path::new("auto"),
            Self::Off => Path::new("off"),
            Self::Folder(folder) => folder,
        };
        path_text::serialize(written, serializer)
    }
}

impl<'de> Deserialize<'de> for CacheChoice {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::of(path_text::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}
