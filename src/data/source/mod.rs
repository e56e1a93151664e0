//! A data set on disk: how it lists its actions, its schema and its splits.
//!
//! SoccerNet's layout, a folder per class, tables and lists all become [`Split`]s; nothing after this
//! module asks which one it was. Splits that a data set lacks are made.

mod folders;
mod format;
mod infer;
mod list;
mod listed;
mod made;
mod manifest;
mod partition;
mod table;

use std::path::{Path, PathBuf};

use super::annotations::{self, ANNOTATIONS};
use super::error::DataError;
use super::layout;
use super::split::Split;
use crate::schema::{Schema, SplitSpec};
pub use format::Format;
use format::{Found, recognise, usual_splits};
use listed::Listed;
use made::MadeSplits;
pub use partition::{Fold, Partition, Shares};

/// Where a data set is and what is known of it beforehand.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct SourceSpec {
    /// Its folder, or a table.
    pub root: PathBuf,
    /// How it lists its actions; detected if absent.
    pub format: Option<Format>,
    /// What its annotations mean. Without one SoccerNet's layout has the built-in schema, and that of
    /// another data set follows from its labels.
    pub schema: Option<Schema>,
    /// How splits that it lacks are made.
    pub partition: Partition,
}

/// A data set on disk.
#[derive(Debug, Clone)]
pub struct DataSource {
    root: PathBuf,
    /// Where the paths of its clips begin.
    dir: PathBuf,
    format: Format,
    schema: Schema,
    /// Its tables or lists.
    files: Vec<PathBuf>,
    /// The actions, except for those of SoccerNet's layout, which are read split by split.
    listed: Vec<Listed>,
    made: MadeSplits,
    /// Whether these splits were asked for by shares or as a fold.
    chosen: bool,
    notes: Vec<String>,
}

impl DataSource {
    /// Opens a data set: reads its folders or tables, but no clip.
    ///
    /// # Errors
    /// What it lists cannot be read, makes no data set, or does not go with the schema or the splits
    /// that are to be made.
    pub fn open(spec: &SourceSpec) -> Result<Self, DataError> {
        let root = &spec.root;
        let mvfoul = || Schema::mvfoul().map_err(DataError::from);
        let known = spec.schema.clone().map_or_else(mvfoul, Ok)?;
        let splits = match &spec.schema {
            Some(schema) => schema.splits.clone(),
            None => usual_splits(),
        };
        let found = recognise(root, spec.format, &known, &splits)?;
        let dir = if root.is_file() { root.parent().unwrap_or(Path::new("")) } else { root };
        let (format, files) = (found.format(), found.files());
        let (fields, listed) = read(found, dir, &splits)?;
        let (schema, notes) = match &spec.schema {
            _ if format == Format::SoccerNet => (known, Vec::new()),
            Some(schema) => {
                check_fields(root, schema, &fields)?;
                (schema.clone(), Vec::new())
            }
            None => infer::infer(root, &fields, format != Format::Manifest, &listed)?,
        };
        let source = Self {
            root: root.clone(),
            dir: dir.to_owned(),
            format,
            schema,
            files,
            listed,
            made: MadeSplits::default(),
            chosen: false,
            notes,
        };
        source.divided(&spec.partition)
    }

    /// The data set with these tasks alone.
    ///
    /// # Errors
    /// One that the schema does not have.
    pub fn with_tasks(mut self, names: &[String]) -> Result<Self, DataError> {
        self.schema = self.schema.with_tasks(names)?;
        Ok(self)
    }

    /// The same data set with its splits made in this way.
    ///
    /// # Errors
    /// A partition that does not go with the splits that there are.
    pub(crate) fn divided(mut self, partition: &Partition) -> Result<Self, DataError> {
        self.made = MadeSplits::plan(&self, partition)?;
        self.chosen = partition.shares.is_some() || partition.fold.is_some();
        Ok(self)
    }

    /// Whether a split, by its name in the schema, is made of others or of actions without any.
    pub(crate) fn makes(&self, split: &str) -> bool {
        self.made.makes(split)
    }

    /// The [digest](Split::digest) of the training split, if it is made: data sets that differ in it have
    /// other splits, although they are made in the same way.
    ///
    /// # Errors
    /// The actions cannot be read.
    pub(crate) fn training_digest(&self) -> Result<Option<u32>, DataError> {
        self.made.training_digest(self)
    }

    /// Its folder, or its table.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// How it lists its actions.
    pub fn format(&self) -> Format {
        self.format
    }

    /// The files that list its actions.
    pub(crate) fn files(&self) -> Vec<PathBuf> {
        let splits = match self.format {
            Format::SoccerNet => layout::find_splits(&self.root, &self.schema).unwrap_or_default(),
            _ => return self.files.clone(),
        };
        splits.into_iter().map(|split| split.dir.join(ANNOTATIONS)).collect()
    }

    /// What its annotations mean.
    pub fn schema(&self) -> &Schema {
        &self.schema
    }

