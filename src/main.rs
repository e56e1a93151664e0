//! The `polyview` program; everything is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    polyview::cli::main(std::env::args_os())
}
