//! `polyview init-schema`: writes the schema of a data set, inferred from its labels.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::source::SourceArgs;
use super::{CommandResult, Failure, Terminal, print_bytes};
use crate::atomic_file;

/// Comment at the top of a written schema.
const HEAD: &str = "\
# The schema of a data set: which fields are tasks, and what their values mean. Written by
# `polyview init-schema`; edit it, and give it with --schema FILE.
#
# A task's classes are in index order. `imbalanced = true` marks the task (at most one) that class weights and
# class-balanced sampling apply to. Values listed in `unknown` leave the class open: such an action only counts
# for the other tasks. Spellings of one class: `{ name = \"wave\", match = { Gesture = [\"wave\", \"Wave\"] } }`.
# docs/data.md describes everything else that a schema can contain.

";

/// Command-line options.
#[derive(Debug, Args)]
pub(super) struct InitSchemaArgs {
    /// The data set: a folder of clips per class, a table or lists
    #[arg(value_name = "DIR", required_unless_present = "named_root")]
    dataset_root: Option<PathBuf>,
    /// The data set, as an option like that of other commands
    #[arg(id = "named_root", long = "dataset-root", value_name = "DIR")]
    #[arg(conflicts_with = "dataset_root")]
    named_root: Option<PathBuf>,
    /// File to write [default: standard output]
    #[arg(long, value_name = "FILE.toml")]
    out: Option<PathBuf>,
    /// Replace the file if it exists
    #[arg(long)]
    overwrite: bool,
}

impl InitSchemaArgs {
    pub(super) fn run(&self, terminal: &Terminal) -> CommandResult {
        let given = self.dataset_root.as_ref().or(self.named_root.as_ref());
        let dataset_root = given.cloned().expect("clap requires one of the two");
        let source = SourceArgs { dataset_root, schema: None, format: None }.open()?;
        let text = format!("{HEAD}{}", source.schema().to_toml());
        let Some(path) = &self.out else {
            // Printed as it is: escaping control characters for the terminal would change names.
            print_bytes(text.as_bytes())?;
            return Ok(ExitCode::SUCCESS);
        };
        let fail = |reason: String| Failure::usage(format!("--out {}: {reason}", path.display()));
        if path.exists() && !self.overwrite {
            return Err(fail("already exists: choose another file, or add --overwrite".to_owned()));
        }
        atomic_file::replace(&atomic_file::linked(path), text.as_bytes())
            .map_err(|error| fail(format!("cannot be written: {error}")))?;
        terminal.line(&format!("schema: {}", path.display()));
        Ok(ExitCode::SUCCESS)
    }
}
