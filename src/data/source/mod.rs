//! A data set on disk: how it lists its actions, its schema and its splits.
//!
//! SoccerNet's layout, class folders, tables and lists are all converted to [`Split`]s;
//! later stages do not depend on the format. Splits that a data set lacks are made.

mod action_folder;
mod class_names;
mod class_values;
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
use super::layout::{self, SplitDir};
use super::split::Split;
use crate::schema::{Schema, SplitSpec};
pub use format::Format;
use format::{Found, recognise, usual_splits};
use listed::{Listed, OfSplit};
use made::MadeSplits;
pub use partition::{Fold, Partition, Shares};

/// The location of a data set and what is known about it in advance.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct SourceSpec {
    /// Folder of the data set, or a table.
    pub root: PathBuf,
    /// How the data set lists its actions; detected if `None`.
    pub format: Option<Format>,
    /// Meaning of the annotations. If `None`, SoccerNet's layout uses the built-in schema, and the
    /// schema of any other data set is inferred from its labels.
    pub schema: Option<Schema>,
    /// How missing splits are made.
    pub partition: Partition,
}

/// A data set on disk.
#[derive(Debug, Clone)]
pub struct DataSource {
    root: PathBuf,
    /// The folder to which the paths of clips are relative.
    dir: PathBuf,
    format: Format,
    schema: Schema,
    /// The tables or lists of the data set.
    files: Vec<PathBuf>,
    /// The split folders in SoccerNet's layout.
    folders: Vec<SplitDir>,
    /// The actions; empty in SoccerNet's layout, whose actions are read split by split.
    listed: Vec<Listed>,
    /// Problems that concern no single action.
    problems: Vec<OfSplit>,
    made: MadeSplits,
    /// Whether the user requested the splits, as shares or as a fold.
    requested: bool,
    notes: Vec<String>,
}

