//! A processor without the instructions that the build takes for granted.

use std::io::ErrorKind;
use std::process::Command;

#[test]
fn a_processor_that_lacks_something_is_told_so_in_one_line() {
    if !cfg!(all(target_os = "linux", target_arch = "x86_64", target_feature = "avx2")) {
        println!("skipped: this build needs no more than every processor of its kind has");
        return;
    }
    let version = |processor: &str| {
        let mut command = Command::new("qemu-x86_64");
        command.args(["-cpu", processor, env!("CARGO_BIN_EXE_polyview"), "--version"]).output()
    };
    let old = match version("Nehalem") {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            println!("skipped: no qemu-x86_64 (Debian's qemu-user) to play an older processor");
            return;
        }
        ran => ran.unwrap(),
    };
    let words = String::from_utf8(old.stderr).unwrap();
    // The emulator may complain of features of its own.
    let words: Vec<_> = words.lines().filter(|line| !line.starts_with("qemu-")).collect();
    assert_eq!(old.status.code(), Some(1), "{words:?}");
    let [line] = words[..] else { panic!("{words:?}") };
    assert!(line.starts_with("error: this build needs AVX2 and FMA"), "{line}");
    assert!(line.ends_with("build with RUSTFLAGS=\"-C target-cpu=x86-64\""), "{line}");

    let new = version("max").unwrap();
    assert!(new.status.success(), "{}", String::from_utf8_lossy(&new.stderr));
    assert!(new.stdout.starts_with(b"polyview "));
}
