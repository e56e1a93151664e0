//! Several processes that train together, started by the MPI launchers that are installed.

use std::path::Path;
use std::process::{Command, Output};

use polyview::checkpoint;
use polyview::config::Config;
use tempfile::TempDir;

use crate::common::adapter;
use crate::common::program::{last_error, polyview_with, text};
use crate::common::run::{run, saving_to, small_config, with, write_config};
use crate::common::skip::skip_unless_required;
use crate::common::wait::until;

/// Returns the installed launchers; reports a skip if there is none.
fn launchers() -> Vec<&'static str> {
    let exists = |name: &&str| {
        let path = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&path).any(|folder| folder.join(name).is_file())
    };
    let named: Vec<_> = ["mpirun.openmpi", "mpirun.mpich"].into_iter().filter(exists).collect();
    if !named.is_empty() {
        return named;
    }
    let only: Vec<_> = ["mpirun"].into_iter().filter(exists).collect();
    if only.is_empty() {
        skip_unless_required("POLYVIEW_REQUIRE_MPI", "no mpirun");
    }
    only
}

#[test]
fn commands_that_do_not_divide_their_work_are_for_one_process() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("data");
    let out = out.to_str().unwrap();
    let ranks = [("OMPI_COMM_WORLD_SIZE", "4"), ("OMPI_COMM_WORLD_RANK", "0")];
    let output = polyview_with(&["synth", "--out", out, "--actions", "2"], &ranks);
    let said = last_error(&output);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("one of 4 processes") && said.contains("without mpirun"), "{said}");
    assert!(!folder.path().join("data").exists());
    // A job's allocation does not make it several ranks, and every rank may list its devices.
    let alone = [("SLURM_NTASKS", "4")];
    assert!(polyview_with(&["synth", "--out", out, "--actions", "2"], &alone).status.success());
    assert!(polyview_with(&["devices"], &ranks).status.success());
}

/// Returns a job that runs `polyview train` with this configuration on `count` ranks.
fn ranks(launcher: &str, count: usize, config: &Config, folder: &Path) -> Command {
    let mut command = job(launcher);
    add_ranks(&mut command, count, config, folder);
    command
}

/// Returns a job with one rank for each configuration.
fn ranks_with(launcher: &str, configs: [&Config; 2], folders: [&Path; 2]) -> Command {
    let mut command = job(launcher);
    add_ranks(&mut command, 1, configs[0], folders[0]);
    command.arg(":");
    add_ranks(&mut command, 1, configs[1], folders[1]);
    command
}

fn job(launcher: &str) -> Command {
    let mut command = Command::new(launcher);
    // By default Open MPI refuses to run as root, as in containers, or with more processes than cores.
    command.envs([
        ("OMPI_ALLOW_RUN_AS_ROOT", "1"),
        ("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1"),
        ("OMPI_MCA_rmaps_base_oversubscribe", "1"),
        ("PRTE_MCA_rmaps_default_mapping_policy", ":oversubscribe"),
    ]);
    command
}

fn add_ranks(command: &mut Command, count: usize, config: &Config, folder: &Path) {
    command.args(["-n", &count.to_string(), env!("CARGO_BIN_EXE_polyview"), "train", "-q"]);
    command.args(["--config", &write_config(config, folder)]);
}

fn finished(command: &mut Command) -> Output {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    output
}

/// Reads the last checkpoint's weights, and the best one's predictions.
fn weights(config: &Config) -> Vec<u8> {
    let read = |name: &str| std::fs::read(config.run.save_dir.join(name)).unwrap();
    [read(checkpoint::LAST), read(checkpoint::VALID_PREDICTIONS)].concat()
}

/// Options for phases, auxiliary heads for which some lanes have no label, and a last batch with fewer
/// actions than lanes.
const RICH: &str = "--phase1-epochs 1 --phase2-epochs 2 --backbone-lr 1e-3 --unfreeze-blocks 2 \
                    --auxiliary-task-weight 0.5 --augmentation-strength aggressive --multi-scale \
                    --early-stopping-patience 0 --batch-size 5 --rank-timeout 120";

struct Case {
    folder: TempDir,
    config: Config,
}

impl Case {
    fn new(options: &str) -> Self {
        let folder = TempDir::new().unwrap();
        let config = with(&with(&small_config(&folder), RICH), options);
        Self { folder, config }
    }

    fn saving_to(&self, name: &str) -> Config {
        saving_to(&self.config, &self.folder.path().join(name))
    }

    /// Trains in one process and returns the weights.
    fn alone(&self, options: &str) -> Vec<u8> {
        let config = with(&self.saving_to("alone"), options);
        run(&config);
        weights(&config)
    }

