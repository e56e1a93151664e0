//! The frame cache: what it gives back is right or nothing, it keeps its bound, and trouble with
//! its folder ends nothing.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use polyview::data::cache::{FrameCache, Key, Limits, Stats};
use polyview::data::sampling::WindowSpec;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tempfile::TempDir;

const WINDOW: WindowSpec =
    WindowSpec { start_frame: 67, end_frame: 82, target_fps: 15.0, frames_per_clip: 2 };
const SIZE: [usize; 2] = [8, 6];
const FRAMES: usize = 2 * 8 * 6 * 3;
const HEADER: usize = 40;
/// Bytes of an entry's file.
const ENTRY: u64 = (HEADER + FRAMES) as u64;

/// Room for so many clips, no reserve on the disk, the count always fresh.
fn room_for(clips: u64) -> Limits {
    Limits { max_bytes: clips * ENTRY, min_free: 0, min_free_share: 0.0, rescan: Duration::ZERO }
}

/// Clip files of one byte each, and a folder for the cache.
struct Fixture {
    dir: TempDir,
    keys: Vec<Key>,
}

impl Fixture {
    fn new(clips: usize) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let keys = make_keys(dir.path(), clips);
        Self { dir, keys }
    }

    fn folder(&self) -> PathBuf {
        self.dir.path().join("cache")
    }

    fn open(&self, clips: u64) -> FrameCache {
        FrameCache::open_within(&self.folder(), room_for(clips)).unwrap()
    }

    fn entry(&self, clip: usize) -> PathBuf {
        entry(&self.folder(), &self.keys[clip])
    }
}

fn make_keys(dir: &Path, clips: usize) -> Vec<Key> {
    let key = |clip| {
        let path = dir.join(format!("{clip}.mp4"));
        if !path.exists() {
            fs::write(&path, b"x").unwrap();
        }
        Key::new(&path, &WINDOW, SIZE).unwrap()
    };
    (0..clips).map(key).collect()
}

fn entry(folder: &Path, key: &Key) -> PathBuf {
    let name = key.to_string();
    folder.join(&name[..2]).join(format!("{name}.frames"))
}

/// Frames that no other clip has.
fn frames(clip: usize) -> Vec<u8> {
    let mut bytes = vec![0; FRAMES];
    ChaCha8Rng::seed_from_u64(clip as u64).fill(&mut bytes[..]);
    bytes
}

/// Reads a clip as training does: from the cache, else "decoded" and kept. Whether it was there.
fn visit(cache: &FrameCache, keys: &[Key], clip: usize) -> bool {
    let mut out = vec![0; FRAMES];
    let hit = cache.read(&keys[clip], &mut out);
    if hit {
        assert_eq!(out, frames(clip), "clip {clip} has other frames");
    } else {
        cache.write(&keys[clip], &frames(clip));
    }
    hit
}

fn files(folder: &Path, ending: &str) -> BTreeSet<PathBuf> {
    let subfolders = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    subfolders
        .filter(|path| path.is_dir())
        .flat_map(|path| fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()))
        .filter(|path| path.to_string_lossy().ends_with(ending))
        .collect()
}

fn set_age(path: &Path, age: Duration) {
    let file = OpenOptions::new().write(true).open(path).unwrap();
    file.set_modified(SystemTime::now() - age).unwrap();
}

const HOUR: Duration = Duration::from_secs(3600);

#[test]
fn frames_come_back_in_this_run_and_the_next() {
    let fixture = Fixture::new(3);
    let cache = fixture.open(10);
    assert_eq!(fixture.keys[0].bytes(), FRAMES);
    assert!(!visit(&cache, &fixture.keys, 0));
    assert!(!visit(&cache, &fixture.keys, 1));
    assert!(visit(&cache, &fixture.keys, 0));
    let expected =
        Stats { hits: 1, misses: 2, written: 2, refused: 0, damaged: 0, bytes: 2 * ENTRY };
    assert_eq!(cache.stats(), expected);
    assert_eq!(
        cache.stats().to_string(),
        "1 of 3 clips read from the cache, 2 added; it holds 656 bytes"
    );
    drop(cache);

    let next = fixture.open(10);
    assert_eq!(next.stats().bytes, 2 * ENTRY);
    assert!(visit(&next, &fixture.keys, 1));
    assert!(!next.read(&fixture.keys[2], &mut vec![0; FRAMES]));
    assert_eq!(next.warnings(), [""; 0]);
    let tag = fs::read_to_string(fixture.folder().join("CACHEDIR.TAG")).unwrap();
    assert!(tag.starts_with("Signature: 8a477f597d28d172789f06886806bc55\n"));
}

