//! The `polyview` program; everything is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    #[cfg(target_os = "linux")]
    restart_without_noise();
    polyview::cli::main(std::env::args_os())
}

/// Without XDG_RUNTIME_DIR, as on servers, a layer of Mesa's Vulkan drivers prints errors about it for each
/// list of devices, which look like ours and which no option silences. It must be set before the program
/// begins: a program with threads cannot change its environment. The folder need not exist.
#[cfg(target_os = "linux")]
fn restart_without_noise() {
    use std::os::unix::process::CommandExt;

    const VARIABLE: &str = "XDG_RUNTIME_DIR";
    if std::env::var_os(VARIABLE).is_some() {
        return;
    }
    let (Ok(program), mut args) = (std::env::current_exe(), std::env::args_os()) else { return };
    // Under `ld-linux.so PROGRAM` it is the loader, which would take the first argument for the program.
    let name = program.file_name().unwrap_or_default().to_string_lossy();
    if name.starts_with("ld-") || name.starts_with("ld.so") {
        return;
    }
    let mut again = std::process::Command::new(program);
    if let Some(name) = args.next() {
        again.arg0(name);
    }
    // It returns only where it fails; then this process goes on, and the lines are printed.
    let _ = again.args(args).env(VARIABLE, "/nonexistent").exec();
}