    /// Trains in `count` processes and returns the weights.
    fn together(&self, launcher: &str, count: usize) -> Vec<u8> {
        let name = format!("{launcher}{count}");
        let config = self.saving_to(&name);
        finished(&mut ranks(launcher, count, &config, self.folder.path()));
        weights(&config)
    }
}

#[test]
fn the_number_of_ranks_changes_no_bit() {
    let case = Case::new("--lanes 4 --ema 0.9 --mixup 0.4");
    let alone = case.alone("");
    for launcher in launchers() {
        for count in [2, 4] {
            assert!(case.together(launcher, count) == alone, "{launcher}, {count} ranks");
        }
    }
}

#[test]
fn batch_norm_over_all_ranks_changes_no_bit() {
    let case = Case::new("--lanes 4 --sync-batch-norm");
    let alone = case.alone("");
    for launcher in launchers() {
        for count in [2, 3] {
            assert!(case.together(launcher, count) == alone, "{launcher}, {count} ranks");
        }
    }
}

#[test]
fn ranks_with_two_devices_each_change_no_bit() {
    let case = Case::new("--device cpu*2 --micro-batch 1");
    let alone = case.alone("--device cpu --lanes 4");
    for launcher in launchers() {
        assert!(case.together(launcher, 2) == alone, "{launcher}");
    }
}

#[test]
fn ranks_on_an_adapter_change_no_bit_in_half_precision() {
    let Some(device) = adapter::name() else { return };
    let case = Case::new(&format!("--device {device} --precision f16"));
    let alone = case.alone("--lanes 2");
    if let Some(launcher) = launchers().first() {
        assert!(case.together(launcher, 2) == alone, "{launcher}");
    }
}

#[test]
fn a_clip_that_one_rank_cannot_read_is_left_out_by_all() {
    let case = Case::new("--lanes 2");
    let clip = crate::common::data::clip(&case.config.data.dataset_root, 3, 1);
    std::fs::write(clip, b"no clip").unwrap();
    let alone = case.alone("");
    for launcher in launchers() {
        assert!(case.together(launcher, 2) == alone, "{launcher}");
    }
}

#[cfg(unix)]
#[test]
fn a_run_is_resumed_with_another_number_of_ranks() {
    let Some(launcher) = launchers().pop() else { return };
    let case = Case::new("--lanes 4 --ema 0.9 --phase1-epochs 2 --phase2-epochs 30");
    let alone = case.alone("");
    let config = case.saving_to("cut");
    let resumed = with(&config, "--resume auto --lanes auto");
    let history = config.run.save_dir.join(checkpoint::HISTORY);
    let epochs = || {
        let text = std::fs::read_to_string(&history).unwrap_or_default();
        text.matches("\"score\"").count()
    };
    for (count, config) in [(2, &config), (1, &resumed), (4, &resumed)] {
        let before = epochs();
        let mut job = ranks(launcher, count, config, case.folder.path()).spawn().unwrap();
        until("two more epochs", || epochs() > before + 1);
        // Launchers forward the signal; the ranks agree on where to stop.
        let terminated = Command::new("kill").arg(job.id().to_string()).status().unwrap();
        assert!(terminated.success());
        job.wait().unwrap();
    }
    assert!(epochs() < resumed.total_epochs(), "nothing was left to resume");
    run(&with(&resumed, "--device cpu*2"));
    assert!(weights(&resumed) == alone);
}

#[cfg(target_os = "linux")]
#[test]
fn a_rank_that_stops_responding_ends_the_job() {
    let case = Case::new("--lanes 2 --phase2-epochs 500 --rank-timeout 2");
    for launcher in launchers() {
        let config = case.saving_to(launcher);
        let mut command = ranks(launcher, 2, &config, case.folder.path());
        let job = command.stderr(std::process::Stdio::piped()).spawn().unwrap();
        until("a checkpoint", || config.run.save_dir.join(checkpoint::LAST).exists());
        let folder = config.run.save_dir.to_str().unwrap().to_owned();
        let rank = rank_with(job.id(), 1);
        let stopped = Command::new("kill").args(["-STOP", &rank.to_string()]).status().unwrap();
        assert!(stopped.success());
        let output = job.wait_with_output().unwrap();
        let said = text(&output.stderr);
        assert!(!output.status.success(), "{launcher}: {said}");
        assert!(
            said.contains("error: rank 0 (") && said.contains("no answer from rank 1 ("),
            "{said}"
        );
        let last = Path::new(&folder).join(checkpoint::LAST);
        assert!(checkpoint::load(&last, &burn::tensor::Device::flex()).is_ok());
    }
}

