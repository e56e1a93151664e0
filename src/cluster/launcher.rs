//! Detects the launcher that started this process from environment variables.

use super::mpi::Abi;

/// Variables in which launchers store the number of processes.
const SIZES: [&str; 4] = ["OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_NTASKS", "WORLD_SIZE"];
/// Variables in which launchers of MPI programs store the rank of a process.
const RANKS: [&str; 4] = ["OMPI_COMM_WORLD_RANK", "PMI_RANK", "PMIX_RANK", "MPI_LOCALRANKID"];
/// Variable with the path of the MPI library to open.
pub(super) const LIBRARY: &str = "POLYVIEW_MPI";

/// The launcher of this process, as far as its environment variables tell.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Launcher {
    /// Largest number of processes in any of the variables, and the name of that variable.
    pub size: Option<(usize, &'static str)>,
    /// Whether the launcher starts MPI programs.
    pub mpi: bool,
    /// MPI libraries that match the launcher, the likeliest first.
    pub libraries: Vec<(String, Abi)>,
}

impl Launcher {
    /// Detects the launcher of this process.
    pub(super) fn detect() -> Self {
        Self::of(|name| std::env::var(name).ok())
    }

    /// Detects the launcher from the environment variables that `var` reads.
    fn of(var: impl Fn(&str) -> Option<String>) -> Self {
        let size = |name: &&'static str| Some((var(name)?.parse().ok()?, *name));
        let size = SIZES.iter().filter_map(size).max_by_key(|(size, _)| *size);
        let hydra = var("PMI_RANK").is_some() && var("OMPI_COMM_WORLD_RANK").is_none();
        let libraries = match var(LIBRARY) {
            Some(path) => vec![(path.clone(), abi_of(&path))],
            None => known(hydra),
        };
        Self { size, mpi: RANKS.iter().any(|name| var(name).is_some()), libraries }
    }

    /// Returns whether several processes seem to have been started.
    pub(super) fn is_multi_process(&self) -> bool {
        self.size.is_some_and(|(size, _)| size > 1)
    }
}

/// Guesses the ABI of a user-supplied library from its name.
fn abi_of(path: &str) -> Abi {
    let name = path.rsplit('/').next().unwrap_or(path);
    if name.contains("mpi_abi") {
        Abi::Standard
    } else if name.contains(".so.12") || name.contains("mpich") || name.contains("12.dylib") {
        Abi::Mpich
    } else {
        Abi::OpenMpi
    }
}

/// Returns the known libraries: those of Open MPI 4 and 5, of MPICH, and with the standard ABI.
/// `hydra` is whether the launcher is MPICH's.
fn known(hydra: bool) -> Vec<(String, Abi)> {
    let names: &[(&str, Abi)] = if cfg!(target_os = "macos") {
        &[("libmpi.40.dylib", Abi::OpenMpi), ("libmpi.12.dylib", Abi::Mpich)]
    } else {
        &[
            ("libmpi.so.40", Abi::OpenMpi),
            // Debian's name of MPICH's library, then MPICH's own.
            ("libmpich.so.12", Abi::Mpich),
            ("libmpi.so.12", Abi::Mpich),
            ("libmpi_abi.so.1", Abi::Standard),
            ("libmpi_abi.so.0", Abi::Standard),
        ]
    };
    let mut names: Vec<_> = names.iter().map(|(name, abi)| ((*name).to_owned(), *abi)).collect();
    names.sort_by_key(|(_, abi)| (*abi == Abi::OpenMpi) == hydra);
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(variables: &[(&str, &str)]) -> Launcher {
        Launcher::of(|name| {
            let variable = variables.iter().find(|(known, _)| *known == name);
            variable.map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn a_launcher_is_detected_by_its_variables() {
        let alone = of(&[]);
        assert!(!alone.mpi && !alone.is_multi_process());
        let open = of(&[("OMPI_COMM_WORLD_SIZE", "4"), ("OMPI_COMM_WORLD_RANK", "2")]);
        assert!(open.mpi && open.is_multi_process());
        assert_eq!(open.size, Some((4, "OMPI_COMM_WORLD_SIZE")));
        assert_eq!(open.libraries[0].1, Abi::OpenMpi);
        let hydra = of(&[("PMI_SIZE", "2"), ("PMI_RANK", "0")]);
        assert_eq!(hydra.libraries[0].1, Abi::Mpich);
        let slurm = of(&[("SLURM_NTASKS", "8")]);
        assert!(!slurm.mpi && slurm.is_multi_process());
        assert!(!of(&[("WORLD_SIZE", "1"), ("PMI_SIZE", "x")]).is_multi_process());
    }

    #[test]
    fn the_abi_of_a_library_follows_from_its_name() {
        for (path, abi) in [
            ("/opt/x/libmpi.so.40", Abi::OpenMpi),
            ("/opt/mpich/lib/libmpi.so", Abi::OpenMpi),
            ("/usr/lib/libmpich.so.12", Abi::Mpich),
            ("libmpi.so.12.3", Abi::Mpich),
            ("lib/libmpi_abi.so.1", Abi::Standard),
        ] {
            let named = of(&[(LIBRARY, path)]);
            assert_eq!(named.libraries, [(path.to_owned(), abi)]);
        }
    }
}
