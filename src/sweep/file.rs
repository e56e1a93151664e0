//! The file that describes a sweep.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

use super::SweepError;
use super::draw::{Choices, Random};
use super::name::plain;
use crate::config::{Config, shortcuts, source};
use crate::near::nearest;
use crate::options::{Entry, ONE_START, from_table, from_value, line_of, member_of, parse_toml};

/// Maximum number of draws and of runs of a sweep.
pub(super) const MAX_RUNS: usize = 10_000;

/// Options that a sweep sets itself or that make no sense in one, and why.
const OWN: [(&str, &str); 7] = [
    ("save-dir", "each run has a folder of its own below --out"),
    ("resume", "an interrupted run is resumed when the sweep is started again"),
    ("resume-best-acc", "an interrupted run is resumed with the best score that it had"),
    ("overwrite", "a run is resumed in its folder; remove that to train it from scratch"),
    ("record", "all runs would write to one folder"),
    ("test-run", "it writes no files from which a score could be read"),
    ("compare-freezing", "it turns one run into two: vary freezing-strategy instead"),
];

/// Returns the options of [`OWN`] that the configuration file of a run may have; they are left out.
fn left_out() -> Vec<String> {
    let mut names = member_of::<Config>(ONE_START);
    names.push("save-dir".to_owned());
    names
}

/// Contents of a sweep's file, each value checked on its own. Shortcuts are expanded.
#[derive(Debug, Default)]
pub(super) struct SweepFile {
    /// Options of all runs: those of `config`, overridden by those of `[base]`.
    pub common: Vec<Entry>,
    pub seeds: Vec<u64>,
    pub variants: Vec<(String, Vec<Entry>)>,
    /// Options and their values.
    pub grid: Vec<(String, Vec<Entry>)>,
    pub random: Option<Random>,
}

type Key<'a> = Spanned<DeString<'a>>;
type Value<'a> = Spanned<DeValue<'a>>;

/// An option as it is written in a table.
struct Given {
    name: String,
    line: usize,
    /// Names of the options that it sets.
    sets: Vec<String>,
}

impl Given {
    fn new(entry: &Entry, line: usize) -> Self {
        Self { name: entry.name.clone(), line, sets: source::set_by(entry) }
    }

    fn shares(&self, other: &Self) -> bool {
        self.sets.iter().any(|name| other.sets.contains(name))
    }
}

impl SweepFile {
    /// Reads a file, and the configuration file that it names.
    pub(super) fn load(path: &Path) -> Result<Self, SweepError> {
        let fail = |reason: String| SweepError::File { path: path.to_owned(), reason };
        let text = std::fs::read_to_string(path).map_err(|error| fail(error.to_string()))?;
        let mut reader = Reader { text: &text, config: None, varied: Vec::new() };
        let mut file = reader.file().map_err(fail)?;
        if let Some((line, config)) = reader.config {
            let config = path.parent().unwrap_or(Path::new("")).join(config);
            let inside = |reason| fail(format!("line {line}: config: {reason}"));
            let mut under =
                source::read::<Config>(&config).map_err(|error| inside(error.to_string()))?;
            let left_out = left_out();
            under.retain(|entry| !left_out.contains(&entry.name));
            if let Some((name, why)) = OWN
                .iter()
                .find(|(name, _)| under.iter().any(|entry| entry.name == *name && entry.is_true()))
            {
                return Err(inside(format!("{}: {name}: {why}", config.display())));
            }
            file.common = source::overlay(under, file.common);
        }
        Ok(file)
    }
}

struct Reader<'a> {
    text: &'a str,
    /// The configuration file and the line that names it.
    config: Option<(usize, PathBuf)>,
    /// Options in the tables that must not have any in common, with the table.
    varied: Vec<(&'static str, Given)>,
}