#[test]
fn a_buffer_of_another_length_costs_no_entry() {
    let fixture = Fixture::new(1);
    let cache = fixture.open(10);
    cache.write(&fixture.keys[0], &frames(0)[1..]);
    assert_eq!(cache.stats().written, 0);
    cache.write(&fixture.keys[0], &frames(0));
    assert!(!cache.read(&fixture.keys[0], &mut vec![0; FRAMES - 1]));
    assert!(!cache.read(&fixture.keys[0], &mut vec![0; FRAMES + 1]));
    assert!(visit(&cache, &fixture.keys, 0));
}

#[test]
fn whatever_decides_the_bytes_is_in_the_key() {
    let dir = tempfile::tempdir().unwrap();
    let clip = dir.path().join("clip.mp4");
    fs::write(&clip, b"abc").unwrap();
    let key = |clip: &Path, window: WindowSpec, size| Key::new(clip, &window, size).unwrap();
    let first = key(&clip, WINDOW, SIZE);
    assert_eq!(key(&clip, WINDOW, SIZE), first);
    assert_eq!(key(&dir.path().join(".").join("clip.mp4"), WINDOW, SIZE), first);

    let mut seen = vec![
        first,
        key(&clip, WindowSpec { start_frame: 66, ..WINDOW }, SIZE),
        key(&clip, WindowSpec { end_frame: 83, ..WINDOW }, SIZE),
        key(&clip, WindowSpec { target_fps: 15.5, ..WINDOW }, SIZE),
        key(&clip, WindowSpec { frames_per_clip: 3, ..WINDOW }, SIZE),
        key(&clip, WINDOW, [6, 8]),
        key(&clip, WINDOW, [8, 7]),
        key(&clip, WINDOW, [9, 6]),
    ];
    let other = dir.path().join("other.mp4");
    fs::copy(&clip, &other).unwrap();
    seen.push(key(&other, WINDOW, SIZE));
    set_age(&clip, HOUR);
    seen.push(key(&clip, WINDOW, SIZE));
    let time = fs::metadata(&clip).unwrap().modified().unwrap();
    fs::write(&clip, b"abcd").unwrap();
    OpenOptions::new().write(true).open(&clip).unwrap().set_modified(time).unwrap();
    seen.push(key(&clip, WINDOW, SIZE));

    let folder = dir.path().join("images");
    fs::create_dir(&folder).unwrap();
    seen.push(key(&folder, WINDOW, SIZE));
    fs::write(folder.join("1.png"), b"a").unwrap();
    seen.push(key(&folder, WINDOW, SIZE));
    fs::write(folder.join("2.png"), b"a").unwrap();
    seen.push(key(&folder, WINDOW, SIZE));
    assert_eq!(key(&folder, WINDOW, SIZE), seen[seen.len() - 1]);
    set_age(&folder.join("2.png"), HOUR);
    seen.push(key(&folder, WINDOW, SIZE));
    fs::rename(folder.join("2.png"), folder.join("3.png")).unwrap();
    seen.push(key(&folder, WINDOW, SIZE));

    let names: BTreeSet<String> = seen.iter().map(Key::to_string).collect();
    assert_eq!(names.len(), seen.len(), "two of these share a key");
    assert_eq!(Key::new(&dir.path().join("none.mp4"), &WINDOW, SIZE), None);
    assert_eq!(Key::new(&clip, &WINDOW, [usize::MAX, 2]), None);
}

/// Damages the entry, then looks that it is found, removed and healed.
fn damage(fixture: &Fixture, cache: &FrameCache, what: &str, change: impl FnOnce(&mut Vec<u8>)) {
    let path = fixture.entry(0);
    let mut bytes = fs::read(&path).unwrap();
    let whole = bytes.clone();
    change(&mut bytes);
    if bytes == whole {
        return;
    }
    fs::write(&path, &bytes).unwrap();
    let before = cache.stats().damaged;
    assert!(!visit(cache, &fixture.keys, 0), "{what} was not found");
    assert_eq!(cache.stats().damaged, before + 1, "{what}");
    assert!(visit(cache, &fixture.keys, 0), "{what} was not healed");
    assert_eq!(fs::read(&path).unwrap(), whole);
}

