//! The program, and the machine that it runs on.

use std::thread;

use serde::Serialize;
use sysinfo::{CpuRefreshKind, RefreshKind, System};

use crate::device;

/// How this program was built.
#[derive(Debug, Clone, Serialize)]
pub struct Build {
    /// Version.
    pub version: &'static str,
    /// Operating system and processor family.
    pub target: String,
    /// Whether debug assertions are on, as in a plain `cargo build`.
    pub debug: bool,
    /// Whether CUDA devices are supported.
    pub cuda: bool,
    /// Processors that it was compiled for.
    pub processors: &'static str,
}

impl Build {
    /// This program.
    pub fn this() -> Self {
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

/// What the program runs on. Sizes are a container's where there is one.
#[derive(Debug, Clone, Serialize)]
pub struct Machine {
    /// Name and version of the operating system.
    pub system: String,
    /// Names of the system's family, most particular first ("ubuntu", "debian").
    pub family: Vec<String>,
    /// Version of its kernel.
    pub kernel: String,
    /// The container's kind, where there are signs of one.
    pub container: Option<String>,
    /// The processor's name.
    pub processor: String,
    /// Vector instructions that the CPU kernels take here.
    pub vectors: &'static str,
    /// Logical cores of the machine.
    pub cores: usize,
    /// Threads that may run at once here: affinity and quota taken into account.
    pub usable_cores: usize,
    /// Bytes of memory.
    pub memory_bytes: u64,
    /// Bytes of memory that are free.
    pub free_memory_bytes: u64,
}

impl Machine {
    pub(super) fn look() -> Self {
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

    /// The command that installs packages here, to be put after what is missing, for the package
    /// names of the families known: Debian's, Fedora's, Arch's, openSUSE's, Alpine's. Empty on other
    /// systems.
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
        // "opensuse-leap" and the like name their family before the dash.
        let names =
            self.family.iter().flat_map(|name| [Some(name.as_str()), name.split('-').next()]);
        names.flatten().find_map(command).unwrap_or_default()
    }
}

/// Signs that container engines leave.
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
