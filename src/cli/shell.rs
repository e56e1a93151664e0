//! `polyview completions` and `polyview man`: completion scripts and manual pages.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, ValueHint};
use clap_complete::Shell;

use super::{CommandResult, Failure, command, print_bytes};

/// Command-line options.
#[derive(Debug, Args)]
pub(super) struct CompletionsArgs {
    /// Which shell
    shell: Shell,
}

impl CompletionsArgs {
    pub(super) fn run(&self) -> CommandResult {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut command(), "polyview", &mut script);
        print_bytes(&script)?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Command-line options.
#[derive(Debug, Args)]
pub(super) struct ManArgs {
    /// Write a page for every command into this folder instead
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    out_dir: Option<PathBuf>,
}

impl ManArgs {
    pub(super) fn run(&self) -> CommandResult {
        let Some(folder) = &self.out_dir else {
            let mut page = Vec::new();
            clap_mangen::Man::new(command()).render(&mut page).map_err(Failure::runtime)?;
            print_bytes(&page)?;
            return Ok(ExitCode::SUCCESS);
        };
        std::fs::create_dir_all(folder)
            .and_then(|()| clap_mangen::generate_to(command(), folder))
            .map_err(|error| {
                Failure::runtime(format!("--out-dir {}: {error}", folder.display()))
            })?;
        Ok(ExitCode::SUCCESS)
    }
}