#[test]
fn damage_is_found_and_healed() {
    let fixture = Fixture::new(1);
    let cache = fixture.open(1);
    visit(&cache, &fixture.keys, 0);
    for at in 0..HEADER {
        for bit in 0..8 {
            damage(&fixture, &cache, &format!("bit {bit} of header byte {at}"), |bytes| {
                bytes[at] ^= 1 << bit;
            });
        }
    }
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    for round in 0..200 {
        damage(&fixture, &cache, &format!("round {round}"), |bytes| match round % 4 {
            0 => bytes[HEADER + rng.random_range(0..FRAMES)] ^= 1 << rng.random_range(0..8),
            1 => bytes.truncate(rng.random_range(0..bytes.len())),
            2 => bytes.extend(vec![rng.random::<u8>(); rng.random_range(1..2 * FRAMES)]),
            _ => {
                let from = rng.random_range(0..bytes.len());
                rng.fill(&mut bytes[from..]);
            }
        });
    }
    let warnings = cache.warnings();
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(warnings[0].contains(&fixture.entry(0).display().to_string()), "{warnings:?}");
    assert_eq!(cache.stats().bytes, ENTRY);
}

#[test]
fn the_longest_unused_go_first() {
    let fixture = Fixture::new(12);
    let first = fixture.open(10);
    (0..8).for_each(|clip| assert!(!visit(&first, &fixture.keys, clip)));
    drop(first);
    // Not in the order of their numbers; then another run reads the oldest.
    for clip in 0..8 {
        set_age(&fixture.entry(clip), HOUR * (10 + (clip as u32 * 3 + 7) % 8));
    }
    let mut by_age: Vec<usize> = (0..8).collect();
    by_age.sort_by_key(|&clip| fs::metadata(fixture.entry(clip)).unwrap().modified().unwrap());
    let reader = fixture.open(8);
    assert!(visit(&reader, &fixture.keys, by_age[0]));

    let cache = fixture.open(8);
    for clip in 8..12 {
        assert!(!visit(&cache, &fixture.keys, clip));
        assert_eq!(files(&fixture.folder(), ".frames").len(), 8);
        assert_eq!(cache.stats().bytes, 8 * ENTRY);
    }
    for (age, &clip) in by_age.iter().enumerate() {
        let gone = (1..5).contains(&age);
        assert_eq!(!fixture.entry(clip).exists(), gone, "clip {clip}, number {age} by age");
    }
    assert_eq!(cache.warnings(), [""; 0]);
}

#[test]
fn what_another_run_has_used_since_the_count_is_not_the_oldest() {
    let fixture = Fixture::new(3);
    let first = fixture.open(2);
    (0..2).for_each(|clip| assert!(!visit(&first, &fixture.keys, clip)));
    set_age(&fixture.entry(0), HOUR * 2);
    set_age(&fixture.entry(1), HOUR);
    let limits = Limits { rescan: HOUR, ..room_for(2) };
    let cache = FrameCache::open_within(&fixture.folder(), limits).unwrap();
    assert!(visit(&fixture.open(2), &fixture.keys, 0));
    assert!(!visit(&cache, &fixture.keys, 2));
    assert!(fixture.entry(0).exists() && !fixture.entry(1).exists());
}

#[test]
fn a_data_set_of_twice_the_size_keeps_every_second_clip() {
    const CLIPS: usize = 100;
    let fixture = Fixture::new(CLIPS);
    let order = |epoch: usize| (0..CLIPS).map(move |i| (i * 37 + epoch * 13) % CLIPS);
    let cache = fixture.open(CLIPS as u64 / 2);
    order(0).for_each(|clip| assert!(!visit(&cache, &fixture.keys, clip)));
    for epoch in 1..4 {
        let hits = order(epoch).filter(|&clip| visit(&cache, &fixture.keys, clip)).count();
        assert_eq!(hits, CLIPS / 2, "epoch {epoch}");
    }
    let warnings = cache.warnings();
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(warnings[0].contains("full with 50 clips of this run"), "{warnings:?}");
    assert!(warnings[0].contains("--cache-size, now 16.4 kB"), "{warnings:?}");
    assert_eq!(cache.stats().written, 50);
    drop(cache);

    // The next run profits from its first epoch on if it says what it is about to read.
    let next = fixture.open(CLIPS as u64 / 2);
    next.expect(fixture.keys.iter().copied());
    let hits = order(5).filter(|&clip| visit(&next, &fixture.keys, clip)).count();
    assert_eq!(hits, CLIPS / 2);
}

