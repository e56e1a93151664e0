//! The program, and the machine that it runs on.

use std::thread;

use serde::Serialize;
use sysinfo::{CpuRefreshKind, RefreshKind, System};

use crate::device;

/// How this program was built.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Build {
    /// polyview's version.
    pub version: &'static str,
    /// Operating system and processor architecture.
    pub target: String,
    /// Whether debug assertions are on, as in a plain `cargo build`.
    pub debug: bool,
    /// Whether CUDA devices are supported.
    pub cuda: bool,
    /// The processors that it was compiled for.
    pub processors: &'static str,
}

impl Build {
    /// Describes this program.
    pub(crate) fn this() -> Self {
        let processors = if cfg!(target_feature = "avx2") {
            "x86-64 with AVX2"
        } else if cfg!(target_arch = "x86_64") {
            "any x86-64"
        } else {
            std::env::consts::ARCH
        };
        Self {
            version: env!("CARGO_PKG_VERSION"),
            target: format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
            debug: cfg!(debug_assertions),
            cuda: cfg!(feature = "cuda"),
            processors,
        }
    }
}

/// The machine that the program runs on. Sizes are those of the container, if there is one.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Machine {
    /// Name and version of the operating system.
    pub system: String,
    /// Names of the distribution's family, most specific first ("ubuntu", "debian").
    pub family: Vec<String>,
    /// Version of the kernel.
    pub kernel: String,
    /// The kind of container, if one is detected.
    pub container: Option<String>,
    /// The processor's name.
    pub processor: String,
    /// Vector instructions that the CPU kernels use here.
    pub vectors: &'static str,
    /// Logical cores of the machine.
    pub cores: usize,
    /// Threads that can run in parallel, considering affinity and quota.
    pub usable_cores: usize,
    /// Size of main memory, bytes.
    pub memory_bytes: u64,
    /// Free memory, bytes.
    pub free_memory_bytes: u64,
}

impl Machine {
    pub(super) fn inspect() -> Self {
        let kinds = RefreshKind::nothing().with_cpu(CpuRefreshKind::nothing());
        let system = System::new_with_specifics(kinds);
        let memory = device::main_memory();
        let brand = system.cpus().first().map(|cpu| cpu.brand().trim().to_owned());
        let unknown = || "unknown".to_owned();
        let mut family = vec![System::distribution_id()];
        family.extend(System::distribution_id_like());
        Self {
            system: System::long_os_version().unwrap_or_else(unknown),
            family,
            kernel: System::kernel_version().unwrap_or_else(unknown),
            container: container(),
            processor: brand.filter(|name| !name.is_empty()).unwrap_or_else(unknown),
            vectors: polyview_cpu::vectors(),
            cores: system.cpus().len(),
            usable_cores: thread::available_parallelism().map_or(1, usize::from),
            memory_bytes: memory.total,
            free_memory_bytes: memory.free,
        }
    }

    /// Returns the command that installs packages here, to be appended to a message, given the
    /// package names of Debian, Fedora, Arch, openSUSE and Alpine. Empty on other systems.
    pub(super) fn install(&self, packages: [&str; 5]) -> String {
        let [debian, fedora, arch, suse, alpine] = packages;
        let command = |name: &str| match name {
            "debian" | "ubuntu" => Some(format!(": apt install {debian}")),
            "fedora" => Some(format!(": dnf install {fedora}")),
            "arch" | "manjaro" => Some(format!(": pacman -S {arch}")),
            "opensuse" | "suse" => Some(format!(": zypper install {suse}")),
            "alpine" => Some(format!(": apk add {alpine}")),
            _ => None,
        };
        // Names such as "opensuse-leap" have the family before the dash.
        let names =
            self.family.iter().flat_map(|name| [Some(name.as_str()), name.split('-').next()]);
        names.flatten().find_map(command).unwrap_or_default()
    }
}

/// Detects a container by the traces that container engines leave.
fn container() -> Option<String> {
    let exists = |path: &str| std::path::Path::new(path).exists();
    if exists("/.dockerenv") {
        Some("docker".to_owned())
    } else if exists("/run/.containerenv") {
        Some("podman".to_owned())
    } else if std::env::var_os("KUBERNETES_SERVICE_HOST").is_some() {
        Some("kubernetes".to_owned())
    } else {
        std::env::var("container").ok().filter(|kind| !kind.is_empty())
    }
}