impl<'a> Reader<'a> {
    fn file(&mut self) -> Result<SweepFile, String> {
        const KEYS: [&str; 6] = ["config", "seeds", "base", "variants", "grid", "random"];
        let mut file = SweepFile::default();
        for (key, value) in in_order(parse_toml(self.text)?) {
            match key.get_ref().as_ref() {
                "config" => self.config = Some((self.line(&key), self.path(&key, &value)?)),
                "seeds" => file.seeds = self.seeds(&key, &value)?,
                "base" => file.common = self.options(&key, "base", value)?.0,
                "variants" => file.variants = self.variants(&key, value)?,
                "grid" => file.grid = self.grid(&key, value)?,
                "random" => file.random = Some(self.random(&key, value)?),
                _ => return Err(self.unknown(&key, "", &KEYS)),
            }
        }
        self.refuse_shared()?;
        Ok(file)
    }

    fn line(&self, key: &Key) -> usize {
        line_of(self.text, key.span().start)
    }

    /// Formats what is wrong with a key of a table.
    fn wrong(&self, key: &Key, table: &str, reason: &str) -> String {
        format!("line {}: {table}{}: {reason}", self.line(key), key.get_ref())
    }

    fn unknown(&self, key: &Key, table: &str, known: &[&str]) -> String {
        let reason = match nearest(key.get_ref(), known.iter().copied()) {
            Some(meant) => format!("there is no such key; did you mean {meant}?"),
            None => format!("there is no such key; known keys: {}", known.join(", ")),
        };
        self.wrong(key, table, &reason)
    }