    /// What was inferred, a line for each task and for each field that is none.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Names of the splits that it has, those that are made included, in the schema's order.
    pub fn splits(&self) -> Vec<String> {
        let (listed, made) = (self.listed_splits(), self.made.names());
        let exists = |name: &&String| listed.contains(name) || made.contains(&name.as_str());
        self.schema.splits.iter().map(|split| &split.name).filter(exists).cloned().collect()
    }

    /// The splits of the data set itself, each with its folder or file; those that are made where it has
    /// none, or where they were asked for.
    pub(crate) fn own_splits(&self) -> Vec<(String, PathBuf, Result<Split, DataError>)> {
        let listed = self.listed_splits();
        let made = listed.is_empty() || self.chosen;
        let names = if made { self.splits() } else { listed };
        let read = |name: String| {
            let split = if made { self.split(&name) } else { self.read(&name) };
            (name.clone(), self.place(&name), split)
        };
        names.into_iter().map(read).collect()
    }

    /// Reads a split by the schema's rules; `name` in any of its spellings.
    ///
    /// # Errors
    /// There is no such split, or it cannot be read.
    pub fn split(&self, name: &str) -> Result<Split, DataError> {
        let spec = self.spec(name)?;
        match self.made.split(self, &spec.name)? {
            Some(split) => Ok(split),
            None => self.read(&spec.name),
        }
    }

    /// The folder or file that a split is in, for messages.
    fn place(&self, name: &str) -> PathBuf {
        let found = layout::find_split(&self.root, name, &self.schema);
        match (self.format, found) {
            (Format::SoccerNet, Ok(found)) => found.dir,
            _ => self.root.clone(),
        }
    }

    fn spec(&self, name: &str) -> Result<&SplitSpec, DataError> {
        self.schema.split(name).ok_or_else(|| {
            let known: Vec<_> = self.schema.splits.iter().map(|s| s.name.as_str()).collect();
            DataError::UnknownSplit { split: name.to_owned(), known: known.join(", ") }
        })
    }

    /// Names of the splits that the data set itself has.
    fn listed_splits(&self) -> Vec<String> {
        if self.format == Format::SoccerNet {
            let found = layout::find_splits(&self.root, &self.schema).unwrap_or_default();
            return found.into_iter().map(|split| split.name).collect();
        }
        let has = |split: &&SplitSpec| {
            self.listed.iter().any(|action| action.split.as_ref() == Some(&split.name))
        };
        self.schema.splits.iter().filter(has).map(|split| split.name.clone()).collect()
    }

    /// Reads a split that the data set itself has.
    fn read(&self, name: &str) -> Result<Split, DataError> {
        if self.format == Format::SoccerNet {
            return annotations::load_split(&self.root, name, &self.schema);
        }
        let listed = self.listed_splits();
        if !listed.iter().any(|listed| listed == name) {
            return Err(DataError::NoSplit {
                root: self.root.clone(),
                split: name.to_owned(),
                found: layout::listed(&self.splits()),
            });
        }
        Ok(self.collect(name, self.spec(name)?.labelled, &|split| split == Some(name)))
    }

    /// A split of the listed actions whose own split is as `wanted`.
    fn collect(&self, name: &str, labelled: bool, wanted: &dyn Fn(Option<&str>) -> bool) -> Split {
        let mut split = Split::new(name, self.dir.clone(), labelled);
        for action in self.listed.iter().filter(|action| wanted(action.split.as_deref())) {
            action.clone().add_to(&mut split, &self.schema);
        }
        split
    }
}

/// The fields and the actions of what was found; none of SoccerNet's layout.
fn read(
    found: Found,
    dir: &Path,
    splits: &[SplitSpec],
) -> Result<(Vec<String>, Vec<Listed>), DataError> {
    let class = || vec![folders::CLASS.to_owned()];
    let mut all = Vec::new();
    let fields = match found {
        Found::SoccerNet => Vec::new(),
        Found::Folders(folders) => {
            for folder in folders {
                all.extend(folder.read(dir)?);
            }
            class()
        }
        Found::Manifests(files) => {
            for file in &files {
                all.extend(manifest::read(file, dir, splits)?);
            }
            manifest::fields(&files)?
        }
        Found::Lists(files) => {
            for file in &files {
                all.extend(list::read(file, dir)?);
            }
            class()
        }
    };
    Ok((fields, all))
}

/// Refuses a data set without a field that decides a task.
fn check_fields(root: &Path, schema: &Schema, fields: &[String]) -> Result<(), DataError> {
    for task in &schema.tasks {
        if let Some(field) = task.fields().into_iter().find(|f| !fields.iter().any(|g| g == f)) {
            let reason = format!(
                "has no field {field:?}, which decides {} in the schema; it has {}",
                task.title,
                fields.join(", ")
            );
            return Err(DataError::Layout { path: root.to_owned(), reason });
        }
    }
    Ok(())
}