#[test]
fn own_clips_stay_and_lost_ones_are_not_fought_for() {
    let fixture = Fixture::new(8);
    let (one, two) = (fixture.open(4), fixture.open(4));
    (0..4).for_each(|clip| assert!(!visit(&one, &fixture.keys, clip)));
    assert!(!visit(&one, &fixture.keys, 4), "no room, for the others are its own");
    (0..4).for_each(|clip| assert!(visit(&one, &fixture.keys, clip)));
    // The other run may take the place of clips that are not its own.
    (4..6).for_each(|clip| assert!(!visit(&two, &fixture.keys, clip)));
    assert_eq!(files(&fixture.folder(), ".frames").len(), 4);
    (0..4).for_each(|clip| _ = visit(&one, &fixture.keys, clip));
    (4..6).for_each(|clip| assert!(visit(&two, &fixture.keys, clip), "thrown out in return"));
    // Where there is room again, a lost clip comes back.
    fs::remove_file(fixture.entry(4)).unwrap();
    (0..4).for_each(|clip| _ = visit(&one, &fixture.keys, clip));
    assert_eq!(files(&fixture.folder(), ".frames").len(), 4);
}

#[test]
fn a_clip_larger_than_the_bound_throws_nothing_out() {
    let fixture = Fixture::new(2);
    fixture.open(4).write(&fixture.keys[0], &frames(0));
    let limits = Limits { max_bytes: ENTRY - 1, ..room_for(0) };
    let cache = FrameCache::open_within(&fixture.folder(), limits).unwrap();
    cache.write(&fixture.keys[1], &frames(1));
    assert!(fixture.entry(0).exists() && !fixture.entry(1).exists());
    assert_eq!(cache.stats().refused, 1);
}

#[test]
fn other_files_stay_and_strays_go() {
    let fixture = Fixture::new(2);
    fixture.open(2).write(&fixture.keys[0], &frames(0));
    let subfolder = fixture.entry(0).parent().unwrap().to_path_buf();
    let name = fixture.keys[0].to_string();
    let foreign = [
        fixture.folder().join("notes.txt"),
        fixture.folder().join("zz"),
        subfolder.join("holiday.frames"),
        subfolder.join("holiday.tmp"),
        subfolder.join(format!("{name}.frames.bak")),
        subfolder.join(format!("{}.frames", name.to_uppercase())),
        subfolder.join(format!("{name}.0123.tmp")),
    ];
    let old = subfolder.join(format!("{name}.0123456789abcdef.tmp"));
    let young = subfolder.join(format!("{name}.fedcba9876543210.tmp"));
    for path in foreign.iter().chain([&old, &young]) {
        fs::write(path, vec![0; 10_000]).unwrap();
    }
    foreign.iter().for_each(|path| set_age(path, HOUR * 100));
    set_age(&old, HOUR + Duration::from_secs(60));
    set_age(&young, HOUR - Duration::from_secs(60));

    let cache = fixture.open(1);
    assert!(!old.exists() && young.exists());
    assert_eq!(cache.stats().bytes, ENTRY, "only entries count");
    assert!(!visit(&cache, &fixture.keys, 1));
    assert!(!fixture.entry(0).exists() && fixture.entry(1).exists());
    foreign.iter().for_each(|path| assert!(path.exists(), "{} is gone", path.display()));
}

#[test]
fn a_folder_of_other_files_is_not_taken_out_of_backups() {
    let fixture = Fixture::new(1);
    fs::create_dir(fixture.folder()).unwrap();
    fs::write(fixture.folder().join("thesis.tex"), b"x").unwrap();
    let cache = fixture.open(1);
    visit(&cache, &fixture.keys, 0);
    assert!(visit(&cache, &fixture.keys, 0));
    assert!(!fixture.folder().join("CACHEDIR.TAG").exists());
}