    fn table<'t>(&self, key: &Key, value: Value<'t>, table: &str) -> Result<DeTable<'t>, String> {
        match value.into_inner() {
            DeValue::Table(inner) => Ok(inner),
            _ => Err(self.wrong(key, table, "must be a table")),
        }
    }

    fn path(&self, key: &Key, value: &Value) -> Result<PathBuf, String> {
        match value.get_ref() {
            DeValue::String(text) if !text.is_empty() => Ok(PathBuf::from(text.as_ref())),
            _ => Err(self.wrong(key, "", "must be the path of a configuration file")),
        }
    }

    fn seeds(&mut self, key: &Key, value: &Value) -> Result<Vec<u64>, String> {
        let wrong = |reason: &str| self.wrong(key, "", reason);
        let DeValue::Array(items) = value.get_ref() else {
            return Err(wrong("must be a list of whole numbers"));
        };
        let seeds: Option<Vec<u64>> =
            items.iter().map(|item| whole(item)?.try_into().ok()).collect();
        let seeds = seeds.ok_or_else(|| wrong("must be a list of whole numbers of at least 0"))?;
        if seeds.is_empty() {
            return Err(wrong("must have a value"));
        }
        if let Some(seed) = duplicate(seeds.iter()) {
            return Err(wrong(&format!("{seed} occurs twice")));
        }
        let seed = Entry::new("seed", Vec::new());
        self.varied.push(("seeds", Given::new(&seed, self.line(key))));
        Ok(seeds)
    }

    /// Returns the entries of a table of options, and the options as written.
    fn options(
        &self,
        key: &Key,
        table: &str,
        value: Value,
    ) -> Result<(Vec<Entry>, Vec<Given>), String> {
        let parent = table.strip_suffix(key.get_ref().as_ref()).unwrap_or_default();
        let entries = from_table(self.table(key, value, parent)?, self.text)?;
        let prefix = format!("{table}.");
        let mut given = Vec::new();
        for entry in &entries {
            let line = entry.line.unwrap_or_else(|| self.line(key));
            refuse_own(&entry.name, &prefix, line)?;
            given.push(Given::new(entry, line));
        }
        Ok((source::checked::<Config>(entries, &prefix)?, given))
    }

    fn variants(&mut self, key: &Key, value: Value) -> Result<Vec<(String, Vec<Entry>)>, String> {
        let mut variants = Vec::new();
        for (name, options) in in_order(self.table(key, value, "")?) {
            if name.get_ref().trim().is_empty() {
                return Err(self.wrong(&name, "variants.", "a name must not be empty"));
            }
            let table = format!("variants.{}", name.get_ref());
            let (entries, given) = self.options(&name, &table, options)?;
            self.varied.extend(given.into_iter().map(|given| ("variants", given)));
            variants.push((name.get_ref().to_string(), entries));
        }
        if variants.is_empty() {
            return Err(self.wrong(key, "", "must have a table of options"));
        }
        Ok(variants)
    }

    /// Returns the values of an option, given by `items`.
    fn values(&self, key: &Key, table: &str, items: &[Value]) -> Result<Vec<Entry>, String> {
        if items.is_empty() {
            return Err(self.wrong(key, table, "must have a value"));
        }
        let mut values = Vec::new();
        for item in items {
            let entry = from_value(key, item, self.text)?;
            if shortcuts::is_shortcut(&entry.name) {
                let reason = "it stands for other options: name those, or use it in [variants]";
                return Err(self.wrong(key, table, reason));
            }
            values.extend(source::checked::<Config>(vec![entry], table)?);
        }
        Ok(values)
    }

    /// Returns the name of a varied option and remembers that this table has it.
    fn option(&mut self, key: &Key, table: &'static str, prefix: &str) -> Result<String, String> {
        let (name, line) = (key.get_ref().replace('_', "-"), self.line(key));
        refuse_own(&name, prefix, line)?;
        if self.varied.iter().any(|(other, taken)| *other == table && taken.name == name) {
            return Err(self.wrong(key, prefix, "it occurs twice"));
        }
        self.varied.push((table, Given::new(&Entry::new(name.as_str(), Vec::new()), line)));
        Ok(name)
    }

    fn grid(&mut self, key: &Key, value: Value) -> Result<Vec<(String, Vec<Entry>)>, String> {
        let mut grid = Vec::new();
        for (key, value) in in_order(self.table(key, value, "")?) {
            let name = self.option(&key, "grid", "grid.")?;
            let DeValue::Array(items) = value.get_ref() else {
                return Err(self.wrong(&key, "grid.", "must be a list of values"));
            };
            let values = self.values(&key, "grid.", items)?;
            if let Some(value) = duplicate(values.iter().map(plain)) {
                return Err(self.wrong(&key, "grid.", &format!("{value} occurs twice")));
            }
            grid.push((name, values));
        }
        if grid.is_empty() {
            return Err(self.wrong(key, "", "must have an option"));
        }
        Ok(grid)
    }

    fn random(&mut self, key: &Key, value: Value) -> Result<Random, String> {
        const KEYS: [&str; 3] = ["draws", "seed", "options"];
        let (mut draws, mut seed, mut options) = (None, 0, Vec::new());
        for (key, value) in in_order(self.table(key, value, "")?) {
            let wrong = |reason: &str| self.wrong(&key, "random.", reason);
            match key.get_ref().as_ref() {
                "draws" => {
                    let number = whole(&value).and_then(|number| usize::try_from(number).ok());
                    let number = number.filter(|number| (1..=MAX_RUNS).contains(number));
                    let reason = format!("must be a whole number between 1 and {MAX_RUNS}");
                    draws = Some(number.ok_or_else(|| wrong(&reason))?);
                }
                "seed" => {
                    let number = whole(&value).and_then(|number| u64::try_from(number).ok());
                    let reason = "must be a whole number of at least 0";
                    seed = number.ok_or_else(|| wrong(reason))?;
                }
                "options" => {
                    const PREFIX: &str = "random.options.";
                    for (key, value) in in_order(self.table(&key, value, "random.")?) {
                        let name = self.option(&key, "random.options", PREFIX)?;
                        options.push((name, self.choices(&key, &value, PREFIX)?));
                    }
                }
                _ => return Err(self.unknown(&key, "random.", &KEYS)),
            }
        }
        let draws = draws.ok_or_else(|| self.wrong(key, "", "it needs the number of draws"))?;
        if options.is_empty() {
            return Err(self.wrong(key, "", "it needs options, in [random.options]"));
        }
        Ok(Random { draws, seed, options })
    }

    fn choices(&self, key: &Key, value: &Value, table: &str) -> Result<Choices, String> {
        match value.get_ref() {
            DeValue::Array(items) => Ok(Choices::OneOf(self.values(key, table, items)?)),
            DeValue::Table(range) => self.range(key, range, table),
            _ => Err(self.wrong(key, table, "must be a list of values, or { from = …, to = … }")),
        }
    }

    fn range(&self, key: &Key, range: &DeTable, table: &str) -> Result<Choices, String> {
        let wrong = |reason: &str| self.wrong(key, table, reason);
        let (mut ends, mut log) = ([None, None], false);
        for (part, value) in range {
            match (part.get_ref().as_ref(), value.get_ref()) {
                ("from", _) => ends[0] = Some(value),
                ("to", _) => ends[1] = Some(value),
                ("log", DeValue::Boolean(switch)) => log = *switch,
                ("log", _) => return Err(wrong("log must be true or false")),
                (part, _) => {
                    let reason = format!("there is no key {part}; known keys: from, to, log");
                    return Err(wrong(&reason));
                }
            }
        }
        let [Some(from), Some(to)] = ends else {
            return Err(wrong("a range needs from and to"));
        };
        let ends = self.values(key, table, &[from.clone(), to.clone()])?;
        let choices = match (whole(from), whole(to)) {
            (Some(from), Some(to)) => Choices::Whole { from, to, log },
            _ => {
                let numbers = ends.iter().map(|end| end.values.concat().parse::<f64>().ok());
                let numbers: Vec<f64> = numbers.flatten().filter(|end| end.is_finite()).collect();
                let [from, to] = numbers[..] else {
                    return Err(wrong("from and to must be numbers"));
                };
                Choices::Real { from, to, log }
            }
        };
        match choices.fault() {
            Some(reason) => Err(wrong(reason)),
            None => Ok(choices),
        }
    }

    /// Refuses an option in more than one of the tables, because it can only have one value in a run.
    fn refuse_shared(&self) -> Result<(), String> {
        for (at, (table, one)) in self.varied.iter().enumerate() {
            let shared = |(other, given): &&(&str, Given)| other != table && given.shares(one);
            if let Some((other, given)) = self.varied[at..].iter().find(shared) {
                let (line, name) = (given.line, &given.name);
                let both = if *name == one.name {
                    format!("{name} is given in {other}, and in {table} too")
                } else {
                    format!("{name} in {other} sets the same option as {} in {table}", one.name)
                };
                return Err(format!("line {line}: {both}: leave one of the two out"));
            }
        }
        Ok(())
    }
}

/// Returns a table's keys and values in the file's order.
fn in_order<'a>(table: DeTable<'a>) -> Vec<(Key<'a>, Value<'a>)> {
    let mut fields: Vec<(Key, Value)> = table.into_iter().collect();
    fields.sort_by_key(|(key, _)| key.span().start);
    fields
}

fn whole(value: &Value) -> Option<i64> {
    match value.get_ref() {
        DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix()).ok(),
        _ => None,
    }
}

/// Returns the first value that occurs a second time.
fn duplicate<T: std::hash::Hash + Eq + Clone>(values: impl Iterator<Item = T>) -> Option<T> {
    let mut seen = HashSet::new();
    values.into_iter().find(|value| !seen.insert(value.clone()))
}

fn refuse_own(name: &str, table: &str, line: usize) -> Result<(), String> {
    match OWN.iter().find(|(own, _)| *own == name) {
        Some((_, why)) => Err(format!("line {line}: {table}{name}: {why}")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_out_of_a_configuration_is_refused_elsewhere() {
        for name in left_out() {
            assert!(OWN.iter().any(|(own, _)| *own == name), "{name}");
        }
    }
}
