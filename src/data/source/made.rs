//! Makes the splits that a data set lacks but training needs.

use std::collections::{HashMap, HashSet};

use super::super::error::DataError;
use super::super::problem::{Problem, ProblemKind};
use super::super::split::{Action, Split};
use super::partition::{Fold, Item, Partition, deal};
use super::{DataSource, Format};
use crate::schema::Task;
use crate::units::plural;

/// Maximum number of absent classes that a message names.
const MOST_NAMED: usize = 5;

const TRAIN: &str = "train";
const VALID: &str = "valid";
const TEST: &str = "test";

/// Default shares of train, valid and test in a data set without splits.
const OF_ALL: [f64; 3] = [0.8, 0.1, 0.1];
/// Default shares of train and valid in a data set without a valid split.
const OF_TRAIN: [f64; 2] = [0.85, 0.15];

/// The splits that are made, and the actions from which they are made.
#[derive(Debug, Clone, Default)]
pub(super) struct MadeSplits {
    /// The splits whose actions are redistributed; empty if these are the actions without a split.
    pool: Vec<String>,
    /// The share of each part, and the split to which it belongs.
    parts: Vec<(f64, &'static str)>,
    seed: u64,
    fold: Option<Fold>,
}

impl MadeSplits {
    /// Plans which splits of a data set are made.
    ///
    /// # Errors
    /// The partition does not match the existing splits.
    pub(super) fn plan(source: &DataSource, wanted: &Partition) -> Result<Self, DataError> {
        let listed = source.listed_splits();
        let has = |name: &str| listed.iter().any(|split| split == name);
        let unsplit = source.format != Format::SoccerNet
            && source.listed.iter().any(|action| action.split.is_none());
        let shares = wanted.shares.as_ref().map(|shares| shares.0.clone());
        if has(TRAIN) && has(VALID) && shares.is_some() {
            return Err(DataError::NothingToDivide { root: source.root.clone() });
        }
        if has(TRAIN) && shares.as_ref().is_some_and(|shares| shares.len() > 2 && has(TEST)) {
            return Err(DataError::HasTest { root: source.root.clone() });
        }
        let (pool, shares) = match (unsplit, has(TRAIN), has(VALID)) {
            (true, ..) => (Vec::new(), shares.unwrap_or(OF_ALL.to_vec())),
            (false, true, false) => (vec![TRAIN.to_owned()], shares.unwrap_or(OF_TRAIN.to_vec())),
            (false, true, true) if wanted.fold.is_some() => {
                (vec![TRAIN.to_owned(), VALID.to_owned()], vec![1.0, 0.0])
            }
            _ => return Ok(Self::default()),
        };
        let test = shares.get(2).copied().unwrap_or(0.0);
        let mut parts = match wanted.fold {
            None => vec![(shares[0], TRAIN), (shares[1], VALID)],
            Some(fold) => (1..=fold.of)
                .map(|number| {
                    let name = if number == fold.number { VALID } else { TRAIN };
                    ((1.0 - test) / fold.of as f64, name)
                })
                .collect(),
        };
        if test > 0.0 {
            parts.push((test, TEST));
        }
        Ok(Self { pool, parts, seed: wanted.seed, fold: wanted.fold })
    }

    /// Returns the names of the splits that are made.
    pub(super) fn names(&self) -> Vec<&'static str> {
        let mut names: Vec<&'static str> = self.parts.iter().map(|(_, name)| *name).collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// Returns whether the given split is made.
    pub(super) fn makes(&self, name: &str) -> bool {
        self.parts.iter().any(|(_, made)| *made == name)
    }

    /// Returns the digest of the training split, if that split is made.
    ///
    /// # Errors
    /// The actions cannot be read.
    pub(super) fn training_digest(&self, source: &DataSource) -> Result<Option<u32>, DataError> {
        if !self.makes(TRAIN) {
            return Ok(None);
        }
        let mut all = self.pool(source)?;
        let mut parts = self.deal(source, &all.actions).into_iter();
        all.actions.retain(|_| parts.next().is_some_and(|part| self.parts[part].1 == TRAIN));
        Ok(Some(all.digest()))
    }

    /// Returns a split if it is one of the made ones.
    ///
    /// # Errors
    /// The actions cannot be read or are too few.
    pub(super) fn split(
        &self,
        source: &DataSource,
        name: &str,
    ) -> Result<Option<Split>, DataError> {
        if !self.makes(name) {
            return Ok(None);
        }
        let mut all = self.pool(source)?;
        let parts = self.deal(source, &all.actions);
        let total = all.actions.len();
        let tasks = &source.schema.tasks;
        let counts = |split: &Split| -> Vec<Vec<usize>> {
            let counts = |(task, of): (usize, &Task)| split.class_counts(task, of.classes.len());
            tasks.iter().enumerate().map(counts).collect()
        };
        let before = counts(&all);
        let mut parts = parts.into_iter();
        let mut of_others = HashSet::new();
        all.actions.retain(|action| {
            let own = parts.next().is_some_and(|part| self.parts[part].1 == name);
            if !own {
                of_others.insert(action.id.clone());
            }
            own
        });
        if all.actions.is_empty() {
            let are = if total == 1 { "is" } else { "are" };
            let actions = plural(total, "usable action");
            let reason = format!("{actions} {are} too few to hold out a {name} split");
            return Err(DataError::Layout { path: source.root.clone(), reason });
        }
        all.name = name.to_owned();
        all.file = None;
        // What belongs to no part, such as actions that are left out, is only reported with the
        // training split.
        let of_no_part = name == TRAIN;
        if !of_no_part {
            all.left_out.clear();
        }
        let own: HashSet<&String> = all.actions.iter().map(|action| &action.id).collect();
        all.problems.retain(|problem| match &problem.action {
            Some(id) if own.contains(id) => true,
            Some(id) => of_no_part && !of_others.contains(id),
            None => of_no_part,
        });
        for (task, (before, own)) in tasks.iter().zip(before.iter().zip(counts(&all))) {
            let absent = absent(task, before, &own);
            all.problems
                .extend(absent.map(|text| Problem::of_split(ProblemKind::AbsentClass, text)));
        }
        let how = match self.fold {
            Some(fold) => format!("fold {fold}"),
            None => {
                let shares: Vec<String> = self.parts.iter().map(|(s, _)| s.to_string()).collect();
                format!("split {}", shares.join(","))
            }
        };
        let seed = self.seed;
        log::info!(
            "{name} split: {} of {total} actions, made with {how} (split-seed {seed})",
            all.actions.len()
        );
        Ok(Some(all))
    }

