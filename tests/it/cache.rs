//! The frame cache: it returns correct frames or none, and stays within its size limit.

use std::collections::BTreeSet;
use std::fs::{self, OpenOptions};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use polyview::data::cache::{FrameCache, Key, Limits, Stats};
use polyview::data::sampling::WindowSpec;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::common::cache::{
    ENTRY, FRAMES, Fixture, HEADER, HOUR, SIZE, WINDOW, files, frames, space_for, visit,
};

fn set_age(path: &Path, age: Duration) {
    let file = OpenOptions::new().write(true).open(path).unwrap();
    file.set_modified(SystemTime::now() - age).unwrap();
}

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
fn a_buffer_of_another_length_removes_no_entry() {
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
fn the_key_covers_everything_that_determines_the_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let clip = dir.path().join("clip.mp4");
    fs::write(&clip, b"abc").unwrap();
    let key = |clip: &Path, window: WindowSpec, size| Key::new(clip, &window, size).unwrap();
    let first = key(&clip, WINDOW, SIZE);
    assert_eq!(key(&clip, WINDOW, SIZE), first);
    assert_eq!(key(&dir.path().join(".").join("clip.mp4"), WINDOW, SIZE), first);

    let mut seen = vec![
        first,
        key(&clip, WindowSpec::frames(66, 82, 15.0, 2), SIZE),
        key(&clip, WindowSpec::frames(67, 83, 15.0, 2), SIZE),
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
    fs::write(folder.join(".DS_Store"), b"a").unwrap();
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

/// Damages the entry, then checks that the damage is detected and the entry replaced.
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
    assert!(!visit(cache, &fixture.keys, 0), "{what} was not detected");
    assert_eq!(cache.stats().damaged, before + 1, "{what}");
    assert!(visit(cache, &fixture.keys, 0), "{what} was not repaired");
    assert_eq!(fs::read(&path).unwrap(), whole);
}

#[test]
fn damage_is_detected_and_repaired() {
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
fn the_least_recently_used_are_evicted_first() {
    let fixture = Fixture::new(12);
    let first = fixture.open(10);
    (0..8).for_each(|clip| assert!(!visit(&first, &fixture.keys, clip)));
    drop(first);
    // Their ages are not in the order of their numbers; then another run reads the oldest.
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
        assert_eq!(!fixture.entry(clip).exists(), gone, "clip {clip}, position {age} by age");
    }
    assert_eq!(cache.warnings(), [""; 0]);
}

#[test]
fn a_clip_that_another_run_used_after_the_scan_is_not_the_oldest() {
    let fixture = Fixture::new(3);
    let first = fixture.open(2);
    (0..2).for_each(|clip| assert!(!visit(&first, &fixture.keys, clip)));
    set_age(&fixture.entry(0), HOUR * 2);
    set_age(&fixture.entry(1), HOUR);
    let limits = Limits { rescan: HOUR, ..space_for(2) };
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
    assert!(warnings[0].contains("larger than 16.4 kB"), "{warnings:?}");
    assert_eq!(cache.stats().written, 50);
    drop(cache);

    // The next run has hits from its first epoch on if it announces what it will read.
    let next = fixture.open(CLIPS as u64 / 2);
    next.expect(fixture.keys.iter().copied());
    let hits = order(5).filter(|&clip| visit(&next, &fixture.keys, clip)).count();
    assert_eq!(hits, CLIPS / 2);
}

#[test]
fn a_run_keeps_its_own_clips_and_does_not_compete_for_evicted_ones() {
    let fixture = Fixture::new(8);
    let (one, two) = (fixture.open(4), fixture.open(4));
    (0..4).for_each(|clip| assert!(!visit(&one, &fixture.keys, clip)));
    assert!(!visit(&one, &fixture.keys, 4), "no room: the other clips are its own");
    (0..4).for_each(|clip| assert!(visit(&one, &fixture.keys, clip)));
    // The other run may evict clips that are not its own.
    (4..6).for_each(|clip| assert!(!visit(&two, &fixture.keys, clip)));
    assert_eq!(files(&fixture.folder(), ".frames").len(), 4);
    (0..4).for_each(|clip| _ = visit(&one, &fixture.keys, clip));
    (4..6).for_each(|clip| assert!(visit(&two, &fixture.keys, clip), "evicted in return"));
    // Once there is space again, an evicted clip is stored again.
    fs::remove_file(fixture.entry(4)).unwrap();
    (0..4).for_each(|clip| _ = visit(&one, &fixture.keys, clip));
    assert_eq!(files(&fixture.folder(), ".frames").len(), 4);
}

#[test]
fn a_clip_larger_than_the_limit_evicts_nothing() {
    let fixture = Fixture::new(2);
    fixture.open(4).write(&fixture.keys[0], &frames(0));
    let limits = Limits { max_bytes: ENTRY - 1, ..space_for(0) };
    let cache = FrameCache::open_within(&fixture.folder(), limits).unwrap();
    cache.write(&fixture.keys[1], &frames(1));
    assert!(fixture.entry(0).exists() && !fixture.entry(1).exists());
    assert_eq!(cache.stats().refused, 1);
}

#[test]
fn foreign_files_stay_and_stale_temporary_files_are_removed() {
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
    // On a case-insensitive file system the upper-case name is the entry itself.
    let foreign: Vec<PathBuf> = foreign.into_iter().filter(|path| !path.exists()).collect();
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
fn a_folder_of_other_files_is_not_excluded_from_backups() {
    let fixture = Fixture::new(1);
    fs::create_dir(fixture.folder()).unwrap();
    fs::write(fixture.folder().join("thesis.tex"), b"x").unwrap();
    let cache = fixture.open(1);
    visit(&cache, &fixture.keys, 0);
    assert!(visit(&cache, &fixture.keys, 0));
    assert!(!fixture.folder().join("CACHEDIR.TAG").exists());
}