#[test]
fn a_folder_removed_in_the_middle_is_made_anew() {
    let fixture = Fixture::new(4);
    // The count is only fresh because the removal is noticed.
    let limits = Limits { rescan: HOUR, ..room_for(3) };
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
fn a_disk_nearly_full_is_left_alone() {
    let fixture = Fixture::new(2);
    for limits in [
        Limits { min_free: u64::MAX, ..room_for(5) },
        Limits { min_free_share: 1.0, ..room_for(5) },
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
fn a_folder_that_cannot_be_made_is_an_error() {
    let fixture = Fixture::new(1);
    let file = fixture.dir.path().join("file");
    fs::write(&file, b"x").unwrap();
    for path in [file.clone(), file.join("below")] {
        let error = FrameCache::open(&path, 1 << 30).unwrap_err().to_string();
        assert!(error.contains(&path.display().to_string()), "{error}");
        assert!(error.contains("--cache") && !error.contains('\n'), "{error}");
    }
}

/// A file system of its own for a test; gone when dropped.
#[cfg(target_os = "linux")]
struct Mount(PathBuf);

#[cfg(target_os = "linux")]
impl Mount {
    /// `None`, with a word about it, where one may not mount.
    fn new(at: &Path, options: &str) -> Option<Self> {
        fs::create_dir_all(at).unwrap();
        let mount = Command::new("mount")
            .args(["-t", "tmpfs", "-o", options, "polyview-test"])
            .arg(at)
            .output();
        match mount {
            Ok(output) if output.status.success() => Some(Self(at.to_path_buf())),
            Ok(output) => {
                let reason = String::from_utf8_lossy(&output.stderr).trim().to_owned();
                println!("skipped: no file system can be mounted here: {reason}");
                None
            }
            Err(error) => {
                println!("skipped: no mount program: {error}");
                None
            }
        }
    }
}

#[cfg(target_os = "linux")]
impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

/// What must hold once nothing more can be written: clip 0 is kept, the others are decoded.
fn goes_on_without_writing(cache: &FrameCache, folder: &Path, keys: &[Key]) {
    let hits = (0..keys.len()).filter(|&clip| visit(cache, keys, clip)).count() as u64;
    assert!(hits >= 1 && hits < keys.len() as u64, "{hits} hits");
    assert_eq!(hits, cache.stats().written);
    assert_eq!(files(folder, ".tmp"), BTreeSet::new());
    let warnings = cache.warnings();
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(warnings[0].contains("cannot write to"), "{warnings:?}");
    assert!(warnings[0].contains("going on without writing"), "{warnings:?}");
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_ends_the_writing_only() {
    let fixture = Fixture::new(40);
    // Of bytes it has enough: how many are free, the cache asks first.
    let Some(_mount) = Mount::new(&fixture.folder(), "size=10m,nr_inodes=30") else { return };
    let cache = fixture.open(1000);
    (0..40).for_each(|clip| assert!(!visit(&cache, &fixture.keys, clip)));
    goes_on_without_writing(&cache, &fixture.folder(), &fixture.keys);
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
                        // What a third run would throw out.
                        let _ = fs::remove_file(entry(&folder, &keys[clip]));
                    }
                }
            });
        }
    });
    let stats = caches.each_ref().map(FrameCache::stats);
    assert!(stats.iter().all(|s| s.hits > 20 && s.damaged == 0), "{stats:?}");
    // Each of the eight threads may write one while the others' are not yet counted.
    let entries = files(&fixture.folder(), ".frames").len();
    assert!(entries <= 6 + 8, "{entries} entries");
    assert_eq!(files(&fixture.folder(), ".tmp"), BTreeSet::new());
}

const CHILD: &str = "POLYVIEW_TEST_CACHE_CHILD";
const CHILD_CLIPS: usize = 60;

/// This program once more, as a process that runs [`cache_child_process`] alone.
fn child(mut command: Command, dir: &Path, task: &str) -> Command {
    command.args(["cache_child_process", "--nocapture", "--test-threads=1"]);
    command.env(CHILD, format!("{task}:{}", dir.display()));
    command
}

/// Not a test of its own: what the children of the tests below do.
#[test]
fn cache_child_process() {
    let Ok(order) = std::env::var(CHILD) else { return };
    let (task, dir) = order.split_once(':').unwrap();
    let dir = PathBuf::from(dir);
    let (keys, folder) = (make_keys(&dir, CHILD_CLIPS), dir.join("cache"));
    if task == "limited" {
        // Clip 0 is small enough for the process's limit on a file's length, the others are not.
        let cache = FrameCache::open_within(&folder, room_for(1000)).unwrap();
        assert!(!visit(&cache, &keys, 0));
        let window = WindowSpec { frames_per_clip: 1000, ..WINDOW };
        let large = Key::new(&dir.join("1.mp4"), &window, SIZE).unwrap();
        cache.write(&large, &vec![7; large.bytes()]);
        assert!(!visit(&cache, &keys, 1));
        goes_on_without_writing(&cache, &folder, &keys[..2]);
        return;
    }
    let seed: u64 = task.parse().unwrap();
    let cache = FrameCache::open_within(&folder, room_for(CHILD_CLIPS as u64 / 2)).unwrap();
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    for round in 0..600 {
        // At first both go through the same clips, so that both write the same ones at once.
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
fn a_limit_on_the_length_of_files_ends_the_writing_only() {
    let dir = tempfile::tempdir().unwrap();
    let mut shell = Command::new("sh");
    // 32 blocks of 512 or 1024 bytes. The signal would end the process.
    shell.args(["-c", "trap '' XFSZ; ulimit -f 32; exec \"$0\" \"$@\""]);
    shell.arg(std::env::current_exe().unwrap());
    let output = child(shell, dir.path(), "limited").output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.contains("1 passed"), "{text}");
}

#[test]
fn a_reader_keeps_what_is_thrown_out_under_it() {
    // The system keeps a removed file's bytes for those who have it open, and replaces whole files.
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
