//! Training with a cache of frames: trouble with it costs time, and nothing else.

use std::fs;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use polyview::checkpoint;
use polyview::config::{CacheChoice, Config};
use polyview::report::Event;
use polyview::train;
use tempfile::TempDir;

use crate::common::program::{polyview, text};
use crate::common::run::{run, small_config};

fn weights(config: &Config) -> Vec<u8> {
    fs::read(config.save_dir.join(checkpoint::LAST)).unwrap()
}

/// The kept frames' files.
fn entries(cache: &Path) -> Vec<std::path::PathBuf> {
    let folders = fs::read_dir(cache).unwrap().map(|entry| entry.unwrap().path());
    let files = folders.filter(|path| path.is_dir()).flat_map(|folder| {
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect::<Vec<_>>()
    });
    files.collect()
}

#[test]
fn whatever_happens_to_the_cache_the_run_is_the_same() {
    let folder = TempDir::new().unwrap();
    let base = Config { phase1_epochs: 2, phase2_epochs: 2, ..small_config(&folder) };
    let plain = Config { cache: CacheChoice::Off, save_dir: folder.path().join("plain"), ..base };
    run(&plain);
    assert!(!plain.save_dir.join("frames").exists());
    let expected = weights(&plain);
    // By default it lies in the save-dir; a second run may share it, or find it damaged or gone.
    let first = Config {
        cache: CacheChoice::Auto,
        save_dir: folder.path().join("first"),
        num_workers: 2,
        ..plain.clone()
    };
    run(&first);
    assert!(weights(&first) == expected, "with a cache");
    let cache = first.save_dir.join("frames");
    assert!(entries(&cache).len() > 20, "{}", entries(&cache).len());
    type Harm = fn(&Path);
    let harms: [(&str, Harm); 4] = [
        ("shared", |_| {}),
        ("damaged", |cache| {
            for entry in entries(cache) {
                let mut bytes = fs::read(&entry).unwrap();
                let middle = bytes.len() / 2;
                bytes[middle] ^= 0x10;
                fs::write(&entry, bytes).unwrap();
            }
        }),
        ("cut short", |cache| {
            for entry in entries(cache) {
                fs::write(&entry, b"short").unwrap();
            }
        }),
        ("removed", |cache| fs::remove_dir_all(cache).unwrap()),
    ];
    for (name, harm) in harms {
        let again = Config {
            cache: CacheChoice::Folder(cache.clone()),
            save_dir: folder.path().join(name),
            ..first.clone()
        };
        let mut epochs = 0;
        train::run(&again, &AtomicBool::new(false), &mut |event: &Event| {
            if let Event::Epoch(_) = event {
                epochs += 1;
                if epochs == 2 {
                    harm(&cache);
                }
            }
        })
        .unwrap();
        assert!(weights(&again) == expected, "{name}");
    }
}

#[test]
fn a_cache_that_cannot_be_had_is_one_line() {
    let folder = TempDir::new().unwrap();
    let config = small_config(&folder);
    let file = folder.path().join("a-file");
    fs::write(&file, "in the way").unwrap();
    let root = config.dataset_root.to_str().unwrap();
    let args = ["train", "--dataset-root", root, "--backbone-name", "r3d_tiny", "--test-run"];
    let small = ["--img-height", "16", "--img-width", "16", "--device", "cpu", "--cache"];
    let args = [&args[..], &small].concat();
    let out = polyview(&[&args[..], &[file.to_str().unwrap()]].concat());
    let said = text(&out.stderr);
    assert!(out.status.success(), "{said}");
    assert_eq!(said.matches("frame cache").count(), 1, "{said}");
    assert!(said.contains("going on without"), "{said}");
    // Where it can be had, the end tells what it was good for.
    let cache = folder.path().join("cache");
    let out = polyview(&[&args[..], &[cache.to_str().unwrap()]].concat());
    assert!(text(&out.stderr).contains("clips read from the cache"), "{}", text(&out.stderr));
    assert!(entries(&cache).len() > 2);
}