    /// Returns the actions to be distributed, as one split.
    fn pool(&self, source: &DataSource) -> Result<Split, DataError> {
        let Some((first, others)) = self.pool.split_first() else {
            return Ok(source.collect(TRAIN, true, &|split| split.is_none()));
        };
        let mut splits = vec![source.read(first)?];
        for name in others {
            splits.push(source.read(name)?);
        }
        // Splits may each number their actions from 0. Then no action keeps its id, so that an id
        // means the same action in every run on this data set.
        let mut names = HashSet::new();
        let mut ids = splits.iter().flat_map(|split| &split.actions).map(|action| &action.id);
        let ambiguous = !ids.all(|id| names.insert(id.clone()));
        for split in &mut splits {
            // Absolute, because the paths of all splits are joined to the first split's folder.
            let dir = std::path::absolute(&split.dir).map_err(|error| DataError::Io {
                path: split.dir.clone(),
                reason: error.to_string(),
            })?;
            if ambiguous {
                let ids = split.actions.iter_mut().map(|action| &mut action.id);
                let ids = ids.chain(split.left_out.iter_mut().map(|entry| &mut entry.id));
                let of_problems = split.problems.iter_mut().filter_map(|p| p.action.as_mut());
                ids.chain(of_problems).for_each(|id| *id = pooled(&split.name, id));
            }
            let used = split.actions.iter_mut().flat_map(|action| &mut action.views);
            let left_out = split.left_out.iter_mut().flat_map(|entry| &mut entry.views);
            used.chain(left_out).for_each(|view| view.path = dir.join(&view.path));
        }
        let mut splits = splits.into_iter();
        let mut all = splits.next().expect("the pool has a first split");
        for other in splits {
            all.actions.extend(other.actions);
            all.left_out.extend(other.left_out);
            all.problems.extend(other.problems);
        }
        Ok(all)
    }

    /// Returns the part of each action.
    fn deal(&self, source: &DataSource, actions: &[Action]) -> Vec<usize> {
        let mut groups: HashMap<String, &str> = HashMap::new();
        let is_dealt = |split: &Option<String>| match split {
            Some(split) => self.pool.contains(split),
            None => self.pool.is_empty(),
        };
        // Another split may use the same id for an action of another group.
        for listed in source.listed.iter().filter(|listed| is_dealt(&listed.split)) {
            let Some(group) = listed.group.as_deref() else { continue };
            groups.extend(listed.split.as_ref().map(|split| (pooled(split, &listed.id), group)));
            groups.insert(listed.id.clone(), group);
        }
        let tasks = &source.schema.tasks;
        // The classes of all tasks are numbered consecutively.
        let first = |task: usize| tasks[..task].iter().map(|t| t.classes.len()).sum::<usize>();
        let items: Vec<Item<'_>> = actions
            .iter()
            .map(|action| {
                let labels = action.labels.iter().flatten().enumerate();
                let classes = labels.filter_map(|(task, label)| Some(first(task) + (*label)?));
                let own = action.id.as_str();
                let group = groups.get(own).copied().unwrap_or(own);
                Item { group, classes: classes.collect() }
            })
            .collect();
        let shares: Vec<f64> = self.parts.iter().map(|(share, _)| *share).collect();
        deal(&items, &shares, self.seed)
    }
}

/// Returns the id of an action from pooled splits whose own ids are not unique.
fn pooled(split: &str, id: &str) -> String {
    format!("{split}/{id}")
}

/// Describes the classes of a task that occur in the data set but not in a part of it, if there are
/// any.
fn absent(task: &Task, all: &[usize], part: &[usize]) -> Option<String> {
    let counts = task.classes.iter().zip(all.iter().zip(part));
    let absent: Vec<String> = counts
        .filter(|(_, (all, part))| **all > 0 && **part == 0)
        .map(|(class, (all, _))| format!("{} ({all} in all)", class.name))
        .collect();
    let named = absent.get(..MOST_NAMED).unwrap_or(&absent).join(", ");
    let rest = match absent.len().saturating_sub(MOST_NAMED) {
        0 => String::new(),
        rest => format!(" and {rest} more"),
    };
    (!absent.is_empty()).then(|| format!("{}: no actions of {named}{rest}", task.title))
}
