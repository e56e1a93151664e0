//! The `polyview` program; everything is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    if let Err(unfit) = polyview::processor::check() {
        eprintln!("error: {unfit}");
        return ExitCode::FAILURE;
    }
    polyview::cli::main(std::env::args_os())
}
