//! The frame cache when its folder fails or is shared: runs continue, and no wrong byte is read.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use polyview::data::cache::{FrameCache, Key, Limits};
use polyview::data::sampling::WindowSpec;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::common::cache::{
    Fixture, HEADER, HOUR, SIZE, WINDOW, entry, files, frames, make_keys, space_for, visit,
};
#[cfg(target_os = "linux")]
use crate::common::mount::Mount;

#[test]
fn a_folder_removed_during_the_run_is_created_again() {
    let fixture = Fixture::new(4);
    // Without rescans, the count is right only because the removal is noticed.
    let limits = Limits { rescan: HOUR, ..space_for(3) };
    let cache = FrameCache::open_within(&fixture.folder(), limits).unwrap();
    for _ in 0..2 {
        (0..3).for_each(|clip| assert!(!visit(&cache, &fixture.keys, clip)));
        (0..3).for_each(|clip| assert!(visit(&cache, &fixture.keys, clip)));
        assert!(!visit(&cache, &fixture.keys, 3), "there is no room");
        assert!(!fixture.entry(3).exists());
        fs::remove_dir_all(fixture.folder()).unwrap();
    }
    assert!(!visit(&cache, &fixture.keys, 3));
    assert!(fixture.entry(3).exists());
    assert!(fixture.folder().join("CACHEDIR.TAG").exists());
    let mut warnings = cache.warnings();
    warnings.retain(|warning| !warning.contains("full with 3 clips"));
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(warnings[0].contains("was removed during the run"), "{warnings:?}");
}

#[test]
fn a_nearly_full_disk_is_not_written_to() {
    let fixture = Fixture::new(2);
    for limits in [
        Limits { min_free: u64::MAX, ..space_for(5) },
        Limits { min_free_share: 1.0, ..space_for(5) },
    ] {
        let cache = FrameCache::open_within(&fixture.folder(), limits).unwrap();
        (0..2).for_each(|clip| assert!(!visit(&cache, &fixture.keys, clip)));
        (0..2).for_each(|clip| assert!(!visit(&cache, &fixture.keys, clip)));
        let warnings = cache.warnings();
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        assert!(warnings[0].contains("free on its disk"), "{warnings:?}");
        assert_eq!(cache.stats().refused, 4);
    }
}

#[test]
fn a_folder_that_cannot_be_created_is_an_error() {
    let fixture = Fixture::new(1);
    let file = fixture.dir.path().join("file");
    fs::write(&file, b"x").unwrap();
    for path in [file.clone(), file.join("below")] {
        let error = FrameCache::open(&path, 1 << 30).unwrap_err().to_string();
        assert!(error.contains(&path.display().to_string()), "{error}");
        assert!(error.contains("frame cache") && !error.contains('\n'), "{error}");
    }
}

/// Asserts what must hold once nothing more can be written: clip 0 is kept, the others are decoded.
fn continues_without_writing(cache: &FrameCache, folder: &Path, keys: &[Key]) {
    let hits = (0..keys.len()).filter(|&clip| visit(cache, keys, clip)).count() as u64;
    assert!(hits >= 1 && hits < keys.len() as u64, "{hits} hits");
    assert_eq!(hits, cache.stats().written);
    assert_eq!(files(folder, ".tmp"), BTreeSet::new());
    let warnings = cache.warnings();
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(warnings[0].contains("cannot write to"), "{warnings:?}");
    assert!(warnings[0].contains("continuing without writing"), "{warnings:?}");
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_only_stops_writing() {
    let fixture = Fixture::new(40);
    // There is enough free space, which the cache checks; the file system runs out of inodes.
    let Some(_mount) = Mount::new(&fixture.folder(), "size=10m,nr_inodes=30") else { return };
    let cache = fixture.open(1000);
    (0..40).for_each(|clip| assert!(!visit(&cache, &fixture.keys, clip)));
    continues_without_writing(&cache, &fixture.folder(), &fixture.keys);
}

#[cfg(target_os = "linux")]
#[test]
fn a_folder_that_cannot_be_written_is_an_error() {
    let fixture = Fixture::new(1);
    let Some(_mount) = Mount::new(&fixture.folder(), "ro") else { return };
    let error = FrameCache::open(&fixture.folder(), 1 << 30).unwrap_err().to_string();
    assert!(error.contains("Read-only"), "{error}");
}

#[test]
fn threads_over_two_caches_on_one_folder_never_see_wrong_bytes() {
    const CLIPS: usize = 24;
    let fixture = Fixture::new(CLIPS);
    let caches = [fixture.open(6), fixture.open(6)];
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let (cache, keys, folder) = (&caches[thread % 2], &fixture.keys, fixture.folder());
            scope.spawn(move || {
                let mut rng = ChaCha8Rng::seed_from_u64(thread as u64);
                for round in 0..200 {
                    let clip = rng.random_range(0..CLIPS);
                    visit(cache, keys, clip);
                    if round % 10 == 0 {
                        // Acts as a third run that evicts this clip.
                        let _ = fs::remove_file(entry(&folder, &keys[clip]));
                    }
                }
            });
        }
    });
    let stats = caches.each_ref().map(FrameCache::stats);
    assert!(stats.iter().all(|s| s.hits > 20 && s.damaged == 0), "{stats:?}");
    // Each of the eight threads may write an entry before the others' entries are counted.
    let entries = files(&fixture.folder(), ".frames").len();
    assert!(entries <= 6 + 8, "{entries} entries");
    assert_eq!(files(&fixture.folder(), ".tmp"), BTreeSet::new());
}

