//! Tells the linker how much stack the program's first thread has.

/// Bytes of stack, as Linux and macOS give it to the first thread.
const STACK: u32 = 8 << 20;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let about_target = |name: &str| std::env::var(name).unwrap_or_default();
    if about_target("CARGO_CFG_TARGET_OS") != "windows" {
        return;
    }
    // Windows gives it 1 MB, which code that is not optimised outgrows, unless the program's file
    // says otherwise; examples and benches work in their first thread as well.
    match about_target("CARGO_CFG_TARGET_ENV").as_str() {
        "msvc" => println!("cargo:rustc-link-arg=/STACK:{STACK}"),
        _ => println!("cargo:rustc-link-arg=-Wl,--stack,{STACK}"),
    }
}
