//! The `polyview` program; all of its code is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    #[cfg(target_os = "linux")]
    restart_without_noise();
    polyview::cli::main(std::env::args_os())
}

/// Restarts the program with XDG_RUNTIME_DIR set if it is unset, as it often is on servers. Without it,
/// a layer of Mesa's Vulkan drivers prints errors each time devices are listed; they look like
/// polyview's own, and no option silences them. The variable must be set before the program starts,
/// because a multi-threaded program cannot safely change its environment. The folder need not exist.
#[cfg(target_os = "linux")]
fn restart_without_noise() {
    use std::os::unix::process::CommandExt;

    const VARIABLE: &str = "XDG_RUNTIME_DIR";
    if std::env::var_os(VARIABLE).is_some() {
        return;
    }
    let (Ok(program), mut args) = (std::env::current_exe(), std::env::args_os()) else { return };
    // Under `ld-linux.so PROGRAM` it is the loader, which would run its first argument as a program.
    let name = program.file_name().unwrap_or_default().to_string_lossy();
    if name.starts_with("ld-") || name.starts_with("ld.so") {
        return;
    }
    let mut command = std::process::Command::new(program);
    if let Some(name) = args.next() {
        command.arg0(name);
    }
    // `exec` returns only if it fails; this process then continues, and the errors are printed.
    let _ = command.args(args).env(VARIABLE, "/nonexistent").exec();
}