const CHILD: &str = "POLYVIEW_TEST_CACHE_CHILD";
const CHILD_CLIPS: usize = 60;

/// Makes this test program a child process that runs only [`cache_child_process`].
fn child(mut command: Command, dir: &Path, task: &str) -> Command {
    command.args(["cache_child_process", "--nocapture", "--test-threads=1"]);
    command.env(CHILD, format!("{task}:{}", dir.display()));
    command
}

/// Not a test of its own, but the code that the child processes of the tests below run.
#[test]
fn cache_child_process() {
    let Ok(order) = std::env::var(CHILD) else { return };
    let (task, dir) = order.split_once(':').unwrap();
    let dir = PathBuf::from(dir);
    let (keys, folder) = (make_keys(&dir, CHILD_CLIPS), dir.join("cache"));
    if task == "limited" {
        // Clip 0 is small enough for the process's limit on a file's length, the others are not.
        let cache = FrameCache::open_within(&folder, space_for(1000)).unwrap();
        assert!(!visit(&cache, &keys, 0));
        let window = WindowSpec { frames_per_clip: 1000, ..WINDOW };
        let large = Key::new(&dir.join("1.mp4"), &window, SIZE).unwrap();
        cache.write(&large, &vec![7; large.bytes()]);
        assert!(!visit(&cache, &keys, 1));
        continues_without_writing(&cache, &folder, &keys[..2]);
        return;
    }
    let seed: u64 = task.parse().unwrap();
    let cache = FrameCache::open_within(&folder, space_for(CHILD_CLIPS as u64 / 2)).unwrap();
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    for round in 0..600 {
        // At first both read the same clips, so that both write the same ones concurrently.
        let clip = if round < CHILD_CLIPS { round } else { rng.random_range(0..CHILD_CLIPS) };
        visit(&cache, &keys, clip);
        if round % 50 == 0 {
            let _ = fs::remove_file(entry(&folder, &keys[clip]));
        }
    }
    let stats = cache.stats();
    assert!(stats.hits > 100 && stats.damaged == 0, "{stats:?}");
}

#[test]
fn two_processes_share_a_folder() {
    let dir = tempfile::tempdir().unwrap();
    make_keys(dir.path(), CHILD_CLIPS);
    let program = std::env::current_exe().unwrap();
    let start = |seed: &str| {
        let mut command = child(Command::new(&program), dir.path(), seed);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    for child in [start("1"), start("2")] {
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    let entries = files(&dir.path().join("cache"), ".frames").len();
    assert!((20..=CHILD_CLIPS / 2 + 2).contains(&entries), "{entries} entries");
}

#[cfg(unix)]
#[test]
fn a_file_size_limit_only_stops_writing() {
    let dir = tempfile::tempdir().unwrap();
    let mut shell = Command::new("sh");
    // 32 blocks of 512 or 1024 bytes. Unless ignored, the signal would end the process.
    shell.args(["-c", "trap '' XFSZ; ulimit -f 32; exec \"$0\" \"$@\""]);
    shell.arg(std::env::current_exe().unwrap());
    let output = child(shell, dir.path(), "limited").output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.contains("1 passed"), "{text}");
}

#[test]
fn a_reader_keeps_an_entry_that_is_evicted_meanwhile() {
    // The system keeps a removed file's bytes for processes that have it open, and replaces whole files.
    let fixture = Fixture::new(1);
    let cache = fixture.open(1);
    visit(&cache, &fixture.keys, 0);
    let mut open = File::open(fixture.entry(0)).unwrap();
    fs::remove_file(fixture.entry(0)).unwrap();
    assert!(!visit(&cache, &fixture.keys, 0));
    let mut bytes = Vec::new();
    std::io::Read::read_to_end(&mut open, &mut bytes).unwrap();
    assert_eq!(bytes[HEADER..], frames(0));
}