impl DataSource {
    /// Opens a data set: reads its folders or tables, but no clips.
    ///
    /// # Errors
    /// The folders or tables cannot be read, are not a data set, or do not match the schema or the
    /// splits that are to be made.
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
        let Contents { fields, listed, mut problems, mut notes } = read(found, dir, &splits)?;
        let schema = match &spec.schema {
            _ if format == Format::SoccerNet => known,
            Some(schema) => {
                check_fields(root, schema, &fields)?;
                schema.clone()
            }
            None => {
                let inferred = infer::infer(root, &fields, format != Format::Manifest, &listed)?;
                problems.extend(inferred.problems);
                notes.extend(inferred.notes);
                inferred.schema
            }
        };
        let folders = match format {
            Format::SoccerNet => layout::split_folders(root, &schema)?,
            _ => Vec::new(),
        };
        let source = Self {
            root: root.clone(),
            dir: dir.to_owned(),
            format,
            schema,
            files,
            folders,
            listed,
            problems,
            made: MadeSplits::default(),
            requested: false,
            notes,
        };
        source.divided(&spec.partition)
    }

    /// Restricts the data set to the given tasks.
    ///
    /// # Errors
    /// The schema lacks one of the tasks.
    pub fn with_tasks(mut self, names: &[String]) -> Result<Self, DataError> {
        self.schema = self.schema.with_tasks(names)?;
        Ok(self)
    }

    /// Returns the data set with its splits made as `partition` says.
    ///
    /// # Errors
    /// The partition does not match the existing splits.
    pub(crate) fn divided(mut self, partition: &Partition) -> Result<Self, DataError> {
        self.made = MadeSplits::plan(&self, partition)?;
        self.requested = partition.shares.is_some() || partition.fold.is_some();
        Ok(self)
    }

    /// Returns whether a split, given by its name in the schema, is made from other splits or from
    /// actions without a split.
    pub(crate) fn makes(&self, split: &str) -> bool {
        self.made.makes(split)
    }

    /// Returns the [digest](Split::digest) of the training split, if that split is made. If the
    /// digests of two data sets differ, their splits differ too, even if they are made in the same
    /// way.
    ///
    /// # Errors
    /// The actions cannot be read.
    pub(crate) fn training_digest(&self) -> Result<Option<u32>, DataError> {
        self.made.training_digest(self)
    }

    /// Returns the folder or table of the data set.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Returns the folder to which the paths of clips are relative.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Returns how the data set lists its actions.
    pub fn format(&self) -> Format {
        self.format
    }

    /// Returns the files that list the actions.
    pub(crate) fn files(&self) -> Vec<PathBuf> {
        match self.format {
            Format::SoccerNet => {
                self.folders.iter().map(|split| split.dir.join(ANNOTATIONS)).collect()
            }
            _ => self.files.clone(),
        }
    }

    /// Returns the schema, which defines the meaning of the annotations.
    pub fn schema(&self) -> &Schema {
        &self.schema
    }

    /// Returns notes about what was inferred, one line each: how numeric labels are matched with the
    /// names in a class list, and, without a given schema, every task and every field that is none.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Returns the names of the existing splits, including made ones, in the schema's order.
    pub fn splits(&self) -> Vec<String> {
        let (listed, made) = (self.listed_splits(), self.made.names());
        let exists = |name: &&String| listed.contains(name) || made.contains(&name.as_str());
        self.schema.splits.iter().map(|split| &split.name).filter(exists).cloned().collect()
    }

    /// Returns the data set's own splits, each with its folder or file; the made splits instead if
    /// it has none or if the user requested them.
    pub(crate) fn own_splits(&self) -> Vec<(String, PathBuf, Result<Split, DataError>)> {
        let listed = self.listed_splits();
        let made = listed.is_empty() || self.requested;
        let names = if made { self.splits() } else { listed };
        let read = |name: String| {
            let split = if made { self.split(&name) } else { self.read(&name) };
            (name.clone(), self.place(&name), split)
        };
        names.into_iter().map(read).collect()
    }

    /// Returns all actions of the data set in the splits in which it stores them; unlike made splits,
    /// these cannot be too small. The name of a split that cannot be read accompanies the error.
    pub(crate) fn stored(&self) -> Vec<Result<Split, (String, DataError)>> {
        if self.format != Format::SoccerNet {
            return vec![Ok(self.collect("all", false, &|_| true))];
        }
        let read = |name: String| self.read(&name).map_err(|error| (name, error));
        self.listed_splits().into_iter().map(read).collect()
    }

    /// Reads a split according to the schema's rules; `name` may be any of its spellings.
    ///
    /// # Errors
    /// The split does not exist or cannot be read.
    pub fn split(&self, name: &str) -> Result<Split, DataError> {
        let spec = self.spec(name)?;
        match self.made.split(self, &spec.name)? {
            Some(split) => Ok(split),
            None => self.read(&spec.name),
        }
    }

    /// Returns the folder or file of a split, for messages.
    fn place(&self, name: &str) -> PathBuf {
        let found = self.folders.iter().find(|split| split.name == name);
        found.map_or_else(|| self.root.clone(), |split| split.dir.clone())
    }

    fn spec(&self, name: &str) -> Result<&SplitSpec, DataError> {
        self.schema.split(name).ok_or_else(|| {
            let known: Vec<_> = self.schema.splits.iter().map(|s| s.name.as_str()).collect();
            DataError::UnknownSplit { split: name.to_owned(), known: known.join(", ") }
        })
    }

    /// Returns the names of the data set's own splits.
    fn listed_splits(&self) -> Vec<String> {
        if self.format == Format::SoccerNet {
            return self.folders.iter().map(|split| split.name.clone()).collect();
        }
        let has = |split: &&SplitSpec| {
            self.listed.iter().any(|action| action.split.as_ref() == Some(&split.name))
        };
        self.schema.splits.iter().filter(has).map(|split| split.name.clone()).collect()
    }

    /// Reads one of the data set's own splits.
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

    /// Collects the listed actions whose own split satisfies `wanted` into a split.
    fn collect(&self, name: &str, labelled: bool, wanted: &dyn Fn(Option<&str>) -> bool) -> Split {
        let mut split = Split::new(name, self.dir.clone(), labelled);
        for action in self.listed.iter().filter(|action| wanted(action.split.as_deref())) {
            action.clone().add_to(&mut split, &self.schema);
        }
        let own = self.problems.iter().filter(|(split, _)| wanted(split.as_deref()));
        split.problems.extend(own.map(|(_, problem)| problem.clone()));
        split
    }
}

/// What was read of a data set; empty for SoccerNet's layout.
struct Contents {
    fields: Vec<String>,
    listed: Vec<Listed>,
    /// Problems that concern no single action.
    problems: Vec<OfSplit>,
    /// What was inferred from class lists.
    notes: Vec<String>,
}

/// Reads the fields and actions of a recognised data set.
fn read(found: Found, dir: &Path, splits: &[SplitSpec]) -> Result<Contents, DataError> {
    let class = || vec![folders::CLASS.to_owned()];
    let mut all = Vec::new();
    let (mut problems, mut notes) = (Vec::new(), Vec::new());
    let fields = match found {
        Found::SoccerNet => Vec::new(),
        Found::Folders(folders) => {
            for folder in folders {
                let (actions, problem) = folder.read(dir)?;
                all.extend(actions);
                problems.extend(problem.map(|problem| (folder.split, problem)));
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
            (all, notes) = list::read(&files, dir)?;
            class()
        }
    };
    // A split without actions does not exist, so another one reports its problems.
    for (split, _) in &mut problems {
        if !all.iter().any(|action| action.split == *split) {
            *split = all.first().and_then(|action| action.split.clone());
        }
    }
    Ok(Contents { fields, listed: all, problems, notes })
}

/// Checks that the data set has every field that determines a task.
fn check_fields(root: &Path, schema: &Schema, fields: &[String]) -> Result<(), DataError> {
    for task in &schema.tasks {
        if let Some(field) = task.fields().into_iter().find(|f| !fields.iter().any(|g| g == f)) {
            let reason = format!(
                "has no field {field:?}, which determines {} in the schema; it has {}",
                task.title,
                fields.join(", ")
            );
            return Err(DataError::Layout { path: root.to_owned(), reason });
        }
    }
    Ok(())
}