/// A process exits before it joins the others; MPICH's launcher does not notice.
#[test]
fn ranks_that_never_start_are_not_waited_for() {
    let Some(launcher) = launchers().pop() else { return };
    let case = Case::new("--lanes 2 --rank-timeout 2");
    let mut command = ranks(launcher, 1, &case.config, case.folder.path());
    command.args([":", "-n", "1", "true"]);
    let output = command.output().unwrap();
    let said = text(&output.stderr);
    assert!(!output.status.success(), "{launcher}: {said}");
    assert!(said.contains("error: not all ranks have started within 15 s"), "{launcher}: {said}");
}

/// Finds the process of a rank among the descendants of a launcher.
#[cfg(target_os = "linux")]
fn rank_with(launcher: u32, rank: u32) -> u32 {
    let wanted = [format!("OMPI_COMM_WORLD_RANK={rank}"), format!("PMI_RANK={rank}")];
    let below = |mut id: u32| {
        while id > 1 && id != launcher {
            let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
            let parent = stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().nth(1));
            id = parent.and_then(|parent| parent.parse().ok()).unwrap_or(0);
        }
        id == launcher
    };
    let processes = std::fs::read_dir("/proc").unwrap();
    let ids = processes.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    let is_rank = |id: &u32| {
        let environment = std::fs::read(format!("/proc/{id}/environ")).unwrap_or_default();
        let command = std::fs::read(format!("/proc/{id}/cmdline")).unwrap_or_default();
        let variables = text(&environment);
        command.starts_with(env!("CARGO_BIN_EXE_polyview").as_bytes())
            && wanted.iter().any(|wanted| variables.split('\0').any(|variable| variable == wanted))
    };
    ids.filter(is_rank).find(|id| below(*id)).expect("the rank is running")
}

#[test]
fn an_error_of_one_rank_ends_the_job_with_one_line() {
    let case = Case::new("--lanes 2");
    run(&case.config);
    // The folder contains another run.
    let mut config = case.config.clone();
    config.run.overwrite = false;
    for launcher in launchers() {
        let output = ranks(launcher, 2, &config, case.folder.path()).output().unwrap();
        let said = text(&output.stderr);
        assert_eq!(said.matches("error: rank 0 (").count(), 1, "{launcher}: {said}");
        assert!(!said.contains("error: rank 1"), "{launcher}: {said}");
    }
}

#[test]
fn all_ranks_have_the_options_of_the_lead() {
    let case = Case::new("--lanes 2");
    let alone = case.alone("");
    for launcher in launchers() {
        let config = case.saving_to(launcher);
        let other = with(&config, "--seed 7 --batch-size 4 --epochs 9 --lanes 4 --num-workers 1");
        let more = TempDir::new().unwrap();
        let folders = [case.folder.path(), more.path()];
        let output = finished(&mut ranks_with(launcher, [&config, &other], folders));
        let said = text(&output.stderr);
        assert!(weights(&config) == alone, "{launcher}");
        assert!(
            said.contains("was started with other options") && said.contains("seed was 7, is 42")
        );
    }
}

#[test]
fn ranks_with_other_data_are_refused() {
    let case = Case::new("--lanes 2");
    let data = TempDir::new().unwrap();
    crate::common::data::synthetic_set(&data.path().join("data"), 11);
    for launcher in launchers() {
        let config = case.saving_to(launcher);
        let mut other = config.clone();
        other.data.dataset_root = data.path().join("data");
        let folders = [case.folder.path(), data.path()];
        let output = ranks_with(launcher, [&config, &other], folders).output().unwrap();
        let said = text(&output.stderr);
        assert!(!output.status.success(), "{launcher}: {said}");
        assert!(said.contains("the train split of rank 1 ("), "{launcher}: {said}");
    }
}

#[test]
fn processes_that_do_not_form_a_job_are_refused() {
    let args = ["train", "--dataset-root", "data", "--device", "cpu"];
    for (variable, size) in [
        ("OMPI_COMM_WORLD_SIZE", "4"),
        ("SLURM_NTASKS", "2"),
        ("WORLD_SIZE", "8"),
        ("PMI_SIZE", "2"),
    ] {
        let output = polyview_with(&args, &[(variable, size)]);
        let said = last_error(&output);
        assert!(!output.status.success());
        let begin = format!("error: {variable} says that there are {size} processes, but ");
        assert!(said.starts_with(&begin) && said.contains("mpirun"), "{said}");
        // One process needs no cluster.
        let said = last_error(&polyview_with(&args, &[(variable, "1")]));
        assert!(!said.contains(variable), "{said}");
    }
}
