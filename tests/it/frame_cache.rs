//! Training with a frame cache, whose failures cost time but change nothing else.

use std::fs;
use std::path::Path;

use polyview::checkpoint;
use polyview::config::Config;
use polyview::report::Event;
use tempfile::TempDir;

use crate::common::program::{polyview, text};
use crate::common::run::{run, run_observed, saving_to, small_config, with, with_args};

fn weights(config: &Config) -> Vec<u8> {
    fs::read(config.run.save_dir.join(checkpoint::LAST)).unwrap()
}

/// Lists the files of cached clips.
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
    let base = with(&small_config(&folder), "--phase1-epochs 2 --phase2-epochs 2");
    let plain = saving_to(&with(&base, "--cache off"), &folder.path().join("plain"));
    run(&plain);
    assert!(!plain.run.save_dir.join("frames").exists());
    let expected = weights(&plain);
    // By default the cache is in the save-dir; a second run may share it, or find it damaged or removed.
    let first =
        saving_to(&with(&plain, "--cache auto --num-workers 2"), &folder.path().join("first"));
    run(&first);
    assert!(weights(&first) == expected, "with a cache");
    let cache = first.run.save_dir.join("frames");
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
        let again = with_args(&first, &["--cache", cache.to_str().unwrap()]);
        let again = saving_to(&again, &folder.path().join(name));
        let mut epochs = 0;
        run_observed(&again, |event| {
            if let Event::Epoch(_) = event {
                epochs += 1;
                if epochs == 2 {
                    harm(&cache);
                }
            }
        });
        assert!(weights(&again) == expected, "{name}");
    }
}

#[test]
fn an_unusable_cache_is_reported_in_one_line() {
    let folder = TempDir::new().unwrap();
    let config = small_config(&folder);
    let file = folder.path().join("a-file");
    fs::write(&file, "in the way").unwrap();
    let root = config.data.dataset_root.to_str().unwrap();
    let args = ["train", "--dataset-root", root, "--backbone-name", "r3d_tiny", "--test-run"];
    let small = ["--img-height", "16", "--img-width", "16", "--device", "cpu"];
    let args = [&args[..], &small, &["--window", "center", "--cache"]].concat();
    let out = polyview(&[&args[..], &[file.to_str().unwrap()]].concat());
    let said = text(&out.stderr);
    assert!(out.status.success(), "{said}");
    assert_eq!(said.matches("frame cache").count(), 1, "{said}");
    assert!(said.contains("continuing without"), "{said}");
    // If the cache works, the run reports its hits at the end.
    let cache = folder.path().join("cache");
    let out = polyview(&[&args[..], &[cache.to_str().unwrap()]].concat());
    assert!(text(&out.stderr).contains("clips read from the cache"), "{}", text(&out.stderr));
    assert!(entries(&cache).len() > 2);
}
