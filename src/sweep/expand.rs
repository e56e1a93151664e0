//! Expands a sweep's file to its runs.

use std::collections::HashMap;
use std::path::Path;

use indexmap::IndexMap;

use super::draw::Random;
use super::file::{MAX_RUNS, SweepFile};
use super::name::{plain, run_name};
use super::{FRAMES, Run, Sweep, SweepError, TABLE};
use crate::config::{CacheChoice, Config, ConfigError, source};
use crate::options::{self, Entry};

impl Sweep {
    /// Reads a sweep's file; `out` is the folder for the runs' folders. The options of all runs are
    /// checked, as `polyview train` does before it reads data.
    ///
    /// # Errors
    /// [`SweepError::File`] and [`SweepError::Run`].
    pub fn load(path: &Path, out: &Path) -> Result<Self, SweepError> {
        let file = SweepFile::load(path)?;
        let fail = |reason: String| SweepError::File { path: path.to_owned(), reason };
        let draws = file.random.as_ref().map(Random::all);
        if let (Some(random), Some(draws)) = (&file.random, &draws)
            && draws.len() < random.draws
        {
            log::info!("{} of the {} random draws are distinct", draws.len(), random.draws);
        }
        let draws = draws.unwrap_or_else(|| vec![Vec::new()]);
        let combinations = grid(&file.grid).ok_or_else(|| too_many(&fail))?;
        let seeds: Vec<Option<u64>> = options_or_none(file.seeds.iter().copied());
        let variants = options_or_none(file.variants.iter());
        let factors = [variants.len(), combinations.len(), draws.len(), seeds.len()];
        let count = factors.into_iter().try_fold(1_usize, usize::checked_mul);
        if count.is_none_or(|count| count > MAX_RUNS) {
            return Err(too_many(&fail));
        }
        let mut runs = Vec::new();
        for variant in variants {
            for combination in &combinations {
                for draw in &draws {
                    for &seed in &seeds {
                        let varied = [combination.as_slice(), draw].concat();
                        let parts = Parts { common: &file.common, variant, varied, seed };
                        runs.push(parts.run(path, out)?);
                    }
                }
            }
        }
        check_names(&runs).map_err(fail)?;
        Ok(Self { out: out.to_owned(), common: shown(&file.common), runs })
    }
}

fn too_many(fail: &dyn Fn(String) -> SweepError) -> SweepError {
    fail(format!("it has more than {MAX_RUNS} runs: take fewer values, or draw some in [random]"))
}

/// Returns the values as `Some`, or a single `None` if there are none.
fn options_or_none<T>(values: impl Iterator<Item = T>) -> Vec<Option<T>> {
    let values: Vec<Option<T>> = values.map(Some).collect();
    if values.is_empty() { vec![None] } else { values }
}

/// Returns every combination of the options' values, in which the last option varies fastest; `None` if
/// there are more than a sweep may have.
fn grid(options: &[(String, Vec<Entry>)]) -> Option<Vec<Vec<Entry>>> {
    options.iter().try_fold(vec![Vec::new()], |combinations, (_, values)| {
        let count = combinations.len().checked_mul(values.len())?;
        let with = |combination: &Vec<Entry>| {
            let combination = combination.clone();
            values
                .iter()
                .map(move |value| [combination.as_slice(), std::slice::from_ref(value)].concat())
        };
        (count <= MAX_RUNS).then(|| combinations.iter().flat_map(with).collect())
    })
}

/// Sources of a run's options.
struct Parts<'a> {
    common: &'a [Entry],
    variant: Option<&'a (String, Vec<Entry>)>,
    varied: Vec<Entry>,
    seed: Option<u64>,
}

impl Parts<'_> {
    fn run(self, path: &Path, out: &Path) -> Result<Run, SweepError> {
        let options = shown(&self.varied);
        let variant = self.variant.map(|(name, _)| name.clone());
        let name = run_name(variant.as_deref(), &options, self.seed);
        let mut own = self.variant.map_or_else(Vec::new, |(_, entries)| entries.clone());
        own = source::overlay(own, self.varied);
        if let Some(seed) = self.seed {
            own = source::overlay(own, vec![Entry::new("seed", vec![seed.to_string()])]);
        }
        let fail = |error: ConfigError| {
            let (path, source) = (path.to_owned(), Box::new(error));
            SweepError::Run { path, run: name.clone(), source }
        };
        let entries = source::overlay(self.common.to_vec(), own.clone());
        let mut config: Config = options::parse(&entries).map_err(|error| fail(error.into()))?;
        let folder = out.join(&name);
        config.run.save_dir.clone_from(&folder);
        if config.data.cache == CacheChoice::Auto {
            // All runs read the same clips, so they share a cache.
            config.data.cache = CacheChoice::Folder(out.join(FRAMES));
        }
        config.check().map_err(fail)?;
        Ok(Run { name, folder, variant, options, seed: self.seed, own: shown(&own), config })
    }
}

fn shown(entries: &[Entry]) -> IndexMap<String, String> {
    entries.iter().map(|entry| (entry.name.clone(), plain(entry))).collect()
}

/// Refuses two runs in one folder. Some file systems do not distinguish upper and lower case.
fn check_names(runs: &[Run]) -> Result<(), String> {
    let mut seen: HashMap<String, &str> = HashMap::new();
    for run in runs {
        let lowercase = run.name.to_ascii_lowercase();
        if [FRAMES, TABLE].contains(&lowercase.as_str()) {
            return Err(format!(
                "run {}: the sweep uses that name in its folder: rename the variant",
                run.name
            ));
        }
        if let Some(other) = seen.insert(lowercase, &run.name) {
            return Err(format!(
                "runs {other} and {} would share a folder: rename one of them",
                run.name
            ));
        }
    }
    Ok(())
}
